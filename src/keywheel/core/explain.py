"""Why a request went where it went: its decisions with their candidates, its attempts, its end; the latest requests.

Taken down as it happens, put into words only when somebody asks.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import exp, inf
from typing import Any

from keywheel.core.decisions import Decision, Passed
from keywheel.core.overview import try_entry
from keywheel.core.ranking import Score
from keywheel.core.rows import ROWS
from keywheel.core.steps import Refused, Result, Served, Try
from keywheel.core.types import Ask, Attempted, Event, Finished, Lease

MOST = 500  # requests that are remembered; the oldest leaves first
LISTED = 50  # of them in the list
UNDER_WAY = "under way"
Json = dict[str, Any]

# What keeps a model from being used, as `keywheel.core.selection` says it, in plain words.
WORDS = {
    "closed": "the model is closed for now",
    "busy": "as many requests are under way as it takes",
    "no way": "every key's way to it is closed, or was tried by this request",
    "no key": "no account may send now",
    "context": "prompt and reply do not fit its context",
    "max_output": "the reply asked for is longer than it gives",
    "tried": "this request has tried it",
    "cost": "today's sum for paid models does not cover it",
}
NOT_REACHED = "a better one was usable"
# Why nothing could be chosen, as `NoLane.cause` says it.
NO_LANE = {
    "day": "the day's requests are used up",
    "minute": "the minute's requests are used up",
    "health": "everything that fits is closed for its failures",
    "busy": "everything that fits has as much under way as it takes",
    "disabled": "everything that fits is disabled",
    "unfit": "no model fits the request",
    "empty": "there is no key, or no model",
    "tried": "everything that is usable was tried",
}
MEANINGS: Mapping[str, str] = {row.label: row.signal for row in ROWS.values()} | {
    "abandoned": "given up by our side: the client left, or the deadline had come",
}


@dataclass(slots=True)
class Story:
    """One request. `ask`: None when it was refused as it stood, before anything was decided. `result`: None until it is
    served or refused; `end`: None while it lasts."""

    id: str
    dialect: str
    began: float
    ask: Ask | None = None
    decisions: Sequence[Decision] = ()
    attempts: list[Attempted] = field(default_factory=list[Attempted])
    result: Result | None = None
    end: Finished | None = None

    @property
    def lease(self) -> Lease | None:
        """What it was served with."""
        return self.result.lease if isinstance(self.result, Served) else None


@dataclass(slots=True)
class Stories:
    """The latest requests by id."""

    _by_id: OrderedDict[str, Story] = field(default_factory=OrderedDict[str, Story])

    def __len__(self) -> int:
        return len(self._by_id)

    def begin(self, ask: Ask, dialect: str, began: float, decisions: Sequence[Decision]) -> None:
        """A request begins. `decisions` grows with it."""
        self._put(Story(ask.request_id, dialect, began, ask, decisions))

    def answer(self, request_id: str, result: Result) -> None:
        """It has an answer, or none to hope for."""
        if story := self._by_id.get(request_id):
            story.result = result

    def hear(self, event: Event) -> None:
        """An attempt has ended, or a request has."""
        if isinstance(event, Attempted):
            if story := self._by_id.get(event.request_id):
                story.attempts.append(event)
        elif isinstance(event, Finished):
            story = self._by_id.get(event.request_id)
            if story is None or story.end:
                story = Story(event.request_id, event.dialect, event.at - event.total)
                self._put(story)
            story.end = event

    def complete(self, event: Finished) -> Finished:
        """The end of a request, with what is known of why it was refused."""
        story = self._by_id.get(event.request_id) if event.outcome == "failed" else None
        result = story.result if story else None
        if not isinstance(result, Refused) or result.no_lane is None or result.tries:
            return event
        return event._replace(lacking=", ".join(sorted(result.no_lane.missing)))

    def tries(self, request_id: str) -> tuple[Try, ...]:
        """The attempts of a request that have ended, with the one under way when its client left."""
        story = self._by_id.get(request_id)
        ended = story.attempts if story else ()
        return tuple([Try(e.key, e.account, e.model, e.row, e.total) for e in ended])

    def _put(self, story: Story) -> None:
        self._by_id[story.id] = story
        self._by_id.move_to_end(story.id)
        if len(self._by_id) > MOST:
            self._by_id.popitem(last=False)

    def tell(self, request_id: str) -> Json | None:
        """The whole story as JSON values; None for a request that is not remembered."""
        story = self._by_id.get(request_id)
        return None if story is None else _tell(story)

    def latest(self) -> list[Json]:
        """The latest requests in short, the latest first."""
        return [_short(story) for story in islice(reversed(self._by_id.values()), LISTED)]


def _short(story: Story) -> Json:
    end, lease = story.end, story.lease
    return {
        "request_id": story.id,
        "began": story.began,
        "dialect": story.dialect,
        "outcome": end.outcome if end else UNDER_WAY,
        "status": end.status if end else None,
        "code": (end.code or None) if end else None,
        "seconds": end.total if end else None,
        "attempts": len(story.attempts),
        "served_by": {"key": lease.key, "account": lease.account, "model": lease.model}
        if lease
        else None,
    }


def _tell(story: Story) -> Json:
    return _short(story) | {
        "asked": _asked(story.ask) if story.ask else None,
        "decisions": [_decision(decision) for decision in story.decisions],
        "attempts": _attempts(story),
    }


def _asked(ask: Ask) -> Json:
    return {
        "tokens": ask.tokens,
        "reply_tokens": ask.reply_tokens or None,
        "stream": ask.stream,
        "needs": sorted(ask.needs),
        "models": list(ask.models),
        "first": ask.first,
        "pinned": ask.pinned,
        "strategy": ask.strategy,
        "follow_up": ask.follow_up,
        "deadline": None if ask.deadline == inf else ask.deadline,
    }


# --- attempts --------------------------------------------------------------------------------------


def _attempts(story: Story) -> list[Json]:
    told = [try_entry(event) | {"means": MEANINGS.get(event.row)} for event in story.attempts]
    running = _running(story)
    return [*told, running] if running else told


def _running(story: Story) -> Json | None:
    """The attempt that goes on: its answer is being passed on, or awaited."""
    if story.end or not story.decisions:
        return None
    last = story.decisions[-1]
    if last.model is None or len(story.attempts) >= sum(
        d.model is not None for d in story.decisions
    ):
        return None
    lane = {"at": last.at, "key": last.key, "account": last.account, "model": last.model}
    unknown = dict.fromkeys(("scope", "ok", "ttft_ms", "duration_ms", "means"))
    return lane | unknown | {"row": UNDER_WAY, "tokens_in": 0, "tokens_out": 0}


# --- decisions -------------------------------------------------------------------------------------


def _decision(decision: Decision) -> Json:
    passed = {each[0]: each for each in decision.passed}
    day, minute = decision.left or (inf, inf)
    return {
        "at": decision.at,
        "chosen": None
        if decision.model is None
        else {"key": decision.key, "account": decision.account, "model": decision.model},
        "why": _why(decision, passed),
        "ways": decision.ways,
        "left_today": None if day == inf else day,
        "left_this_minute": None if minute == inf else minute,
        "at_home": decision.at_home,
        "no_lane": decision.no_lane,
        "candidates": [
            {
                "id": id,
                **_score(score),
                "until": _until(passed.get(id)),
                "why_not": _why_not(id, passed.get(id), decision.model),
            }
            for id, score in decision.ranked
        ],
    }


def _score(score: Score | None) -> Json:
    """A score as people understand it: J is the logarithm of seconds, made longer by each place in the list."""
    if score is None or not score.answer:
        return {"rank": None, "score": None, "felt_s": None, "parts": None}
    return {
        "rank": score.rank + 1,
        "score": round(score.total, 4),
        "felt_s": round(exp(score.total), 3),
        "parts": {
            "answer_s": round(score.answer, 3),
            "failures_s": round(score.failures, 3),
            "place": round(score.place, 4),
        },
    }


def _why(decision: Decision, passed: Mapping[str, Passed]) -> str:
    """The choice in a sentence."""
    if decision.model is None:
        return NO_LANE.get(decision.no_lane or "", "nothing could be used")
    if not decision.ranked:
        return "the same way once more, as the failure was a passing one"
    if decision.model in passed:
        return "a last resort: nothing but our own guesses keeps it closed"
    if decision.at_home:
        return "the first usable model, with the account that knows the conversation"
    if decision.ways == 1:
        return "the first usable model, with the one key that is free for it"
    return "the first usable model, with the key whose account has most left"


def _until(passed: Passed | None) -> float | None:
    return passed[2] if passed and 0 < passed[2] < inf else None


def _why_not(id: str, passed: Passed | None, chosen: str | None) -> str | None:
    if passed is not None:
        return WORDS.get(passed[1], f"it cannot do this: {passed[1]}")
    return None if id == chosen else NOT_REACHED
