"""Room that a shared store keeps for workers it has not heard of for a while (routing rule A.11.3)."""

import pytest

from keywheel.stores import Answer, Parcel, Standing, Tally
from tests.stores.build import claim, joined, taken, tally
from tests.stores.conftest import Bench

# The workers of one machine, which share a file, need no rooms.
pytestmark = pytest.mark.parametrize("bench", ["memory", "resp2", "resp3"], indirect=True)


def exchange(bench: Bench, slot: str, *tallies: Tally) -> Standing:
    who = joined(bench.store, slot, slots=2)
    return bench.store.push(Parcel(who, tallies=tallies or (tally(),))).standings[0]


def test_a_silent_worker_has_room_on_the_day_and_in_the_minute(bench: Bench) -> None:
    silent = joined(bench.store, "b/0", slots=2)
    taken(bench.store, silent, 4)
    bench.wait(5.1)
    assert exchange(bench, "a/0") == Standing(4, 23, 0)
    who = joined(bench.store, "a/0", slots=2)
    assert taken(bench.store, who, 7) == ["taken"] * 6 + ["minute"]  # 19 - 4 - 9
    assert bench.store.take(claim(who, "late", tally(limit=33), cap=999)).answer is Answer.DAY
    assert bench.store.take(claim(who, "late", tally(limit=34), cap=999)).answer is Answer.TAKEN


def test_a_worker_that_was_heard_lately_has_none(bench: Bench) -> None:
    joined(bench.store, "b/0", slots=2)
    bench.wait(4.5)
    assert exchange(bench, "a/0").rooms == 0


def test_a_room_is_fixed_once(bench: Bench) -> None:
    joined(bench.store, "b/0", slots=2)
    bench.wait(5.1)
    assert exchange(bench, "a/0").rooms == 25
    assert exchange(bench, "a/0", tally(mine=20)).rooms == 25


def test_a_room_is_fixed_before_the_exchange_counts(bench: Bench) -> None:
    joined(bench.store, "b/0", slots=2)
    bench.wait(5.1)
    assert exchange(bench, "a/0", tally(mine=20)) == Standing(20, 25, 20)


def test_a_fresh_word_ends_the_room_and_a_stale_one_does_not(bench: Bench) -> None:
    silent = joined(bench.store, "b/0", slots=2)
    bench.wait(5.1)
    exchange(bench, "a/0")
    stale = bench.store.push(Parcel(silent._replace(heard=0.0), tallies=(tally(),)))
    assert stale.standings[0].rooms == 25
    fresh = Parcel(silent._replace(heard=stale.now), tallies=(tally(),))
    assert bench.store.push(fresh).standings[0].rooms == 0


def test_a_clean_stop_ends_the_room(bench: Bench) -> None:
    silent = joined(bench.store, "b/0", slots=2)
    bench.wait(5.1)
    exchange(bench, "a/0")
    bench.store.push(Parcel(silent, tallies=(tally(),), leaving=True))
    assert exchange(bench, "a/0").rooms == 0


def test_a_worker_silent_for_two_days_is_gone(bench: Bench) -> None:
    joined(bench.store, "b/0", slots=2)
    bench.wait(5.1)
    assert exchange(bench, "a/0").rooms == 25
    bench.wait(2 * 86_400.0)
    assert exchange(bench, "a/0").rooms == 0
