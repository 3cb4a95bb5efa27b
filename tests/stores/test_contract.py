"""What every store does, whichever it is (routing rule A.11)."""

from dataclasses import replace

import pytest

from keywheel.core.marks import Block, Clear, Count, Reach
from keywheel.core.types import Kind, Provenance, Scope
from keywheel.stores import Answer, Parcel, Sent, Standing, StoreLost, Taken
from tests.stores.build import CAP, TODAY, caller, claim, joined, taken, tally
from tests.stores.conftest import Bench

KEY = Scope(Kind.KEY, "primary")


# --- take ------------------------------------------------------------------------------------------


def test_a_take_counts_on_the_minute_and_on_the_day(bench: Bench) -> None:
    who = joined(bench.store)
    assert bench.store.take(claim(who, 1)) == Taken(Answer.TAKEN, 1, (1,))
    assert bench.store.take(claim(who, 2)) == Taken(Answer.TAKEN, 2, (2,))


def test_the_same_lease_is_taken_once(bench: Bench) -> None:
    who = joined(bench.store)
    bench.store.take(claim(who, 1))
    again = bench.store.take(claim(who, 1))
    assert again == Taken(Answer.AGAIN, 1, (1,))
    assert again.permitted


def test_a_lease_is_remembered_even_when_the_minute_is_full(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, CAP)
    assert bench.store.take(claim(who, "team-0")).answer is Answer.AGAIN


def test_the_minute_is_refused_at_its_limit_and_opens_after_61_seconds(bench: Bench) -> None:
    who = joined(bench.store)
    assert taken(bench.store, who, CAP) == ["taken"] * CAP
    refused = bench.store.take(claim(who, "late"))
    assert refused == Taken(Answer.MINUTE, CAP, (CAP,))
    assert not refused.permitted
    bench.wait(60.0)
    assert bench.store.take(claim(who, "late")).answer is Answer.MINUTE
    bench.wait(1.1)
    assert bench.store.take(claim(who, "late")).answer is Answer.TAKEN


def test_the_day_is_refused_at_its_limit(bench: Bench) -> None:
    who = joined(bench.store)
    assert taken(bench.store, who, 4, tally(limit=3)) == ["taken"] * 3 + ["day"]


def test_a_refusal_counts_nothing(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, 3, tally(limit=2))
    assert bench.store.take(claim(who, "late", tally(limit=9))) == Taken(Answer.TAKEN, 3, (3,))


def test_accounts_are_counted_apart(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, 3)
    assert bench.store.take(claim(who, 1, tally("other"))).days == (1,)


def test_dates_are_counted_apart_but_the_minute_is_one(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, 3)
    assert bench.store.take(claim(who, 1, tally(date=TODAY + 1))) == Taken(Answer.TAKEN, 4, (1,))


def test_around_midnight_both_dates_are_charged_or_none(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, 2)
    both = (tally(limit=3), tally(date=TODAY + 1, limit=9))
    assert bench.store.take(claim(who, 1, *both)) == Taken(Answer.TAKEN, 3, (3, 1))
    assert bench.store.take(claim(who, 2, *both)) == Taken(Answer.DAY, 3, (3, 1))
    tight_tomorrow = (tally(limit=9), tally(date=TODAY + 1, limit=1))
    assert bench.store.take(claim(who, 3, *tight_tomorrow)) == Taken(Answer.DAY, 3, (3, 1))


def test_the_day_is_the_sum_over_writers(bench: Bench) -> None:
    first, second = joined(bench.store, "a/0"), joined(bench.store, "b/0")
    taken(bench.store, first, 2)
    assert bench.store.take(claim(second, 1)).days == (3,)


def test_a_restarted_worker_is_another_writer_and_the_dead_ones_count_stays(bench: Bench) -> None:
    taken(bench.store, joined(bench.store, start=1), 2)
    assert bench.store.take(claim(joined(bench.store, start=2), 1)).days == (3,)


def test_the_larger_of_what_is_stored_and_what_is_told_is_kept(bench: Bench) -> None:
    who = joined(bench.store)
    assert bench.store.take(claim(who, 1, tally(mine=7))).days == (8,)
    assert bench.store.take(claim(who, 2, tally(mine=3))).days == (9,)


def test_what_others_used_only_rises(bench: Bench) -> None:
    who = joined(bench.store)
    assert bench.store.take(claim(who, 1, tally(others=10))).days == (11,)
    assert bench.store.take(claim(who, 2, tally(others=4))).days == (12,)
    assert bench.store.take(claim(who, 3, tally(others=48))) == Taken(Answer.DAY, 2, (50,))


def test_a_store_that_was_emptied_permits_nothing(bench: Bench) -> None:
    who = joined(bench.store)
    with pytest.raises(StoreLost):
        bench.store.take(claim(who._replace(birth="another"), 1))
    with pytest.raises(StoreLost):
        bench.store.take(claim(caller(), 1))


