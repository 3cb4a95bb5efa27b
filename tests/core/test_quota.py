"""The rules of routing A.3 for one account."""

from keywheel.core.quota import BUSY, UNMETERED, Quota, Reading, Shut
from keywheel.core.types import DAY
from tests.core.build import MIDNIGHT, NOON, account

TODAY, TOMORROW = int(NOON // DAY), int(NOON // DAY) + 1


def quota(per_day: int | None = 50, per_minute: int = 20, cap: int | None = None) -> Quota:
    return Quota(account("a1", per_day, per_minute, cap))


def send(counter: Quota, times: int, now: float, step: float = 0.0) -> None:
    for number in range(times):
        counter.reserve(now + number * step, free=True)
        counter.release()


# --- minute ----------------------------------------------------------------------------------------


def test_nineteen_of_twenty_a_minute_are_used() -> None:
    counter = quota()
    send(counter, 18, NOON)
    assert counter.room(NOON, free=True) == (32, 1)
    send(counter, 1, NOON)
    assert counter.room(NOON, free=True) is None
    assert counter.shut(NOON) == Shut(NOON + 61, "minute")


def test_a_minute_opens_61_s_after_the_send_that_is_in_the_way() -> None:
    counter = quota()
    send(counter, 19, NOON, step=1.0)
    assert counter.shut(NOON + 20) == Shut(NOON + 61, "minute")
    assert counter.shut(NOON + 60.9) == Shut(NOON + 61, "minute")
    assert counter.room(NOON + 61, free=True) == (31, 1)
    assert counter.shut(NOON + 61) is None


def test_the_promised_moment_is_open_whatever_its_fraction() -> None:
    """(s + 61) - 61 need not be s in floating point; a waiter woken at the moment must find it open."""
    for digit in range(200):
        now = NOON + digit * 0.0137
        counter = quota()
        send(counter, 19, now)
        shut = counter.shut(now)
        assert shut is not None
        assert counter.room(shut.until, free=True) is not None


def test_in_no_window_of_61_s_more_than_nineteen_are_sent() -> None:
    counter, sent = quota(per_day=10_000), [0.0]
    for tick in range(2_000):
        now = NOON + tick * 0.7
        if counter.room(now, free=True):
            send(counter, 1, now)
            sent.append(now)
    assert max(sum(at - 61 < other <= at for other in sent) for at in sent) == 19


def test_a_limit_of_one_is_used() -> None:
    assert quota(per_minute=1).room(NOON, free=True) == (50, 1)


def test_a_full_minute_said_by_the_upstream_lasts_until_its_moment() -> None:
    counter = quota()
    assert counter.spend_minute(NOON, NOON + 40) == NOON + 40
    assert (counter.minute_used(NOON), counter.minute_free(NOON)) == (19, 0)
    assert counter.shut(NOON + 39) == Shut(NOON + 40, "minute")
    assert counter.room(NOON + 40, free=True) is not None


def test_a_full_minute_without_a_moment_lasts_until_the_oldest_send_leaves() -> None:
    counter = quota()
    assert counter.spend_minute(NOON, None) == NOON + 60
    counter = quota()
    send(counter, 2, NOON - 20, step=5)
    assert counter.spend_minute(NOON, None) == NOON + 41


def test_a_later_shorter_statement_does_not_shorten_a_full_minute() -> None:
    counter = quota()
    counter.spend_minute(NOON, NOON + 40)
    assert counter.spend_minute(NOON, NOON + 10) == NOON + 40


def test_an_operator_may_reopen_the_minute_but_what_was_sent_counts() -> None:
    counter = quota()
    send(counter, 3, NOON)
    counter.spend_minute(NOON, NOON + 40)
    counter.reopen_minute()
    assert counter.minute_free(NOON) == 16


# --- day -------------------------------------------------------------------------------------------


def test_a_spent_day_opens_after_midnight_with_the_accounts_own_delay() -> None:
    counter = quota(per_day=3)
    send(counter, 3, NOON)
    shut = counter.shut(NOON)
    assert shut is not None
    assert shut.cause == "day"
    assert MIDNIGHT + 5 <= shut.until < MIDNIGHT + 30
    assert counter.resets_at(NOON) == shut.until
    assert counter.room(shut.until - 0.01, free=True) is None
    assert counter.room(shut.until, free=True) == (3, 19)


def test_accounts_do_not_start_the_day_together() -> None:
    ends = {Quota(account(f"a{n}")).resets_at(NOON) for n in range(20)}
    assert len(ends) == 20
    assert all(MIDNIGHT + 5 <= end < MIDNIGHT + 30 for end in ends)


def test_a_send_around_midnight_is_charged_to_both_dates() -> None:
    for now, days in (
        (MIDNIGHT - 30.1, (TODAY,)),
        (MIDNIGHT - 30, (TODAY, TOMORROW)),
        (MIDNIGHT + 29.9, (TODAY, TOMORROW)),
        (MIDNIGHT + 30, (TOMORROW,)),
    ):
        counter = quota()
        assert counter.reserve(now, free=True) == days
        assert [counter.used_on(day) for day in (TODAY, TOMORROW)] == [
            int(TODAY in days),
            int(TOMORROW in days),
        ]


def test_the_minute_log_is_not_wiped_at_midnight() -> None:
    counter = quota()
    send(counter, 19, MIDNIGHT - 10)
    assert counter.shut(MIDNIGHT + 40) == Shut(MIDNIGHT + 51, "minute")


def test_the_later_of_day_and_minute_is_told() -> None:
    counter = quota(per_day=19)
    send(counter, 19, MIDNIGHT - 1)
    shut = counter.shut(MIDNIGHT - 1)
    assert shut is not None
    assert shut == Shut(MIDNIGHT + 60, "minute")


def test_yesterdays_spent_day_still_counts_in_the_first_seconds() -> None:
    counter = quota(per_day=3)
    send(counter, 3, NOON)
    opens = counter.resets_at(NOON)
    assert counter.used(MIDNIGHT + 1) == 0
    assert counter.shut(MIDNIGHT + 1) == Shut(opens, "day")


def test_the_upstreams_clock_decides_the_date() -> None:
    counter = quota()
    counter.set_skew(600.0)
    assert counter.reserve(MIDNIGHT - 500, free=True) == (TOMORROW,)
    assert MIDNIGHT - 595 <= counter.resets_at(NOON) < MIDNIGHT - 570


def test_a_clock_that_is_set_back_gives_the_old_date() -> None:
    counter = quota()
    send(counter, 1, MIDNIGHT + 100)
    counter.set_skew(-3_600.0)
    assert counter.day(MIDNIGHT + 100) == TODAY
    assert counter.used(MIDNIGHT + 100) == 0
    counter.set_skew(0.0)
    assert counter.used(MIDNIGHT + 100) == 1


def test_counts_of_older_dates_are_forgotten() -> None:
    counter = quota()
    send(counter, 1, NOON)
    send(counter, 1, NOON + DAY)
    assert counter.used_on(TODAY) == 1
    send(counter, 1, NOON + 3 * DAY)
    assert counter.used_on(TODAY) == 0


def test_leap_days_and_year_ends_are_ordinary_dates() -> None:
    for year_end in (1_709_164_800.0, 1_735_689_600.0):  # 2024-02-29, 2025-01-01, 00:00 UTC
        counter = quota()
        assert len(counter.reserve(year_end - 1, free=True)) == 2
        assert len(counter.reserve(year_end + 3_600, free=True)) == 1


# --- what counts -----------------------------------------------------------------------------------


def test_paid_requests_and_unmetered_accounts_are_not_counted() -> None:
    counter = quota()
    assert counter.reserve(NOON, free=False) == ()
    assert (counter.used(NOON), counter.minute_used(NOON), counter.in_flight) == (0, 0, 1)
    assert counter.room(NOON, free=False) == UNMETERED
    unmetered = quota(per_day=None)
    assert unmetered.reserve(NOON, free=True) == ()
    assert unmetered.room(NOON, free=True) == UNMETERED


def test_a_spent_account_takes_paid_requests() -> None:
    counter = quota(per_day=0)
    assert counter.room(NOON, free=True) is None
    assert counter.room(NOON, free=False) is not None
    assert counter.shut(NOON, free=False) is None


def test_the_cap_bounds_requests_under_way_of_either_kind() -> None:
    counter = quota(cap=2)
    counter.reserve(NOON, free=True)
    counter.reserve(NOON, free=False)
    assert counter.shut(NOON) == Shut(NOON + BUSY, "busy")
    assert counter.shut(NOON, free=False) == Shut(NOON + BUSY, "busy")
    counter.release()
    assert counter.room(NOON, free=True) is not None


def test_the_day_is_refunded_when_no_byte_was_sent() -> None:
    counter = quota()
    days = counter.reserve(MIDNIGHT - 1, free=True)
    counter.refund(days, MIDNIGHT - 1)
    assert [counter.used_on(day) for day in days] == [0, 0]
    assert counter.minute_used(MIDNIGHT - 1) == 0


def test_a_refund_never_goes_below_zero_nor_takes_anothers_send() -> None:
    counter = quota()
    counter.reserve(NOON, free=True)
    counter.refund((), NOON)
    counter.refund((TOMORROW,), NOON + 1)
    assert (counter.used(NOON), counter.used_on(TOMORROW), counter.minute_used(NOON)) == (1, 0, 1)


# --- what the upstream says ------------------------------------------------------------------------


def test_a_daily_refusal_spends_the_day_and_teaches_the_limit() -> None:
    counter = quota()
    send(counter, 5, NOON)
    until = counter.spend_day(NOON, limit=1_000)
    assert (counter.used(NOON), counter.limit) == (1_000, 1_000)
    assert until == counter.resets_at(NOON)
    assert counter.spend_day(NOON) == until


def test_a_reading_raises_the_count_at_once_by_what_is_under_way() -> None:
    counter = quota()
    counter.reserve(NOON, free=True)
    counter.reconcile(Reading(10, None), NOON)
    assert counter.used(NOON) == 11


def test_a_topped_up_account_is_learnt_without_a_restart() -> None:
    counter = quota()
    send(counter, 50, NOON)
    assert counter.shut(NOON + 70)
    assert counter.reconcile(Reading(50, 1_000), NOON + 70)
    assert counter.day_remaining(NOON + 70) == 950


def test_a_lowered_limit_is_learnt_too() -> None:
    counter = quota(per_day=1_000)
    assert not counter.reconcile(Reading(0, 50), NOON)
    assert counter.limit == 50


def test_absent_means_unknown_never_zero() -> None:
    counter = quota()
    send(counter, 7, NOON)
    assert not counter.reconcile(Reading(None, None), NOON)
    assert (counter.used(NOON), counter.limit) == (7, 50)


def test_one_lower_reading_lowers_nothing_two_a_minute_apart_do() -> None:
    counter = quota()
    send(counter, 9, NOON)
    assert not counter.reconcile(Reading(4, None), NOON)
    assert not counter.reconcile(Reading(4, None), NOON + 59)
    assert counter.used(NOON) == 9
    assert counter.reconcile(Reading(4, None), NOON + 60)
    assert counter.used(NOON) == 4


def test_lower_readings_that_differ_do_not_agree() -> None:
    counter = quota()
    send(counter, 9, NOON)
    counter.reconcile(Reading(4, None), NOON)
    counter.reconcile(Reading(5, None), NOON + 60)
    assert counter.used(NOON) == 9
    counter.reconcile(Reading(5, None), NOON + 120)
    assert counter.used(NOON) == 5


def test_a_send_between_two_lower_readings_breaks_their_agreement() -> None:
    counter = quota()
    send(counter, 9, NOON)
    counter.reconcile(Reading(4, None), NOON)
    send(counter, 1, NOON + 30)
    counter.reconcile(Reading(4, None), NOON + 60)
    assert counter.used(NOON) == 10


def test_a_lower_reading_says_nothing_while_something_is_under_way() -> None:
    counter = quota()
    send(counter, 9, NOON)
    counter.reconcile(Reading(4, None), NOON)
    counter.reserve(NOON, free=False)
    counter.reconcile(Reading(4, None), NOON + 60)
    counter.release()
    counter.reconcile(Reading(4, None), NOON + 120)
    assert counter.used(NOON) == 9


def test_readings_of_two_dates_do_not_agree() -> None:
    counter = quota()
    send(counter, 9, MIDNIGHT - 20)
    counter.reconcile(Reading(4, None), MIDNIGHT - 20)
    counter.reconcile(Reading(4, None), MIDNIGHT + 50)
    assert counter.used(MIDNIGHT + 50) == 9


# --- settings --------------------------------------------------------------------------------------


def test_new_settings_keep_counts_and_the_limit_the_upstream_named() -> None:
    counter = quota()
    send(counter, 5, NOON)
    counter.reconcile(Reading(None, 1_000), NOON)
    counter.adopt(account("a1", 50, 40, 3))
    assert (counter.used(NOON), counter.limit, counter.minute_cap, counter.cap) == (5, 1_000, 38, 3)


def test_a_changed_day_limit_in_the_settings_counts() -> None:
    counter = quota()
    counter.adopt(account("a1", 1_000))
    assert counter.limit == 1_000


def test_an_account_may_become_unmetered_and_metered_again() -> None:
    counter = quota()
    counter.adopt(account("a1", None))
    assert not counter.metered
    counter.reconcile(Reading(None, 7), NOON)
    counter.adopt(account("a1", 50))
    assert (counter.metered, counter.limit) == (True, 50)


def test_two_accounts_that_are_one_have_sent_the_sum() -> None:
    one, other = quota(), quota()
    send(one, 3, NOON)
    send(other, 4, NOON - 30)
    other.spend_minute(NOON, NOON + 20)
    one.absorb(other.copy())
    assert (one.used(NOON), one.minute_used(NOON), one.minute_used(NOON + 31)) == (7, 19, 3)
    assert other.used(NOON) == 4
