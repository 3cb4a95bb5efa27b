"""The counters of one account at their edges: nothing sent yet, more than the limit, the first seconds of a day."""

from keywheel.core.quota import BUSY, Quota, Reading, Shut
from keywheel.core.types import DAY
from tests.core.build import MIDNIGHT, NOON, account


def quota(per_day: int = 50) -> Quota:
    return Quota(account("a1", per_day))


def test_what_another_account_sent_is_added() -> None:
    one, other = quota(), quota()
    for counter in (one, other, other):
        counter.reserve(NOON, free=True)
    one.absorb(other)
    assert (one.used(NOON), one.minute_used(NOON)) == (3, 3)
    assert one.room(NOON, free=True) == (47, 16)


def test_a_full_minute_is_over_at_its_moment() -> None:
    counter = quota()
    counter.spend_minute(NOON, NOON + 5)
    assert (counter.minute_used(NOON + 4.9), counter.minute_used(NOON + 5)) == (19, 0)


def test_a_day_may_be_spent_before_anything_was_sent() -> None:
    counter = quota()
    counter.spend_day(NOON)
    assert counter.used(NOON) == 50
    counter = quota()
    counter.spend_day(NOON, limit=0)
    assert counter.used(NOON) == 0


def test_a_spent_day_lowers_no_count() -> None:
    counter = quota()
    counter.reconcile(Reading(60, None), NOON)
    counter.spend_day(NOON)
    assert counter.used(NOON) == 60


def test_a_reading_does_not_know_what_is_under_way() -> None:
    counter = quota()
    for _ in range(11):
        counter.reserve(NOON, free=True)
    for _ in range(9):
        counter.release()
    counter.reconcile(Reading(10, None), NOON)
    assert counter.used(NOON) == 12


def test_a_day_on_which_nothing_was_sent_was_not_spent() -> None:
    assert quota(per_day=1).room(MIDNIGHT + 1, free=True) is not None


def test_the_first_seconds_of_a_day_are_closed_only_by_a_spent_yesterday() -> None:
    counter = quota()
    counter.spend_minute(MIDNIGHT + 1, MIDNIGHT + 4)
    assert counter.shut(MIDNIGHT + 1) == Shut(MIDNIGHT + 4, "minute")


def test_a_date_begins_at_midnight_sharp() -> None:
    counter = quota()
    today = counter.day(MIDNIGHT - 1)
    assert (counter.day(MIDNIGHT), counter.day(MIDNIGHT - 1)) == (today + 1, today)


def test_room_in_the_minute_comes_back_without_another_send() -> None:
    counter = quota()
    counter.reserve(NOON, free=True)
    assert counter.room(NOON + 1, free=True) == (49, 18)
    assert counter.room(NOON + 61, free=True) == (49, 19)


def test_counts_are_kept_for_a_clock_that_may_be_set_back_two_days() -> None:
    counter = quota()
    counter.reserve(NOON, free=True)
    today = counter.day(NOON)
    counter.day(NOON + 2 * DAY)
    assert counter.used_on(today) == 1
    counter.day(NOON + 3 * DAY)
    assert counter.used_on(today) == 0


def test_what_closes_a_busy_account_longest_is_told() -> None:
    counter = Quota(account("a1", 50, 20, cap=1))
    counter.reserve(NOON, free=True)
    assert counter.shut(NOON) == Shut(NOON + BUSY, "busy")
    counter.spend_minute(NOON, NOON + 0.1)
    assert counter.shut(NOON) == Shut(NOON + BUSY, "busy")
    counter.spend_minute(NOON, NOON + 9)
    assert counter.shut(NOON) == Shut(NOON + 9, "minute")


def test_a_shut_account_is_open_at_the_moment_that_was_told() -> None:
    counter = quota()
    counter.spend_minute(NOON, NOON + 9)
    assert counter.shut(NOON) == Shut(NOON + 9, "minute")
    assert counter.shut(NOON + 9) is None
