"""An account's free quota: a minute log and a day counter, reserved before anything is sent (routing rule A.3).

The minute is kept as a log of send times, because it is not certain whether the upstream's minute is a
fixed clock minute or slides: a
log below the limit in any 61 s satisfies both. The day is counted by UTC date. Every attempt counts, failed ones too.
"""

from collections import deque
from dataclasses import dataclass

from keywheel.core.spread import spread
from keywheel.core.types import DAY, Account

MINUTE = 61.0  # 60 s and a second of guard for clocks and travel time
SHARE = 0.95  # of the minute limit that is used: 19 of 20
TURN = 30.0  # seconds around midnight in which a send is charged to both dates
TURN_MIN = 5.0  # a day is not trusted to be over before this many seconds of the new one …
TURN_SPREAD = 25.0  # … plus a share of these, by account, so that accounts do not all start at once
AGREEMENT = 60.0  # two readings this far apart may lower a count


@dataclass(frozen=True, slots=True)
class Shut:
    """Why an account takes no free request: `day`, `minute` or `busy`, and until when."""

    cause: str
    until: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What `GET /key` said about the account's free day. None: the field was absent, which means unknown,
    never zero."""

    used: int | None
    limit: int | None


class Quota:
    """The counters of one account. `skew` is what must be added to `now` to get the upstream's UTC."""

    __slots__ = (
        "_full_until",
        "_lower",
        "_stamps",
        "_used",
        "cap",
        "in_flight",
        "limit",
        "metered",
        "minute_cap",
        "name",
        "per_minute",
        "skew",
    )

    def __init__(self, account: Account) -> None:
        self.name = account.name
        self.metered = False
        self.adopt(account)
        self.in_flight = 0
        self.skew = 0.0
        self._used: dict[int, int] = {}
        self._stamps: deque[float] = deque()
        self._full_until = 0.0
        self._lower: tuple[float, int] | None = None

    def adopt(self, account: Account) -> None:
        """Take changed settings; counts stay, and so does a day limit that the upstream named."""
        self.per_minute = account.per_minute
        self.minute_cap = max(1, int(account.per_minute * SHARE))
        self.cap = account.concurrency
        if not self.metered and account.per_day is not None:
            self.limit = account.per_day
        self.metered = account.per_day is not None

    # --- reading ---------------------------------------------------------------------------------

    def day(self, now: float) -> int:
        """The upstream's UTC date, as days since 1970."""
        return int((now + self.skew) // DAY)

    def used(self, now: float) -> int:
        """Requests charged to today's date."""
        return self._used.get(self.day(now), 0)

    def used_on(self, day: int) -> int:
        """Requests charged to a date."""
        return self._used.get(day, 0)

    def day_remaining(self, now: float) -> int:
        """Requests left today."""
        return max(0, self.limit - self.used(now))

    def minute_used(self, now: float) -> int:
        """Sends of the last 61 s; the cap when the upstream said that the minute is full."""
        if self._full_until > now:
            return self.minute_cap
        return len(self._recent(now))

    def minute_free(self, now: float) -> int:
        """Sends that are possible now by the minute."""
        return max(0, self.minute_cap - self.minute_used(now))

    def resets_at(self, now: float) -> float:
        """When the day ends, by the upstream's clock, with the account's share of the spread."""
        return (self.day(now) + 1) * DAY - self.skew + self._turn(self.day(now) + 1)

    def shut(self, now: float) -> Shut | None:
        """What keeps the account from sending now, the longest cause; None when it may send."""
        if self.metered and self._spent(now):
            return Shut("day", self._day_opens(now))
        if self.minute_used(now) >= self.minute_cap:
            return Shut("minute", self._minute_opens(now))
        if self.cap is not None and self.in_flight >= self.cap:
            return Shut("busy", now + 1.0)
        return None

    # --- counting --------------------------------------------------------------------------------

    def reserve(self, now: float) -> tuple[int, ...]:
        """Count one send before it happens; the dates charged (both around midnight)."""
        days = tuple(sorted({self.day(now - TURN), self.day(now + TURN)}))
        for day in days:
            self._used[day] = self._used.get(day, 0) + 1
        self._stamps.append(now)
        self.in_flight += 1
        self._lower = None
        self._prune(now)
        return days

    def release(self) -> None:
        """One send ended, whatever came of it."""
        self.in_flight -= 1

    def refund(self, days: tuple[int, ...], at: float) -> None:
        """Take back a reservation of which no byte was sent."""
        for day in days:
            if self._used.get(day, 0) > 0:
                self._used[day] -= 1
        if at in self._stamps:
            self._stamps.remove(at)

    # --- what the upstream says ------------------------------------------------------------------

    def spend_day(self, now: float, limit: int | None = None) -> float:
        """The upstream says the day is spent; the moment it is over."""
        if limit is not None:
            self.limit = limit
        today = self.day(now)
        self._used[today] = max(self._used.get(today, 0), self.limit)
        return self._day_opens(now)

    def spend_minute(self, now: float, until: float | None) -> float:
        """The upstream says the minute is full, until a moment if it named one; the moment it is over."""
        if until is None:
            recent = self._recent(now)
            until = recent[0] + MINUTE if recent else now + MINUTE - 1
        self._full_until = max(self._full_until, until)
        return self._full_until

    def reconcile(self, reading: Reading, now: float) -> bool:
        """Take over what `GET /key` says; True when the account can send more than before.

        The count is raised at once and lowered only when two readings a minute apart, with nothing under
        way, agree: the upstream's
        counter lags, and under-counting costs a refused request.
        """
        before = self.day_remaining(now)
        if reading.limit is not None and self.metered:
            self.limit = reading.limit
        if reading.used is not None:
            self._adopt(reading.used, now)
        return self.day_remaining(now) > before

    def _adopt(self, used: int, now: float) -> None:
        today = self.day(now)
        mine = self._used.get(today, 0)
        if used + self.in_flight >= mine:
            self._used[today] = used + self.in_flight
            self._lower = None
        elif self.in_flight:
            self._lower = None
        elif self._lower is None or self._lower[1] != used:
            self._lower = (now, used)
        elif now - self._lower[0] >= AGREEMENT:
            self._used[today] = used
            self._lower = None

    # --- inner -----------------------------------------------------------------------------------

    def _recent(self, now: float) -> deque[float]:
        stamps = self._stamps
        while stamps and stamps[0] <= now - MINUTE:
            stamps.popleft()
        return stamps

    def _turn(self, day: int) -> float:
        return TURN_MIN + TURN_SPREAD * spread(self.name, day)

    def _in_turn(self, now: float) -> bool:
        """Whether the new date is so young that the upstream may still count the old one."""
        day = self.day(now)
        return now + self.skew < day * DAY + self._turn(day)

    def _spent(self, now: float) -> bool:
        day = self.day(now)
        if self._used.get(day, 0) >= self.limit:
            return True
        return self._used.get(day - 1, 0) >= self.limit and self._in_turn(now)

    def _day_opens(self, now: float) -> float:
        day = self.day(now)
        if self._used.get(day, 0) >= self.limit:
            day += 1
        return day * DAY - self.skew + self._turn(day)

    def _minute_opens(self, now: float) -> float:
        recent = self._recent(now)
        surplus = len(recent) - self.minute_cap
        logged = recent[surplus] + MINUTE if surplus >= 0 else now
        return max(logged, self._full_until)

    def _prune(self, now: float) -> None:
        oldest = self.day(now) - 1
        for day in [d for d in self._used if d < oldest]:
            del self._used[day]
