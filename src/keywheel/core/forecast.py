"""How long an account's free day will last at the present rate."""

from typing import Any

from keywheel.core.history import History
from keywheel.core.states import AccountState

SPAN = 900.0  # seconds looked back: long enough to smooth bursts, short enough to notice a change
Json = dict[str, Any]


def forecast(account: AccountState, history: History, now: float) -> Json:
    """When the day's requests are used up if all goes on as in the last quarter of an hour.

    `outlook`: `lasts` until the day is over, `ends` before, `spent` already, `idle` (hardly anything was sent lately),
    `unmetered`. `ends_at` only when it ends before the day does. Tries of paid models are in the rate, too.
    """
    quota = account.quota
    rate = history.rate(account.name, now, SPAN)
    per_hour = round(rate * 3_600, 1)
    if not quota.metered:
        return {"outlook": "unmetered", "per_hour": per_hour, "ends_at": None}
    left = quota.day_remaining(now)
    if not left:
        return {"outlook": "spent", "per_hour": per_hour, "ends_at": None}
    if not rate:
        return {"outlook": "idle", "per_hour": 0.0, "ends_at": None}
    ends_at = now + left / rate
    if ends_at >= quota.resets_at(now):
        return {"outlook": "lasts", "per_hour": per_hour, "ends_at": None}
    return {"outlook": "ends", "per_hour": per_hour, "ends_at": ends_at}
