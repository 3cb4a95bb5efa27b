"""The formula J of routing A.4."""

from math import inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.policy import Choice
from keywheel.core.ranking import FADE_STEP, Learnt, Mean, bucket, score, step
from keywheel.core.types import Ask
from tests.core.build import ASK, NOON

BALANCED = Choice()
WEEK = 7 * 86_400.0


def learnt(ttft: float = 1.0, looks: int = 0, good: int = 0, bad: int = 0) -> Learnt:
    made = Learnt(at=NOON)
    made.good, made.bad = good, bad
    for _ in range(looks):
        made.ttft[0].add(ttft)
    return made


def j(state: Learnt, rank: int = 0, ask: Ask = ASK, choice: Choice = BALANCED) -> float:
    return score(state, rank, ask, choice)


def test_a_newcomer_is_expected_to_answer_in_6_s_with_nine_chances_in_ten() -> None:
    assert j(Learnt()) == pytest.approx(log(2 + 6 + 30 * 0.1 / 0.9))


def test_one_place_lower_costs_the_preference_step() -> None:
    assert j(Learnt(), 3) - j(Learnt(), 2) == pytest.approx(log(1.3))


def test_the_measured_time_counts_by_its_looks_against_three() -> None:
    assert learnt(2.0, looks=3).expected(ASK) == pytest.approx((6 * 2) ** 0.5)
    assert learnt(2.0, looks=1).expected(ASK) == pytest.approx((6**3 * 2) ** 0.25)


def test_the_length_of_the_answer_counts_by_the_speed() -> None:
    state = Learnt(at=NOON)
    for _ in range(2_000):
        state.answered(100, ttft=1.0, total=11.0, tokens_out=1_000)
    assert state.expected(Ask(tokens=100)) == pytest.approx(11, rel=0.01)
    assert state.expected(Ask(tokens=100, reply_tokens=100)) == pytest.approx(2, rel=0.01)
    assert state.expected(Ask(tokens=100, reply_tokens=10**6)) == pytest.approx(11, rel=0.01)


def test_an_answer_without_a_count_or_in_one_piece_teaches_no_speed() -> None:
    state = Learnt(at=NOON)
    state.answered(100, 1.0, 1.01, 500)
    state.answered(100, 1.0, 9.0, None)
    assert state.speed.weight == 0
    assert state.output.weight == 1


def test_speed_without_a_usual_length_assumes_one() -> None:
    state = learnt(1.0, looks=1)
    state.speed.add(100.0)
    assert state.expected(Ask(tokens=100)) == pytest.approx((6**3 * 5) ** 0.25)


def test_prompt_sizes_are_kept_apart_and_fall_back_to_what_is_known() -> None:
    assert [bucket(tokens) for tokens in (0, 999, 1_000, 7_999, 8_000, 10**6)] == [0, 0, 1, 1, 2, 2]
    state = learnt(1.0, looks=3)
    assert state.expected(Ask(tokens=9_000)) == state.expected(Ask(tokens=10))
    state.ttft[2].add(20.0)
    assert state.expected(Ask(tokens=9_000)) > state.expected(Ask(tokens=10))


def test_a_failure_costs_30_s_over_its_odds() -> None:
    state = learnt(bad=10)
    chance = 9 / 20
    assert chance == 9 / 20
    assert j(state) == pytest.approx(log(2 + 6 + 30 * (1 - chance) / chance))


def test_a_timeout_counts_as_the_time_it_took_other_failures_do_not() -> None:
    state = learnt()
    state.failed(100, None)
    assert state.expected(ASK) == 6.0
    state.failed(100, 30.0)
    assert state.expected(ASK) > 6.0
    assert state.bad == 2


def test_requests_under_way_make_a_model_slower() -> None:
    state = learnt()
    before = j(state)
    state.in_flight = 4
    assert j(state) == pytest.approx(log(2 + 6 * 1.5 + 30 * 0.1 / 0.9)) != before


