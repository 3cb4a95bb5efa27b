"""Which lane an ask gets: hard filters, then the ranking of models, then the merit of keys (rules A.3, A.4)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from keywheel.core import openings, ranking
from keywheel.core.policy import Policy
from keywheel.core.roster import KeyState, ModelState, Roster
from keywheel.core.types import FOREVER, Ask


@dataclass(slots=True)
class Tried:
    """What one ask has used up: lanes and models already tried, and what a later attempt must offer."""

    lanes: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    models: dict[str, int] = field(default_factory=dict[str, int])
    barred: set[str] = field(default_factory=set[str])  # models that cannot help this ask
    accounts: set[str] = field(default_factory=set[str])  # better another one, if there is one
    larger_than: int = 0
    needs: set[str] = field(default_factory=set[str])
    last_attempt: bool = False


class Merit(NamedTuple):
    """What makes one key better than another; the largest wins (routing rule A.3)."""

    fresh: bool
    day: float
    minute: int
    idle: int
    unused: int


class Choice(NamedTuple):
    """A usable key with its merit."""

    merit: Merit
    key: KeyState


class Pick(NamedTuple):
    """The lane that was chosen."""

    key: KeyState
    model: ModelState


def choose(roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float) -> Pick | None:
    """The best usable lane, None when there is none."""
    if roster.provider.closed_until(now):
        return None
    keys: dict[bool, list[Choice]] = {}
    for model in _ranked(roster, policy, ask, tried, now):
        free = model.model.free
        if free not in keys:
            keys[free] = _usable(roster, free, tried, now)
        if key := _pick(model, keys[free], tried, now):
            return Pick(key, model)
    return None


def _named(roster: Roster, ask: Ask) -> Iterable[ModelState]:
    """The models an ask allows, in the order of the list or of the ask."""
    models = roster.models
    if ask.models:
        return [models[name] for name in ask.models if name in models]
    if ask.first and ask.pinned:
        return [models[ask.first]] if ask.first in models else []
    return models.values()


def candidates(
    roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float
) -> list[openings.Candidate]:
    return [openings.Candidate(m, _unfit(policy, m, ask, tried, now)) for m in _named(roster, ask)]


def _unfit(policy: Policy, state: ModelState, ask: Ask, tried: Tried, now: float) -> str | None:
    context = state.context(now)
    if reason := ranking.misfit(state.model, context, ask):
        return reason
    if context <= tried.larger_than:
        return "context"
    if lack := state.lacking(ask.needs, now):
        return lack
    if tried.needs and (missing := tried.needs - state.model.can):
        return min(missing)
    if state.model.id in tried.barred:
        return "tried"
    if tried.models.get(state.model.id, 0) >= policy.limits.attempts_per_model:
        return "tried"
    return None


def _ranked(roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float) -> list[ModelState]:
    """The models that fit and are open, best first."""
    usable = [m for m in _named(roster, ask) if _enterable(policy, m, ask, tried, now)]
    if ask.models:
        return usable
    choice = policy.choice
    for model in usable:
        if now - model.learnt.at > 1.0:
            model.learnt.fade(now, choice.half_life)
    usable.sort(key=lambda m: ranking.score(m.learnt, m.rank, ask, choice))
    if ask.first:
        usable.sort(key=lambda m: m.model.id != ask.first)
    return usable


def _enterable(policy: Policy, state: ModelState, ask: Ask, tried: Tried, now: float) -> bool:
    if state.breaker.closed_until(now) or state.learnt.in_flight >= state.learnt.limit:
        return False
    return _unfit(policy, state, ask, tried, now) is None


def _usable(roster: Roster, free: bool, tried: Tried, now: float) -> list[Choice]:
    """The keys that may send now, each with its merit."""
    choices: list[Choice] = []
    for account in roster.accounts.values():
        if openings.account_until(account, free, now):
            continue
        quota = account.quota
        metered = free and quota.metered
        day = float(quota.day_remaining(now)) if metered else FOREVER
        minute = quota.minute_free(now) if metered else quota.minute_cap
        fresh = account.name not in tried.accounts
        choices += [
            Choice(Merit(fresh, day, minute, -quota.in_flight, -key.last_used), key)
            for key in account.keys
            if not key.breaker.closed_until(now)
        ]
    return choices


def _pick(model: ModelState, keys: list[Choice], tried: Tried, now: float) -> KeyState | None:
    free = [
        choice
        for choice in keys
        if (choice.key.name, model.model.id) not in tried.lanes
        and (not model.troubled or not openings.pair_until(model, choice.key, now))
    ]
    if tried.last_attempt:  # a probe should have a fallback behind it
        free = [c for c in free if not c.key.breaker.is_half_open(now)] or free
    return max(free, key=lambda choice: choice.merit).key if free else None
