"""Money: nothing without leave, and never more than the daily sum, whatever runs at the same time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.policy import Choice, Policy
from keywheel.core.pool import Pool
from keywheel.core.purse import Purse, at_most
from keywheel.core.rows import ROWS
from keywheel.core.tried import Tried
from keywheel.core.types import (
    Abandoned,
    Answered,
    Ask,
    Failed,
    Lease,
    Model,
    Outcome,
    Price,
    Verdict,
)
from tests.core.build import NOON, account, pool, refusal, run, take

CENT = Price(prompt=0.00001, completion=0.00001)
PAID = Model("p1", 100_000, free=False, price=CENT)
BY_NAME = Ask(tokens=500, reply_tokens=500, models=("p1",))  # costs a cent at most
UNTRIED = Tried()


def rich(cap: float = 0.05, models: tuple[Model, ...] = (PAID,)) -> Pool:
    spending = Policy(choice=Choice(allow_paid=True, paid_per_day=cap))
    return pool(("k1@a1",), models, spending, [account("a1", 1)])


def test_without_leave_nothing_is_affordable() -> None:
    made = pool(("k1@a1",), (PAID,))
    assert refusal(made, BY_NAME).missing == ("cost",)


def test_the_day_ends_with_its_money_and_begins_anew_at_midnight() -> None:
    made = rich(0.05)
    for _ in range(5):
        run(made, Answered(0.1, 0.2, 500, 500, 0.01), BY_NAME)
    assert refusal(made, BY_NAME).missing == ("cost",)
    assert take(made, BY_NAME, NOON + 43_200)


def test_what_runs_at_the_same_time_is_set_aside() -> None:
    made = rich(0.05)
    leases = [take(made, BY_NAME) for _ in range(5)]
    assert refusal(made, BY_NAME).missing == ("cost",)
    made.settle(leases[0], Answered(0.1, 0.2, 10, 10, 0.0002), NOON)
    assert refusal(made, BY_NAME._replace(reply_tokens=2_000)).missing == ("cost",)
    assert take(made, BY_NAME._replace(reply_tokens=400))


@pytest.mark.parametrize(
    ("outcome", "costs"),
    [
        (Answered(0.1, 0.2, 1, 1, 0.004), 0.004),
        (Answered(0.1, 0.2, 1, 1), 0.01),  # nobody said
        (Failed(Verdict(ROWS["server-error"], status=500)), 0.0),
        (Failed(Verdict(ROWS["broken-after-content"])), 0.01),
        (Abandoned("client gone"), 0.01),
        (Abandoned("client gone", unsent=True), 0.0),
    ],
)
def test_a_refusal_costs_nothing_and_an_answer_cut_short_may(
    outcome: Outcome, costs: float
) -> None:
    made = rich(1.0)
    run(made, outcome, BY_NAME)
    assert made.roster.purse.left(NOON) == pytest.approx(1.0 - costs)


def test_an_attempt_that_the_store_refused_costs_nothing() -> None:
    made = rich(1.0)
    made.undo(take(made, BY_NAME))
    assert made.roster.purse.left(NOON) == 1.0


def test_a_bound_that_nobody_can_tell_is_not_affordable() -> None:
    pictures = replace(PAID, price=Price(media=True), can=frozenset({"image"}))
    made = rich(1.0, (pictures,))
    assert take(made, BY_NAME)
    with_picture = BY_NAME._replace(needs=frozenset({"image"}))
    assert refusal(made, with_picture).missing == ("cost",)


def test_the_longest_answer_counts_where_none_is_asked_for() -> None:
    ask = Ask(tokens=1_000)
    assert at_most(replace(PAID, max_output=9_000), ask, 1.0) == pytest.approx(0.1)
    assert at_most(PAID, ask, 1.0) == pytest.approx(0.00001 * 5_096)
    assert at_most(replace(PAID, price=Price(request=0.5)), ask, 1.0) == 0.5


def test_paid_requests_use_no_free_quota() -> None:
    made = rich(1.0)
    for _ in range(3):
        run(made, Answered(0.1, 0.2, 1, 1, 0.001), BY_NAME)
    assert made.roster.accounts["a1"].quota.used(NOON) == 0


@given(st.lists(st.tuples(st.floats(0.0, 0.01), st.booleans()), max_size=60))
def test_the_sum_is_never_passed(story: list[tuple[float, bool]]) -> None:
    """As long as no answer costs more than the listed prices say."""
    made, open_, spent = rich(0.05), list[tuple[Lease, float]](), 0.0
    for cost, settle in story:
        lease = made.select(BY_NAME, UNTRIED, NOON)
        if isinstance(lease, Lease):
            open_.append((lease, cost))
        if settle and open_:
            done, price = open_.pop(0)
            made.settle(done, Answered(0.1, 0.2, 1, 1, price), NOON)
            spent += price or 0.01
    assert spent <= 0.05 + 1e-9
    assert len(open_) * 0.01 + spent <= 0.05 + 1e-9


def test_a_purse_without_a_sum_is_empty() -> None:
    assert Purse().left(NOON) == 0.0
