"""Why a request went where it went, told from what was kept at the decision."""

from typing import Any

from keywheel.core.attempts import Done, Ended, Refused, Result, Send, Take, attempts
from keywheel.core.decisions import Decision
from keywheel.core.explain import MOST, NOT_REACHED, Stories
from keywheel.core.policy import Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.types import Ask, Event, Finished, Kind, Scope
from tests.core.build import NOON, answered, failed, model, on, pool, run

ASK = Ask(tokens=1_000, deadline=NOON + 60, request_id="r1")


def live(made: Pool, ask: Ask, *rows: str) -> tuple[list[Decision], Result]:
    """One ask with these outcomes one after another."""
    decisions, outcomes = list[Decision](), iter(rows)
    steps = attempts(made, ask, NOON, list[Event](), decisions)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Take):
                step = steps.send(Done(NOON))
            assert isinstance(step, Send)
            row = next(outcomes)
            outcome = answered() if row == "ok" else failed(row)
            step = steps.send(Ended(NOON, outcome))
    except StopIteration as stop:
        return decisions, stop.value


def told(made: Pool, ask: Ask, *rows: str) -> dict[str, Any]:
    stories = Stories()
    decisions, result = live(made, ask, *rows)
    stories.add(ask, "chat", NOON, decisions, result)
    story = stories.tell("r1")
    assert story is not None
    return story


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
    assert [each["row"] for each in story["attempts"]] == ["23 server-error", "ok"]


def test_a_refusal_tells_its_cause() -> None:
    made = pool()
    made.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    story = told(made, ASK)
    (decision,) = story["decisions"]
    assert (decision["chosen"], decision["no_lane"]) == (None, "disabled")
    assert story["served_by"] is None


def test_the_end_completes_the_story_and_the_oldest_is_forgotten() -> None:
    stories, made = Stories(), pool()
    decisions, result = live(made, ASK, "ok")
    stories.add(ASK, "chat", NOON, decisions, result)
    end = Finished(NOON + 2, "r1", "chat", "ok", 200, "", 1, "k1", "a1", "m1", 2.0)
    stories.finish(end)
    stories.finish(end._replace(request_id="unknown"))
    story = stories.tell("r1")
    assert story is not None
    assert (story["outcome"], story["status"], story["seconds"]) == ("ok", 200, 2.0)
    for number in range(MOST):
        other = ASK._replace(request_id=f"x{number}")
        stories.add(other, "chat", NOON, decisions, result)
    assert len(stories) == MOST
    assert stories.tell("r1") is None


def test_an_account_found_spent_by_the_request_itself_says_when_it_is_back() -> None:
    decisions, result = live(pool(("k1@a1",)), ASK, "platform-day")
    assert isinstance(result, Refused)
    assert result.no_lane is not None
    assert (result.no_lane.cause, decisions[-1].no_lane) == ("day", "tried")
