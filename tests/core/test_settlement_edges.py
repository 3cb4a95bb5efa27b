"""Settling in full: what events tell, from how many lanes a failure must come, and what an answer teaches."""

import pytest

from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import (
    Abandoned,
    Answered,
    Attempted,
    Blocked,
    Event,
    Kind,
    Provenance,
    Reopened,
    Scope,
)
from tests.core.build import (
    NOON,
    answered,
    failed,
    heal,
    model,
    on,
    pool,
    refusal,
    run,
    take,
    until,
)

DAY = 86_400.0
PROVIDER = Scope(Kind.PROVIDER, "openrouter")
H = Provenance.HEURISTIC


def blocks(events: tuple[Event, ...]) -> list[Blocked]:
    return [event for event in events if isinstance(event, Blocked)]


# --- events ------------------------------------------------------------------------------------------


def test_an_answer_is_told_in_full() -> None:
    outcome = Answered(0.5, 2.0, 7, 9, 0.25, "28b budget-spent-on-reasoning")
    paid = pool(("k1@a1",), [model("p1", free=False)])
    assert run(paid, outcome, on("p1", "r7")) == (
        Attempted(NOON, "r7", "k1", "a1", "p1", outcome.row, "", True, 0.5, 2.0, 7, 9, 0.25),
    )


def test_a_model_listed_as_free_that_costs_money_is_closed_for_a_day() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    (block,) = blocks(run(made, Answered(0.5, 2.0, 7, 9, 0.000_1), on("m1")))
    assert (block.scope, block.reason) == (Scope(Kind.MODEL, "m1"), "charged")
    assert block.until == NOON + 86_400
    assert refusal(made, on("m1")).cause == "health"


def test_a_paid_model_that_answers_for_a_free_one_closes_it_for_a_day() -> None:
    made = pool(("k1@a1",))
    made.set_models([model("m1:free"), model("m2", free=False)], NOON, frozenset({"m1", "m2"}))
    assert not blocks(run(made, Answered(0.5, 2.0, model="m1-20260101:free"), on("m1:free")))
    (block,) = blocks(run(made, Answered(0.5, 2.0, model="m1"), on("m1:free")))
    assert (block.scope.name, block.reason) == ("m1:free", "charged")
    assert not blocks(run(made, Answered(0.5, 2.0, model="m2"), on("m2")))


def test_usage_that_was_not_told_is_none() -> None:
    (event,) = run(pool(("k1@a1",)), Answered(0.5, 2.0), on("m1"))
    assert isinstance(event, Attempted)
    assert (event.tokens_in, event.tokens_out, event.cost) == (0, 0, 0.0)


def test_a_failure_is_told_in_full() -> None:
    events = run(pool(("k1@a1",)), failed("server-error", elapsed=3.0), on("m1", "r7"))
    assert events[-1] == Attempted(
        NOON, "r7", "k1", "a1", "m1", "23 server-error", "model", False, None, 3.0
    )
    (block,) = blocks(events)
    assert (block.at, block.scope) == (NOON, Scope(Kind.MODEL, "m1"))
    assert (block.reason, block.provenance) == ("server-error", H)
    assert 8 < block.until - NOON < 12


def test_an_abandoned_attempt_is_told_with_its_time_and_blames_nobody() -> None:
    made = pool(("k1@a1",))
    lease = take(made, on("m1", "r7"))
    assert made.settle(lease, Abandoned("client"), NOON + 4) == (
        Attempted(NOON + 4, "r7", "k1", "a1", "m1", "abandoned", "", False, None, 4.0),
    )


def test_the_beginning_and_the_end_of_a_guessed_outage_are_told() -> None:
    names = ("m1", "m2", "m3")
    made = pool(models=names)
    events = [
        event for name in names for event in run(made, failed("server-error"), on(name, name))
    ]
    told = [block for block in blocks(tuple(events)) if block.scope == PROVIDER]
    assert [(block.reason, block.provenance) for block in told] == [("edge", H)]
    heal(made, Kind.MODEL, "m1")
    under_way = Tried(keys={"k9"})  # an ask that has been refused before is not cut short
    lease = take(made, on("m1"), tried=under_way)
    ended = made.settle(lease, answered(), NOON + 1)
    assert Reopened(NOON + 1, PROVIDER, "answered") in ended


def test_a_longer_word_of_the_same_burst_is_told_too() -> None:
    made = pool()
    one, two = take(made, on("m1")), take(made, on("m2"))
    made.settle(one, failed("edge-refusal"), NOON)
    (block,) = blocks(made.settle(two, failed("edge-refusal", NOON + 250), NOON))
    assert (block.scope, block.until) == (PROVIDER, NOON + 250)


# --- from how many --------------------------------------------------------------------------------------


def unreachable(made: Pool, *lanes: str) -> float:
    """When the provider opens after failures of these lanes, one after another."""
    for name in lanes:
        run(made, failed("unreachable"), on(name))
    return until(made, Kind.PROVIDER, "openrouter")


def test_one_lane_alone_does_not_close_the_provider_if_there_is_another() -> None:
    assert unreachable(pool(("k1@a1",), ("m1", "m2")), "m1", "m1") == 0.0
    assert unreachable(pool(("k1@a1",), ("m1", "m2")), "m1", "m2") > NOON
    assert unreachable(pool(("k1@a1",), ("m1",)), "m1", "m1") > NOON


def test_one_lane_alone_closes_its_model() -> None:
    made = pool(("k1@a1",))
    for _ in range(2):
        run(made, failed("timeout"), on("m1"))
    assert until(made, Kind.MODEL, "m1") > NOON


def test_failures_of_two_keys_trip_a_model_however_many_keys_there_are() -> None:
    made = pool(("k1@a1", "k2@a2", "k3@a3"))
    made.roster.keys["k3"].breaker.block(H, NOON + 9, "x", NOON, 0)
    for number in range(5):
        run(made, failed("malformed"), on("m1", f"r{number}"))
        heal(made, Kind.MODEL, "m1")
    breaker = made.roster.models["m1"].breaker
    assert (breaker.tripped_by.sources, breaker.open_until) == (2, NOON + 300)


# --- what is learnt -------------------------------------------------------------------------------------


def test_an_answer_teaches_its_length_and_speed() -> None:
    made = pool(("k1@a1",))
    run(made, answered(ttft=0.5, total=2.5, tokens_out=100), on("m1"))
    learnt = made.roster.models["m1"].learnt
    assert (learnt.output.mean, learnt.speed.mean) == (pytest.approx(100), pytest.approx(50))


def test_a_models_own_answer_does_not_accuse_it() -> None:
    for name, row in (("m1", "6 untyped-400"), ("m2", "6m untyped-400-model")):
        made = pool()
        run(made, answered(), on(name))
        for number in range(3):
            events = run(made, failed("untyped-400"), on("m1", f"r{number}"))
        told = events[-1]
        assert isinstance(told, Attempted)
        assert told.row == row


def test_a_spent_day_teaches_its_limit() -> None:
    made = pool(("k1@a1",))
    run(made, failed("platform-day", day_limit=200), on("m1"))
    assert made.roster.accounts["a1"].quota.limit == 200


def test_a_row_with_a_time_of_its_own_does_not_ask_the_answer_for_one() -> None:
    made = pool(("k1@a1",))
    run(made, failed("forbidden", NOON + 9), on("m1"))
    assert until(made, Kind.ACCESS, "a1+m1") == NOON + DAY
