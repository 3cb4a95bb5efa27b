"""The rules of routing A.2 and A.6 for one scope."""

import pytest

from keywheel.core.breaker import Breaker, Cause, Pairs
from keywheel.core.policy import Health
from keywheel.core.types import FOREVER, Kind, Ladder, Provenance, Scope
from keywheel.core.window import Counts
from tests.core.build import NOON, breaker, lease

A, H, O = Provenance.AUTHORITATIVE, Provenance.HEURISTIC, Provenance.OPERATOR  # noqa: E741
LADDER = Ladder(15, 300)


def fail(scope: Breaker, times: int, now: float = NOON, sources: int = 2, spans: int = 1) -> bool:
    """Failures of attempts that entered in the present epoch; whether the last one tripped."""
    return [scope.fail(n, scope.epoch, now, f"k{n % sources}", spans) for n in range(times)][-1]


def succeed(scope: Breaker, times: int, now: float = NOON) -> None:
    for _ in range(times):
        scope.succeed(1, scope.epoch, now)


def tripped(health: Health | None = None) -> Breaker:
    scope = breaker(health)
    assert fail(scope, 5)
    return scope


# --- blocks ----------------------------------------------------------------------------------------


def test_a_new_scope_is_open() -> None:
    scope = breaker()
    assert (scope.closed_until(NOON), scope.cause(NOON)) == (0.0, None)


def test_a_block_ends_by_itself() -> None:
    scope = breaker()
    assert scope.block(A, NOON + 60, "model-gone", NOON, 0)
    assert scope.closed_until(NOON + 59.9) == NOON + 60
    assert scope.closed_until(NOON + 60) == 0.0


def test_a_shorter_block_never_shortens_a_longer_one() -> None:
    scope = breaker()
    scope.block(A, NOON + 60, "first", NOON, 0)
    assert not scope.block(A, NOON + 30, "second", NOON, 0)
    assert scope.cause(NOON) == Cause("first", NOON + 60, A)


def test_a_later_longer_block_counts() -> None:
    scope = breaker()
    scope.block(A, NOON + 60, "first", NOON, 0)
    assert scope.block(A, NOON + 90, "second", NOON, 0)
    assert scope.cause(NOON) == Cause("second", NOON + 90, A)


def test_a_block_in_the_past_is_none() -> None:
    scope = breaker()
    assert not scope.block(A, NOON, "late", NOON, 0)
    assert scope.blocks == {}


def test_what_closes_longest_is_the_cause() -> None:
    scope = breaker()
    scope.block(H, NOON + 90, "guess", NOON, 0)
    scope.block(A, NOON + 60, "said", NOON, 0)
    assert scope.cause(NOON) == Cause("guess", NOON + 90, H)


def test_a_success_clears_a_guess_but_not_what_the_upstream_said() -> None:
    scope = breaker()
    scope.block(H, NOON + 60, "guess", NOON, 1)
    scope.block(A, NOON + 30, "said", NOON, 1)
    assert scope.succeed(2, 0, NOON)
    assert scope.cause(NOON) == Cause("said", NOON + 30, A)


def test_a_success_of_an_attempt_that_began_before_the_block_clears_nothing() -> None:
    scope = breaker()
    scope.block(H, NOON + 60, "guess", NOON, 7)
    assert not scope.succeed(7, 0, NOON)
    assert scope.closed_until(NOON) == NOON + 60


def test_a_late_success_does_not_reset_the_ladder_either() -> None:
    scope = breaker()
    scope.climb(lease(1), LADDER, "r", NOON, 5)
    scope.succeed(3, 0, NOON)
    assert scope.streak == 1


def test_a_success_does_not_open_what_an_operator_closed() -> None:
    scope = breaker()
    scope.block(O, FOREVER, "disabled by operator", NOON, 0)
    assert not scope.succeed(9, 0, NOON)
    assert scope.closed_until(NOON) == FOREVER


