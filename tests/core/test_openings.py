"""When the earliest lane opens, and the counts by cause (routing A.8)."""

import pytest

from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Kind, Provenance, Scope
from tests.core.build import (
    MIDNIGHT,
    NOON,
    account,
    answered,
    failed,
    heal,
    model,
    on,
    pool,
    refusal,
    run,
    take,
)

SAID = Provenance.AUTHORITATIVE


def close(made: Pool, kind: Kind, name: str, seconds: float) -> None:
    for breaker in made.roster.find(Scope(kind, name)):
        breaker.block(SAID, NOON + seconds, "said", NOON, 0)


def test_the_earliest_lane_is_told() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    close(made, Kind.MODEL, "m1", 40)
    close(made, Kind.MODEL, "m2", 30)
    found = refusal(made)
    assert (found.at, found.cause, found.blocked) == (NOON + 30, "health", {"cooling": 4})


def test_a_lane_opens_when_the_last_of_its_closures_does() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    close(made, Kind.KEY, "k1", 20)
    close(made, Kind.LANE, "k1+m1", 50)
    close(made, Kind.ACCESS, "a1+m1", 60)
    close(made, Kind.KEY, "k2", 90)
    assert refusal(made).at == NOON + 60


def test_the_provider_closes_every_lane() -> None:
    made = pool()
    close(made, Kind.PROVIDER, "openrouter", 12)
    assert (refusal(made).at, refusal(made).blocked) == (NOON + 12, {"cooling": 4})


def test_a_quota_is_told_before_health_and_a_disabled_lane_before_both() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"), accounts=[account("a1", 0)])
    close(made, Kind.MODEL, "m1", 40)
    close(made, Kind.KEY, "k2", 10)
    made.operate("disable", Scope(Kind.LANE, "k1+m2"), NOON)
    found = refusal(made)
    assert found.blocked == {"quota": 1, "cooling": 2, "disabled": 1}
    assert (found.cause, found.at) == ("health", NOON + 10)


def test_the_day_is_the_cause_only_if_every_lane_waits_for_it() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",), accounts=[account("a1", 1), account("a2", 9, 1)])
    for number in range(2):
        run(made, answered(), now=NOON + number)
    found = refusal(made, now=NOON + 2)
    assert (found.cause, found.at) == ("minute", NOON + 61)
    assert found.blocked == {"quota": 2}


def test_near_midnight_a_day_may_open_before_a_minute() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",), accounts=[account("a1", 0), account("a2", 9, 1)])
    run(made, answered(), now=MIDNIGHT - 1)
    found = refusal(made, now=MIDNIGHT - 1)
    assert found.cause == "minute"
    assert found.at is not None
    assert found.at < MIDNIGHT + 30


def test_a_busy_lane_is_looked_at_again_soon() -> None:
    made = pool(("k1@a1",), ("m1",), accounts=[account("a1", cap=1)])
    take(made)
    found = refusal(made)
    assert (found.at, found.cause, found.blocked) == (NOON + 0.25, "busy", {"busy": 1})


def test_a_probe_under_way_is_busy_not_closed() -> None:
    """It may end at any moment: who can wait should, and nobody is sent away for minutes because of it."""
    made = pool(("k1@a1",), ("m1",))
    for _ in range(5):
        run(made, failed("server-error"))
        heal(made, Kind.MODEL, "m1")
    now = NOON + 301
    assert take(made, now=now).probes
    found = refusal(made, now=now)
    assert (found.at, found.cause) == (now + 0.25, "busy")
    lane = made.roster.models["m1"].lanes["k1"]
    assert lane.closed_until(now) > now + 100


def test_a_probe_on_a_lane_alone_is_busy_too() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    made.operate("disable", Scope(Kind.KEY, "k2"), NOON)
    for _ in range(5):
        run(made, failed("transient"), on("m1"))
    assert refusal(made, on("m1")).at == NOON + 300
    now = NOON + 301
    assert take(made, on("m1"), now).probes == (Scope(Kind.LANE, "k1+m1"),)
    found = refusal(made, on("m1"), now)
    assert (found.at, found.blocked) == (now + 0.25, {"busy": 1, "disabled": 1})


def test_tried_lanes_and_keys_are_not_counted() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    close(made, Kind.MODEL, "m1", 40)
    close(made, Kind.MODEL, "m2", 30)
    assert refusal(made, tried=Tried(lanes={("k1", "m2")})).blocked == {"cooling": 3}
    found = refusal(made, tried=Tried(lanes={("k1", "m2"), ("k2", "m2")}))
    assert (found.at, found.blocked) == (NOON + 40, {"cooling": 2})
    assert refusal(made, tried=Tried(keys={"k1"})).blocked == {"cooling": 2}


def test_with_every_lane_closed_for_itself_the_earliest_is_found() -> None:
    made = pool([f"k{n}@a{n}" for n in range(6)], [f"m{n}" for n in range(6)])
    for k in range(6):
        for m in range(6):
            close(made, Kind.LANE, f"k{k}+m{m}", 100 + 7 * k + 11 * m)
    found = refusal(made)
    assert (found.at, found.cause, found.blocked) == (NOON + 100, "health", {"cooling": 36})
    close(made, Kind.KEY, "k0", 600)
    assert refusal(made).at == NOON + 107
    close(made, Kind.MODEL, "m0", 110)
    assert refusal(made).at == NOON + 110


def test_lanes_that_open_one_after_another_are_seen_to_open() -> None:
    made = pool([f"k{n}@a{n}" for n in range(3)], ("m1",))
    for k in range(3):
        close(made, Kind.LANE, f"k{k}+m1", 10 * (k + 1))
    assert refusal(made).at == NOON + 10
    assert take(made, now=NOON + 10).key == "k0"
    close(made, Kind.KEY, "k0", 90)
    found = refusal(made, now=NOON + 15)
    assert (found.at, found.blocked) == (NOON + 20, {"cooling": 3})


def test_a_guessed_outage_stops_new_asks_only() -> None:
    made = pool()
    made.roster.outage.block(Provenance.HEURISTIC, NOON + 10, "edge", NOON, 0)
    found = refusal(made)
    assert (found.at, found.cause) == (NOON + 10, "health")
    assert take(made, tried=Tried(lanes={("k1", "m1")}))


@pytest.mark.parametrize("free", [True, False])
def test_each_side_of_an_account_is_counted_with_its_own_models(free: bool) -> None:
    made = pool(("k1@a1", "k2@a2"), [model("m1"), model("p1", free=False)])
    for name in ("a1", "a2"):
        made.roster.accounts[name].side(free).block(SAID, NOON + 30, "said", NOON, 0)
    close(made, Kind.MODEL, "p1" if free else "m1", 50)
    found = refusal(made, Ask(models=("m1", "p1") if free else ("p1", "m1")))
    assert (found.at, found.blocked) == (NOON + 30, {"cooling": 4})
