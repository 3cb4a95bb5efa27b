"""A pool in several troubles at once, and `state.json`: what `GET /admin/state` says about it.

`python -m tests.gateway.example` writes the file anew.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keywheel.config import AccountSettings, Config, GatewaySettings
from keywheel.core.types import Ask, Finished, Kind, Lease, Outcome, Scope
from keywheel.engine import Engine
from keywheel.gateway.admin import Admin
from keywheel.gateway.guard import Guard
from keywheel.gateway.readings import Readings
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.wire.models import read_models
from tests.core.build import NOON, answered, failed
from tests.gateway.asgi import served

FILE = Path(__file__).with_name("state.json")
LABELS = ("primary", "secondary", "tertiary", "quaternary")
MODELS = ("a/small-8b:free", "b/large-70b:free", "c/vision-27b:free", "d/coder-32b:free")


class Stage:
    """An engine with a clock that stands still until it is told."""

    def __init__(self, labels: Iterable[str] = LABELS, models: Iterable[str] = MODELS) -> None:
        self.now = NOON - 900
        accounts = {
            "lab": AccountSettings(("primary", "secondary"), per_day=50),
            "club": AccountSettings(("tertiary",), per_day=1_000),
        }
        keys = [KeyEntry(n, Secret(f"sk-or-v1-{i:064x}"), "test") for i, n in enumerate(labels)]
        self.engine = Engine(
            Config(accounts=accounts), keys, clock=lambda: self.now, seed="example"
        )
        listed = [served(name) for name in models]
        self.engine.take_models(read_models(json.dumps({"data": listed}).encode()))
        self.engine.set_ready()
        self.admin = Admin(
            self.engine, Readings(self.engine), Guard(GatewaySettings()), lambda: False
        )
        self._number = 0

    def request(
        self, *outcomes: Outcome, models: tuple[str, ...] = (), outcome: str = "ok", code: str = ""
    ) -> None:
        """One client request and the attempts it took; each takes a second."""
        pool, stats = self.engine.pool, self.engine.stats
        self._number += 1
        ask = Ask(tokens=300, reply_tokens=200, models=models, request_id=f"r{self._number:03}")
        began, lease = self.now, None
        for result in outcomes:
            choice = pool.select(ask, tried(), self.now)
            assert isinstance(choice, Lease), choice
            lease, self.now = choice, self.now + 1.0
            for event in pool.settle(lease, result, self.now):
                stats.record(event)
        lane = (lease.key, lease.account, lease.model) if lease else ("", "", "")
        status = 200 if outcome == "ok" else 503
        self.engine.finish(
            Finished(
                self.now, ask.request_id, "chat", outcome, status, code, len(outcomes), *lane,
                self.now - began + 0.0004, 0.0004 if outcome == "ok" else 0.0,
            )
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """As a client gets it."""
        return json.loads(json.dumps(self.admin.headed(self.engine.state()), allow_nan=False))


def tried() -> Any:
    """Nothing was tried before."""
    from keywheel.core.tried import Tried

    return Tried()


def example() -> dict[str, Any]:
    """The state of the file."""
    stage = Stage()
    for number in range(40):
        stage.request(answered(ttft=0.4 + 0.01 * number, total=2.0))
        stage.now += 15
    stage.request(failed("bad-key"), answered(), models=MODELS[:2])
    stage.request(failed("upstream-pool"), answered(), models=MODELS[:2])
    stage.request(failed("account-settings"), answered(), models=MODELS[2:3] * 2)
    stage.engine.operate("disable", Scope(Kind.MODEL, MODELS[3]))
    stage.request(outcome="failed", code="context_too_long")
    stage.engine.note(lambda pool, _now: pool.set_skew(-12.0))
    return stage.state()


if __name__ == "__main__":
    FILE.write_text(json.dumps(example(), indent=1) + "\n", "utf-8")
