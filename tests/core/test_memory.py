"""What was learnt survives a restart, and nothing that was saved wrongly does harm."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.memory import recall, remember
from keywheel.core.policy import Choice, Policy
from keywheel.core.pool import Pool
from keywheel.core.types import Answered, Ask
from tests.core.build import NOON, answered, failed, model, on, pool, run, take

TALK = Ask(tokens=500, conversation="hash", follow_up=True)
PAYING = Policy(choice=Choice(allow_paid=True, paid_per_day=1.0))


def fresh() -> Pool:
    return pool(models=("m1", "m2", model("p1", free=False)), policy=PAYING)


def lived() -> Pool:
    made = fresh()
    for _ in range(12):
        run(made, answered(4.0, 9.0), on("m1"))
        run(made, Answered(0.3, 1.0, 180, 90), on("m2"))
    run(made, failed("timeout", elapsed=30.0), on("m1"))
    made.settle(take(made, TALK), answered(), NOON)
    run(made, Answered(0.1, 0.2, 10, 10, 0.4), on("p1"))
    return made


def saved(made: Pool, now: float = NOON) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(remember(made, now)))


def order(made: Pool, now: float) -> list[str]:
    return [state.model.id for state, _ in made.survey(TALK, now)]


def test_speed_reliability_and_ratios_survive() -> None:
    before, after = lived(), fresh()
    assert recall(after, saved(before), NOON) == 0
    assert order(after, NOON + 9) == order(before, NOON + 9) == ["m2", "m1"]
    for name in ("m1", "m2"):
        old, new = before.roster.models[name], after.roster.models[name]
        assert new.learnt.expected(TALK) == pytest.approx(old.learnt.expected(TALK))
        assert new.learnt.good == pytest.approx(old.learnt.good)
        assert new.learnt.bad == pytest.approx(old.learnt.bad)
        assert new.stretch == pytest.approx(old.stretch)
    assert after.roster.models["m2"].stretch > 1.0


def test_the_time_in_which_the_program_was_down_counts_as_time() -> None:
    after = fresh()
    recall(after, saved(lived()), NOON + 86_400)
    assert order(after, NOON + 86_400) == ["m1", "m2"]  # forgotten: the list's own order
    assert after.roster.models["m1"].learnt.good < 1e-6


def test_a_conversation_finds_its_account_again_unless_it_was_idle_for_too_long() -> None:
    before = lived()
    home = before.affinity.account("hash", NOON)
    for later, expected in ((60.0, home), (700.0, None)):
        after = fresh()
        recall(after, saved(before), NOON + later)
        assert after.affinity.account("hash", NOON + later) == expected


def test_a_conversation_of_an_account_that_is_no_more_is_forgotten() -> None:
    after = pool(("k9@a9",))
    recall(after, saved(lived()), NOON)
    assert len(after.affinity) == 0


def test_money_spent_today_stays_spent_and_yesterdays_does_not() -> None:
    before = lived()
    after = fresh()
    recall(after, saved(before), NOON)
    assert after.roster.purse.left(NOON) == pytest.approx(0.6)
    tomorrow = fresh()
    recall(tomorrow, saved(before), NOON + 86_400)
    assert tomorrow.roster.purse.left(NOON + 86_400) == 1.0


def test_what_is_under_way_counts_as_spent() -> None:
    before = fresh()
    before.roster.purse.set_aside(7, 0.25)
    after = fresh()
    recall(after, saved(before), NOON)
    assert after.roster.purse.left(NOON) == 0.75


def test_a_sum_that_cannot_be_read_counts_as_all_of_it() -> None:
    for odd in ("much", [1], [20_000, "x"], [20_000, -1.0], [True, 0.0]):
        after = fresh()
        assert recall(after, saved(fresh()) | {"spent": odd}, NOON) == 1
        assert after.roster.purse.left(NOON) == 0.0


def test_requests_under_way_stay_counted() -> None:
    after = fresh()
    take(after, on("m1"))
    recall(after, saved(lived()), NOON)
    assert after.roster.models["m1"].learnt.in_flight == 1


@pytest.mark.parametrize("odd", [None, 7, "x", [], {"version": 99}])
def test_a_record_of_another_kind_changes_nothing(odd: object) -> None:
    after = fresh()
    assert recall(after, odd, NOON) == 1
    assert saved(after) == saved(fresh())


def test_where_nothing_was_saved_nothing_is_missed() -> None:
    assert recall(fresh(), {}, NOON) == 0


@pytest.mark.parametrize(
    ("name", "odd"),
    [("good", -1), ("bad", "x"), ("at", float("inf")), ("ttft", [[1, 2, 3]]), ("speed", [-1, 0, 0]),
     ("ratio", [1, float("nan"), 0]), ("limit", 0), ("output", None), ("surprise", True)],
)  # fmt: skip
def test_an_odd_figure_costs_one_model_its_memory_and_no_other(name: str, odd: object) -> None:
    record = saved(lived())
    record["models"]["m1"][name] = odd
    after = fresh()
    assert recall(after, record, NOON) == 1
    assert after.roster.models["m1"].learnt.good == 0.0
    assert after.roster.models["m2"].learnt.good > 0.0


@pytest.mark.parametrize(
    "odd", [7, ["a", "a1"], [1, "a1", 0], ["a", 2, 0], ["a", "a1", -1], ["a", "a1", NOON + 9]]
)
def test_an_odd_conversation_is_passed_over(odd: object) -> None:
    after = fresh()
    record = saved(fresh()) | {"conversations": [odd, ["b", "a1", NOON - 5]]}
    assert recall(after, record, NOON) == 1
    assert after.affinity.account("b", NOON) == "a1"


JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["models", "conversations", "spent", "at"]), JSONS), JSONS)
def test_nothing_that_was_saved_can_break_the_start(record: dict[str, Any], inner: Any) -> None:
    after = fresh()
    recall(after, {"version": 1, **record}, NOON)
    recall(after, {"version": 1, "models": {"m1": inner}}, NOON)
    assert after.survey(TALK, NOON)
    assert take(after)
