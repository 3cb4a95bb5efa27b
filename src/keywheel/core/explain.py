"""Why a request went where it went: every decision with its candidates, kept for the latest requests.

Taken down at the decision, put into words only when somebody asks.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from keywheel.core.attempts import Refused, Served, Try
from keywheel.core.decisions import Decision
from keywheel.core.types import Ask, Finished

MOST = 500  # requests that are remembered; the oldest leaves first
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


class Story(NamedTuple):
    """One request's decisions and attempts. `end`: None while it lasts."""

    ask: Ask
    dialect: str
    began: float
    decisions: Sequence[Decision]
    tries: tuple[Try, ...]
    served: tuple[str, str, str] | None
    end: Finished | None = None


@dataclass(slots=True)
class Stories:
    """The latest requests by id."""

    _by_id: OrderedDict[str, Story] = field(default_factory=OrderedDict[str, Story])

    def __len__(self) -> int:
        return len(self._by_id)

    def add(
        self, ask: Ask, dialect: str, began: float, decisions: Sequence[Decision], result: Served | Refused
    ) -> None:  # fmt: skip
        """A request has an answer, or none to hope for."""
        lease = result.lease if isinstance(result, Served) else None
        served = (lease.key, lease.account, lease.model) if lease else None
        self._by_id[ask.request_id] = Story(ask, dialect, began, decisions, result.tries, served)
        if len(self._by_id) > MOST:
            self._by_id.popitem(last=False)

    def finish(self, event: Finished) -> None:
        """It has ended."""
        story = self._by_id.get(event.request_id)
        if story:
            self._by_id[event.request_id] = story._replace(end=event)

    def tell(self, request_id: str) -> Json | None:
        """The whole story as JSON values; None for a request that is not remembered."""
        story = self._by_id.get(request_id)
        return None if story is None else _tell(story)


def _tell(story: Story) -> Json:
    ask, end = story.ask, story.end
    return {
        "request_id": ask.request_id,
        "dialect": story.dialect,
        "began": story.began,
        "asked": {
            "tokens": ask.tokens,
            "reply_tokens": ask.reply_tokens or None,
            "stream": ask.stream,
            "needs": sorted(ask.needs),
            "models": list(ask.models),
            "first": ask.first,
            "pinned": ask.pinned,
            "strategy": ask.strategy,
            "follow_up": ask.follow_up,
            "deadline": ask.deadline,
        },
        "decisions": [_decision(decision) for decision in story.decisions],
        "attempts": [each._asdict() for each in story.tries],
        "served_by": dict(zip(("key", "account", "model"), story.served, strict=True)) if story.served else None,
        "outcome": end.outcome if end else "under way",
        "status": end.status if end else None,
        "code": end.code or None if end else None,
        "seconds": end.total if end else None,
    }  # fmt: skip


def _decision(decision: Decision) -> Json:
    passed = dict(decision.passed)
    return {
        "at": decision.at,
        "chosen": None
        if decision.model is None
        else {"key": decision.key, "account": decision.account, "model": decision.model},
        "at_home": decision.at_home,
        "no_lane": decision.no_lane,
        "candidates": [
            {
                "id": id,
                "score": score,
                "why_not": _why_not(id, passed.get(id), decision.model),
            }
            for id, score in decision.ranked
        ],
    }


def _why_not(id: str, why: str | None, chosen: str | None) -> str | None:
    if why is not None:
        return WORDS.get(why, f"it cannot do this: {why}")
    return None if id == chosen else NOT_REACHED
