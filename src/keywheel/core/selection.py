"""Which lane an ask gets: hard filters, then the ranking of models, then the merit of keys (rules A.3, A.4)."""

from collections.abc import Iterable
from typing import NamedTuple

from keywheel.core.openings import Candidate, shut_until
from keywheel.core.policy import Policy
from keywheel.core.ranking import bucket
from keywheel.core.roster import Roster
from keywheel.core.states import KeyState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import Ask

ORDERED = ("ordered", "smartest")  # strategies for which the list is the ranking


class Pick(NamedTuple):
    """The lane that was chosen."""

    key: KeyState
    model: ModelState


# A usable key with its merit: not of an account better avoided, requests left today, this minute, fewest under way,
# least recently used, and the place in the configuration, which no two keys share. The largest wins (rule A.3).
Choice = tuple[bool, float, float, int, int, int, KeyState]


def choose(roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float) -> Pick | None:
    """The best usable lane, None when there is none."""
    if shut_until(roster, tried, now):
        return None
    keys = _Keys(roster, tried, now)
    models = _ranked(policy, _enterable(roster, policy, ask, tried, keys), ask, now)
    if tried.again and (pick := _again(tried.again, models, keys)):
        return pick
    if tried.last_attempt and (pick := _first(models, keys, sure=True)):
        return pick
    return _first(models, keys)


class _Keys:
    """The keys that may send now, best first, worked out once for free and once for paid models."""

    __slots__ = ("_sides", "now", "roster", "tried")

    def __init__(self, roster: Roster, tried: Tried, now: float) -> None:
        self.roster = roster
        self.tried = tried
        self.now = now
        self._sides: dict[bool, list[Choice]] = {}

    def side(self, free: bool) -> list[Choice]:
        """The usable keys for free or for paid models."""
        side = self._sides.get(free)
        if side is None:
            side = self._sides[free] = _usable(self.roster, free, self.tried, self.now)
        return side

    def best(self, model: ModelState, sure: bool) -> KeyState | None:
        """The best key that has an open way to a model; `sure`: without becoming a probe."""
        closed = self.roster.closed_pairs(model, self.now)
        tried = self.tried.lanes
        for choice in self.side(model.model.free):
            key = choice[-1]
            if key.name in closed or (tried and (key.name, model.model.id) in tried):
                continue
            if not sure or not self._is_probe(model, key):
                return key
        return None

    def _is_probe(self, model: ModelState, key: KeyState) -> bool:
        return any(b.is_half_open(self.now) for b in self.roster.path(model, key).breakers)


def _usable(roster: Roster, free: bool, tried: Tried, now: float) -> list[Choice]:
    choices: list[Choice] = []
    for account in roster.accounts.values():
        if account.side(free).until > now:
            continue
        quota = account.quota
        room = quota.room(now, free)
        if room is None:
            continue
        fresh = account.name not in tried.accounts
        for key in account.keys:
            if key.breaker.until <= now and key.name not in tried.keys:
                idle, unused = -quota.in_flight, -key.last_used
                choices.append((fresh, room.day, room.minute, idle, unused, -key.place, key))
    choices.sort(reverse=True)
    return choices


def _first(models: list[ModelState], keys: _Keys, *, sure: bool = False) -> Pick | None:
    for model in models:
        if key := keys.best(model, sure):
            return Pick(key, model)
    return None


def _again(lane: tuple[str, str], models: list[ModelState], keys: _Keys) -> Pick | None:
    """The lane that is to be tried once more, if it is still usable."""
    for model in models:
        if model.model.id == lane[1]:
            closed = keys.roster.closed_pairs(model, keys.now)
            side = keys.side(model.model.free)
            key = next((c[-1] for c in side if c[-1].name == lane[0] not in closed), None)
            return Pick(key, model) if key else None
    return None


def named(roster: Roster, ask: Ask) -> Iterable[ModelState]:
    """The models an ask allows, in the order of the list or of the ask."""
    models = roster.models
    if ask.models:
        return [models[name] for name in dict.fromkeys(ask.models) if name in models]
    if ask.first and ask.pinned:
        return [models[ask.first]] if ask.first in models else []
    return models.values()


def candidates(
    roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float
) -> list[Candidate]:
    """Every model an ask allows, with what makes it unfit."""
    limit = policy.limits.attempts_per_model
    return [
        Candidate(m, m.misfit(ask, now) or tried.rules_out(m, ask, limit))
        for m in named(roster, ask)
    ]


def _enterable(
    roster: Roster, policy: Policy, ask: Ask, tried: Tried, keys: _Keys
) -> list[ModelState]:
    """The models that fit, are open and have a usable key, in the order of the list."""
    now = keys.now
    count = len(roster.keys)
    limit = policy.limits.attempts_per_model
    again = tried.any
    return [
        m
        for m in named(roster, ask)
        if m.breaker.until <= now
        and m.learnt.in_flight < m.learnt.limit
        and keys.side(m.model.free)
        and m.misfit(ask, now) is None
        and not (again and tried.rules_out(m, ask, limit))
        and len(roster.closed_pairs(m, now)) < count
    ]


def _ranked(policy: Policy, models: list[ModelState], ask: Ask, now: float) -> list[ModelState]:
    """Best first. An ask that names its models has ranked them itself."""
    if ask.models:
        return models
    choice = policy.choice
    if choice.strategy not in ORDERED and len(models) > 1:
        size = bucket(ask.tokens)
        models.sort(key=lambda m: m.score(ask, size, choice, now))
    if ask.first:
        models.sort(key=lambda m: m.model.id != ask.first)
    return models


def last_resort(roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float) -> Pick | None:
    """With every lane closed: the one that opens first, if nothing but our own guesses closes it (rule A.6)."""
    best: tuple[float, int, int] | None = None
    pick: Pick | None = None
    for model, unfit in candidates(roster, policy, ask, tried, now):
        if unfit or model.learnt.in_flight >= model.learnt.limit:
            continue
        for key in roster.keys.values():
            if key.name in tried.keys or (key.name, model.model.id) in tried.lanes:
                continue
            until = _guessed_until(roster, key, model, now)
            merit = (until, model.rank, key.place)
            if until and (best is None or merit < best):
                best, pick = merit, Pick(key, model)
    return pick


def _guessed_until(roster: Roster, key: KeyState, model: ModelState, now: float) -> float:
    """When a lane opens that only guesses keep closed; 0.0 if anything else does."""
    breakers = (roster.outage, *roster.path(model, key).breakers)
    if key.account.quota.shut(now, model.model.free):
        return 0.0
    return max(b.until for b in breakers) if all(b.is_guess(now) for b in breakers) else 0.0
