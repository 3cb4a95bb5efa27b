"""Looks through a pool for troubles. Everything closed is somebody's trouble; so is a day that ends early."""

from collections.abc import Iterable, Iterator, Mapping

from keywheel.core.breaker import Breaker, Cause
from keywheel.core.forecast import forecast
from keywheel.core.pool import SMALL, UNTRIED, Pool
from keywheel.core.rows import ROWS
from keywheel.core.states import AccountState
from keywheel.core.stats import Stats
from keywheel.core.troubles import SEVERITIES, Trouble, trouble
from keywheel.core.types import FOREVER, Kind, Provenance

RECENT = 600.0  # seconds for which a request that fitted no model is told
SKEW_TOLD = 5.0  # seconds; less is usual and corrected for
CAPABILITIES = ("tools", "image", "json_schema")  # those that clients ask for most

# What a scope is closed for → how it is told; the last entry is for all other reasons.
PROVIDER = {
    "bad-certificate": "upstream-certificate",
    "wrong-path": "upstream-wrong-path",
    "edge-refusal": "upstream-refuses",
    "": "upstream-down",
}
ACCOUNT = {
    "no-credits": "credits-negative",
    "in-flight-budget": "credits-busy",
    "platform-minute": "minute-limit",
    "": "day-spent",
}
KEY = {
    "bad-key": "dead-key",
    "bad-key-400": "dead-key",
    "key-limit": "key-spending-limit",
    "": "key-failing",
}
MODEL = {
    "upstream-pool": "model-saturated",
    "model-capacity": "model-saturated",
    "overloaded": "model-saturated",
    "model-gone": "model-gone",
    "region": "model-not-for-us",
    "harness-gate": "model-not-for-us",
    "charged": "model-charged",
    "": "model-failing",
}
ACCESS = {"account-settings": "privacy-settings", "": "access-forbidden"}


def findings(pool: Pool, stats: Stats, now: float, state: Trouble | None = None) -> list[Trouble]:
    """Every trouble there is, the gravest first; among equals what is over first. `state`: that of the store."""
    found = [
        *_whole(pool, now),
        *_provider(pool, now),
        *_clock(pool),
        *((state,) if state else ()),
        *_accounts(pool, stats, now),
        *_closed(Kind.KEY, KEY, (k.breaker for k in pool.roster.keys.values()), now),
        *_closed(Kind.MODEL, MODEL, (m.breaker for m in pool.roster.listed), now),
        *_access(pool, now),
        *_capabilities(pool, now),
        *_unfit(stats, now),
    ]
    return sorted(found, key=lambda t: (SEVERITIES.index(t.severity), t.until or FOREVER))


def since(breaker: Breaker, cause: Cause) -> float | None:
    """When the block was set that keeps a scope closed; None for a tripped one."""
    return next((b.at for b in breaker.blocks.values() if b.until == cause.until), None)


def row_label(reason: str) -> str | None:
    """The row of the classification table behind a reason; None when it is no row."""
    row = ROWS.get(reason)
    return row.label if row else None


def until(moment: float) -> float | None:
    """For JSON, which knows no infinity: None is no end."""
    return None if moment == FOREVER else moment


def _whole(pool: Pool, now: float) -> Iterator[Trouble]:
    if not pool.roster.keys:
        yield trouble("no-keys", "pool", "pool")
    elif not pool.roster.models:
        yield trouble("no-free-model", "pool", "pool")
    elif not pool.usable(now):
        way = pool.obstacle(SMALL, UNTRIED, now)
        counts = ", ".join(f"{number} {why}" for why, number in sorted(way.blocked.items()))
        yield trouble("all-closed", "pool", "pool", until=way.at, counts=counts or way.cause)


def _provider(pool: Pool, now: float) -> Iterator[Trouble]:
    yield from list(
        _closed(Kind.PROVIDER, PROVIDER, (pool.roster.provider, pool.roster.outage), now)
    )[:1]


def _clock(pool: Pool) -> Iterator[Trouble]:
    skew = pool.roster.skew
    if abs(skew) > SKEW_TOLD:
        direction = "behind" if skew > 0 else "ahead of"
        yield trouble("clock-skew", "host", "clock", seconds=abs(skew), direction=direction)


