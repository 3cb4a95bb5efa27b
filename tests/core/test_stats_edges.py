"""Counters add up over many events."""

from keywheel.core.stats import Distribution, Stats
from keywheel.core.types import Attempted, Finished
from tests.core.build import NOON


def attempt(row: str, seconds: float = 0.5, cost: float = 0.0) -> Attempted:
    good = row == "ok"
    used = (10, 20) if good else (0, 0)
    return Attempted(
        NOON, "r1", "k1", "a1", "m1", row, "", good, 0.25 if good else None, seconds, *used, cost
    )


def finish(outcome: str, attempts: int) -> Finished:
    return Finished(NOON, "r1", "chat", outcome, 200, "", attempts, "k1", "a1", "m1", 2.5)


def test_attempts_add_up_by_key_and_in_all() -> None:
    stats = Stats(NOON)
    for row in ("ok", "20 upstream-pool", "ok", "21 unclear-429", "23 server-error"):
        stats.record(attempt(row, cost=0.25 if row == "ok" else 0.0))
    tally, totals = stats.keys["k1"], stats.totals
    assert (tally.attempts, tally.succeeded, tally.failed) == (5, 2, 3)
    assert (tally.tokens_in, tally.tokens_out, tally.tokens_timed) == (20, 40, 40)
    assert (tally.seconds_out, tally.tokens_per_second()) == (0.5, 80)
    assert (totals.attempts, totals.tokens_in, totals.tokens_out) == (5, 20, 40)
    assert (totals.rate_limited, totals.cost_usd) == (2, 0.5)


def test_requests_add_up_by_outcome() -> None:
    stats = Stats(NOON)
    outcomes = ("ok", "failed", "abandoned")
    for count, outcome in enumerate(outcomes * 2):
        stats.record(finish(outcome, 1 + count % 2))
    totals = stats.totals
    told = (totals.requests, totals.succeeded, totals.failed, totals.abandoned, totals.fallbacks)
    assert told == (6, 2, 2, 2, 3)


def test_milliseconds_have_one_digit() -> None:
    durations = Distribution()
    durations.add(0.00125)
    assert durations.milliseconds() == {"p50": 1.2, "p95": 1.2, "p99": 1.2}
    durations = Distribution()
    durations.add(10.0)
    p50 = durations.milliseconds()["p50"]
    assert p50 is not None
    assert p50 == round(1e3 * (durations.percentile(0.5) or 0), 1) != round(p50)
