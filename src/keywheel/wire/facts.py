"""What `GET /key` and `GET /credits` say about a key and its account, read without trusting it."""

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder

from keywheel.core.types import FOREVER
from keywheel.wire.loose import (
    MAX_SIZE,
    BadCatalogue,
    decode,
    to_mapping,
    to_moment,
    to_number,
    to_sequence,
    to_text,
)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What `GET /key` says; None is unknown. The key's label is left out on purpose: it shows parts of the key.

    `account_id` is the owner's real id: hash it before it is kept or shown. `spent_until`: a budget is used up
    until then (UTC seconds, infinite when nobody says).
    """

    account_id: str | None = field(default=None, repr=False)
    free_used: int | None = None
    free_limit: int | None = None
    limit: float | None = None
    limit_remaining: float | None = None
    limit_reset: str | None = None
    is_management: bool = False
    is_free_tier: bool | None = None
    expires_at: float | None = None
    spent_until: float | None = None


class _Payload(Struct):
    data: dict[str, Any]


_PAYLOAD = Decoder(_Payload)


def read_key(payload: bytes) -> KeyFacts | None:
    """Read the answer of `GET /key`; fields that are missing or odd stay unknown. None if it is no such answer."""
    try:
        data = decode(payload, _PAYLOAD, MAX_SIZE).data
    except BadCatalogue:
        return None
    daily = to_mapping(data.get("free_model_daily_requests"))
    used, limit = to_number(daily.get("used")), to_number(daily.get("limit"))
    return KeyFacts(
        account_id=to_text(data.get("creator_user_id")),
        free_used=None if used is None else int(used),
        free_limit=None if limit is None else int(limit),
        limit=to_number(data.get("limit")),
        limit_remaining=to_number(data.get("limit_remaining")),
        limit_reset=to_text(data.get("limit_reset")),
        is_management=True in (data.get("is_management_key"), data.get("is_provisioning_key")),
        is_free_tier=tier if isinstance(tier := data.get("is_free_tier"), bool) else None,
        expires_at=to_moment(data.get("expires_at")),
        spent_until=_spent_until(data.get("budgets")),
    )


def read_balance(payload: bytes) -> float | None:
    """Read the answer of `GET /credits`: bought less used, in USD. None if it does not say."""
    try:
        data = decode(payload, _PAYLOAD, MAX_SIZE).data
    except BadCatalogue:
        return None
    bought, used = to_number(data.get("total_credits")), to_number(data.get("total_usage"))
    return None if bought is None or used is None else bought - used


def _spent_until(budgets: Any) -> float | None:
    """When the last of the budgets that are used up resets."""
    spent = [
        to_moment(budget.get("resets_at")) or FOREVER
        for budget in map(to_mapping, to_sequence(budgets))
        if (left := to_number(budget.get("remaining_usd"))) is not None and left <= 0
    ]
    return max(spent, default=None)
