"""The retry budget of routing A.7."""

import pytest

from keywheel.core.budget import Budget
from tests.core.build import NOON


def drained() -> Budget:
    budget = Budget()
    assert all(budget.spend(NOON) for _ in range(20))
    return budget


def test_twenty_extra_attempts_at_once_and_not_one_more() -> None:
    assert not drained().spend(NOON)


def test_five_requests_earn_one_extra_attempt() -> None:
    budget = drained()
    for _ in range(5):
        assert not budget.spend(NOON)
        budget.earn(NOON)
    assert budget.left(NOON) == pytest.approx(1)
    assert budget.spend(NOON)


def test_six_seconds_earn_one_extra_attempt() -> None:
    budget = drained()
    assert not budget.spend(NOON + 5.9)
    assert budget.spend(NOON + 6.1)


def test_it_never_holds_more_than_twenty() -> None:
    budget = Budget()
    budget.earn(NOON)
    assert budget.left(NOON + 10_000) == 20


def test_a_clock_reading_from_before_takes_nothing_away() -> None:
    budget = drained()
    assert budget.left(NOON - 5) == 0
