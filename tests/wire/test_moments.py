"""When to come back: every form in which an answer says it, and the bounds of what is believed."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from keywheel.core.types import DAY
from keywheel.wire.envelope import Envelope, read
from keywheel.wire.moments import (
    BUDGET,
    QUOTA,
    TRANSIENT,
    Bounds,
    clock_skew,
    day_end,
    refused_moments,
    said_until,
)
from tests.wire.replying import NOON, envelope

NOTHING = Envelope()
DATE = "Mon, 05 Oct 2026 12:00:00 GMT"
MIDNIGHT = NOON + DAY / 2


def waited(value: str, bounds: Bounds = QUOTA, header: str = "retry-after") -> float | None:
    until = said_until({header: value}, NOTHING, NOON, bounds)
    return None if until is None else round(until - NOON, 3)


@pytest.mark.parametrize(
    ("wait", "value"),
    [
        (17, "17"),
        (17, " 17 "),
        (16.007, "16.007"),
        (120, "1.2e2"),
        (1, "0"),
        (1, "0.2"),
        (90, "1m30s"),
        (90, "1m 30s"),
        (30, "30s"),
        (5400, "1.5h"),
        (1, "250ms"),
        (60, f"{NOON + 60:.0f}"),
        (60, f"{NOON + 60:.3f}"),
        (60, f"{(NOON + 60) * 1000:.0f}"),
        (60, "2026-10-05T12:01:00Z"),
        (60, "2026-10-05T12:01:00.000Z"),
        (60, "2026-10-05T14:01:00+02:00"),
        (60, "2026-10-05 12:01:00"),
        (43_200, "2026-10-06"),
        (60, "Mon, 05 Oct 2026 12:01:00 GMT"),
        (60, "Monday, 05-Oct-26 12:01:00 GMT"),
        (60, "Mon Oct  5 12:01:00 2026"),
        (59, "Mon, 05 Oct 2026 12:00:60 GMT"),
    ],
)
def test_every_documented_form_is_read(wait: float, value: str) -> None:
    assert waited(value) == pytest.approx(wait)
    assert waited(value, header="x-ratelimit-reset") == pytest.approx(wait)


@pytest.mark.parametrize(
    "value",
    [
        "", "-5", "-0.1", "NaN", "inf", "1e999", "-1e999", "soon", "1_000", "١٢", "17, 17", "0x11", "1m30", "s",
        "9" * 20, "9" * 400, f"{NOON - 60:.0f}", f"{(NOON + 3650 * DAY) * 1000:.0f}", "1970-01-01", "2026-13-01",
        "Mon, 05 Oct 2026 11:59:00 GMT", "Mon, 05 Oct 1994 12:00:00 GMT", "Monday, 05-Oct-94 12:00:00 GMT",
        "Mon, 45 Oct 2026 12:00:00 GMT", "Mon, 05 Foo 2026 12:00:00 GMT", "Mon, 05 Oct 2026 12::0:00 GMT",
        "Mon, 05 Oct 026 12:01:00 GMT", "0001-01-01T00:00:00+23:59", "200000", "3d", "5000-01-01",
    ],
)  # fmt: skip
def test_what_is_negative_past_absurd_or_no_moment_is_ignored_and_told(value: str) -> None:
    assert waited(value) is None
    (sentence,) = refused_moments({"retry-after": value}, b"", NOON)
    assert sentence.startswith(f"retry-after {value[:39]}"[:50])
    assert " ignored: " in sentence


@pytest.mark.parametrize(
    ("wait", "bounds"), [(300.0, TRANSIENT), (DAY, QUOTA), (1.9 * DAY, BUDGET)]
)
def test_what_is_believed_is_bounded_by_class(wait: float, bounds: Bounds) -> None:
    assert waited(f"{1.9 * DAY:.0f}", bounds) == wait


def test_the_longest_wait_that_is_believed() -> None:
    assert waited(f"{2 * DAY:.0f}") == DAY
    assert waited(f"{2 * DAY + 1:.0f}") is None


def test_a_number_from_1e8_on_is_a_moment_and_from_1e11_on_in_milliseconds() -> None:
    for value in ("100000000", "100000000000"):
        assert said_until({"retry-after": value}, NOTHING, 1e8 - 60) == 1e8


def test_what_is_too_long_for_a_moment_is_none() -> None:
    assert waited("17".rjust(64)) == 17
    assert waited("17".rjust(65)) is None


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process is fixed here")
@pytest.mark.parametrize("value", ["2026-10-05 12:01:00", "Mon, 05 Oct 2026 12:01:00 GMT"])
def test_dates_without_a_zone_are_utc_wherever_we_are(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "XXX-5")
        time.tzset()
        told = waited(value)
    time.tzset()
    assert told == 60


@pytest.mark.parametrize(
    ("objection", "year"),
    [("too far ahead", "69"), ("negative or past", "70"), ("negative or past", "94")],
)
def test_two_digits_are_a_year_from_1970_to_2069(objection: str, year: str) -> None:
    date = f"Monday, 05-Oct-{year} 12:01:00 GMT"
    (sentence,) = refused_moments({"retry-after": date}, b"", NOON)
    assert sentence == f"retry-after {date} ignored: {objection}"


def test_a_date_of_1994_is_one() -> None:
    now = datetime(1994, 10, 5, 12, tzinfo=UTC).timestamp()
    said = {"retry-after": "Wednesday, 05-Oct-94 12:01:00 GMT"}
    assert said_until(said, NOTHING, now) == now + 60


def test_only_a_budget_lasts_longer_than_two_days() -> None:
    waits = [waited("2026-10-31", bounds) for bounds in (TRANSIENT, QUOTA, BUDGET)]
    assert waits == [None, None, 25.5 * DAY]
    assert waited("2026-12-31", BUDGET) is None


@pytest.mark.parametrize(
    ("wait", "metadata"),
    [
        (17, {"retry_after_seconds": 17, "retry_after_seconds_raw": 16.007}),
        (16.007, {"retry_after_seconds_raw": 16.007}),
        (9, {"headers": {"Retry-After": "9"}, "retry_after_seconds": 17}),
        (9, {"headers": {"Retry-After": "9", "X-RateLimit-Reset": "5"}}),
        (60, {"headers": {"X-RateLimit-Reset": (NOON + 60) * 1000}}),
        (60, {"resets_at": "2026-10-05T12:01:00Z"}),
        (8, {"retry_after_seconds": -1, "retry_after_seconds_raw": 8}),
        (None, {"retry_after_seconds": True}),
        (None, {"retry_after_seconds": [17]}),
        (None, {"retry_after_seconds": 10**400}),
        (None, {"resets_at": None}),
    ],
)
def test_the_body_names_moments_too(wait: float | None, metadata: dict[str, Any]) -> None:
    until = said_until({}, read(envelope(429, "x", metadata)), NOON)
    assert until == (None if wait is None else pytest.approx(NOON + wait))


def test_availability_and_the_sentence_name_moments_too() -> None:
    said = Envelope(availability={"retry_after": 9})
    assert said_until({}, said, NOON) == NOON + 9
    for words in (
        "resets 2026-10-12T00:00:00.000Z.",
        "Resets at 2026-10-12.",
        "resets: 2026-10-12",
    ):
        assert said_until({}, Envelope(message=f"$2 of $2 used; {words}"), NOON, BUDGET) == (
            NOON + 6.5 * DAY
        )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("retry-after", {"metadata": {"headers": {"Retry-After": -1}}}),
        ("retry-after", {"availability": {"retry_after": -1}}),
        ("retry-after", {"metadata": {"retry_after_seconds": -1}}),
        ("retry-after", {"metadata": {"retry_after_seconds_raw": -1}}),
        ("x-ratelimit-reset", {"metadata": {"headers": {"X-RateLimit-Reset": -1}}}),
        ("resets", {"metadata": {"resets_at": -1}}),
    ],
)
def test_each_place_is_called_what_it_stands_for(source: str, error: dict[str, Any]) -> None:
    told = refused_moments({}, json.dumps({"error": error}).encode(), NOON)
    assert told == (f"{source} -1 ignored: negative or past",)


def test_each_class_asks_its_own_source_first() -> None:
    headers = {"retry-after": "5", "x-ratelimit-reset": f"{NOON + 29:.0f}"}
    said = Envelope(metadata={"resets_at": "2026-10-06"})
    waits = [said_until(headers, said, NOON, bounds) for bounds in (TRANSIENT, QUOTA, BUDGET)]
    assert waits == [NOON + 5, NOON + 29, MIDNIGHT]


def test_dates_are_the_upstreams_and_waits_are_not() -> None:
    ahead = "Mon, 05 Oct 2026 12:10:00 GMT"  # its clock is ten minutes ahead of ours
    reset = {"date": ahead, "x-ratelimit-reset": f"{(NOON + 630) * 1000:.0f}"}
    assert said_until(reset, NOTHING, NOON) == NOON + 30
    assert said_until({"date": ahead, "retry-after": "30"}, NOTHING, NOON) == NOON + 30
    assert refused_moments({"date": ahead, "retry-after": DATE}, b"", NOON) == (
        f"retry-after {DATE} ignored: negative or past",
    )


@pytest.mark.parametrize(
    ("skew", "date"),
    [
        (0, ""), (0, "yesterday"), (0, "Mon, 05 Oct 2026 12:00:01 GMT"), (2, "Mon, 05 Oct 2026 12:00:02 GMT"),
        (-60, "Mon, 05 Oct 2026 11:59:00 GMT"),
    ],
)  # fmt: skip
def test_a_clock_is_off_only_beyond_the_noise(skew: float, date: str) -> None:
    assert clock_skew({"date": date}, NOON) == skew


@pytest.mark.parametrize("reset", ["", "soon", "-1", f"{NOON + 60:.0f}", f"{MIDNIGHT + DAY:.0f}"])
def test_a_day_ends_at_midnight_whatever_the_reset_says(reset: str) -> None:
    headers = {"x-ratelimit-reset": reset} if reset else {}
    assert day_end(headers, NOTHING, NOON) == MIDNIGHT


@pytest.mark.parametrize(("end", "reset"), [(60, 60), (-60, -60), (0, 60.5), (0, -60.5)])
def test_a_reset_is_the_days_end_within_a_minute_of_midnight(end: float, reset: float) -> None:
    headers = {"x-ratelimit-reset": f"{MIDNIGHT + reset:.1f}"}
    assert day_end(headers, NOTHING, NOON) == MIDNIGHT + end


@pytest.mark.parametrize(("end", "reset"), [(0, -1.0), (-0.5, -0.5)])
def test_only_a_reset_that_lies_ahead_is_the_days_end(end: float, reset: float) -> None:
    headers = {"x-ratelimit-reset": f"{MIDNIGHT + reset:.1f}"}
    assert day_end(headers, NOTHING, MIDNIGHT - 1) == MIDNIGHT + end


def test_a_reset_is_read_by_the_clock_that_named_it() -> None:
    slow = {"date": "Mon, 05 Oct 2026 11:50:00 GMT"}
    moment = {"x-ratelimit-reset": f"{MIDNIGHT + 5:.0f}"}
    assert day_end(slow | moment, NOTHING, NOON) == MIDNIGHT + 605
    wait = {"x-ratelimit-reset": f"{12 * 3600 + 600 + 5}"}  # from 11:50
    assert day_end(slow | wait, NOTHING, NOON) == MIDNIGHT + 605


def test_a_day_ends_with_its_reset_and_by_the_upstreams_clock() -> None:
    reset = {"x-ratelimit-reset": f"{(MIDNIGHT + 5) * 1000:.0f}"}
    assert day_end(reset, NOTHING, NOON) == MIDNIGHT + 5
    slow = {"date": "Mon, 05 Oct 2026 11:50:00 GMT"}
    assert day_end(slow, NOTHING, NOON) == MIDNIGHT + 600
    late = {"date": "Tue, 06 Oct 2026 00:00:10 GMT"}  # its new day has begun, ours not yet
    assert day_end(late, NOTHING, MIDNIGHT - 30) == MIDNIGHT - 40 + DAY


def test_refused_moments_show_no_secrets_and_nothing_long() -> None:
    body = json.dumps(envelope(429, "x", {"retry_after_seconds": {"a": 1}})).encode()
    told = refused_moments({"retry-after": "Bearer abc\r\n" + "9" * 99}, body, NOON)
    assert told[0].startswith(r"retry-after Bearer ***\r\n999")
    assert told[0].endswith("9… ignored: not a moment")
    assert len(told[0]) == len("retry-after  ignored: not a moment") + 40
    assert told[1] == "retry-after of odd type ignored: not a moment"


def test_believable_moments_are_not_told() -> None:
    message = "used; resets 2026-10-31T00:00:00Z."
    body = json.dumps(envelope(403, message, {"retry_after_seconds": 5})).encode()
    assert refused_moments({"retry-after": "5", "date": DATE}, body, NOON) == ()
