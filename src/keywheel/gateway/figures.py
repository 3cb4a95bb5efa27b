"""`GET /v1/key` and `/v1/credits`: the whole pool in the shape in which OpenRouter speaks of one key.

No secret, no upstream label.
"""

from typing import Any

Json = dict[str, Any]


def key_body(report: Json) -> Json:
    """The pool as one key. Money is what this process saw; limits and days are sums over accounts."""
    spent = report["totals"]["cost_usd"]
    days = [account["day"] for account in report["accounts"]]
    metered = [day for day in days if day["limit"] is not None]
    usage = {
        f"{kind}usage{span}": 0
        for kind in ("", "byok_")
        for span in ("", "_daily", "_weekly", "_monthly")
    }
    return {
        "data": {
            "label": "keywheel",
            "is_management_key": False,
            "is_provisioning_key": False,
            "limit": None,
            "limit_reset": None,
            "limit_remaining": None,
            "include_byok_in_limit": False,
            **usage,
            "usage": spent,
            "is_free_tier": True,
            "expires_at": None,
            "creator_user_id": None,
            "organization_id": None,
            "workspace_id": "00000000-0000-0000-0000-000000000000",
            "allowed_data_regions": ["global"],
            "free_model_daily_requests": {
                name: sum(day[name] for day in metered) for name in ("used", "limit", "remaining")
            },
            "budgets": [],
            "effective_budget": None,
            "rate_limit": {
                "requests": -1,
                "interval": "10s",
                "note": "This field is deprecated and safe to ignore.",
            },
        }
    }


def credits_body(report: Json) -> Json:
    """Credits are not known to the pool; what was spent through it is."""
    return {"data": {"total_credits": 0, "total_usage": report["totals"]["cost_usd"]}}
