"""A breaker at the very moment a block ends, and what a lease number must not be taken for."""

from keywheel.core.types import Ladder, Provenance
from tests.core.build import NOON, breaker, lease

GUESS = Provenance.HEURISTIC


def test_a_block_is_over_at_its_moment() -> None:
    found = breaker()
    found.block(GUESS, NOON + 5, "x", NOON, 0)
    assert found.blocked_until(NOON + 4.9) == NOON + 5
    assert found.blocked_until(NOON + 5) == found.closed_until(NOON + 5) == 0.0
    assert not found.clear(GUESS, NOON + 5)


def test_a_success_forgets_blocks_that_are_over() -> None:
    found = breaker()
    found.block(Provenance.AUTHORITATIVE, NOON + 5, "x", NOON, 0)
    assert not found.succeed(1, 0, NOON + 5)
    assert found.blocks == {}
    assert found.calm


def test_a_result_from_before_a_reset_stays_one_after_the_next_trip() -> None:
    found = breaker()
    found.reset()
    for number in range(2, 7):
        found.fail(number, found.epoch, NOON, f"k{number}", 1)
    assert found.open_until == NOON + 300
    assert found.enter(9, NOON + 300, NOON + 400)
    assert found.succeed(9, found.epoch, NOON + 301)
    assert not found.fail(1, 0, NOON + 302, "k1", 1)
    assert found.counts(NOON + 302).total == 0


def test_the_first_lease_is_no_probe_unless_it_entered_as_one() -> None:
    found = breaker()
    for number in range(2, 7):
        found.fail(number, 0, NOON, f"k{number}", 1)
    assert not found.fail(1, found.epoch, NOON + 10, "k1", 1)
    assert found.open_until == NOON + 300
    assert not found.succeed(1, found.epoch, NOON + 10)
    assert found.open_until == NOON + 300


def test_a_ladder_says_its_reason() -> None:
    found = breaker()
    found.climb(lease(), Ladder(10, 300), "server-error", NOON, 1)
    cause = found.cause(NOON)
    assert cause is not None
    assert cause.reason == "server-error"
