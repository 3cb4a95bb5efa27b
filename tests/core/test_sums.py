"""What several workers counted, told as one."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.overview import overview
from keywheel.core.packing import pack, unpack
from keywheel.core.stats import Distribution, Stats
from keywheel.core.sums import Part, add, part, total
from keywheel.core.types import Attempted, Finished
from tests.core.build import NOON, account, pool, take

REQUESTS = ["r1", "r2", "r3"]
SECONDS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)

attempts = st.builds(
    Attempted,
    at=st.floats(NOON, NOON + 7_200),
    request_id=st.sampled_from(REQUESTS),
    key=st.sampled_from(["k1", "k2"]),
    account=st.sampled_from(["a1", "a2"]),
    model=st.sampled_from(["m1", "m2"]),
    row=st.sampled_from(["ok", "abandoned", "23 server-error", "18 minute"]),
    scope=st.just("model"),
    ok=st.booleans(),
    ttft=st.none() | st.floats(0.001, 5),
    total=st.floats(0.001, 60),
    tokens_in=st.integers(0, 9),
    tokens_out=st.integers(0, 9),
    cost=st.just(0.0),
)
ends = st.builds(
    Finished,
    at=st.floats(NOON, NOON + 7_200),
    request_id=st.sampled_from(REQUESTS),
    dialect=st.sampled_from(["chat", "messages"]),
    outcome=st.sampled_from(["ok", "failed", "abandoned"]),
    status=st.just(200),
    code=st.just(""),
    attempts=st.integers(1, 3),
    key=st.just("k1"),
    account=st.just("a1"),
    model=st.just("m1"),
    total=st.floats(0.001, 60),
    overhead=st.floats(0, 0.01),
)
EVENTS = st.lists(attempts | ends, max_size=30)


def times(found: Distribution) -> Any:
    return found.count, round(found.total, 6), found.up_to(SECONDS)


def figures(stats: Stats) -> Any:
    """All counts of a run, in a form that can be compared."""
    tallies = {
        name: (
            asdict(tally)
            | {
                "latency": 0,
                "ttft": 0,
                "last_error": 0,
                "seconds_out": round(tally.seconds_out, 6),
            },
            times(tally.latency),
            times(tally.ttft),
        )
        for name, tally in (*stats.keys.items(), *stats.models.items())
    }
    minutes = [
        replace(minute, ttft=round(minute.ttft, 6))
        for minute in stats.history.minutes(NOON + 7_200)
    ]
    counts = (stats.requests, stats.attempts, stats.fallbacks, asdict(stats.totals), stats.errors)
    durations = {dialect: times(each) for dialect, each in stats.durations.items()}
    return stats.since, tallies, minutes, counts, durations, times(stats.overhead)


@given(EVENTS)
def test_counts_are_the_same_whoever_counted(events: list[Attempted | Finished]) -> None:
    alone, workers = Stats(NOON), [Stats(NOON), Stats(NOON + 1), Stats(NOON + 2)]
    for event in sorted(events, key=lambda event: event.at):
        alone.record(event)
        workers[REQUESTS.index(event.request_id)].record(event)  # all of one request at one worker
    before = [figures(worker) for worker in workers]
    assert figures(total(workers)) == figures(alone)
    assert [figures(worker) for worker in workers] == before


@given(EVENTS)
def test_a_part_that_travelled_is_the_same(events: list[Attempted | Finished]) -> None:
    stats = Stats(NOON)
    for event in sorted(events, key=lambda event: event.at):
        stats.record(event)
    sent = Part(stats, {"a1": 3}, {"a1": 1}, {"m1": 1}, 2)
    arrived = unpack(json.loads(json.dumps(pack(sent))))
    assert figures(arrived.stats) == figures(stats)
    assert arrived[1:] == sent[1:]
    assert sorted(arrived.stats.history.events, key=str) == sorted(stats.history.events, key=str)


def failure(row: str, at: float) -> Attempted:
    return Attempted(at, "r1", "k1", "a1", "m1", row, "key", False, None, 1.0)


@pytest.mark.parametrize("latest", [0, 1])
def test_the_last_error_is_the_latest_of_all(latest: int) -> None:
    workers = [Stats(NOON), Stats(NOON)]
    workers[latest].record(failure("late", NOON + 9))
    workers[1 - latest].record(failure("early", NOON + 1))
    tally = total(workers).keys["k1"]
    assert (tally.last_error, tally.failed_at) == ("late", NOON + 9)


def test_what_is_under_way_anywhere_is_told() -> None:
    here = pool(["k1@a1"], ["m1"], accounts=[account("a1", 50), account("free", None)])
    there = pool(["k1@a1"], ["m1"], accounts=[account("a1", 50)])
    for made in (here, there, there):
        take(made)
    told = overview(here, Stats(NOON), NOON, {})
    more = add(told, [part(there, Stats(NOON), NOON), Part(Stats(NOON), waiting=3)])
    a1, free = more["accounts"]
    assert a1["minute"] == {"used": 3, "limit": 19, "free": 16}
    assert (a1["in_flight"], free["in_flight"]) == (3, 0)
    assert free["minute"]["limit"] is None
    assert more["models"][0]["in_flight"] == 3
    assert more["pool"]["minute"] == {"used": 3, "limit": 19, "free": 16}
    assert (more["pool"]["in_flight"], more["pool"]["queue"]["length"]) == (3, 3)


def test_a_minute_is_never_fuller_than_full() -> None:
    made = pool(["k1@a1"], ["m1"], accounts=[account("a1", 50)])
    told = overview(made, Stats(NOON), NOON, {})
    more = add(told, [Part(Stats(NOON), minutes={"a1": 12})] * 2)
    assert more["accounts"][0]["minute"] == {"used": 19, "limit": 19, "free": 0}
