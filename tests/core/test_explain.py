"""Why a request went where it went, told from what was kept at the decision."""

from math import exp, inf, log
from typing import Any

import pytest

from keywheel.core.attempts import attempts
from keywheel.core.decisions import Decision
from keywheel.core.explain import LISTED, MOST, NOT_REACHED, UNDER_WAY, Stories
from keywheel.core.policy import Choice, Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.steps import Done, Ended, Refused, Result, Send, Take
from keywheel.core.types import Abandoned, Ask, Event, Finished, Kind, Scope
from tests.core.build import NOON, account, answered, failed, model, on, pool, run

ASK = Ask(tokens=1_000, deadline=NOON + 60, request_id="r1")
END = Finished(NOON + 2, "r1", "chat", "ok", 200, "", 1, "k1", "a1", "m1", 2.0)


def live(made: Pool, ask: Ask, *rows: str) -> tuple[list[Decision], list[Event], Result]:
    """One ask with these outcomes one after another."""
    decisions, events, outcomes = list[Decision](), list[Event](), iter(rows)
    steps = attempts(made, ask, NOON, events, decisions)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Take):
                step = steps.send(Done(NOON))
            assert isinstance(step, Send)
            row = next(outcomes)
            if row == "stream":  # its end comes later
                step = steps.send(Done(NOON))
            outcome = answered() if row == "ok" else failed(row)
            step = steps.send(Ended(NOON, outcome))
    except StopIteration as stop:
        return decisions, events, stop.value


def remembered(made: Pool, ask: Ask, *rows: str) -> Stories:
    stories = Stories()
    decisions, events, result = live(made, ask, *rows)
    stories.begin(ask, "chat", NOON, decisions)
    for event in events:
        stories.hear(event)
    stories.answer(ask.request_id, result)
    return stories


def told(made: Pool, ask: Ask, *rows: str) -> dict[str, Any]:
    story = remembered(made, ask, *rows).tell("r1")
    assert story is not None
    return story


def first(made: Pool, ask: Ask = ASK) -> dict[str, Any]:
    """The first decision."""
    return told(made, ask, "ok")["decisions"][0]


def test_every_candidate_is_named_with_what_kept_it_back() -> None:
    made = pool(("k1@a1",), [model("m1"), model("m2", context=300), "m3", "m4"])
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON)
    story = told(made, ASK, "ok")
    (decision,) = story["decisions"]
    reasons = {row["id"]: row["why_not"] for row in decision["candidates"]}
    assert reasons == {
        "m1": "the model is closed for now",
        "m2": "prompt and reply do not fit its context",
        "m3": None,
        "m4": NOT_REACHED,
    }
    assert decision["chosen"] == {"key": "k1", "account": "a1", "model": "m3"}
    assert story["served_by"] == decision["chosen"]
    assert all(row["score"] is not None for row in decision["candidates"])


def test_a_last_resort_is_told_as_what_was_chosen() -> None:
    made = pool(("k1@a1",), ("m1",), Policy(Health(last_resort=True)))
    run(made, failed("server-error"), on("m1"))
    (decision,) = told(made, ASK, "ok")["decisions"]
    assert decision["chosen"] == {"key": "k1", "account": "a1", "model": "m1"}
    assert decision["no_lane"] is None


def test_a_fallback_is_two_decisions_and_its_failure_is_told() -> None:
    story = told(pool(), ASK, "server-error", "ok")
    assert len(story["decisions"]) == 2
    rows = [(each["row"], each["means"], each["duration_ms"]) for each in story["attempts"]]
    assert rows == [
        ("23 server-error", "500, `server`, `unmapped`", 500.0),
        ("ok", None, 2_000.0),
    ]


def test_a_refusal_tells_its_cause() -> None:
    made = pool()
    made.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    story = told(made, ASK)
    (decision,) = story["decisions"]
    assert (decision["chosen"], decision["no_lane"]) == (None, "disabled")
    assert story["served_by"] is None


def test_the_end_completes_the_story_and_the_oldest_is_forgotten() -> None:
    stories = remembered(pool(), ASK, "ok")
    stories.hear(END)
    story = stories.tell("r1")
    assert story is not None
    assert (story["outcome"], story["status"], story["seconds"]) == ("ok", 200, 2.0)
    for number in range(MOST):
        stories.begin(ASK._replace(request_id=f"x{number}"), "chat", NOON, ())
    assert len(stories) == MOST
    assert stories.tell("r1") is None
    assert [story["request_id"] for story in stories.latest()][:2] == ["x499", "x498"]
    assert len(stories.latest()) == LISTED


