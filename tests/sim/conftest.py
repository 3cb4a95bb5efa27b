"""What the simulator's tests share: one backend, a clock that stands, a sleep that only notes."""

import asyncio
from collections.abc import Callable
from math import inf

import pytest

from keywheel.sim import Scenario, World, create_app, demo_keys
from tests.sim.client import NOON, Client


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def slept() -> list[float]:
    """The waits that the application asked for."""
    return []


@pytest.fixture
def serve(slept: list[float]) -> Callable[..., tuple[Client, World]]:
    """Builds a client and its world. `speed` is 1 where waits matter, else nothing waits."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    def build(of: Scenario, *, speed: float = inf) -> tuple[Client, World]:
        world = World(of, seed=7, start=NOON)
        app = create_app(world, speed=speed, clock=lambda: NOON, sleep=sleep)
        return Client(app, demo_keys(of)[0]), world

    return build
