"""The read model behind `/admin/state`: standings with their provenance, forecasts, lanes, and what happened lately."""

import json
import timeit
from math import exp, log
from typing import Any

import pytest

from keywheel.core.forecast import forecast
from keywheel.core.history import EVENTS, History
from keywheel.core.overview import overview, usable_lanes
from keywheel.core.policy import Choice, Policy
from keywheel.core.pool import Pool
from keywheel.core.stats import PENDING, Distribution, Stats
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Attempted, Finished, Kind, Lease, Scope
from tests.core.build import MIDNIGHT, NOON, account, answered, failed, heal, on, pool, run, take


def state(made: Pool, stats: Stats | None = None, now: float = NOON) -> dict[str, Any]:
    told = overview(made, stats or Stats(NOON), now, {"m2": NOON + 99})
    return json.loads(json.dumps(told, allow_nan=False))


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if name in (entry.get("name"), entry.get("id")))


def attempt(at: float, id: str, row: str = "ok", account: str = "a1") -> Attempted:
    ok = row == "ok"
    return Attempted(at, id, "k1", account, "m1", row, "", ok, 0.5 if ok else None, 1.0, 10, 20)


def finished(at: float, id: str, outcome: str = "ok", attempts: int = 1) -> Finished:
    return Finished(at, id, "chat", outcome, 200, "", attempts, "k1", "a1", "m1", 1.5, 0.0004)


# --- standings -------------------------------------------------------------------------------------


def test_what_is_open_says_nothing_else() -> None:
    told = state(pool())
    nothing = dict.fromkeys(("reason", "row", "provenance", "since", "until"))
    for entry in (told["provider"], *told["accounts"], *told["keys"], *told["models"]):
        assert {"state": "open", **nothing}.items() <= entry.items()
    assert (told["lanes"], told["troubles"], told["changes_at"] > MIDNIGHT) == ([], [], True)


def test_what_is_closed_says_why_who_says_so_since_when_and_until_when() -> None:
    made = pool()
    run(made, failed("upstream-pool", NOON + 500), on("m1"))
    told = named(state(made, now=NOON + 1)["models"], "m1")
    assert {k: told[k] for k in ("state", "reason", "row", "provenance", "since", "until")} == {
        "state": "closed", "reason": "upstream-pool", "row": "20 upstream-pool",
        "provenance": "authoritative", "since": NOON, "until": NOON + 500,
    }  # fmt: skip
    assert state(made)["changes_at"] == NOON + 500


def test_an_error_rate_is_no_row_and_began_when_it_tripped() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for number in range(5):
        run(made, failed("server-error"), on(f"m{number % 2 + 1}"))
        heal(made, Kind.MODEL, f"m{number % 2 + 1}")
    told = state(made)["keys"][0]
    assert (told["state"], told["reason"], told["row"]) == ("disabled", "error rate 5/5", None)
    assert (told["provenance"], told["since"], told["until"]) == ("heuristic", NOON, NOON + 300)


def test_a_key_stands_as_its_account_does_and_the_account_by_our_own_count() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", 1)])
    run(made, answered())
    told = state(made)
    for entry in (told["keys"][0], told["accounts"][0]):
        assert (entry["state"], entry["reason"], entry["provenance"]) == (
            "closed",
            "day limit",
            None,
        )
        assert entry["until"] > MIDNIGHT


def test_an_account_that_is_merely_busy_is_open() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", cap=1)])
    take(made)
    told = state(made)["accounts"][0]
    assert (told["state"], told["in_flight"], told["concurrency"]) == ("open", 1, 1)


def test_a_guessed_outage_shows_at_the_provider() -> None:
    made = pool(models=["m1", "m2", "m3", "m4"])
    for name in ("m1", "m2", "m3"):
        run(made, failed("server-error"), on(name, f"r{name}"))
    told = state(made)
    assert (told["provider"]["state"], told["provider"]["row"]) == ("closed", "25 edge")
    assert told["pool"]["lanes"]["usable"] == 0
    made.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    assert state(made)["provider"]["provenance"] == "operator"


def test_only_lanes_that_differ_are_told() -> None:
    made = pool()
    run(made, failed("unclear-429"), on("m1"))
    run(made, failed("account-settings"), on("m2"))
    lane, access = state(made)["lanes"]
    assert (lane["scope"], lane["key"], lane["model"]) == ("lane", "k1", "m1")
    assert (access["scope"], access["account"], access["model"]) == ("account+model", "a2", "m2")
    assert lane["reason"] == "unclear-429"


# --- the pool at a glance --------------------------------------------------------------------------