def test_an_account_found_spent_by_the_request_itself_says_when_it_is_back() -> None:
    decisions, _, result = live(pool(("k1@a1",)), ASK, "platform-day")
    assert isinstance(result, Refused)
    assert result.no_lane is not None
    assert (result.no_lane.cause, decisions[-1].no_lane) == ("day", "tried")


# --- how a score is told ---------------------------------------------------------------------------


def test_a_score_is_told_as_seconds_and_its_parts_make_it() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for _ in range(3):
        run(made, answered(total=20.0), on("m1"))
    one, other = first(made)["candidates"]
    assert [one["id"], other["id"], one["rank"], other["rank"]] == ["m2", "m1", 2, 1]
    for row in (one, other):
        parts = row["parts"]
        assert row["score"] == pytest.approx(
            log(parts["answer_s"] + parts["failures_s"]) + parts["place"], abs=1e-3
        )
        assert row["felt_s"] == pytest.approx(exp(row["score"]), rel=1e-3)
    assert one["parts"]["place"] == pytest.approx(log(1.3), abs=1e-4)
    assert other["parts"]["answer_s"] > one["parts"]["answer_s"]


def test_scores_are_those_of_the_decision_not_of_the_moment_somebody_asks() -> None:
    made = pool(("k1@a1",))
    stories = remembered(made, ASK, "ok")
    before = stories.tell("r1")
    for _ in range(5):
        run(made, answered(total=90.0))
    assert stories.tell("r1") == before


def test_where_the_order_stands_in_a_list_no_score_is_told() -> None:
    made = pool()
    run(made, answered(), ASK)  # its scores are kept
    named = first(made, ASK._replace(models=("m2", "m1")))
    ordered = first(pool(policy=Policy(choice=Choice(strategy="ordered"))))
    assert [row["id"] for row in named["candidates"]] == ["m2", "m1"]
    assert {row["score"] for row in (*named["candidates"], *ordered["candidates"])} == {None}


def test_a_pools_scores_are_by_its_own_strategy_and_places() -> None:
    made = pool()
    run(made, answered(), ASK)
    fast = first(made, ASK._replace(models=("m2", "m1"), strategy="fastest"))
    assert {row["id"]: row["rank"] for row in fast["candidates"]} == {"m2": 1, "m1": 2}
    assert [row["parts"]["place"] for row in fast["candidates"]] == [0.0, 0.0]


# --- why a key, and why nothing --------------------------------------------------------------------


def test_the_key_is_explained_by_what_its_account_had_left() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",), accounts=(account("a1", 50), account("a2", 1_000)))
    decision = first(made)
    assert decision["chosen"]["key"] == "k2"
    assert (decision["ways"], decision["left_today"], decision["left_this_minute"]) == (
        2,
        1_000,
        19,
    )
    assert decision["why"] == "the first usable model, with the key whose account has most left"
    assert first(pool(("k1@a1",)))["why"] == (
        "the first usable model, with the one key that is free for it"
    )


def test_what_is_not_metered_has_no_number_left() -> None:
    made = pool(("k1@a1",), ("m1",), accounts=(account("a1", None),))
    assert (first(made)["left_today"], first(made)["left_this_minute"]) == (None, None)


def test_a_conversation_that_stays_says_so() -> None:
    made = pool()
    ask = ASK._replace(conversation="c1", follow_up=True)
    made.affinity.remember("c1", "a2", NOON)
    decision = first(made, ask)
    assert decision["at_home"]
    assert decision["why"] == "the first usable model, with the account that knows the conversation"


def test_a_closed_model_says_until_when_and_the_operators_hand_names_no_end() -> None:
    made = pool(models=("m1", "m2", "m3"))
    run(made, failed("upstream-pool", NOON + 90), on("m1"))
    made.operate("disable", Scope(Kind.MODEL, "m2"), NOON)
    until = {row["id"]: row["until"] for row in first(made)["candidates"]}
    assert until == {"m1": NOON + 90, "m2": None, "m3": None}


def test_the_same_way_once_more_needs_no_candidates() -> None:
    made = pool()
    decisions, _, _ = live_with_waits(made)
    stories = Stories()
    stories.begin(ASK, "chat", NOON, decisions)
    story = stories.tell("r1")
    assert story is not None
    again = story["decisions"][1]
    assert again["candidates"] == []
    assert again["why"] == "the same way once more, as the failure was a passing one"
    assert again["chosen"] == story["decisions"][0]["chosen"]