def test_a_block_that_is_over_is_no_reopening() -> None:
    scope = breaker()
    scope.block(H, NOON + 5, "guess", NOON, 1)
    assert not scope.succeed(2, 0, NOON + 6)
    assert scope.blocks == {}
    assert scope.calm


def test_clearing_says_whether_there_was_something_to_clear() -> None:
    scope = breaker()
    scope.block(A, NOON + 60, "said", NOON, 0)
    assert scope.clear(A, NOON)
    assert not scope.clear(A, NOON)
    assert scope.closed_until(NOON) == 0.0


def test_an_operator_reset_forgets_everything_and_results_under_way() -> None:
    scope = tripped()
    scope.climb(lease(1), LADDER, "r", NOON, 5)
    scope.block(O, FOREVER, "disabled by operator", NOON, 5)
    scope.reset()
    assert scope.closed_until(NOON) == 0.0
    assert (scope.streak, scope.calm, scope.counts(NOON)) == (0, True, Counts(0, 0, 0))
    assert not scope.fail(1, 1, NOON, "k1", 1)  # began before the reset
    assert scope.counts(NOON).total == 0


# --- ladder ----------------------------------------------------------------------------------------


def test_the_ladder_doubles_up_to_its_cap_within_a_fifth() -> None:
    scope = breaker()
    now = NOON
    for step in range(8):
        assert scope.climb(lease(step, now), LADDER, "r", now, step)
        length = scope.closed_until(now) - now
        expected = 15 * 2.0**step
        assert 0.8 * min(expected, 300) <= length <= min(1.2 * expected, 300)
        now = scope.closed_until(now)


def test_a_hundred_failures_at_once_advance_the_ladder_once_and_shorten_nothing() -> None:
    scope = breaker()
    assert scope.climb(lease(1), LADDER, "r", NOON + 1, 100)
    end = scope.closed_until(NOON + 1)
    for number in range(2, 101):
        assert not scope.climb(lease(number), LADDER, "r", NOON + 1, 100)
    assert (scope.streak, scope.closed_until(NOON + 1)) == (1, end)


def test_only_a_failure_that_began_after_the_block_advances_the_ladder() -> None:
    scope = breaker()
    scope.climb(lease(1), LADDER, "r", NOON, 1)
    end = scope.closed_until(NOON)
    assert not scope.climb(lease(2, end - 0.1), LADDER, "r", end + 1, 2)
    assert scope.climb(lease(3, end), LADDER, "r", end + 1, 3)
    assert scope.streak == 2


def test_some_ladders_begin_with_the_second_failure_in_a_row() -> None:
    scope = breaker()
    late = Ladder(15, 300, first=2)
    assert not scope.climb(lease(1), late, "timeout", NOON, 1)
    assert scope.closed_until(NOON) == 0.0
    assert scope.climb(lease(2), late, "timeout", NOON, 2)
    assert 12 <= scope.closed_until(NOON) - NOON <= 18


def test_a_success_in_between_starts_the_ladder_again() -> None:
    scope = breaker()
    late = Ladder(15, 300, first=2)
    scope.climb(lease(1), late, "timeout", NOON, 1)
    scope.succeed(2, 0, NOON)
    assert not scope.climb(lease(3), late, "timeout", NOON, 3)


def test_a_ladder_may_demand_failures_from_several_lanes() -> None:
    scope = breaker()
    late = Ladder(2, 30, first=2)
    for number in range(1, 5):
        assert not scope.climb(lease(number), late, "unreachable", NOON, number, spans=2)
    assert scope.climb(lease(5, key="k2"), late, "unreachable", NOON, 5, spans=2)
    assert scope.closed_until(NOON) - NOON <= 2.4


