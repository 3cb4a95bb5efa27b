"""When to come back, as an answer says it: `Retry-After`, `X-RateLimit-Reset`, fields and sentences (rule A.5, RA).

Seconds, epoch seconds and milliseconds, ISO dates, HTTP-dates and durations are read. Dates are the upstream's,
so they are compared with its own `Date`. What is negative, past or absurd is refused, and can be logged.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, isfinite, nan
from typing import NamedTuple

from keywheel.core.types import DAY
from keywheel.wire.envelope import Envelope, clean, read_body
from keywheel.wire.patterns import RESETS

SHORTEST = 1.0  # seconds a moment lies ahead at least
NOISE = (
    2.0  # seconds that `Date` may differ by before it counts: it has whole seconds and travelled
)
_EPOCH = 1e8  # a bare number from here on is a moment, below it is a wait (1e8 s are 3 years)
_MILLIS = 1e11  # … and from here on in milliseconds (1e11 s are the year 5138)
_MAX_VALUE = 64  # characters: no accepted form is longer

_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,4})?", re.ASCII)
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|d|h|m|s)", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})? ?(?:ms|d|h|m|s) ?){1,5}", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_HTTP_DATE = re.compile(
    r"[A-Za-z]{3,9},? (?P<day>\d{1,2})[ -](?P<month>[A-Za-z]{3})[ -](?P<year>\d{2,4}) (?P<time>[\d:]{8}) GMT"
    r"|[A-Za-z]{3} (?P<month2>[A-Za-z]{3}) {1,2}(?P<day2>\d{1,2}) (?P<time2>[\d:]{8}) (?P<year2>\d{4})",
    re.ASCII,
)


class Hint(NamedTuple):
    """One place of an answer that names a moment, with what it says."""

    source: str
    value: object


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is believed: waits up to `absurd`, of which `cap` is used; `first`: the source that is asked first."""

    cap: float
    absurd: float = 2 * DAY
    first: str = "retry-after"


TRANSIENT = Bounds(300.0)  # trouble passes: nothing is closed longer on one answer's word
QUOTA = Bounds(DAY, first="x-ratelimit-reset")  # the longest quota is a day's
BUDGET = Bounds(32 * DAY, absurd=32 * DAY, first="resets")  # the longest budget is a month's


def said_until(
    headers: Mapping[str, str], envelope: Envelope, now: float, bounds: Bounds = TRANSIENT
) -> float | None:
    """The moment an answer names, in our time, within the bounds; None when it names none that can be true."""
    skew = clock_skew(headers, now)
    hints = sorted(_hints(headers, envelope), key=lambda hint: hint.source != bounds.first)
    for hint in hints:
        wait = _wait(hint.value, now + skew)
        if not _objection(wait, bounds.absurd):
            return now + min(max(wait, SHORTEST), bounds.cap)
    return None


def day_end(headers: Mapping[str, str], envelope: Envelope, now: float) -> float:
    """When the account's day ends, in our time: the next 00:00 UTC by the upstream's clock, whatever the reset says
    (a day's limit cannot outlast it)."""
    skew = clock_skew(headers, now)
    midnight = ((now + skew) // DAY + 1) * DAY
    resets = (hint for hint in _hints(headers, envelope) if hint.source == QUOTA.first)
    waits = (_wait(hint.value, now + skew) for hint in resets)
    said = next((now + skew + wait for wait in waits if wait > 0), midnight)
    return (said if abs(said - midnight) <= 60.0 else midnight) - skew


def clock_skew(headers: Mapping[str, str], now: float) -> float:
    """Seconds that the upstream's clock is ahead of ours, by its `Date`; 0.0 within the noise or without one."""
    date = _http_date(headers.get("date", ""))
    skew = 0.0 if date is None else date - now
    return skew if abs(skew) >= NOISE else 0.0


def refused_moments(headers: Mapping[str, str], body: bytes, now: float) -> tuple[str, ...]:
    """Sentences for the log about moments that are not believed."""
    skew = clock_skew(headers, now)
    return tuple(
        f"{hint.source} {_shown(hint.value)} ignored: {objection}"
        for hint in _hints(headers, read_body(body))
        if (objection := _objection(_wait(hint.value, now + skew), _absurd(hint)))
    )


def _shown(value: object) -> str:
    return clean(str(value), limit=40) if isinstance(value, str | int | float) else "of odd type"


def _absurd(hint: Hint) -> float:
    return (BUDGET if hint.source == BUDGET.first else QUOTA).absurd


def _hints(headers: Mapping[str, str], envelope: Envelope) -> Iterator[Hint]:
    """Every moment the answer names, the most exact first."""
    metadata, inner = envelope.metadata, envelope.headers
    resets = RESETS.search(envelope.message)
    named = (
        Hint("retry-after", headers.get("retry-after")),
        Hint("retry-after", inner.get("retry-after")),
        Hint("retry-after", envelope.availability.get("retry_after")),
        Hint("retry-after", metadata.get("retry_after_seconds")),
        Hint("retry-after", metadata.get("retry_after_seconds_raw")),
        Hint("x-ratelimit-reset", headers.get("x-ratelimit-reset")),
        Hint("x-ratelimit-reset", inner.get("x-ratelimit-reset")),
        Hint("resets", metadata.get("resets_at")),
        Hint("resets", resets and resets[1]),
    )
    return (hint for hint in named if hint.value is not None)


def _objection(wait: float, absurd: float) -> str:
    """Why a wait is not believed; "" when it is."""
    if not isfinite(wait):
        return "not a moment"
    if wait < 0:
        return "negative or past"
    return "too far ahead" if wait > absurd else ""


def _wait(value: object, now: float) -> float:
    """Seconds from `now`, the upstream's time, that a value means; NaN when it cannot be read."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, now)
    if not isinstance(value, str) or len(value) > _MAX_VALUE:
        return nan
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return _number(float(value), now)
    if _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    moment = _http_date(value)
    return (_iso_date(value) if moment is None else moment) - now


def _number(value: float, now: float) -> float:
    value = float(value) if abs(value) < 1e18 else inf  # a larger integer may not fit a float
    if value < _EPOCH:
        return value
    return (value if value < _MILLIS else value / 1000.0) - now


def _iso_date(value: str) -> float:
    try:
        date = datetime.fromisoformat(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return nan


def _http_date(value: str) -> float | None:
    """A date in one of HTTP's three forms, as UTC seconds."""
    match = _HTTP_DATE.fullmatch(value.strip()[:_MAX_VALUE])
    if not match:
        return None
    day, month, year, clock = (
        match[name] or match[f"{name}2"] for name in ("day", "month", "year", "time")
    )
    if month.lower() not in _MONTHS:
        return None
    century = 0 if len(year) > 2 else 2000 if int(year) < 70 else 1900
    try:
        hour, minute, second = map(int, clock.split(":"))
        month_number = _MONTHS.index(month.lower()) + 1
        moment = datetime(
            int(year) + century, month_number, int(day), hour, minute, min(second, 59), tzinfo=UTC
        )
    except ValueError:
        return None
    return moment.timestamp()
