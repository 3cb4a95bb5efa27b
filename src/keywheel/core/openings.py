"""When each lane opens, and what stands in the way: the honest answer when nothing can be tried now
(routing rule A.8)."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from keywheel.core.roster import AccountState, KeyState, ModelState, Roster
from keywheel.core.types import FOREVER, NoLane

BUSY = (
    0.25  # seconds after which to look again when only the number of requests at once is in the way
)


class Candidate(NamedTuple):
    """A model an ask allows, and why it does not fit (None: it fits)."""

    model: ModelState
    unfit: str | None


class Opening(NamedTuple):
    """When something opens and what keeps it closed: `day`, `minute`, `busy`, `health`, `disabled` or, open, ``."""

    at: float
    cause: str


def account_until(account: AccountState, free: bool, now: float) -> float:
    """When an account may send again, 0.0 when it may now."""
    until = (account.breaker if free else account.paid).closed_until(now)
    if not free or not account.quota.metered:
        return until
    shut = account.quota.shut(now)
    return max(until, shut.until) if shut else until


def pair_until(model: ModelState, key: KeyState, now: float) -> float:
    """When the lane and the account's access to the model open, 0.0 when both are open."""
    lane = model.lanes.get(key.name)
    reach = model.access.get(key.account.name)
    until = lane.closed_until(now) if lane else 0.0
    return max(until, reach.closed_until(now)) if reach else until


def no_lane(
    roster: Roster,
    candidates: Iterable[Candidate],
    tried: set[tuple[str, str]],
    now: float,
) -> NoLane:
    """Why nothing can be tried, and when the earliest lane opens."""
    candidates = list(candidates)
    if not roster.keys or not candidates:
        return NoLane(None, "empty")
    fitting = [c.model for c in candidates if c.unfit is None]
    if not fitting:
        return _unfit(candidates)
    provider = roster.provider.closed_until(now)
    keys = {free: [_key(k, free, now) for k in roster.keys.values()] for free in (True, False)}
    lanes: Counter[Opening] = Counter()
    for model in fitting:
        lanes.update(_lanes(model, keys[model.model.free], tried, provider, now))
    return _summary(lanes, now)


def _unfit(candidates: list[Candidate]) -> NoLane:
    reasons = Counter(c.unfit for c in candidates if c.unfit and c.unfit != "tried")
    if not reasons:
        return NoLane(None, "tried")
    return NoLane(None, "unfit", dict(reasons), tuple(sorted(reasons)))


def _key(key: KeyState, free: bool, now: float) -> tuple[KeyState, Opening]:
    account = key.account
    shut = account.quota.shut(now) if free and account.quota.metered else None
    health = max(
        key.breaker.closed_until(now),
        (account.breaker if free else account.paid).closed_until(now),
    )
    if health == FOREVER:
        return key, Opening(FOREVER, "disabled")
    if shut:
        return key, Opening(max(health, shut.until), shut.cause)
    return key, Opening(health, "health" if health else "")


def _lanes(
    model: ModelState,
    keys: list[tuple[KeyState, Opening]],
    tried: set[tuple[str, str]],
    provider: float,
    now: float,
) -> Iterable[Opening]:
    closed = max(model.breaker.closed_until(now), provider)
    crowded = now + BUSY if model.learnt.in_flight >= model.learnt.limit else 0.0
    for key, opening in keys:
        if (key.name, model.model.id) in tried:
            continue
        pair = pair_until(model, key, now) if model.troubled else 0.0
        yield _latest(opening, max(closed, pair), crowded)


def _latest(key: Opening, health: float, crowded: float) -> Opening:
    at = max(key.at, health, crowded)
    if key.cause in ("day", "minute", "disabled"):
        return Opening(at, key.cause)
    if FOREVER in (health, key.at):
        return Opening(at, "disabled")
    return Opening(at, "health" if health or key.cause == "health" else "busy")


def _summary(lanes: Counter[Opening], now: float) -> NoLane:
    if not lanes:
        return NoLane(None, "tried")
    known = [opening for opening in lanes if opening.at != FOREVER]
    blocked: Counter[str] = Counter()
    for opening, count in lanes.items():
        blocked[_GROUP[opening.cause]] += count
    if not known:
        return NoLane(None, "disabled", dict(blocked))
    first = min(known)
    causes = {opening.cause for opening in known}
    cause = "health" if "health" in causes else first.cause
    return NoLane(max(first.at, now), cause, dict(blocked))


_GROUP = {
    "day": "quota",
    "minute": "quota",
    "busy": "busy",
    "health": "cooling",
    "disabled": "disabled",
}
