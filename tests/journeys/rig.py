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
from keywheel.gateway import run
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
FIRST = "nvidia/nemotron-3-super-120b-a12b:free"
FAST = sim.Behaviour(ttft=0.0, ttft_spread=0.0, speed=1e6, speed_spread=0.0)


@dataclass
class Rig:
    """A running gateway with the world behind it."""

    world: sim.World
    engine: Engine
    gateway: Any
    address: str
    http: httpx2.Client

    def chat(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        """One plain request."""
        return self.http.post("/v1/chat/completions", json=HELLO | fields, headers=headers)

    def openai(self, **options: Any) -> OpenAI:
        """The official SDK, pointed here."""
        return OpenAI(base_url=f"{self.address}/v1", api_key="unused", **options)

    @property
    def attempts(self) -> list[tuple[str, str, str]]:
        """What the upstream saw: (account, model, kind)."""
        return [(a.account, a.model, a.kind) for a in self.world.journal]


@contextmanager
def rig(
    scenario: sim.Scenario | None = None,
    config: Config | None = None,
    keys: list[str] | None = None,
) -> Iterator[Rig]:
    """Simulator and gateway, each on its own port, for as long as the block lasts."""
    scenario = scenario or sim.scenario("calm")
    world = sim.World(scenario, seed=1)
    keys = sim.demo_keys(scenario) if keys is None else keys
    entries = [KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(keys, 1)]
    app = sim.create_app(world, speed=float("inf"))
    with run.listen("127.0.0.1", 0) as behind, run.in_thread(app, behind) as upstream:
        config = replace(
            config or Config(), upstream=UpstreamSettings(base_url=f"{upstream}/api/v1")
        )
        engine = Engine(config, entries)
        gateway = run.build(engine)
        with run.listen("127.0.0.1", 0) as bound, run.in_thread(gateway, bound) as address:
            engine.ready.wait(10)
            with httpx2.Client(base_url=address, timeout=20.0, trust_env=False) as http:
                yield Rig(world, engine, gateway, address, http)