def test_what_was_taken_is_there_when_it_is_opened_again(bench: Bench) -> None:
    who = joined(bench.store)
    taken(bench.store, who, CAP)
    again = bench.again()
    assert again.take(claim(who, "team-0")).answer is Answer.AGAIN
    assert again.take(claim(who, "late")) == Taken(Answer.MINUTE, CAP, (CAP,))


# --- push ------------------------------------------------------------------------------------------


def test_a_receipt_says_how_every_tally_stands(bench: Bench) -> None:
    one, two = joined(bench.store, "a/0"), joined(bench.store, "b/0")
    taken(bench.store, two, 3)
    told = (tally(mine=5, others=1), tally("other"), tally(date=TODAY + 1, mine=2))
    receipt = bench.store.push(Parcel(one, tallies=told))
    assert receipt.standings == (Standing(9, 0, 5), Standing(0, 0, 0), Standing(2, 0, 2))
    assert receipt.birth == one.birth
    assert receipt.now >= one.heard


def test_pushing_again_changes_nothing(bench: Bench) -> None:
    who = joined(bench.store)
    parcel = Parcel(who, tallies=(tally(mine=5),), sends=(Sent("team", "x", 3.0),))
    assert bench.store.push(parcel).standings == bench.store.push(parcel).standings
    assert bench.store.take(claim(who, 1)) == Taken(Answer.TAKEN, 2, (6,))


def test_an_older_parcel_takes_nothing_back(bench: Bench) -> None:
    who = joined(bench.store)
    bench.store.push(Parcel(who, tallies=(tally(mine=5, others=7),)))
    assert bench.store.push(Parcel(who, tallies=(tally(mine=2, others=1),))).standings[0].used == 12


def test_sends_told_later_fill_the_minute_by_their_age(bench: Bench) -> None:
    who = joined(bench.store)
    sends = tuple(Sent("team", f"own/{n}", 40.0) for n in range(CAP))
    bench.store.push(Parcel(who, tallies=(tally(mine=CAP),), sends=sends))
    assert bench.store.take(claim(who, 1)).answer is Answer.MINUTE
    bench.wait(21.5)
    assert bench.store.take(claim(who, 1)).answer is Answer.TAKEN


def test_a_send_that_is_known_keeps_its_stamp(bench: Bench) -> None:
    who = joined(bench.store)
    lease = claim(who, 1).lease
    bench.store.take(claim(who, 1))
    bench.store.push(Parcel(who, tallies=(tally(mine=1),), sends=(Sent("team", lease, 59.0),)))
    bench.wait(5.0)
    assert bench.store.take(claim(who, 2)).minute == 2


# --- marks -----------------------------------------------------------------------------------------


def marks_of(bench: Bench, now: float) -> tuple[Block | Clear | Count, ...]:
    return (
        Block(KEY, "a/0@1", now, now + 300, Provenance.HEURISTIC, "server-error"),
        Block(KEY, "a/0@1", now, float("inf"), Provenance.OPERATOR, "disabled by operator"),
        Clear(Scope(Kind.MODEL, "m/π:free"), "a/0@1", now - 5, Reach.HEURISTIC),
        Count("attempts", 7, "a/0@1", 3),
    )


def test_marks_come_back_as_they_were_told(bench: Bench) -> None:
    who = joined(bench.store)
    marks = marks_of(bench, who.heard)
    bench.store.push(Parcel(who, marks))
    bench.store.push(Parcel(who, marks))
    assert set(bench.again().pull()) == set(marks)
    assert len(bench.again().pull()) == len(marks)


def test_the_newer_row_of_a_writer_stays_whatever_comes_first(bench: Bench) -> None:
    who = joined(bench.store)
    old, new = (Count("attempts", 7, "a/0@1", n) for n in (3, 5))
    bench.store.push(Parcel(who, (new,)))
    bench.store.push(Parcel(who, (old,)))
    assert bench.store.pull() == (new,)


def test_a_shorter_block_does_not_replace_a_longer_one(bench: Bench) -> None:
    who = joined(bench.store)
    long = Block(KEY, "a/0@1", who.heard, who.heard + 300, Provenance.HEURISTIC, "server-error")
    short = replace(long, at=who.heard + 1, until=who.heard + 20)
    bench.store.push(Parcel(who, (long,)))
    bench.store.push(Parcel(who, (short,)))
    assert set(bench.store.pull()) == {long, short}


def test_marks_that_can_never_matter_again_are_dropped(bench: Bench) -> None:
    who = joined(bench.store)
    ended = Block(KEY, "a/0@1", who.heard - 400, who.heard - 100, Provenance.HEURISTIC, "edge")
    bench.store.push(Parcel(who, (ended,)))
    assert bench.store.pull() == ()
