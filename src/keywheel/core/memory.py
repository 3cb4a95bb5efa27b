"""What was learnt, for a restart: speed, reliability and token ratios of models, where conversations were, money spent.

Plain values in and out, so that any store can keep them as JSON. What is read back is not trusted: a record that is
not as it should be is passed over, and what time has made old fades as if the program had gone on.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from keywheel.core.pool import Pool
from keywheel.core.ranking import CAP, Learnt, Mean
from keywheel.core.states import ModelState
from keywheel.core.tokens import Ratio
from keywheel.core.types import DAY

Json = dict[str, Any]
VERSION = 1
MOST = 1e9  # no number of ours is larger: looks, sums of logarithms, seconds
MEANS = ("weight", "total", "squares")
RATIO = ("weight", "total", "misses")


class Unreadable(ValueError):
    """A record is not as it should be."""


def remember(pool: Pool, now: float) -> Json:
    """Everything that was learnt, as JSON values."""
    return {
        "version": VERSION,
        "at": now,
        "models": {m.model.id: _learnt(m.learnt) for m in pool.roster.listed if _is_known(m)},
        "conversations": [list(entry) for entry in pool.affinity.entries()],
        "spent": [int(now // DAY), pool.roster.purse.spent_on(now)],
    }


def recall(pool: Pool, saved: object, now: float) -> int:
    """Take over what was saved, for the models that are listed; how many records were passed over as unreadable."""
    record = mapping(saved)
    if not record or record.get("version") != VERSION:
        return int(saved != {})  # nothing was saved yet
    skipped = 0
    known = mapping(record.get("models"))
    for model in pool.roster.listed:
        if model.model.id in known:
            skipped += not _take_model(model, known[model.model.id])
    for entry in _sequence(record.get("conversations")):
        skipped += not _take_conversation(pool, entry, now)
    return skipped + (not _take_money(pool, record.get("spent"), now))


# --- models ----------------------------------------------------------------------------------------


def _is_known(model: ModelState) -> bool:
    learnt = model.learnt
    return bool(learnt.good or learnt.bad or learnt.ratio.weight)


def _learnt(learnt: Learnt) -> Json:
    return {
        "good": learnt.good,
        "bad": learnt.bad,
        "at": learnt.at,
        "surprise": learnt.surprise,
        "limit": learnt.limit,
        "ttft": [_numbers(mean, MEANS) for mean in learnt.ttft],
        "speed": _numbers(learnt.speed, MEANS),
        "output": _numbers(learnt.output, MEANS),
        "ratio": _numbers(learnt.ratio, RATIO),
    }


def _take_model(model: ModelState, saved: object) -> bool:
    try:
        found = _read_learnt(mapping(saved))
    except Unreadable:
        return False
    found.in_flight = model.learnt.in_flight
    model.learnt = found
    model.stretch = found.ratio.stretch
    model.score_anew()
    return True


def _read_learnt(saved: Mapping[str, object]) -> Learnt:
    first, second, third = (_mean(numbers) for numbers in _three(saved.get("ttft")))
    return Learnt(
        good=_number(saved.get("good"), 0.0),
        bad=_number(saved.get("bad"), 0.0),
        ttft=(first, second, third),
        speed=_mean(saved.get("speed")),
        output=_mean(saved.get("output")),
        ratio=Ratio(*_three_numbers(saved.get("ratio"))),
        surprise=_number(saved.get("surprise"), -MOST),
        limit=min(CAP, _number(saved.get("limit"), 1.0)),
        at=_number(saved.get("at"), 0.0, high=1e12),
    )


def _mean(saved: object) -> Mean:
    return Mean(*_three_numbers(saved))


def _numbers(value: object, names: Iterable[str]) -> list[float]:
    return [getattr(value, name) for name in names]


# --- conversations and money -----------------------------------------------------------------------


def _take_conversation(pool: Pool, saved: object, now: float) -> bool:
    try:
        conversation, account, at = _three(saved)
        moment = _number(at, 0.0, high=now)
    except Unreadable:
        return False
    if not isinstance(conversation, str) or not isinstance(account, str):
        return False
    if account in pool.roster.accounts:
        pool.affinity.remember(conversation, account, moment)
    return True


def _take_money(pool: Pool, saved: object, now: float) -> bool:
    """Unknown is not zero: without a readable figure the day counts as spent."""
    purse = pool.roster.purse
    if saved is None:
        return True
    try:
        day, usd = (_number(value, 0.0) for value in _sequence(saved))
    except (Unreadable, ValueError):
        purse.recall(now, purse.cap)
        return False
    if day == int(now // DAY):
        purse.recall(now, usd)
    return True


# --- reading ---------------------------------------------------------------------------------------


def mapping(value: object) -> Mapping[str, object]:
    """An object as it is, anything else as an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list) else ()


def _three(value: object) -> Sequence[object]:
    found = _sequence(value)
    if len(found) != len(MEANS):
        raise Unreadable
    return found


def _three_numbers(value: object) -> tuple[float, float, float]:
    first, second, third = (_number(number, -MOST) for number in _three(value))
    if first < 0:  # a weight
        raise Unreadable
    return first, second, third


def _number(value: object, low: float, *, high: float = MOST) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable
    if not isfinite(value) or not low <= value <= high:
        raise Unreadable
    return float(value)
