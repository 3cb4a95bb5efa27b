"""The true counters: the minute in three variants, the UTC day and what `GET /key` shows of it.

All attempts on free models count, refused ones too, so `used` may pass `limit`.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

MINUTE = 60.0
DAY = 86400.0


class Window(Protocol):
    """How a minute's limit is enforced."""

    def take(self, now: float, count: int = 1) -> bool:
        """Count attempts; whether the last of them is within the limit."""
        ...

    def used(self, now: float) -> int:
        """Attempts that weigh on the limit at this moment."""
        ...

    def reset(self, now: float) -> float:
        """When the next attempt can pass (UTC seconds)."""
        ...


@dataclass(slots=True)
class FixedMinute:
    """A clock minute: everything is forgotten on the minute."""

    limit: int
    _minute: float = -1.0
    _used: int = 0

    def take(self, now: float, count: int = 1) -> bool:
        """See Window."""
        self._used = self.used(now) + count
        self._minute = now // MINUTE
        return self._used <= self.limit

    def used(self, now: float) -> int:
        """See Window."""
        return self._used if now // MINUTE == self._minute else 0

    def reset(self, now: float) -> float:
        """See Window."""
        return (now // MINUTE + 1) * MINUTE


@dataclass(slots=True)
class SlidingMinute:
    """The last 60 seconds. Refused attempts weigh too, so hammering keeps it shut."""

    limit: int
    _times: deque[float]

    def take(self, now: float, count: int = 1) -> bool:
        """See Window."""
        used = self.used(now) + count
        self._times.extend([now] * count)
        return used <= self.limit

    def used(self, now: float) -> int:
        """See Window."""
        while self._times and self._times[0] <= now - MINUTE:
            self._times.popleft()
        return len(self._times)

    def reset(self, now: float) -> float:
        """See Window."""
        over = self.used(now) - self.limit
        return self._times[over] + MINUTE if 0 <= over < len(self._times) else now


@dataclass(slots=True)
class Bucket:
    """A bucket of `limit` tokens that fills evenly in a minute. A refused attempt takes none."""

    limit: int
    _tokens: float
    _at: float = 0.0

    def take(self, now: float, count: int = 1) -> bool:
        """See Window."""
        self._fill(now)
        admitted = self._tokens >= 1
        if admitted:
            self._tokens = max(0.0, self._tokens - count)
        return admitted

    def used(self, now: float) -> int:
        """See Window."""
        self._fill(now)
        return self.limit - int(self._tokens)

    def reset(self, now: float) -> float:
        """See Window."""
        self._fill(now)
        return now + max(0.0, 1 - self._tokens) * MINUTE / max(1, self.limit)

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._at) * self.limit / MINUTE
        self._tokens = min(float(self.limit), self._tokens + gained)
        self._at = max(self._at, now)


def open_window(variant: str, limit: int) -> Window:
    """A minute's limit of that variant: fixed, sliding or bucket."""
    if variant == "sliding":
        return SlidingMinute(limit, deque())
    if variant == "bucket":
        return Bucket(limit, float(limit))
    return FixedMinute(limit)


@dataclass(slots=True)
class Day:
    """The free requests of a UTC day, and the copy of the count that `GET /key` shows.

    The copy is renewed on a fixed beat of `lag` seconds and at midnight: a reading is at most `lag` old.
    """

    limit: int
    lag: float
    used: int = 0
    _day: float = -1.0
    _shown: int = 0
    _renew_at: float = 0.0

    def start(self, now: float, used: int) -> None:
        """Begin in the middle of a day on which so much is spent already."""
        self._day = now // DAY
        self.used = self._shown = used

    def take(self, now: float, count: int = 1) -> bool:
        """Count attempts; whether the last of them is within the limit."""
        self.roll(now)
        self.used += count
        return self.used <= self.limit

    def shown(self, now: float) -> int:
        """The count as `GET /key` tells it."""
        self.roll(now)
        return self._shown if self.lag > 0 else self.used

    def reset(self, now: float) -> float:
        """The next 00:00 UTC."""
        return (now // DAY + 1) * DAY

    def roll(self, now: float) -> None:
        """Forget yesterday, renew the copy when its beat has come."""
        if now // DAY > self._day:
            self._day = now // DAY
            self.used = self._shown = 0
        if self.lag > 0 and now >= self._renew_at:
            self._shown = self.used
            self._renew_at = (now // self.lag + 1) * self.lag