def _accounts(pool: Pool, stats: Stats, now: float) -> Iterator[Trouble]:
    for account in pool.roster.accounts.values():
        yield from _account(account, stats, now)


def _account(account: AccountState, stats: Stats, now: float) -> Iterator[Trouble]:
    """An account is told once: by what the upstream said, else by our own count, else by what will come."""
    quota, keys = account.quota, [key.name for key in account.keys]
    values = {"used": quota.used(now), "limit": quota.limit}
    told = [
        *_closed(Kind.ACCOUNT, ACCOUNT, (account.breaker,), now, keys, values, quota.minute_cap)
    ]
    if told:
        yield from told
        return
    shut = quota.shut(now) if quota.metered else None
    if shut and shut.cause == "day":
        yield trouble(
            "day-spent", "account", account.name, until=shut.until, affects=keys, **values
        )
    elif shut and shut.cause == "minute":
        limit = quota.minute_cap
        yield trouble(
            "minute-limit", "account", account.name, until=shut.until, affects=keys, limit=limit
        )
    coming = forecast(account, stats.history, now)
    if coming["outlook"] == "ends":
        yield trouble(
            "day-ends-early", "account", account.name, until=quota.resets_at(now), affects=keys,
            per_hour=coming["per_hour"], left=quota.day_remaining(now),
        )  # fmt: skip


def _closed(  # noqa: PLR0913 - what the words of an account need besides
    kind: Kind,
    codes: Mapping[str, str],
    breakers: Iterable[Breaker],
    now: float,
    affects: list[str] | None = None,
    values: Mapping[str, object] | None = None,
    minute: int = 0,
) -> Iterator[Trouble]:
    """A trouble for each scope that is closed by more than a probe under way."""
    for breaker in breakers:
        cause = breaker.cause(now)
        if cause is None or not breaker.blocked_until(now):
            continue
        code = codes.get(cause.reason, codes[""])
        if cause.provenance is Provenance.OPERATOR:
            code = "disabled-by-operator"
        more = dict(values or {})
        if code == "minute-limit":
            more["limit"] = minute
        yield trouble(
            code, kind, breaker.scope.name, since=since(breaker, cause), until=until(cause.until),
            affects=affects or (), **_told(cause), **more,
        )  # fmt: skip


def _told(cause: Cause) -> dict[str, object]:
    return {"row": row_label(cause.reason) or cause.reason, "reason": cause.reason}


def _access(pool: Pool, now: float) -> Iterator[Trouble]:
    """Models that an account may not use: one trouble an account, since one setting hides many."""
    hidden: dict[tuple[str, str], list[tuple[str, Cause, Breaker]]] = {}
    for model in pool.roster.listed:
        for name, breaker in model.access.items():
            cause = breaker.cause(now)
            if cause:
                code = ACCESS.get(cause.reason, ACCESS[""])
                hidden.setdefault((code, name), []).append((model.model.id, cause, breaker))
    for (code, name), closed in hidden.items():
        starts = [at for _, cause, breaker in closed if (at := since(breaker, cause)) is not None]
        yield trouble(
            code, Kind.ACCESS, name, since=min(starts, default=None),
            until=until(max(cause.until for _, cause, _ in closed)), affects=[id for id, _, _ in closed],
        )  # fmt: skip


def _capabilities(pool: Pool, now: float) -> Iterator[Trouble]:
    for capability in CAPABILITIES:
        offering = [m for m in pool.roster.listed if capability in m.model.can]
        ends = [m.breaker.blocked_until(now) for m in offering]
        if offering and all(ends):
            names = [m.model.id for m in offering]
            yield trouble(
                "capability-closed", "pool", capability, until=until(min(ends)), affects=names
            )


def _unfit(stats: Stats, now: float) -> Iterator[Trouble]:
    """Requests that no listed model was large enough for, or could do what they needed."""
    found: dict[str, list[float]] = {}
    for event, _ in stats.history.requests():
        if now - event.at < RECENT and event.lacking not in ("", "cost"):
            found.setdefault(event.lacking, []).append(event.at)
    for lacking, moments in found.items():
        code = "no-model-fits" if lacking == "context" else "no-model-can"
        yield trouble(
            code, "pool", lacking, since=min(moments), until=max(moments) + RECENT, number=len(moments)
        )  # fmt: skip