def test_jitter_differs_by_scope_and_repeats_by_seed() -> None:
    def length(name: str, seed: str) -> float:
        scope = Breaker(Scope(Kind.MODEL, name), Health(), seed)
        scope.climb(lease(1), LADDER, "r", NOON, 1)
        return scope.closed_until(NOON) - NOON

    assert length("m1", "s") == length("m1", "s")
    assert len({length(f"m{n}", "s") for n in range(20)}) == 20
    assert length("m1", "s") != length("m1", "t")


def test_a_ladder_block_does_not_raise_the_epoch() -> None:
    scope = breaker()
    scope.climb(lease(1), LADDER, "r", NOON, 1)
    assert scope.epoch == 0


# --- tripping --------------------------------------------------------------------------------------


def test_five_of_ten_do_not_trip_six_of_ten_do() -> None:
    scope = breaker()
    succeed(scope, 5)
    assert not fail(scope, 5)
    scope = breaker()
    succeed(scope, 4)
    assert fail(scope, 5)


def test_four_failures_are_too_few_to_trip() -> None:
    scope = breaker()
    assert not fail(scope, 4)
    assert fail(scope, 1)


def test_a_success_never_trips() -> None:
    scope = breaker()
    fail(scope, 4)
    scope.succeed(9, 0, NOON)
    assert scope.closed_until(NOON) == 0.0
    assert fail(scope, 1)


def test_failures_of_one_source_do_not_trip_where_two_are_asked_for() -> None:
    scope = breaker()
    assert not fail(scope, 20, sources=1, spans=2)
    assert scope.fail(1, 0, NOON, "k2", 2)


def test_tripping_closes_for_300_s_exactly_raises_the_epoch_and_empties_the_window() -> None:
    scope = tripped()
    assert scope.closed_until(NOON) == NOON + 300.0
    assert (scope.epoch, scope.counts(NOON)) == (1, Counts(0, 0, 0))
    assert scope.cause(NOON) == Cause("error rate 5/5", NOON + 300, H)


def test_the_rule_is_made_of_settings() -> None:
    scope = breaker(Health(window=60, min_samples=2, disable=10))
    assert fail(scope, 2)
    assert scope.closed_until(NOON) == NOON + 10


def test_results_of_an_older_epoch_change_nothing() -> None:
    scope = tripped()
    scope.block(H, NOON + 400, "guess", NOON, 0)
    assert not scope.succeed(99, 0, NOON)
    assert not scope.fail(99, 0, NOON, "k1", 1)
    assert scope.closed_until(NOON) == NOON + 400
    assert scope.counts(NOON) == Counts(0, 0, 0)


def test_a_scope_without_a_window_never_trips() -> None:
    scope = breaker(window=False)
    assert not fail(scope, 50)
    assert scope.counts(NOON) == Counts(0, 0, 0)


# --- half-open -------------------------------------------------------------------------------------


def half_open() -> Breaker:
    scope = tripped()
    assert scope.is_half_open(NOON + 300)
    assert not scope.is_half_open(NOON + 299)
    return scope


def test_one_probe_at_a_time() -> None:
    scope = half_open()
    assert scope.enter(10, NOON + 300, NOON + 425)
    assert scope.closed_until(NOON + 301) == NOON + 425
    assert scope.cause(NOON + 301) == Cause("probe under way", NOON + 425, H)
    assert not scope.enter(11, NOON + 301, NOON + 426)


def test_nobody_enters_as_a_probe_before_the_time_is_over() -> None:
    assert not tripped().enter(10, NOON + 299, NOON + 425)
    assert not breaker().enter(10, NOON, NOON + 125)


def test_a_probe_that_answers_closes_the_breaker_with_an_empty_window() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    assert scope.succeed(10, 1, NOON + 301)
    assert scope.closed_until(NOON + 301) == 0.0
    assert not scope.is_half_open(NOON + 301)
    assert scope.counts(NOON + 301).total == 0
    assert scope.calm


