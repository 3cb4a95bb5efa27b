"""When each lane opens, and what stands in the way: the honest answer when nothing can be tried now
(routing rule A.8).

A lane's cause is the gravest of what closes its key, its model and the way between them: disabled, then the day,
the minute, health, requests under way. It opens when the last of them does.
"""

from collections import Counter
from collections.abc import Iterable

from keywheel.core.breaker import Breaker
from keywheel.core.quota import BUSY as SOON
from keywheel.core.roster import Roster
from keywheel.core.states import KeyState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import FOREVER, NoLane

# What closes something, gravest last. (Numbers, since members of an enumeration hash slowly.)
OPEN, BUSY, HEALTH, MINUTE, DAY, DISABLED = range(6)
NAMES = ("open", "busy", "health", "minute", "day", "disabled")
GROUPS = ("busy", "busy", "cooling", "quota", "quota", "disabled")
ORDER = (HEALTH, BUSY, MINUTE, DAY)  # the cause of the whole: the first that occurs
QUOTA = {"busy": BUSY, "minute": MINUTE, "day": DAY}

Opening = tuple[float, int]  # when something opens, and what keeps it closed
Groups = dict[int, tuple[int, float]]  # by cause: how many, and when the first of them opens

NOW: Opening = (0.0, OPEN)


def shut_until(roster: Roster, tried: Tried, now: float) -> float:
    """When the provider may be asked, 0.0 when it may now.

    An outage that was only guessed from several models' failures does not end an ask that is on its way: it has
    paid for what it knows, and a lane may still answer (promise P5, invariant I18).
    """
    until = roster.provider.until
    if roster.outage.until > until and not tried.any:
        until = roster.outage.until
    return until if until > now else 0.0


def no_lane(
    roster: Roster, fitting: list[ModelState], unfit: list[str], tried: Tried, now: float
) -> NoLane:
    """Why nothing can be tried, and when the earliest lane opens. `unfit`: why the other models do not fit."""
    if not roster.keys or not (fitting or unfit):
        return NoLane(None, "empty")
    if fitting:
        survey = _Survey(roster, tried, now)
        for model in fitting:
            survey.add(model)
        return survey.sum_up()
    reasons = Counter(why for why in unfit if why != "tried")
    if not reasons:
        return NoLane(None, "tried")
    return NoLane(None, "unfit", dict(reasons), tuple(sorted(reasons)))


class _Side:
    """The keys as free or as paid models see them, and the models that need no look at single lanes."""

    __slots__ = ("bounded", "groups", "keys", "plain")

    def __init__(self, keys: list[tuple[KeyState, Opening]]) -> None:
        self.keys = keys
        self.groups: Groups = {}
        for _, opening in keys:
            _put(self.groups, opening)
        self.plain: Groups = {}  # their lanes differ by key alone
        self.bounded: Groups = {}  # each lane is closed for itself as well


