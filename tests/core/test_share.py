"""What one worker may send while the shared store is silent (routing rule A.11.3); the sum is in the model of I34."""

import pytest

from keywheel.core.share import GONE, WAITING, Record, Share

CAP, DAY, LIMIT = 19, 20_000, 300
TEAM = ("team", DAY)


def share_of(left: int = LIMIT, *, slots: int = 3, answers: int = 2) -> Share:
    """A worker whose last answer came at 0.0."""
    share = Share(slots)
    for number in range(answers):
        share.answered(0.5 * (number + 1 - answers), {TEAM: (left, CAP)})
    return share


def sent(share: Share, now: float, *, recent: int = 0, day: int = DAY) -> bool:
    return share.send("team", {day: LIMIT}, CAP, recent, now)


def test_a_worker_that_heard_nothing_takes_nothing_and_has_no_share() -> None:
    share = Share(3)
    assert (share.may_take(0.0), share.opens_at(), share.record) == (False, None, None)
    assert not sent(share, 10**6)


def test_the_store_is_asked_after_two_answers_and_until_a_second_after_the_last() -> None:
    assert not share_of(answers=1).may_take(0.0)
    share = share_of()
    assert [share.may_take(now) for now in (0.0, 1.0, 1.1)] == [True, True, False]


def test_answers_far_apart_are_not_two_in_a_row() -> None:
    share = share_of(answers=1)
    share.answered(1.1, {TEAM: (LIMIT, CAP)})
    assert not share.may_take(1.1)


def test_the_share_opens_70_seconds_after_the_last_answer_and_ends_after_two_days() -> None:
    share = share_of()
    assert share.opens_at() == WAITING == 70.0
    assert not sent(share, 69.9)
    assert sent(share, 70.0)
    assert sent(share, GONE)
    assert not sent(share, GONE + 1)


def test_the_part_of_the_day_is_what_is_left_less_two_minutes() -> None:
    share = share_of(left=38 + 6)
    assert [sent(share, 80.0 + n) for n in range(3)] == [True, True, False]


def test_what_two_minutes_could_use_up_leaves_nothing() -> None:
    assert not sent(share_of(left=38), 80.0)
    assert not sent(share_of(left=-5), 80.0)


def test_the_part_of_the_minute_counts_what_was_sent_just_now() -> None:
    assert sent(share_of(), 80.0, recent=5)
    assert not sent(share_of(), 80.0, recent=6)


def test_more_workers_than_sends_a_minute_leave_nothing() -> None:
    assert not sent(share_of(slots=20), 80.0)


def test_a_date_that_had_not_begun_is_full_and_is_used_up_in_turn() -> None:
    share = share_of(left=0)
    answers = [sent(share, 80.0, day=DAY + 1) for _ in range((LIMIT - 38) // 3 + 1)]
    assert answers == [True] * 87 + [False]


def test_around_midnight_both_dates_must_have_a_part() -> None:
    share = share_of(left=38 + 3)
    both = {DAY: LIMIT, DAY + 1: LIMIT}
    assert share.send("team", both, CAP, 0, 80.0)
    assert not share.send("team", both, CAP, 0, 80.0)
    assert sent(share, 80.0, day=DAY + 1)


@pytest.mark.parametrize(("answers", "part"), [(1, 2), (2, 10)])
def test_a_worker_lost_between_two_answers_has_no_more_than_before(answers: int, part: int) -> None:
    share = share_of(left=38 + 9)
    assert sent(share, 80.0)
    for number in range(answers):
        share.answered(90.0 + number / 2, {TEAM: (38 + 30, CAP)})
    assert share.record == Record(90.0 + (answers - 1) / 2, {TEAM: part})


def test_a_restart_goes_on_with_the_same_share() -> None:
    record = share_of(left=38 + 6).record
    assert record is not None
    share = Share(3)
    share.restore(record)
    assert not share.may_take(0.5)
    assert [sent(share, now) for now in (69.0, 70.0, 71.0, 72.0)] == [False, True, True, False]
