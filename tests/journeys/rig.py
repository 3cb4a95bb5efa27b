"""The whole way on loopback: a client, the gateway, the simulator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
from openai import OpenAI

from keywheel import sim
from keywheel.config import Config, UpstreamSettings
from keywheel.engine import Engine
from keywheel.flow import Clock
from keywheel.gateway import run
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from tests.faultproxy import under_weather

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


class ShiftedClock(Clock):
    """Real time plus what a test adds."""

    ahead = 0.0

    def __call__(self) -> float:
        return super().__call__() + self.ahead


@dataclass
class Rig:
    """A running gateway with the world behind it."""

    world: sim.World
    engine: Engine
    gateway: Any
    address: str
    http: httpx2.Client
    clock: ShiftedClock

    def chat(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        """One plain request."""
        return self.http.post("/v1/chat/completions", json=HELLO | fields, headers=headers)

    def openai(self, **options: Any) -> OpenAI:
        """The official SDK, pointed here."""
        return OpenAI(base_url=f"{self.address}/v1", api_key="unused", **options)

    def key(self, name: str) -> dict[str, Any]:
        """One key as `/admin/stats` tells it."""
        keys = self.http.get("/admin/stats").json()["keys"]
        return next(key for key in keys if key["name"] == name)

    @property
    def attempts(self) -> list[tuple[str, str, str]]:
        """What the upstream saw: (account, model, kind)."""
        return [(a.account, a.model, a.kind) for a in self.world.journal]


@contextmanager
def rig(
    scenario: sim.Scenario | None = None,
    config: Config | None = None,
    keys: list[str] | None = None,
    speed: float = float("inf"),
) -> Iterator[Rig]:
    """Simulator and gateway, each on its own port, for as long as the block lasts."""
    scenario = scenario or sim.scenario("calm")
    world = sim.World(scenario, seed=1)
    keys = sim.demo_keys(scenario) if keys is None else keys
    entries = [KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(keys, 1)]
    app = sim.create_app(world, speed=speed)
    clock = ShiftedClock()
    with (
        run.listen("127.0.0.1", 0) as behind,
        run.in_thread(app, behind) as simulator,
        under_weather(simulator) as upstream,
    ):
        config = replace(
            config or Config(), upstream=UpstreamSettings(base_url=f"{upstream}/api/v1")
        )
        engine = Engine(config, entries, clock=clock)
        gateway = run.build(engine)
        with (
            run.listen("127.0.0.1", 0) as bound,
            run.in_thread(gateway, bound) as serving,
            under_weather(serving) as address,
        ):
            engine.ready.wait(10)
            with httpx2.Client(base_url=address, timeout=20.0, trust_env=False) as http:
                yield Rig(world, engine, gateway, address, http, clock)
