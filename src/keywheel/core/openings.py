"""When each lane opens, and what stands in the way: the honest answer when nothing can be tried now
(routing rule A.8).

A lane's cause is the gravest of what closes its key, its model and the way between them: disabled, then the day,
the minute, health, requests under way. It opens when the last of them does.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from keywheel.core.breaker import Breaker
from keywheel.core.quota import BUSY
from keywheel.core.roster import Roster
from keywheel.core.states import AccountState, KeyState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import FOREVER, NoLane


class Why(IntEnum):
    """What closes something, gravest last."""

    OPEN = 0
    BUSY = 1
    HEALTH = 2
    MINUTE = 3
    DAY = 4
    DISABLED = 5


GROUP = {
    Why.OPEN: "busy",
    Why.BUSY: "busy",
    Why.HEALTH: "cooling",
    Why.MINUTE: "quota",
    Why.DAY: "quota",
    Why.DISABLED: "disabled",
}
ORDER = (Why.HEALTH, Why.BUSY, Why.MINUTE, Why.DAY)  # the cause of the whole: the first that occurs


class Candidate(NamedTuple):
    """A model an ask allows, and why it does not fit (None: it fits)."""

    model: ModelState
    unfit: str | None


class Opening(NamedTuple):
    """When something opens and what keeps it closed."""

    at: float
    why: Why


OPEN = Opening(0.0, Why.OPEN)


def shut_until(roster: Roster, tried: Tried, now: float) -> float:
    """When the provider may be asked, 0.0 when it may now.

    An outage that was only guessed from several models' failures does not end an ask that is on its way: it has
    paid for what it knows, and a lane may still answer (promise P5, invariant I18).
    """
    until = roster.provider.closed_until(now)
    return until if tried.any else max(until, roster.outage.closed_until(now))


def no_lane(roster: Roster, candidates: Iterable[Candidate], tried: Tried, now: float) -> NoLane:
    """Why nothing can be tried, and when the earliest lane opens."""
    candidates = list(candidates)
    if not roster.keys or not candidates:
        return NoLane(None, "empty")
    fitting = [c.model for c in candidates if c.unfit is None]
    if not fitting:
        return _unfit(candidates)
    survey = _Survey(roster, tried, now)
    for model in fitting:
        survey.add(model)
    return survey.sum_up()


def _unfit(candidates: list[Candidate]) -> NoLane:
    reasons = Counter(c.unfit for c in candidates if c.unfit and c.unfit != "tried")
    if not reasons:
        return NoLane(None, "tried")
    return NoLane(None, "unfit", dict(reasons), tuple(sorted(reasons)))


@dataclass(slots=True)
class _Group:
    """Things closed by the same cause: how many, and when the first of them opens."""

    count: int = 0
    first: float = FOREVER

    def add(self, at: float, count: int = 1) -> None:
        self.count += count
        self.first = min(self.first, at)


Groups = dict[Why, _Group]


@dataclass(slots=True)
class _Side:
    """The keys as free or as paid models see them."""

    keys: list[tuple[KeyState, Opening]]
    groups: Groups
    fronts: Groups = field(
        default_factory=dict[Why, _Group]
    )  # models whose lanes need no closer look


class _Survey:
    """Counts the lanes by cause and finds the earliest opening.

    Where all lanes of a model differ by their keys alone, they are counted in one step. Where every lane of it is
    closed for itself, too, `pairs_until` bounds them from below, and they are looked at only if that could matter.
    """

    def __init__(self, roster: Roster, tried: Tried, now: float) -> None:
        self._roster = roster
        self._tried = tried
        self._now = now
        self._provider = _of(shut_until(roster, tried, now))
        self._touched = {model for _, model in tried.lanes}
        self._sides: dict[bool, _Side] = {}
        self._lanes: Groups = {}
        self._bounded: list[tuple[float, ModelState]] = []

    def add(self, model: ModelState) -> None:
        """Take one model into account."""
        side = self._side(model.model.free)
        front = self._front(model)
        pairs = self._roster.closed_pairs(model, self._now)
        touched = model.model.id in self._touched
        if not pairs and not touched:
            _put(side.fronts, front)
        elif len(pairs) == len(self._roster.keys) and not (touched or model.odd):
            front = _latest(front, Opening(model.pairs_until, Why.HEALTH))
            for why, group in side.groups.items():
                _put(self._lanes, Opening(FOREVER, max(why, front.why)), group.count)
            self._bounded.append((front.at, model))
        else:
            for opening in self._each(model):
                _put(self._lanes, opening)

    def sum_up(self) -> NoLane:
        """The answer."""
        lanes = self._lanes
        for side in self._sides.values():
            for front, models in side.fronts.items():
                for why, keys in side.groups.items():
                    at = max(models.first, keys.first)
                    _put(lanes, Opening(at, max(front, why)), models.count * keys.count)
        if not lanes:
            return NoLane(None, "tried")
        first = min(group.first for group in lanes.values())
        for bound, model in sorted(self._bounded, key=lambda entry: entry[0]):
            if bound >= first:
                break
            first = min(first, *(opening.at for opening in self._each(model)))
        blocked: Counter[str] = Counter()
        for why, group in lanes.items():
            blocked[GROUP[why]] += group.count
        if first == FOREVER:
            return NoLane(None, "disabled", dict(blocked))
        cause = next((why for why in ORDER if why in lanes), Why.BUSY)
        return NoLane(max(first, self._now), cause.name.lower(), dict(blocked))

    def _side(self, free: bool) -> _Side:
        side = self._sides.get(free)
        if side is None:
            keys = list(self._keys(free))
            groups: Groups = {}
            for _, opening in keys:
                _put(groups, opening)
            side = self._sides[free] = _Side(keys, groups)
        return side

    def _keys(self, free: bool) -> Iterable[tuple[KeyState, Opening]]:
        now, spent = self._now, self._tried.keys
        for account in self._roster.accounts.values():
            shared = _account(account, free, now)
            for key in account.keys:
                if key.name not in spent:
                    closed = key.breaker.until > now
                    yield key, _latest(shared, _scope(key.breaker, now)) if closed else shared

    def _front(self, model: ModelState) -> Opening:
        """What closes a model with all its lanes."""
        front = _latest(_scope(model.breaker, self._now), self._provider)
        if model.learnt.in_flight >= model.learnt.limit:
            return _latest(front, Opening(self._now + BUSY, Why.BUSY))
        return front

    def _each(self, model: ModelState) -> Iterable[Opening]:
        """Lane by lane."""
        front = self._front(model)
        for key, opening in self._side(model.model.free).keys:
            if (key.name, model.model.id) not in self._tried.lanes:
                yield _latest(_latest(front, opening), self._pair(model, key))

    def _pair(self, model: ModelState, key: KeyState) -> Opening:
        if key.name not in model.pairs:
            return OPEN
        lane = model.lanes.get(key.name)
        reach = model.access.get(key.account.name)
        found = [_scope(breaker, self._now) for breaker in (lane, reach) if breaker]
        return _latest(found[0], found[-1])


def _account(account: AccountState, free: bool, now: float) -> Opening:
    side = account.side(free)
    opening = _scope(side, now) if side.until > now else OPEN
    shut = account.quota.shut(now, free)
    return _latest(opening, Opening(shut.until, Why[shut.cause.upper()])) if shut else opening


def _scope(breaker: Breaker, now: float) -> Opening:
    """A probe under way may end at any moment: such a scope counts as busy."""
    if breaker.until <= now:
        return OPEN
    until = breaker.blocked_until(now)
    return _of(until) if until else Opening(now + BUSY, Why.BUSY)


def _of(until: float) -> Opening:
    if until == FOREVER:
        return Opening(FOREVER, Why.DISABLED)
    return Opening(until, Why.HEALTH) if until else OPEN


def _latest(one: Opening, other: Opening) -> Opening:
    return Opening(max(one.at, other.at), max(one.why, other.why))


def _put(groups: Groups, opening: Opening, count: int = 1) -> None:
    group = groups.get(opening.why)
    if group is None:
        group = groups[opening.why] = _Group()
    group.add(opening.at, count)