def live_with_waits(made: Pool) -> tuple[list[Decision], list[Event], None]:
    decisions, events = list[Decision](), list[Event]()
    steps = attempts(made, ASK, NOON, events, decisions)
    outcomes = iter((failed("transient"), answered()))
    step: Any = next(steps)
    try:
        while True:
            is_send = isinstance(step, Send)
            step = steps.send(Ended(NOON, next(outcomes)) if is_send else Done(NOON + 1))
    except StopIteration:
        return decisions, events, None


def test_a_last_resort_and_a_refusal_are_told_in_words() -> None:
    made = pool(("k1@a1",), ("m1",), Policy(Health(last_resort=True)))
    run(made, failed("server-error"), on("m1"))
    assert first(made)["why"] == "a last resort: nothing but our own guesses keeps it closed"
    shut = pool()
    shut.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    (decision,) = told(shut, ASK)["decisions"]
    assert decision["why"] == "everything that fits is disabled"


# --- what is not over, or never began --------------------------------------------------------------


def test_an_attempt_under_way_is_told_until_it_has_ended() -> None:
    made = pool()
    stories = remembered(made, ASK, "server-error", "stream")
    story = stories.tell("r1")
    assert story is not None
    assert (story["outcome"], story["status"]) == (UNDER_WAY, None)
    assert [each["row"] for each in story["attempts"]] == ["23 server-error", UNDER_WAY]
    assert story["attempts"][1]["model"] == story["served_by"]["model"]
    result = live(made, ASK, "stream")[2]
    assert not isinstance(result, Refused)
    (event,) = made.settle(result.lease, Abandoned("client gone"), NOON + 3)
    stories.hear(event)
    stories.hear(END._replace(outcome="abandoned"))
    story = stories.tell("r1")
    assert story is not None
    assert [each["row"] for each in story["attempts"]] == ["23 server-error", "abandoned"]
    assert story["attempts"][1]["means"].startswith("given up by our side")


def test_a_request_that_waits_has_no_attempt_under_way() -> None:
    made = pool()
    made.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    assert told(made, ASK)["attempts"] == []
    stories = Stories()
    stories.begin(ASK._replace(deadline=inf), "chat", NOON, ())
    story = stories.tell("r1")
    assert story is not None
    assert (story["attempts"], story["decisions"], story["asked"]["deadline"]) == ([], [], None)


def test_a_request_that_was_refused_as_it_stood_is_remembered_without_decisions() -> None:
    stories = Stories()
    stories.hear(END._replace(outcome="failed", status=400, code="model_not_free", attempts=0))
    story = stories.tell("r1")
    assert story is not None
    assert (story["asked"], story["decisions"], story["served_by"]) == (None, [], None)
    assert (story["code"], story["began"]) == ("model_not_free", NOON)


def test_an_id_that_comes_again_is_a_new_story() -> None:
    stories = remembered(pool(), ASK, "ok")
    stories.hear(END)
    stories.hear(END._replace(code="invalid_request", outcome="failed"))
    story = stories.tell("r1")
    assert story is not None
    assert (story["code"], story["attempts"], len(stories)) == ("invalid_request", [], 1)


def test_what_belongs_to_nobody_changes_nothing() -> None:
    stories, made = Stories(), pool()
    for event in run(made, answered()):
        stories.hear(event)
    stories.answer("r1", Refused(()))
    assert len(stories) == 0


def test_the_end_of_a_refused_request_says_what_no_model_offered() -> None:
    refused = END._replace(outcome="failed", attempts=0)
    needy = ASK._replace(needs=frozenset({"tools", "image"}))
    assert remembered(pool(), needy).complete(refused).lacking == "image"
    assert remembered(pool(), needy).complete(END).lacking == ""
    assert remembered(pool(), ASK, "bad-request").complete(refused).lacking == ""
    assert Stories().complete(refused).lacking == ""


def test_the_attempts_of_a_request_are_told_in_their_order_and_of_an_unknown_one_none() -> None:
    stories = remembered(pool(("k1@a1",), ["m1", "m2"]), ASK, "server-error", "ok")
    told = [(each.key, each.account, each.model) for each in stories.tries("r1")]
    assert told == [("k1", "a1", "m1"), ("k1", "a1", "m2")]
    assert [each.row.endswith("server-error") for each in stories.tries("r1")] == [True, False]
    assert stories.tries("r2") == ()