def test_the_pool_sums_up_what_is_metered() -> None:
    made = pool(
        ("k1@a1", "k2@a2", "k3@a3"), accounts=[account("a1"), account("a2"), account("a3", None)]
    )
    run(made, answered(), on("m1"))
    run(made, answered(), on("m1"))
    made.settle(take(made, on("m1")), answered(), NOON)
    told = state(made)
    days = [a["day"] for a in told["accounts"] if a["day"]["limit"]]
    assert told["pool"]["day"]["used"] == sum(day["used"] for day in days)
    assert told["pool"]["day"]["limit"] == 100
    assert told["pool"]["day"]["resets_at"] == min(day["resets_at"] for day in days)
    assert told["pool"]["minute"]["limit"] == 38
    assert told["accounts"][2]["minute"]["free"] is None


def test_the_pools_state_and_its_first_opening() -> None:
    made = pool()
    assert (state(made)["pool"]["state"], state(made)["pool"]["opens_at"]) == ("ready", None)
    made.set_skew(60)
    assert state(made)["pool"]["state"] == "degraded"
    made.set_skew(0)
    run(made, failed("upstream-pool", NOON + 90), on("m1"))
    assert state(made)["pool"]["state"] == "ready"
    run(made, failed("upstream-pool", NOON + 50), on("m2"))
    told = state(made)["pool"]
    assert (told["state"], told["opens_at"]) == ("exhausted", NOON + 50)
    assert state(pool(models=[]))["pool"]["opens_at"] is None


@pytest.mark.parametrize(
    "row", ["bad-key", "server-error", "unclear-429", "account-settings", "no-credits", "edge"]
)
def test_usable_lanes_are_those_that_can_be_chosen(row: str) -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"), ("m1", "m2", "m3"), accounts=[account("a2", 2)])
    run(made, failed(row))
    chosen = 0
    for name in made.roster.models:
        tried = Tried()
        while isinstance(lease := made.select(on(name), tried, NOON), Lease):
            chosen += 1
            tried.lanes.add((lease.key, lease.model))
            made.undo(lease)
    assert usable_lanes(made.roster, NOON) == chosen


# --- models ----------------------------------------------------------------------------------------


def test_a_score_is_the_sum_of_its_parts() -> None:
    made = pool()
    run(made, failed("server-error"), on("m2"))
    take(made, on("m1"))
    for entry in state(made)["models"]:
        parts = entry["parts"]
        seconds = parts["answer_s"] + parts["failures_s"]
        assert entry["score"] == pytest.approx(log(seconds) + parts["place"], abs=2e-3)
        assert parts["answer_s"] > 2
    assert exp(state(made)["models"][1]["parts"]["place"]) == pytest.approx(1.3, abs=1e-3)


def test_where_the_list_decides_a_score_has_no_parts() -> None:
    made = pool(policy=Policy(choice=Choice(strategy="ordered")))
    assert [m["parts"] for m in state(made)["models"]] == [None, None]


def test_a_model_tells_its_facts_and_its_end() -> None:
    first, second = state(pool())["models"]
    assert (first["expires_at"], second["expires_at"]) == (None, NOON + 99)
    assert (first["free"], first["can"], first["limit"], first["in_flight"]) == (True, [], 8.0, 0)


# --- forecast --------------------------------------------------------------------------------------


def sent(history: History, count: int, every: float) -> None:
    for number in range(count):
        history.attempted(attempt(NOON + number * every, f"r{number}"))


@pytest.mark.parametrize(
    ("per_day", "count", "outlook"),
    [
        (None, 30, "unmetered"),
        (50, 0, "idle"),
        (50, 30, "ends"),
        (100_000, 30, "lasts"),
        (0, 30, "spent"),
    ],
)
def test_how_a_day_goes_on(per_day: int | None, count: int, outlook: str) -> None:
    made = pool(("k1@a1",), accounts=[account("a1", per_day)])
    history = History(NOON)
    sent(history, count, 30.0)
    told = forecast(made.roster.accounts["a1"], history, NOON + 900)
    assert told["outlook"] == outlook
    assert (told["ends_at"] is not None) == (outlook == "ends")


def test_a_days_end_is_extrapolated_from_the_last_quarter_of_an_hour() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", 60)])
    history = History(NOON - 7_200)
    sent(history, 30, 30.0)  # two a minute
    told = forecast(made.roster.accounts["a1"], history, NOON + 899)
    assert told["per_hour"] == pytest.approx(120, rel=0.05)
    assert told["ends_at"] == pytest.approx(NOON + 900 + 1_800, rel=0.1)
    later = forecast(made.roster.accounts["a1"], history, NOON + 1_900)
    assert later["outlook"] == "idle"


def test_a_burst_at_the_start_is_no_forecast() -> None:
    history = History(NOON)
    sent(history, 10, 0.1)
    assert history.rate("a1", NOON + 1, 900) == pytest.approx(10 / 300)
    assert history.rate("a2", NOON + 1, 900) == 0


# --- what happened ---------------------------------------------------------------------------------


