"""All of `GET /admin/state`: what `stats_report` tells, with why, since when and until when, and what it means.

The page, the terminal, the commands and the metrics render this and look at nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import inf
from typing import Any

from keywheel.core import queue, ranking
from keywheel.core.breaker import Breaker
from keywheel.core.findings import findings, row_label, since
from keywheel.core.forecast import forecast
from keywheel.core.history import STEP
from keywheel.core.pool import SMALL, UNTRIED, Pool
from keywheel.core.report import ANY, SCHEMA_VERSION, account_entry, health, key_entry, model_entry
from keywheel.core.roster import PROVIDER, Roster
from keywheel.core.states import AccountState, KeyState, ModelState
from keywheel.core.stats import Stats, Tally
from keywheel.core.troubles import Trouble
from keywheel.core.types import Attempted, Finished

REQUESTS = 50  # of the last ones that are told
Json = dict[str, Any]


def overview(
    pool: Pool,
    stats: Stats,
    now: float,
    expires: Mapping[str, float | None],
    state: Trouble | None = None,
) -> Json:
    """The read model. `expires`: when a model leaves the list, where that is known. `state`: what is wrong with the
    store. Seconds UTC; unknown is null."""
    roster = pool.roster
    roster.fade(now, pool.policy.choice.half_life)
    troubles = [found.to_dict() for found in findings(pool, stats, now, state)]
    told: Json = {
        "schema_version": SCHEMA_VERSION,
        "now": now,
        "since": stats.since,
        "pool": _pool(pool, troubles, now),
        "troubles": troubles,
        "provider": {"name": PROVIDER, **_provider(pool, now)},
        "clock_skew": roster.skew,
        "accounts": [_account(a, pool, stats, now) for a in roster.accounts.values()],
        "keys": [_key(k, pool, stats, now) for k in roster.keys.values()],
        "models": [_model(m, pool, stats, now, expires) for m in roster.listed],
        "lanes": [*_lanes(pool, now)],
        "totals": asdict(stats.totals),
        "errors": [asdict(error) for error in stats.errors.values()],
        "requests": _requests(stats),
        "timeline": _timeline(stats, now),
    }
    return told | {"changes_at": _next_change(told, now)}


def standing(breaker: Breaker, pool: Pool, now: float) -> Json:
    """`health`, with the row, who says so, and since when."""
    told, cause = health(breaker, now), breaker.cause(now)
    if told["reason"] is None or cause is None:
        return told | {"row": None, "provenance": None, "since": None}
    start = since(breaker, cause)
    if start is None and breaker.open_until == cause.until:
        start = cause.until - pool.policy.health.disable
    row = row_label(cause.reason)
    return told | {"row": row, "provenance": cause.provenance.value, "since": start}


# --- the whole -------------------------------------------------------------------------------------


def _pool(pool: Pool, troubles: list[Json], now: float) -> Json:
    roster = pool.roster
    usable = usable_lanes(roster, now)
    grave = any(found["severity"] in ("critical", "error", "warning") for found in troubles)
    state = ("degraded" if grave else "ready") if usable else "exhausted"
    opens = None
    if not usable and roster.keys and roster.models:
        opens = pool.obstacle(SMALL, UNTRIED, now).at
    return {
        "state": state,
        "opens_at": opens,
        "lanes": {"usable": usable, "total": len(roster.keys) * len(roster.talking)},
        "day": _day(roster, now),
        "minute": _minute(roster, now),
        "in_flight": pool.open_leases,
        "queue": {"length": len(pool.queue), "limit": queue.LENGTH},
    }


def usable_lanes(roster: Roster, now: float) -> int:
    """Pairs of a key and a model that could take a small request now."""
    if roster.provider.until > now or roster.outage.until > now:
        return 0
    sides = {free: _usable_keys(roster, free, now) for free in (True, False)}
    return sum(
        sum(key not in closed for key in sides[model.model.free])
        for model in roster.talking
        if model.breaker.until <= now and model.learnt.in_flight < model.learnt.limit
        for closed in (roster.closed_pairs(model, now),)
    )


def _usable_keys(roster: Roster, free: bool, now: float) -> list[str]:
    open_accounts = (
        account
        for account in roster.accounts.values()
        if account.side(free).until <= now and account.quota.room(now, free) is not None
    )
    return [key.name for a in open_accounts for key in a.keys if key.breaker.until <= now]


def _day(roster: Roster, now: float) -> Json:
    """Sums over metered accounts. `resets_at`: the first of them."""
    quotas = [a.quota for a in roster.accounts.values() if a.quota.metered]
    return {
        "used": sum(quota.used(now) for quota in quotas),
        "limit": sum(quota.limit for quota in quotas),
        "remaining": sum(quota.day_remaining(now) for quota in quotas),
        "resets_at": min((quota.resets_at(now) for quota in quotas), default=None),
    }


def _minute(roster: Roster, now: float) -> Json:
    quotas = [a.quota for a in roster.accounts.values() if a.quota.metered]
    return {
        "used": sum(quota.minute_used(now) for quota in quotas),
        "limit": sum(quota.minute_cap for quota in quotas),
        "free": sum(quota.minute_free(now) for quota in quotas),
    }


def _provider(pool: Pool, now: float) -> Json:
    """What was said or seen outright, else what several models' failures suggest."""
    told = standing(pool.roster.provider, pool, now)
    return told if told["state"] != "open" else standing(pool.roster.outage, pool, now)


