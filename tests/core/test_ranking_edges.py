"""What is learnt about a model, and how it fades, to the edge of each rule."""

from math import log

import pytest

from keywheel.core.ranking import FADE_STEP, Learnt, Mean
from keywheel.core.types import Ask
from tests.core.build import NOON


def test_forgetting_changes_the_weight_and_neither_mean_nor_spread() -> None:
    seen = Mean()
    for value in (1.0, 4.0):
        seen.add(value)
    before = (seen.mean, seen.p95)
    assert before == (pytest.approx(2.0), pytest.approx(2.0 * 2.0**1.645))
    seen.fade(0.5)
    assert (seen.mean, seen.p95) == (pytest.approx(before[0]), pytest.approx(before[1]))
    assert seen.weight == 1.0
    seen.add(2.0)
    assert seen.squares == pytest.approx(2 * log(2) ** 2 + log(2) ** 2)


def test_forgetting_goes_in_steps_of_five_seconds() -> None:
    for seconds, good in ((FADE_STEP - 0.1, 2.0), (FADE_STEP, 1.0)):
        learnt = Learnt(at=NOON)
        for _ in range(2):
            learnt.answered(100, 1.0, 2.0, 10)
        learnt.fade(NOON + seconds, FADE_STEP)
        assert learnt.good == good


def test_speed_is_learnt_from_answers_that_took_a_second_more() -> None:
    learnt = Learnt(at=NOON)
    learnt.answered(100, 1.0, 2.0, 50)
    assert learnt.speed.mean == pytest.approx(50)
    learnt.answered(100, 1.0, 1.04, 50)
    assert (learnt.speed.weight, learnt.output.weight) == (1.0, 2.0)


@pytest.mark.parametrize(("others", "limit"), [(2, 8.0), (3, 9.0)])
def test_more_at_once_are_allowed_only_when_half_was_needed(others: int, limit: float) -> None:
    learnt = Learnt(at=NOON, in_flight=others)
    learnt.answered(100, 1.0, 2.0, 10)
    assert learnt.limit == limit


def test_a_plain_answer_is_not_taken_for_a_slow_first_token() -> None:
    """Its tokens took the time; without a known speed nothing better can be said."""
    learnt = Learnt(at=NOON)
    learnt.answered(
        100, 1.0, 2.0, 50
    )  # streamed: a second to the first token, then 50 tokens a second
    learnt.answered(100, 11.0, 11.0, 500)  # plain: ten seconds of tokens
    assert learnt.ttft[0].mean == pytest.approx(1.0)
    unknown = Learnt(at=NOON)
    unknown.answered(100, 11.0, 11.0, 500)
    assert unknown.ttft[0].mean == pytest.approx(11.0)


def test_never_more_than_64_at_once_are_allowed() -> None:
    learnt = Learnt(at=NOON, in_flight=64, limit=64.0)
    learnt.answered(100, 1.0, 2.0, 10)
    assert learnt.limit == 64.0


def test_an_answer_of_one_token_is_expected_to_be_short() -> None:
    learnt = Learnt(at=NOON)
    learnt.answered(100, 1.0, 11.0, 100)
    one, two = (learnt.expected(Ask(tokens=100, reply_tokens=n)) for n in (1, 2))
    assert one < two < learnt.expected(Ask(tokens=100))
