"""The read model: every account, key and model with its state, why, and until when.

Rendered as JSON, tables and metrics.
"""

from dataclasses import asdict
from typing import Any

from keywheel.core import ranking
from keywheel.core.breaker import Breaker
from keywheel.core.policy import Choice
from keywheel.core.pool import Pool
from keywheel.core.states import AccountState, KeyState, ModelState
from keywheel.core.stats import Stats, Tally
from keywheel.core.types import FOREVER, Ask

SCHEMA_VERSION = 1
Json = dict[str, Any]
ANY = Ask(tokens=1_000, reply_tokens=0)  # what a model's standing is judged by


def stats_report(pool: Pool, stats: Stats, now: float) -> Json:
    """All of `GET /admin/stats`. Times are UTC seconds, durations milliseconds; unknown is null, never zero."""
    roster = pool.roster
    roster.fade(now, pool.policy.choice.half_life)
    return {
        "schema_version": SCHEMA_VERSION,
        "since": stats.since,
        "totals": asdict(stats.totals),
        "keys": [
            key_entry(key, stats.keys.get(key.name, Tally()), now) for key in roster.keys.values()
        ],
        "accounts": [account_entry(account, now) for account in roster.accounts.values()],
        "models": [
            model_entry(model, stats.models.get(model.model.id, Tally()), pool.policy.choice, now)
            for model in roster.models.values()
        ],
        "errors": [asdict(error) for error in stats.errors.values()],
    }


def health(breaker: Breaker, now: float) -> Json:
    """State, reason and end of what closes a scope.

    `open`; `closed` for a while; `disabled` by the operator, for its error rate, or until it passes a check;
    `probing` when one request finds out whether it is well again.
    """
    cause = breaker.cause(now)
    if cause is None or not breaker.blocked_until(now):
        state = "probing" if breaker.is_half_open(now) else "open"
        return {"state": state, "reason": None, "until": None}
    until = None if cause.until == FOREVER else cause.until
    disabled = until is None or cause.until == breaker.open_until
    return {"state": "disabled" if disabled else "closed", "reason": cause.reason, "until": until}


def account_entry(account: AccountState, now: float) -> Json:
    """One account with its two windows; limits are null where it is not metered."""
    quota = account.quota
    limit = quota.limit if quota.metered else None
    return {
        "name": account.name,
        "keys": [key.name for key in account.keys],
        "day": {
            "used": quota.used(now),
            "limit": limit,
            "remaining": None if limit is None else quota.day_remaining(now),
            "resets_at": quota.resets_at(now) if quota.metered else None,
        },
        "minute": {"used": quota.minute_used(now), "limit": quota.minute_cap if limit else None},
    }


def key_entry(key: KeyState, tally: Tally, now: float) -> Json:
    """One key with its health, its counts and its times."""
    counts = key.breaker.counts(now)
    return {
        "name": key.name,
        "account": key.account.name,
        **_key_health(key, now),
        "attempts": tally.attempts,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "success_rate": tally.success_rate(),
        "window": {"failed": counts.failed, "total": counts.total},
        "latency_ms": tally.latency.milliseconds(),
        "ttft_ms": tally.ttft.milliseconds(),
        "last_used": tally.last_used,
        "last_error": tally.last_error,
    }


def _key_health(key: KeyState, now: float) -> Json:
    """A key is as good as the account behind it."""
    own = health(key.breaker, now)
    if own["state"] != "open":
        return own
    shared = health(key.account.breaker, now)
    if shared["state"] != "open":
        return shared
    shut = key.account.quota.shut(now) if key.account.quota.metered else None
    if shut is None:
        return own
    return {"state": "closed", "reason": f"{shut.cause} limit", "until": shut.until}


def model_entry(model: ModelState, tally: Tally, choice: Choice, now: float) -> Json:
    """One model with its standing, its health and its speed."""
    return {
        "id": model.model.id,
        "rank": model.rank + 1,
        "score": round(ranking.score(model.learnt, model.rank, ANY, choice), 4),
        **health(model.breaker, now),
        "success_rate": tally.success_rate(),
        "ttft_ms": tally.ttft.milliseconds(),
        "tokens_per_second": tally.tokens_per_second(),
        "context": model.context(now),
    }
