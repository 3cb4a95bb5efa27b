"""What one decision costs: choose and settle, with everything open and with everything closed.

Goals: at most 15 µs for 4 keys × 5 models and 100 µs for 50 × 60, each key with an account of its own. Prints the
best of several rounds, since whatever else the machine does can only add; exits with 1 above a goal.
"""

import sys
from collections.abc import Callable
from itertools import cycle
from time import perf_counter

from keywheel.core.policy import Policy
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import (
    Account,
    Answered,
    Ask,
    Key,
    Kind,
    Model,
    NoLane,
    Provenance,
    Scope,
)

START = 1_791_201_600.0  # a noon, UTC
STEP = 0.01  # a hundred requests a second
ROUNDS, DECISIONS = 300, 25
GOALS = {(4, 5): 15.0, (50, 60): 100.0}  # µs
UNTRIED = Tried()
ANSWER = Answered(0.6, 2.5, 500, 300)


class Bench:
    """A pool and a clock; the accounts are roomy, so that only what a scenario closes is closed."""

    def __init__(self, keys: int, models: int) -> None:
        self.now = START
        self.pool = Pool(Policy(), "seed")
        self.pool.set_keys(
            [Account(f"a{n}", per_minute=50_000, per_day=10**7) for n in range(keys)],
            [Key(f"k{n}", f"a{n}") for n in range(keys)],
        )
        self.pool.set_models([Model(f"m{n}", 131_072) for n in range(models)], START)
        self.asks = cycle(  # they differ, as they do in life
            Ask(tokens=300 + 700 * n, reply_tokens=100 * (n % 3), request_id=f"r{n}")
            for n in range(16)
        )
        for _ in range(20 * models):
            self.serve()

    def serve(self) -> None:
        """Choose, answer, settle."""
        self.now += STEP
        lease = self.pool.select(next(self.asks), UNTRIED, self.now)
        if isinstance(lease, NoLane):
            raise RuntimeError(lease)
        self.pool.settle(lease, ANSWER, self.now)

    def refuse(self) -> None:
        """Find nothing, and say when to come back."""
        self.now += STEP
        found = self.pool.select(next(self.asks), UNTRIED, self.now)
        if not isinstance(found, NoLane):
            raise RuntimeError(found)

    def close(self, kind: Kind, names: list[str]) -> None:
        """Close scopes, each until a moment of its own."""
        for number, name in enumerate(names):
            for breaker in self.pool.roster.find(Scope(kind, name)):
                until = self.now + 10_000 + 3 * number % 1_000
                breaker.block(Provenance.AUTHORITATIVE, until, "closed", self.now, 0)

    def best(self, decide: Callable[[], None]) -> float:
        """Microseconds a decision, in the best round."""
        rounds: list[float] = []
        for _ in range(ROUNDS):
            began = perf_counter()
            for _ in range(DECISIONS):
                decide()
            rounds.append((perf_counter() - began) / DECISIONS)
        return min(rounds) * 1e6


def all_open(bench: Bench) -> Callable[[], None]:
    """Every lane may be used."""
    return bench.serve


def keys_closed(bench: Bench) -> Callable[[], None]:
    """Each key is closed."""
    bench.close(Kind.KEY, list(bench.pool.roster.keys))
    return bench.refuse


def days_spent(bench: Bench) -> Callable[[], None]:
    """The day of every account is spent."""
    for account in bench.pool.roster.accounts.values():
        account.quota.spend_day(bench.now)
    return bench.refuse


def models_closed(bench: Bench) -> Callable[[], None]:
    """Each model is closed."""
    bench.close(Kind.MODEL, list(bench.pool.roster.models))
    return bench.refuse


def lanes_closed(bench: Bench) -> Callable[[], None]:
    """Each lane is closed for itself."""
    roster = bench.pool.roster
    bench.close(Kind.LANE, [f"{key}+{model}" for model in roster.models for key in roster.keys])
    return bench.refuse


SCENARIOS = (all_open, keys_closed, days_spent, models_closed, lanes_closed)


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    missed = False
    print(f"{'microseconds a decision':24}" + "".join(f"{k} × {m}".rjust(10) for k, m in GOALS))
    for scenario in SCENARIOS:
        figures: list[float] = []
        for size, goal in GOALS.items():
            bench = Bench(*size)
            figures.append(bench.best(scenario(bench)))
            missed |= figures[-1] > goal
        name = scenario.__name__.replace("_", " ")
        print(f"{name:24}" + "".join(f"{figure:10.1f}" for figure in figures))
    print(f"{'goal':24}" + "".join(f"{goal:10.0f}" for goal in GOALS.values()))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
