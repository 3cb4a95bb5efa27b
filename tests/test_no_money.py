"""Whatever clients send and however the list changes: not one request that could cost money leaves."""

import json
from random import Random
from typing import Any

from keywheel.config import Config, ModelSettings
from keywheel.core.steps import Ended, Refused, Send, Served, Wait
from keywheel.core.types import Answered
from keywheel.engine import Engine
from keywheel.errors import RequestFailed
from keywheel.flow import Terms
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.wire.ask import read
from keywheel.wire.models import Entry, read_models

REQUESTS = 100_000
START = 1_791_201_600.0
FAMILIES = [f"maker{n}/model-{n}b" for n in range(1, 13)]
PAID_TOOLS = (
    "openrouter:web_search",
    "web_search_20250305",
    "openrouter:image_generation",
    "code_interpreter",
)
PAID_PLUGINS = ("web", "auto-router", "fusion", "file-parser")


class Chaos:
    """Clients that try everything, and a list that is never the same for long."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.free: set[str] = set()

    def models(self) -> tuple[Entry, ...]:
        """A new list. Some are free today; some only look like it."""
        listed: list[dict[str, Any]] = []
        self.free = set()
        for name in FAMILIES:
            listed.append(self.entry(name, "0.000001"))
            kind = self.chance.choice(
                ("free", "free", "gone", "paid", "unknown", "negative", "odd")
            )
            if kind == "free":
                self.free.add(f"{name}:free")
            if kind != "gone":
                listed.append(self.entry(f"{name}:free", PRICES[kind]))
        self.chance.shuffle(listed)
        return read_models(json.dumps({"data": listed}).encode())

    def entry(self, id: str, price: Any) -> dict[str, Any]:
        pricing = {"prompt": price, "completion": price} if price is not None else {"prompt": "0"}
        return {
            "id": id,
            "context_length": 32_000,
            "pricing": pricing,
            "supported_parameters": ["tools"],
        }

    def name(self) -> Any:
        family = self.chance.choice(FAMILIES)
        return self.chance.choice(
            (family, f"{family}:free", f"{family}:online", f"{family}:nitro", f"{family}:free:online",
             "auto", "auto:fast", "auto:code", "openrouter/auto", "openrouter/free", "~maker1/latest",
             family.upper(), "", None)
        )  # fmt: skip

    def body(self) -> bytes:
        chance = self.chance
        fields: dict[str, Any] = {
            "messages": [{"role": "user", "content": "Hello"}],
            "model": self.name(),
            "models": [self.name() or "x" for _ in range(chance.randint(0, 3))],
            "route": chance.choice(("fallback", "paid", 1, None)),
            "fallbacks": [{"model": self.name() or "x"}] if chance.random() < 0.1 else None,
            "plugins": [{"id": id} for id in chance.sample(PAID_PLUGINS, 2)],
            "tools": [{"type": chance.choice(PAID_TOOLS)}, {"type": "function", "function": {"name": "f"}}],
            "provider": {"order": ["Dear"], "max_price": {"prompt": 100}, "allow_fallbacks": True},
            "preset": "dear", "web_search_options": {}, "api_key": "sk-other", "base_url": "https://dear.example",
            "n": chance.choice((1, 1, 1, 8, None)),
        }  # fmt: skip
        kept = {name: value for name, value in fields.items() if chance.random() < 0.5}
        return json.dumps(kept | {"messages": fields["messages"]}).encode()


PRICES = {"free": "0", "paid": "0.00001", "unknown": None, "negative": "-1", "odd": {"usd": 0}}


def cost(body: bytes, free: set[str]) -> list[str]:
    """What of a body that was sent could be charged for."""
    sent = json.loads(body)
    found = [] if sent["model"] in free else [sent["model"]]
    found += [
        name
        for name in ("models", "route", "fallbacks", "preset", "web_search_options")
        if name in sent
    ]
    found += [name for name in ("api_key", "base_url") if name in sent]
    found += [plugin["id"] for plugin in sent.get("plugins") or ()]
    found += [tool["type"] for tool in sent.get("tools") or () if tool["type"] != "function"]
    return found + (["n"] if sent.get("n") not in (None, 1) else [])


def test_over_a_hundred_thousand_hostile_requests_nothing_is_paid_for() -> None:
    chaos, now = Chaos(7), START
    config = Config(models=ModelSettings(refresh=60.0))
    keys = [KeyEntry(label(n), Secret(f"sk-or-v1-{n:064x}"), "test") for n in range(1, 4)]
    engine = Engine(config, keys, clock=lambda: now)
    for account in engine.pool.roster.accounts.values():
        account.quota.metered = False  # quotas are not what is looked at here
    sent = refused = 0
    for number in range(REQUESTS):
        if number % 500 == 0:
            engine.take_models(chaos.models())
        now += 0.05
        try:
            request = read(chaos.body(), "chat")
            flow = engine.open(request, Terms(f"r{number}"))
        except RequestFailed:
            refused += 1
            continue
        step = engine.advance(flow)
        while not isinstance(step, Served | Refused):
            assert isinstance(step, Send), isinstance(step, Wait)
            assert cost(request.with_model(step.lease.model), chaos.free) == []
            sent += 1
            step = engine.advance(flow, Ended(now, Answered(0.1, 0.2, 10, 10)))
    assert sent + refused > 0.9 * REQUESTS
    assert sent > REQUESTS / 5
