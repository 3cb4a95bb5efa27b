"""For the tests of programs that use keywheel: OpenRouter, simulated, in this very process.

    with keywheel.testing.simulator() as sim:
        sim.fail("upstream-pool", times=2)
        with sim.wheel() as wheel:
            assert wheel.chat("Hello").attempts == 3

With pytest, put `pytest_plugins = ["keywheel.pytest_plugin"]` into `conftest.py` and use the fixture `keywheel_sim`.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from keywheel import sim
from keywheel.axle import Axle
from keywheel.config import Config, UpstreamSettings
from keywheel.flow import Clock
from keywheel.gateway.run import in_thread, listen
from keywheel.keys import LIST, KeyEntry, label
from keywheel.secret import Secret
from keywheel.wheel import AsyncKeywheel, Keywheel

__all__ = ["Simulator", "VirtualClock", "simulator"]


class VirtualClock(Clock):
    """Real time plus what a test adds. The simulator and its wheels share it, so minutes and days pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def __call__(self) -> float:
        """Now."""
        return super().__call__() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead += seconds


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator. `keys` are its (worthless) upstream keys, `clock` its time."""

    base_url: str
    keys: tuple[str, ...] = field(repr=False)
    world: sim.World = field(repr=False)
    clock: VirtualClock = field(repr=False)

    def fail(
        self, kind: str, *, times: int = 1, key: int | None = None, model: str | None = None
    ) -> None:
        """Let the next answers be this fault (the page on the simulator lists the kinds).

        `key` counts from 0; without `key` and `model` any attempt is hit. Raises `ValueError` for an unknown kind.
        """
        self.world.script(sim.Kind(kind), key=key, model=model, times=times)

    @property
    def attempts(self) -> list[str]:
        """What the upstream saw, oldest first: the kind of every answer."""
        return [attempt.kind for attempt in self.world.journal]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which a program finds this simulator instead of OpenRouter."""
        return {LIST: " ".join(self.keys), "OPENROUTER_BASE_URL": self.base_url}

    def wheel(self, config: Config | None = None, **options: Any) -> Keywheel:
        """A wheel on this simulator and its clock. `options` are those of `Keywheel`."""
        return Keywheel(axle=self.axle(config), **options)

    def async_wheel(self, config: Config | None = None, **options: Any) -> AsyncKeywheel:
        """The same for asyncio."""
        return AsyncKeywheel(axle=self.axle(config), **options)

    def axle(self, config: Config | None = None) -> Axle:
        """What such a wheel turns on."""
        settings = replace(config or Config(), upstream=UpstreamSettings(base_url=self.base_url))
        entries = [KeyEntry(label(n), Secret(k), "test") for n, k in enumerate(self.keys, 1)]
        return Axle(settings, entries, clock=self.clock)


@contextmanager
def simulator(
    scenario: str | sim.Scenario = "calm", *, seed: int = 1, speed: float = inf
) -> Generator[Simulator]:
    """Serve the simulator on a free loopback port for as long as the block lasts.

    `scenario` is a name of `keywheel sim --help` or a scenario of one's own. `speed` divides every delay; without
    it there are none.
    """
    chosen = sim.scenario(scenario) if isinstance(scenario, str) else scenario
    world, clock = sim.World(chosen, seed=seed), VirtualClock()
    app = sim.create_app(world, speed=speed, clock=clock)
    with listen("127.0.0.1", 0) as bound, in_thread(app, bound) as address:
        yield Simulator(f"{address}/api/v1", tuple(sim.demo_keys(chosen)), world, clock)
