import pytest

from keywheel.core.stats import Distribution, Stats
from keywheel.core.types import Attempted, Blocked, Event, Finished, Kind, Provenance, Scope
from tests.core.build import NOON


def attempt(
    row: str = "ok", at: float = NOON, ttft: float | None = 0.5, **more: object
) -> Attempted:
    values = {"tokens_in": 10, "tokens_out": 20, "cost": 0.0} | more
    return Attempted(at, "r1", "k1", "a1", "m1", row, "", row == "ok", ttft, 2.5, **values)  # type: ignore[arg-type]


def finish(outcome: str = "ok", attempts: int = 1) -> Finished:
    return Finished(NOON, "r1", "chat", outcome, 200, "", attempts, "k1", "a1", "m1", 2.5)


def recorded(*events: Event) -> Stats:
    stats = Stats(NOON)
    for event in events:
        stats.record(event)
    return stats


def test_answers_and_failures_are_counted_by_key_and_model() -> None:
    stats = recorded(
        attempt(), attempt("23 server-error", NOON + 5, None, tokens_in=0, tokens_out=0)
    )
    for tally in (stats.keys["k1"], stats.models["m1"]):
        assert (tally.attempts, tally.succeeded, tally.failed) == (2, 1, 1)
        assert (tally.tokens_in, tally.tokens_out) == (10, 20)
        assert (tally.last_used, tally.last_error) == (NOON + 5, "23 server-error")
        assert tally.success_rate() == 0.5
        assert tally.tokens_per_second() == 10


def test_an_abandoned_attempt_is_an_attempt_and_nothing_else() -> None:
    stats = recorded(attempt("abandoned", ttft=None))
    tally = stats.keys["k1"]
    assert (tally.attempts, tally.succeeded, tally.failed) == (1, 0, 0)
    assert tally.success_rate() is None
    assert tally.tokens_per_second() is None
    assert stats.errors == {}


def test_an_answer_with_a_peculiarity_is_an_answer() -> None:
    odd = Attempted(NOON, "r1", "k1", "a1", "m1", "32 done-missing", "", True, 0.5, 2.5)
    stats = recorded(odd)
    assert stats.keys["k1"].succeeded == 1
    assert stats.errors == {}


def test_an_answer_in_one_piece_says_nothing_about_speed() -> None:
    assert recorded(attempt(ttft=None)).models["m1"].tokens_per_second() is None
    tally = recorded(attempt(), attempt(ttft=2.5)).models["m1"]
    assert (tally.tokens_out, tally.tokens_per_second()) == (40, 10)


def test_errors_are_counted_by_row() -> None:
    rows = ("20 upstream-pool", "20 upstream-pool", "10 bad-key")
    stats = recorded(*(attempt(row, NOON + n, None) for n, row in enumerate(rows)))
    assert {e.row: (e.count, e.last_at) for e in stats.errors.values()} == {
        "20 upstream-pool": (2, NOON + 1),
        "10 bad-key": (1, NOON + 2),
    }


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        ("18 platform-minute", 1),
        ("20c model-capacity", 1),
        ("21 unclear-429", 1),
        ("2 bad-certificate", 0),
    ],
)
def test_rate_limits_are_counted_apart(row: str, counts: int) -> None:
    assert recorded(attempt(row, ttft=None)).totals.rate_limited == counts


def test_requests_are_counted_by_outcome_and_fallbacks_by_request() -> None:
    totals = recorded(
        finish(), finish(attempts=3), finish("failed", 4), finish("abandoned"), attempt(cost=0.25)
    ).totals
    assert (totals.requests, totals.succeeded, totals.failed, totals.abandoned) == (4, 2, 1, 1)
    assert (totals.fallbacks, totals.attempts, totals.cost_usd) == (2, 1, 0.25)


def test_a_block_is_state_not_statistics() -> None:
    block = Blocked(NOON, Scope(Kind.KEY, "k1"), NOON + 5, "r", Provenance.HEURISTIC)
    assert recorded(block).totals == Stats(NOON).totals


def test_percentiles_are_right_within_five_percent() -> None:
    distribution = Distribution()
    for number in range(1, 1_001):
        distribution.add(number / 100)
    for share in (0.5, 0.95, 0.99):
        assert distribution.percentile(share) == pytest.approx(10 * share, rel=0.05)
    assert distribution.milliseconds()["p50"] == pytest.approx(5_000, rel=0.05)


def test_no_durations_have_no_percentiles() -> None:
    assert Distribution().milliseconds() == {"p50": None, "p95": None, "p99": None}


def test_a_duration_of_nothing_is_the_smallest() -> None:
    distribution = Distribution()
    distribution.add(0.0)
    assert distribution.percentile(0.5) == pytest.approx(0.001)
