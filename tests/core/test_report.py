"""What people are told about the pool."""

import json
from typing import Any

import pytest

from keywheel.core.pool import Pool
from keywheel.core.report import health, stats_report
from keywheel.core.stats import Stats
from keywheel.core.types import Kind, Scope
from tests.core.build import (
    MIDNIGHT,
    NOON,
    account,
    answered,
    breaker,
    failed,
    heal,
    model,
    on,
    pool,
    run,
    take,
)


def report(made: Pool, stats: Stats | None = None, now: float = NOON) -> dict[str, Any]:
    return stats_report(made, stats or Stats(NOON), now)


def key(made: Pool, name: str = "k1", now: float = NOON) -> dict[str, Any]:
    return next(entry for entry in report(made, now=now)["keys"] if entry["name"] == name)


def test_the_shape_is_that_of_the_documented_contract() -> None:
    made = pool(accounts=[account("a1"), account("a2", None)])
    told = report(made)
    assert list(told) == [
        "schema_version", "since", "totals", "keys", "accounts", "models", "errors",
    ]  # fmt: skip
    assert set(told["totals"]) >= {
        "requests", "succeeded", "failed", "attempts", "fallbacks", "rate_limited", "tokens_in",
        "tokens_out", "cost_usd",
    }  # fmt: skip
    assert list(told["keys"][0]) == [
        "name", "account", "state", "reason", "until", "attempts", "succeeded", "failed",
        "success_rate", "window", "latency_ms", "ttft_ms", "last_used", "last_error",
    ]  # fmt: skip
    assert list(told["accounts"][0]) == ["name", "keys", "day", "minute"]
    assert list(told["models"][0]) == [
        "id", "rank", "score", "state", "reason", "until", "success_rate", "ttft_ms",
        "tokens_per_second", "context",
    ]  # fmt: skip
    json.dumps(told, allow_nan=False)


def test_reading_changes_nothing() -> None:
    stats = Stats(NOON)
    report(pool(), stats)
    assert dict(stats.keys) == dict(stats.models) == {}


def test_what_happened_is_told_by_key_model_and_row() -> None:
    made, stats = pool(("k1@a1",)), Stats(NOON)
    for outcome in (answered(), failed("server-error")):
        for event in run(made, outcome, on("m1")):
            stats.record(event)
    told = report(made, stats)
    assert (told["keys"][0]["attempts"], told["keys"][0]["success_rate"]) == (2, 0.5)
    assert told["keys"][0]["window"] == {"failed": 1, "total": 2}
    assert told["models"][0]["state"] == "closed"
    assert [(e["row"], e["scope"], e["count"]) for e in told["errors"]] == [
        ("23 server-error", "model", 1)
    ]


def test_an_accounts_windows_are_told_with_their_limits() -> None:
    made = pool(accounts=[account("a1"), account("a2", None)])
    run(made, answered(), on("m1"))
    made.settle(take(made, on("m1")), answered(), NOON)
    first, second = report(made)["accounts"]
    assert (first["day"]["limit"], first["minute"]["limit"]) == (50, 19)
    assert first["day"]["used"] + first["day"]["remaining"] == 50
    assert MIDNIGHT < first["day"]["resets_at"] < MIDNIGHT + 30
    assert second["day"]["limit"] is second["day"]["remaining"] is second["minute"]["limit"] is None


def test_an_open_key_is_open() -> None:
    assert {k: key(pool())[k] for k in ("state", "reason", "until")} == {
        "state": "open",
        "reason": None,
        "until": None,
    }


def test_a_refused_key_is_disabled_without_an_end() -> None:
    made = pool()
    made.key_is_bad("k1", "bad-key", NOON)
    told = key(made)
    assert (told["state"], told["reason"], told["until"]) == ("disabled", "bad-key", None)


def test_a_key_over_half_errors_says_its_rate_and_its_end_and_then_probes() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for number in range(5):
        run(made, failed("server-error"), on(f"m{number % 2 + 1}"))
        heal(made, Kind.MODEL, f"m{number % 2 + 1}")
    told = key(made)
    assert (told["state"], told["reason"]) == ("disabled", "error rate 5/5")
    assert told["until"] == NOON + 300
    assert key(made, now=NOON + 300)["state"] == "probing"


def test_a_key_is_no_better_than_its_account() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", 1)])
    run(made, failed("platform-minute", NOON + 40), on("m1"))
    assert (key(made)["state"], key(made)["reason"]) == ("closed", "platform-minute")
    told = key(made, now=NOON + 70)
    assert (told["state"], told["reason"]) == ("closed", "day limit")
    assert told["until"] > MIDNIGHT


def test_an_operators_hand_shows() -> None:
    made = pool()
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON)
    told = report(made)["models"][0]
    assert (told["state"], told["reason"], told["until"]) == (
        "disabled",
        "disabled by operator",
        None,
    )


def test_a_probe_under_way_is_probing() -> None:
    scope = breaker()
    for number in range(5):
        scope.fail(number, 0, NOON, f"k{number}", 1)
    scope.enter(9, NOON + 300, NOON + 400)
    assert health(scope, NOON + 301)["state"] == "probing"


def test_models_are_told_in_order_with_their_score() -> None:
    made = pool(models=["m1", model("m2", 8_000)])
    first, second = report(made)["models"]
    assert (first["id"], first["rank"], second["rank"]) == ("m1", 1, 2)
    assert first["score"] < second["score"]
    assert second["context"] == 8_000


@pytest.mark.parametrize("row", ["key-limit", "model-gone"])
def test_everything_that_is_closed_says_why(row: str) -> None:
    made = pool()
    run(made, failed(row), on("m1"))
    told = report(made)
    assert row in {entry["reason"] for entry in (*told["keys"], *told["models"])}
