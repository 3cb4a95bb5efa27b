"""The figures of several workers as one: what each has counted, and what it has under way."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from keywheel.core.pool import Pool
from keywheel.core.stats import Stats

Json = dict[str, Any]


class Part(NamedTuple):
    """What one worker adds. `minutes`: sends of the last 61 s by account, those among them that it found when it
    began; `accounts` and `models`: attempts under way; `waiting`: requests that wait for a lane."""

    stats: Stats
    minutes: Mapping[str, int] = {}
    accounts: Mapping[str, int] = {}
    models: Mapping[str, int] = {}
    waiting: int = 0


def part(pool: Pool, stats: Stats, now: float) -> Part:
    """What this worker adds, as a copy."""
    accounts = pool.roster.accounts.values()
    return Part(
        stats=total([stats]),
        minutes={a.name: a.quota.minute_used(now) for a in accounts if a.quota.metered},
        accounts={account.name: account.quota.in_flight for account in accounts},
        models={model.model.id: model.learnt.in_flight for model in pool.roster.listed},
        waiting=len(pool.queue),
    )


def total(parts: Iterable[Stats]) -> Stats:
    """All counts together, since the first began. The parts stay as they are."""
    found = Stats(inf)
    for each in parts:
        found.merge(each)
    return found


def add(told: Json, others: Sequence[Part]) -> Json:
    """A worker's read model, with what the others have under way."""
    accounts, pool = told["accounts"], told["pool"]
    add_minutes(accounts, others)
    for account in accounts:
        account["in_flight"] += sum(each.accounts.get(account["name"], 0) for each in others)
    for model in told["models"]:
        model["in_flight"] += sum(each.models.get(model["id"], 0) for each in others)
    metered = [account["minute"] for account in accounts if account["minute"]["limit"] is not None]
    for name in ("used", "free"):
        pool["minute"][name] = sum(minute[name] for minute in metered)
    pool["in_flight"] = sum(account["in_flight"] for account in accounts)
    pool["queue"]["length"] += sum(each.waiting for each in others)
    return told


def add_minutes(accounts: Iterable[Json], others: Sequence[Part]) -> None:
    """Add what the others have sent in the last minute."""
    for account in accounts:
        minute = account["minute"]
        minute["used"] += sum(each.minutes.get(account["name"], 0) for each in others)
        if minute["limit"] is not None:
            minute["used"] = min(minute["used"], minute["limit"])
            if "free" in minute:
                minute["free"] = minute["limit"] - minute["used"]
