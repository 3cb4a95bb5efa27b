"""Why two policies decide differently about the same record, in a sentence."""

from collections.abc import Mapping
from math import exp

from keywheel.core.decisions import Decision
from keywheel.core.explain import NO_LANE, WORDS
from keywheel.core.ranking import Score


def reason(old: Decision, new: Decision) -> str:
    """What the other policy sees otherwise, so that its choice is another one."""
    if new.model is None:
        return NO_LANE.get(new.no_lane or "", "nothing could be used")
    if old.model is None:
        return (
            _let_in(old, new.model) or "it tries as a last resort what only our own guesses close"
        )
    if old.model == new.model:
        return _key(old, new)
    return _kept_out(old.model, new) or _let_in(old, new.model) or _rank(old, new)


def _key(old: Decision, new: Decision) -> str:
    """The same model with another key."""
    if new.at_home:
        return "the account that knows the conversation is kept"
    if old.at_home:
        return "the account that knows the conversation is not kept"
    return "another key has most left"


def _kept_out(model: str, by: Decision) -> str | None:
    """Why a decision would not have the model that the other took."""
    if by.ranked and model not in dict(by.ranked):
        return f"{model} is not on its list"
    why = {id: why for id, why, _ in by.passed}.get(model)
    return None if why is None else f"{model}: {_words(why)}"


def _let_in(old: Decision, model: str) -> str | None:
    """What kept the old policy from a model that the new one takes."""
    why = {id: why for id, why, _ in old.passed}.get(model)
    return None if why is None else f"it may use {model}, which was kept back: {_words(why)}"


def _words(why: str) -> str:
    return WORDS.get(why, f"it cannot do this: {why}")


def _rank(old: Decision, new: Decision) -> str:
    """Both could be had, and stand in another order."""
    before, after = dict(old.ranked), dict(new.ranked)
    taken, left = str(new.model), str(old.model)
    told = [
        f"{name} {_felt(before, name)} → {_felt(after, name)}{_parts(before.get(name), after.get(name))}"
        for name in (taken, left)
    ]
    if not _is_scored(after.get(taken)):
        return f"{taken} stands before {left} in its list"
    return "; ".join(told)


def _felt(scores: Mapping[str, Score | None], name: str) -> str:
    score = scores.get(name)
    return f"{exp(score.total):.1f} s" if score and _is_scored(score) else "by its place"


def _parts(before: Score | None, after: Score | None) -> str:
    """The parts that differ."""
    if before is None or after is None or not (_is_scored(before) and _is_scored(after)):
        return ""
    told: list[str] = []
    if before.failures != after.failures:
        told.append(f"failures {before.failures:.1f} → {after.failures:.1f} s")
    if before.place != after.place:
        told.append(f"place × {exp(before.place):.2f} → × {exp(after.place):.2f}")
    return f" ({', '.join(told)})" if told else ""


def _is_scored(score: Score | None) -> bool:
    return score is not None and score.answer > 0