class _Survey:
    """Counts the lanes by cause and finds the earliest opening, looking at single lanes only where it matters."""

    def __init__(self, roster: Roster, tried: Tried, now: float) -> None:
        self._roster = roster
        self._tried = tried
        self._now = now
        self._provider = _of(shut_until(roster, tried, now))
        self._touched = {model for _, model in tried.lanes}
        self._count = len(roster.keys)
        self._sides: dict[bool, _Side] = {}
        self._lanes: Groups = {}
        self._bounds: list[
            tuple[float, float, ModelState]
        ] = []  # no lane opens before; model opens

    def add(self, model: ModelState) -> None:
        """Take one model into account."""
        side = self._sides.get(model.model.free) or self._side(model.model.free)
        front = self._front(model)
        closed = self._roster.closed_pairs(model, self._now)
        touched = model.model.id in self._touched
        if not closed and not touched:
            _put(side.plain, front)
        elif len(closed) == self._count and not touched and not model.pairs.odd:
            at, why = front
            until = model.pairs.until
            _put(side.bounded, (FOREVER, why if why > HEALTH else HEALTH))
            self._bounds.append((until if until > at else at, at, model))
        else:
            for opening in self._each(model, side, front):
                _put(self._lanes, opening)

    def sum_up(self) -> NoLane:
        """The answer."""
        for side in self._sides.values():
            self._multiply(side.plain, side.groups)
            self._multiply(side.bounded, side.groups)
        if not self._lanes:
            return NoLane(None, "tried")
        blocked: dict[str, int] = {}
        first = FOREVER
        for why, (count, opens) in self._lanes.items():
            group = GROUPS[why]
            blocked[group] = blocked.get(group, 0) + count
            first = min(first, opens)
        if self._bounds:
            first = self._earliest(first)
        if first == FOREVER:
            return NoLane(None, "disabled", blocked)
        cause = next((why for why in ORDER if why in self._lanes), BUSY)
        return NoLane(max(first, self._now), NAMES[cause], blocked)

    def _multiply(self, models: Groups, keys: Groups) -> None:
        """Count the lanes of models whose lanes are alike but for their keys."""
        for front, (number, front_opens) in models.items():
            for why, (count, key_opens) in keys.items():
                _put(self._lanes, (max(front_opens, key_opens), max(front, why)), number * count)

    def _earliest(self, first: float) -> float:
        """The first opening; of the models with a bound only those are looked into that could be earlier."""
        self._bounds.sort(key=lambda bound: bound[0])
        for bound, front, model in self._bounds:
            if bound >= first:
                break
            closed = model.pairs.closed
            for key, (opens, _) in self._side(model.model.free).keys:
                first = min(first, max(opens, front, closed[key.key.name]))
        return first

    def _side(self, free: bool) -> _Side:
        side = self._sides.get(free)
        if side is None:
            side = self._sides[free] = _Side(self._keys(free))
        return side

    def _keys(self, free: bool) -> list[tuple[KeyState, Opening]]:
        now, spent = self._now, self._tried.keys
        keys: list[tuple[KeyState, Opening]] = []
        for account in self._roster.accounts.values():
            side = account.breaker if free else account.paid
            shared = NOW if side.until <= now else _scope(side, now)
            if shut := account.quota.shut(now, free):
                shared = _latest(shared, (shut.until, QUOTA[shut.cause]))
            for key in account.keys:
                opening = shared
                if key.breaker.until > now:
                    opening = _latest(shared, _scope(key.breaker, now))
                keys.append((key, opening))
        return [entry for entry in keys if entry[0].name not in spent] if spent else keys

    def _front(self, model: ModelState) -> Opening:
        """What closes a model with all its lanes."""
        front = self._provider
        if model.breaker.until > self._now:
            front = _latest(front, _scope(model.breaker, self._now))
        if model.learnt.in_flight >= model.learnt.limit:
            front = _latest(front, (self._now + SOON, BUSY))
        return front

    def _each(self, model: ModelState, side: _Side, front: Opening) -> Iterable[Opening]:
        """Lane by lane."""
        tried, name = self._tried.lanes, model.model.id
        for key, opening in side.keys:
            if not tried or (key.name, name) not in tried:
                yield _latest(_latest(front, opening), self._pair(model, key))

    def _pair(self, model: ModelState, key: KeyState) -> Opening:
        pairs = model.pairs
        if key.name not in pairs.closed:
            return NOW
        if not pairs.odd:
            return (pairs.closed[key.name], HEALTH)
        ways = (model.lanes.get(key.name), model.access.get(key.account.name))
        found = [_scope(breaker, self._now) for breaker in ways if breaker]
        return _latest(found[0], found[-1])


def _scope(breaker: Breaker, now: float) -> Opening:
    """A probe under way may end at any moment: such a scope counts as busy."""
    if breaker.until <= now:
        return NOW
    until = breaker.blocked_until(now)
    return _of(until) if until else (now + SOON, BUSY)


def _of(until: float) -> Opening:
    if until == FOREVER:
        return (FOREVER, DISABLED)
    return (until, HEALTH) if until else NOW


def _latest(one: Opening, other: Opening) -> Opening:
    return (
        one[0] if one[0] > other[0] else other[0],
        one[1] if one[1] > other[1] else other[1],
    )


def _put(groups: Groups, opening: Opening, count: int = 1) -> None:
    at, why = opening
    group = groups.get(why)
    if group is None:
        groups[why] = (count, at)
    else:
        groups[why] = (group[0] + count, at if at < group[1] else group[1])