def test_strategies_are_settings_of_the_same_formula() -> None:
    assert [step(Choice(s)) for s in ("ordered", "smartest", "fastest")] == [inf, inf, 0.0]
    slow, fast = learnt(60.0, looks=50), learnt(0.3, looks=50)
    assert j(slow, 0, choice=Choice("ordered")) < j(fast, 1, choice=Choice("ordered"))
    assert j(slow, 0) > j(fast, 1)
    assert j(learnt(), 0, choice=Choice("fastest")) == j(learnt(), 9, choice=Choice("fastest"))


# --- forgetting ------------------------------------------------------------------------------------


def test_what_was_learnt_counts_half_after_the_half_life() -> None:
    state = learnt(1.0, looks=4, good=4, bad=2)
    state.fade(NOON + 1_800, 1_800)
    assert (state.good, state.bad) == (pytest.approx(2), pytest.approx(1))
    assert state.ttft[0].weight == pytest.approx(2)
    assert state.ttft[0].mean == pytest.approx(1.0)


def test_forgetting_goes_in_steps_and_misses_nothing() -> None:
    stepwise, at_once = learnt(good=8), learnt(good=8)
    for tick in range(1, 1_801):
        stepwise.fade(NOON + tick, 1_800)
    at_once.fade(NOON + 1_800, 1_800)
    assert stepwise.good == pytest.approx(at_once.good)
    before = stepwise.good
    stepwise.fade(NOON + 1_800 + FADE_STEP / 2, 1_800)
    assert stepwise.good == before


def test_after_a_week_a_model_is_new_again() -> None:
    state = learnt(30.0, looks=90, bad=90)
    state.fade(NOON + WEEK, 1_800)
    assert j(state) == pytest.approx(j(Learnt()))
    assert state.ttft_p95(100) is None
    assert state.ttft_mean(100) is None


# --- requests at once ------------------------------------------------------------------------------


def test_a_success_at_half_use_adds_one_up_to_64() -> None:
    state = Learnt()
    state.answered(100, 1.0, 2.0, None)
    assert state.limit == 8
    state.in_flight = 3
    state.answered(100, 1.0, 2.0, None)
    assert state.limit == 9
    state.limit, state.in_flight = 64, 63
    state.answered(100, 1.0, 2.0, None)
    assert state.limit == 64


def test_crowding_takes_three_tenths_down_to_one() -> None:
    state = Learnt()
    state.shrink()
    assert state.limit == pytest.approx(5.6)
    for _ in range(20):
        state.shrink()
    assert state.limit == 1.0


# --- the 95th percentile ---------------------------------------------------------------------------


def test_the_95th_percentile_is_that_of_a_log_normal() -> None:
    mean = Mean()
    for value in (1.0, 4.0):
        mean.add(value)
    assert mean.mean == pytest.approx(2.0)
    assert mean.p95 == pytest.approx(2.0 * 2.0**1.645)


def test_equal_times_have_no_spread() -> None:
    state = learnt(3.0, looks=5)
    assert state.ttft_p95(100) == pytest.approx(3.0)
    assert state.ttft_mean(100) == pytest.approx(3.0)
    assert state.ttft_p95(2_000) is None


def test_a_time_of_nothing_is_no_error() -> None:
    mean = Mean()
    mean.add(0.0)
    assert mean.mean == pytest.approx(0.001)


# --- I20: slower or worse is never better ------------------------------------------------------------

times = st.lists(st.floats(0.01, 200), max_size=6)


@given(times, st.integers(0, 30), st.integers(0, 30), st.floats(0, 100), st.integers(1, 20))
def test_making_a_model_slower_or_worse_never_improves_its_score(
    seen: list[float], good: int, bad: int, slower: float, worse: int
) -> None:
    def state(delay: float, failures: int) -> Learnt:
        made = learnt(good=good, bad=bad + failures)
        for value in seen:
            made.ttft[0].add(value + delay)
        return made

    base = j(state(0, 0))
    assert j(state(slower, 0)) >= base - 1e-9
    assert j(state(0, worse)) > base