# --- one by one ------------------------------------------------------------------------------------


def _account(account: AccountState, pool: Pool, stats: Stats, now: float) -> Json:
    quota = account.quota
    told = account_entry(account, now)
    told["minute"]["free"] = quota.minute_free(now) if quota.metered else None
    return told | {
        **_account_standing(account, pool, now),
        "in_flight": quota.in_flight,
        "concurrency": quota.cap,
        "forecast": forecast(account, stats.history, now),
    }


def _account_standing(account: AccountState, pool: Pool, now: float) -> Json:
    """By what the upstream said, else by our own count."""
    told = standing(account.breaker, pool, now)
    shut = account.quota.shut(now) if account.quota.metered else None
    if told["state"] != "open" or shut is None or shut.cause == "busy":
        return told
    return told | {"state": "closed", "reason": f"{shut.cause} limit", "until": shut.until}


def _key(key: KeyState, pool: Pool, stats: Stats, now: float) -> Json:
    """A key is as good as the account behind it."""
    tally = stats.keys.get(key.name, Tally())
    told = standing(key.breaker, pool, now)
    if told["state"] == "open":
        told = _account_standing(key.account, pool, now)
    return key_entry(key, tally, now) | told | {"last_error_at": tally.failed_at}


def _model(
    model: ModelState, pool: Pool, stats: Stats, now: float, expires: Mapping[str, float | None]
) -> Json:
    tally, learnt = stats.models.get(model.model.id, Tally()), model.learnt
    return {
        **model_entry(model, tally, pool.policy.choice, now),
        **standing(model.breaker, pool, now),
        "parts": _parts(model, pool),
        "free": model.model.free,
        "can": sorted(model.model.can),
        "max_output": model.model.max_output,
        "expires_at": expires.get(model.model.id),
        "in_flight": learnt.in_flight,
        "limit": round(learnt.limit, 1),
        "attempts": tally.attempts,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "latency_ms": tally.latency.milliseconds(),
        "last_used": tally.last_used,
        "last_error": tally.last_error,
        "last_error_at": tally.failed_at,
    }


def _parts(model: ModelState, pool: Pool) -> Json | None:
    """What a score is made of; None where the list alone decides."""
    choice = pool.policy.choice
    if ranking.step(choice) == inf:
        return None
    score = ranking.weigh(model.learnt, model.rank, ANY, choice)
    return {
        "answer_s": round(score.answer, 3),
        "failures_s": round(score.failures, 3),
        "place": round(score.place, 4),
    }


def _lanes(pool: Pool, now: float) -> Iterator[Json]:
    """Only the ways that are closed, or are tried by a probe, for themselves."""
    for model in pool.roster.listed:
        for kind, ways in (("key", model.lanes), ("account", model.access)):
            for name, breaker in ways.items():
                told = standing(breaker, pool, now)
                if told["state"] != "open":
                    scope = breaker.scope.kind.value
                    yield {"scope": scope, kind: name, "model": model.model.id, **told}


# --- what happened ---------------------------------------------------------------------------------


def _requests(stats: Stats) -> list[Json]:
    last = [found for _, found in zip(range(REQUESTS), stats.history.requests(), strict=False)]
    return [request_entry(event) | {"tries": [*map(try_entry, tries)]} for event, tries in last]


def request_entry(event: Finished) -> Json:
    """One request that has ended; never what was asked or answered."""
    return {
        "id": event.request_id,
        "at": event.at,
        "dialect": event.dialect,
        "outcome": event.outcome,
        "status": event.status,
        "code": event.code or None,
        "key": event.key or None,
        "account": event.account or None,
        "model": event.model or None,
        "attempts": event.attempts,
        "duration_ms": round(event.total * 1e3, 1),
        "overhead_ms": round(event.overhead * 1e3, 3) if event.overhead else None,
    }


def try_entry(event: Attempted) -> Json:
    """One attempt that has ended."""
    return {
        "at": event.at,
        "key": event.key,
        "account": event.account,
        "model": event.model,
        "row": event.row,
        "scope": event.scope or None,
        "ok": event.ok,
        "ttft_ms": None if event.ttft is None else round(event.ttft * 1e3, 1),
        "duration_ms": round(event.total * 1e3, 1),
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
    }


COLUMNS = (
    "requests", "succeeded", "failed", "abandoned", "attempts", "fallbacks", "rate_limited", "tokens_in", "tokens_out",
)  # fmt: skip


def _timeline(stats: Stats, now: float) -> Json:
    minutes = stats.history.minutes(now)
    means = (round(m.ttft / m.first * 1e3, 1) if m.first else None for m in minutes)
    return {
        "step": STEP,
        "at": [minute.number * STEP for minute in minutes],
        **{name: [getattr(minute, name) for minute in minutes] for name in COLUMNS},
        "ttft_ms": [*means],
    }


def _next_change(told: Json, now: float) -> float | None:
    """The first moment at which something opens by itself."""
    entries = (told["provider"], *told["accounts"], *told["keys"], *told["models"], *told["lanes"])
    ends = [entry["until"] for entry in entries]
    ends += [account["day"]["resets_at"] for account in told["accounts"]]
    return min((end for end in ends if end is not None and end > now), default=None)