def test_the_last_requests_come_latest_first_with_their_tries() -> None:
    stats = Stats(NOON)
    for event in (
        attempt(NOON, "r1", "24 provider-down"), attempt(NOON + 1, "r2"), finished(NOON + 1, "r2"),
        attempt(NOON + 2, "r1"), finished(NOON + 2, "r1", attempts=2),
    ):  # fmt: skip
        stats.record(event)
    first, second = state(pool(), stats)["requests"]
    assert (first["id"], first["attempts"], first["duration_ms"], first["overhead_ms"]) == (
        "r1",
        2,
        1500,
        0.4,
    )
    assert [(t["row"], t["ok"], t["ttft_ms"]) for t in first["tries"]] == [
        ("24 provider-down", False, None), ("ok", True, 500),
    ]  # fmt: skip
    assert second["id"] == "r2"
    assert first["code"] is None


def test_what_is_kept_is_bounded() -> None:
    stats = Stats(NOON)
    for number in range(3_000):
        stats.record(attempt(NOON + number * 60, f"r{number}", "24 provider-down"))
        if number % 2:
            stats.record(finished(NOON + number * 60, f"r{number}"))
    told = state(pool(), stats, NOON + 3_000 * 60)
    assert len(told["requests"]) == 50
    assert len(list(stats.history.requests())) <= EVENTS
    assert len(stats._failures) <= PENDING
    assert all(len(c) == 60 for c in told["timeline"].values() if isinstance(c, list))


def test_the_time_line_has_every_minute_of_the_last_hour() -> None:
    stats, begin = Stats(NOON), NOON - NOON % 60
    for at, outcome in ((begin, "ok"), (begin + 120, "failed"), (begin + 121, "abandoned")):
        stats.record(attempt(at, "r", "ok" if outcome == "ok" else "18 platform-minute"))
        stats.record(finished(at, "r", outcome, attempts=2))
    line = state(pool(), stats, begin + 130)["timeline"]
    assert line["at"][-3:] == [begin, begin + 60, begin + 120]
    assert line["requests"][-4:] == [0, 1, 0, 2]
    assert (line["succeeded"][-3], line["failed"][-1], line["abandoned"][-1]) == (1, 1, 1)
    assert (line["rate_limited"][-1], line["fallbacks"][-1], line["tokens_out"][-3]) == (2, 2, 20)
    assert line["ttft_ms"][-3:] == [500, None, None]


def test_an_event_of_the_minute_before_counts_in_the_running_one() -> None:
    history = History(NOON)
    history.finished(finished(NOON + 60, "r1"))
    history.finished(finished(NOON + 59, "r2"))
    assert history.minutes(NOON + 60)[-1].requests == 2


def test_counts_by_label_add_up_to_the_totals() -> None:
    stats = Stats(NOON)
    for number, row in enumerate(("ok", "18 platform-minute", "24 provider-down", "abandoned")):
        stats.record(attempt(NOON, f"r{number}", row))
        if row != "ok":
            stats.record(attempt(NOON, f"r{number}"))
        stats.record(finished(NOON, f"r{number}", attempts=1 + (row != "ok")))
    totals = stats.totals
    assert sum(stats.attempts.values()) == totals.attempts == 7
    assert sum(stats.requests.values()) == totals.requests == 4
    assert sum(stats.fallbacks.values()) == totals.fallbacks == 3
    assert stats.fallbacks == {"18 platform-minute": 1, "24 provider-down": 1, "none": 1}
    assert (totals.rate_limited, stats.overhead.count, stats.durations["chat"].count) == (1, 4, 4)


def test_a_request_without_overhead_says_nothing_about_it() -> None:
    stats = Stats(NOON)
    stats.record(Finished(NOON, "r", "chat", "failed", 503, "x", 0, "", "", "", 1.5))
    assert stats.overhead.count == 0
    assert state(pool(), stats)["requests"][0]["overhead_ms"] is None


def test_a_distribution_counts_up_to_its_bounds() -> None:
    found = Distribution()
    for seconds in (0.0, 0.05, 0.2, 0.2, 3.0, 500.0):
        found.add(seconds)
    assert found.up_to((0.1, 1.0, 5.0, 1_000.0)) == [2, 4, 5, 6]
    assert (found.count, found.total) == (6, pytest.approx(503.45))
    assert Distribution().up_to((1.0,)) == [0]


# --- cost ------------------------------------------------------------------------------------------


def told_in(keys: int, models: int) -> float:
    """Seconds to tell of a pool in which each model was refused once, the best of some tries."""
    made = pool([f"k{n}@a{n}" for n in range(keys)], [f"m{n}" for n in range(models)])
    stats = Stats(NOON)
    for number in range(models):
        for event in run(made, failed("unclear-429"), Ask(tokens=9, models=(f"m{number}",))):
            stats.record(event)
    return min(timeit.repeat(lambda: overview(made, stats, NOON, {}), number=1, repeat=5))


def test_what_is_told_takes_no_longer_than_its_lanes_are_many() -> None:
    assert told_in(50, 60) < 2 * 4 * told_in(25, 30)  # four times the lanes