def test_a_probe_that_fails_opens_it_for_another_300_s() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    assert scope.fail(10, 1, NOON + 301, "k1", 2)
    assert scope.closed_until(NOON + 301) == NOON + 601
    assert scope.epoch == 2
    assert scope.cause(NOON + 301) == Cause("error rate 5/5", NOON + 601, H)


def test_a_probe_without_a_result_gives_its_place_back() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    scope.leave(10)
    assert scope.closed_until(NOON + 301) == 0.0
    assert scope.enter(11, NOON + 301, NOON + 426)


def test_only_the_probe_gives_the_place_back() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    scope.leave(9)
    assert scope.closed_until(NOON + 301) == NOON + 425


def test_a_probe_that_never_reports_loses_its_place() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    assert scope.closed_until(NOON + 425) == 0.0
    assert scope.enter(11, NOON + 425, NOON + 550)
    scope.leave(10)  # the lost one, after all
    assert scope.closed_until(NOON + 430) == NOON + 550
    assert not scope.fail(10, 1, NOON + 430, "k1", 1)


def test_a_success_that_is_not_the_probe_does_not_close_it() -> None:
    """Under `last_resort` a tripped scope may be entered; its success ends no open state."""
    scope = tripped()
    assert not scope.succeed(10, 1, NOON + 1)
    assert scope.closed_until(NOON + 1) == NOON + 300
    assert scope.counts(NOON + 1).total == 0


def test_an_answering_probe_clears_guesses_and_the_ladder_too() -> None:
    scope = half_open()
    scope.climb(lease(8, NOON), LADDER, "r", NOON + 1, 9)
    scope.enter(10, NOON + 300, NOON + 425)
    scope.succeed(10, 1, NOON + 301)
    assert (scope.streak, scope.calm) == (0, True)


def test_a_probe_under_way_is_no_block() -> None:
    scope = half_open()
    scope.enter(10, NOON + 300, NOON + 425)
    assert scope.blocked_until(NOON + 301) == 0.0
    scope.block(A, NOON + 310, "said", NOON + 301, 10)
    assert scope.blocked_until(NOON + 301) == NOON + 310
    assert scope.closed_until(NOON + 301) == NOON + 425


# --- summaries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provenance", "guess"), [(A, False), (O, False), (H, True)])
def test_a_guess_is_what_nobody_said(provenance: Provenance, guess: bool) -> None:
    scope = breaker()
    assert scope.is_guess(NOON)
    scope.block(provenance, NOON + 60, "r", NOON, 0)
    assert scope.is_guess(NOON) is guess
    assert scope.is_guess(NOON + 60)
    assert tripped().is_guess(NOON)


def test_every_change_ends_the_summary_of_its_group() -> None:
    pairs = Pairs()
    scope = Breaker(Scope(Kind.LANE, "k1+m1"), Health(), pairs=pairs)
    changes = (
        lambda: scope.block(A, NOON + 1, "r", NOON, 0),
        lambda: scope.clear(A, NOON),
        lambda: fail(scope, 5),
        lambda: scope.enter(7, NOON + 300, NOON + 400),
        lambda: scope.leave(7),
        lambda: scope.climb(lease(1), LADDER, "r", NOON, 1),
        scope.reset,
    )
    for change in changes:
        pairs.until = FOREVER
        change()
        assert pairs.until == 0.0


def test_times_scale() -> None:
    """I22: the same story at half the speed gives the same decisions."""

    def story(scale: float) -> list[float]:
        scope = breaker(Health(window=300 * scale, disable=300 * scale))
        seen: list[float] = []
        for step in range(200):
            now = step * 16.0 * scale
            if not scope.closed_until(now):
                scope.enter(step, now, now + 64 * scale)
                bad = step % 7 in (1, 2, 3, 5)
                if bad:
                    scope.fail(step, scope.epoch, now, "k1", 1)
                else:
                    scope.succeed(step, scope.epoch, now)
            seen.append(scope.closed_until(now) / scale)
        return seen

    assert story(1.0) == story(2.0)
    assert any(story(1.0))
