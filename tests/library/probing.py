"""What can be seen of a wheel after something has happened to it."""

from typing import Any

from keywheel.engine import Engine

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
FAULTS = ("key-unknown", "upstream-pool")  # a 401 and a 429
ONCE = "https://openrouter.ai/api/v1/chat/completions"  # only the end of a path matters


def under_way(engine: Engine) -> int:
    """Leases that are not settled."""
    return sum(account.quota.in_flight for account in engine.pool.roster.accounts.values())


def totals(engine: Engine) -> dict[str, Any]:
    """The figures of the whole."""
    return engine.report()["totals"]


def blamed(engine: Engine) -> list[str]:
    """Keys and models that are not open."""
    report = engine.report()
    return [
        row.get("name") or row["id"]
        for row in (*report["keys"], *report["models"])
        if row["state"] != "open"
    ]
