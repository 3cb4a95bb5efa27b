"""Speed and failures are learnt within a few requests, and forgotten again (routing rule A.4)."""

from random import Random

import pytest

from keywheel.core.pool import Pool
from keywheel.core.types import Answered, Model
from tests.core.build import NOON, failed, model, pool, take

STEP = 20.0  # seconds from one request to the next
NAMES = tuple(f"m{n}" for n in range(12))


class World:
    """Twelve models with a usual time to answer each; `slow` ones take longer."""

    def __init__(self, seed: int = 1) -> None:
        self.chance = Random(seed)
        self.usual = dict.fromkeys(NAMES, 2.0)
        self.pool: Pool = pool(("k1@a1", "k2@a2"), NAMES)
        self.now = NOON

    def serve(self) -> str:
        """One request; the model that answered it."""
        lease = take(self.pool, now=self.now)
        seconds = self.usual.get(lease.model, 2.0) * self.chance.lognormvariate(0, 0.2)
        done = self.now + min(seconds, STEP - 1)
        self.pool.settle(lease, Answered(seconds / 2, seconds, 100, 200), done)
        self.now += STEP
        return lease.model


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_turns_slow_loses_its_traffic_within_five_requests(seed: int) -> None:
    world = World(seed)
    best = [world.serve() for _ in range(40)][-1]
    world.usual[best] = 30.0
    assert best not in [world.serve() for _ in range(12)][5:]


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_recovers_gets_its_traffic_back(seed: int) -> None:
    world = World(seed)
    best = [world.serve() for _ in range(40)][-1]
    world.usual[best] = 30.0
    away = [world.serve() for _ in range(30)]
    assert away[-1] != best
    world.usual[best] = 2.0
    back = [world.serve() for _ in range(900)]  # five hours, in which the bad time is forgotten
    assert best in back
    assert back[-20:].count(best) > 10


def test_a_model_that_only_fails_loses_its_traffic_within_five_requests() -> None:
    world = World()
    best = [world.serve() for _ in range(40)][-1]
    served = list[str]()
    for _ in range(20):
        lease = take(world.pool, now=world.now)
        served.append(lease.model)
        outcome = failed("server-error") if lease.model == best else Answered(1, 2, 100, 200)
        world.pool.settle(lease, outcome, world.now + 1)
        world.now += STEP
    assert served.count(best) <= 5


def test_a_newcomer_is_tried_at_its_rank() -> None:
    """With nothing known about it the prior is optimistic: it needs no forced trial, and no list to wait in."""
    world = World()
    for _ in range(60):
        world.serve()
    newcomer = Model("new", 131_072)
    world.pool.set_models([newcomer, *(model(name) for name in NAMES)], world.now)
    assert "new" in [world.serve() for _ in range(3)]
    last = World()
    for _ in range(60):
        last.serve()
    last.pool.set_models([*(model(name) for name in NAMES), newcomer], last.now)
    assert "new" not in [last.serve() for _ in range(20)]  # eleven places down, others are good
