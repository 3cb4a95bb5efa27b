"""What an account may send: a log of the last minute, a counter for the UTC day, requests under way.

The minute is kept as a log of send times, because it is not certain whether the upstream's minute is a fixed clock
minute or slides: a log below the limit in any 61 s satisfies both. The day is counted by UTC date. Every attempt
counts, failed ones too.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from keywheel.core.spread import spread
from keywheel.core.types import DAY, FOREVER, Account

MINUTE = 61.0  # 60 s and a second of guard for clocks and travel time
FULL_MINUTE = 60.0  # how long an upstream minute is full when nothing says better
SHARE = 0.95  # of the minute limit that is used: 19 of 20
TURN = 30.0  # seconds around midnight in which a send is charged to both dates
TURN_MIN = 5.0  # a day is not trusted to be over before this many seconds of the new one …
TURN_SPREAD = 25.0  # … plus a share of these, by account, so that accounts do not all start at once
BUSY = 0.25  # seconds after which to look again when only requests under way are in the way
CROWDED = 1.0  # seconds after which a minute that others filled is tried again
KEPT_DAYS = (
    2  # yesterday counts in the first seconds of a day, and a clock may be set back by hours
)
AGREEMENT = 60.0  # two readings this far apart may lower a count


class Shut(NamedTuple):
    """Until when an account takes no request, and why: `day`, `minute` or `busy`."""

    until: float
    cause: str


Room = tuple[float, float]  # requests that are left today and this minute
UNMETERED: Room = (FOREVER, FOREVER)


@dataclass(frozen=True, slots=True)
class Reading:
    """What `GET /key` said about the account's free day, and whether the key's own spending limit leaves room.

    None: the field was absent, which means unknown, never zero.
    """

    used: int | None
    limit: int | None
    room: bool | None = None


class Quota:
    """The counters of one account. `skew` is what must be added to `now` to get the upstream's UTC."""

    __slots__ = (
        "_begins",
        "_configured",
        "_dates",
        "_ends",
        "_full_until",
        "_looked_until",
        "_lower",
        "_room",
        "_shut",
        "_stamps",
        "_today",
        "_turn_over",
        "_used",
        "cap",
        "in_flight",
        "limit",
        "metered",
        "minute_cap",
        "name",
        "remote",
        "shared",
        "skew",
    )

    def __init__(self, account: Account, skew: float = 0.0) -> None:
        self.name = account.name
        self.in_flight = 0
        self.shared = False  # others send, too: nobody knows that nothing is under way
        self.limit = 0
        self.remote: tuple[float, int, int] | None = None  # when, and which date had how many sends
        self._configured: int | None = None
        self._used: dict[int, int] = {}
        self._stamps: deque[float] = deque()
        self._full_until = 0.0
        self._lower: tuple[float, int, int] | None = None
        self._room: Room | None = None  # what `room` and `shut` say of metered requests …
        self._shut: Shut | None = None
        self._looked_until = 0.0  # … until then, or until something is counted or said
        self.adopt(account)
        self.set_skew(skew)

    def adopt(self, account: Account) -> None:
        """Take changed settings; counts stay, and so does a day limit that the upstream named."""
        self.minute_cap = max(1, int(account.per_minute * SHARE))
        self.cap = account.concurrency
        if account.per_day is not None and account.per_day != self._configured:
            self.limit = account.per_day
        self._configured = account.per_day
        self.metered = account.per_day is not None
        self._looked_until = 0.0

    def absorb(self, other: "Quota") -> None:
        """The other turned out to be the same account: what it sent was sent here, too."""
        for day, used in other._used.items():
            self._used[day] = self._used.get(day, 0) + used
        self._stamps = deque(sorted((*self._stamps, *other._stamps)))
        self._full_until = max(self._full_until, other._full_until)
        self._lower = None
        self._looked_until = 0.0

    def copy(self) -> "Quota":
        """The counts as they are now, for `absorb`."""
        twin = Quota(Account(self.name))
        twin.absorb(self)
        return twin

    def set_skew(self, skew: float) -> None:
        """Decide by the upstream's clock which date a send belongs to."""
        self.skew = skew
        self._begins = self._ends = self._looked_until = 0.0

    # --- reading ---------------------------------------------------------------------------------

    def day(self, now: float) -> int:
        """The upstream's UTC date, as days since 1970."""
        if not self._begins <= now < self._ends:
            self._open_day(now)
        return self._today

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
        return self._opens_on(self.day(now) + 1)

    def room(self, now: float, free: bool) -> Room | None:
        """What may be sent now, None when nothing may. Only free requests are metered."""
        if self.cap is not None and self.in_flight >= self.cap:
            return None
        if not free or not self.metered:
            return UNMETERED
        if now >= self._looked_until:
            self._look(now)
        return self._room

    def shut(self, now: float, free: bool = True) -> Shut | None:
        """What keeps the account from sending longest; None when it may send. Says the same as `room`."""
        shut = None
        if free and self.metered:
            if now >= self._looked_until:
                self._look(now)
            shut = self._shut
        if self.cap is None or self.in_flight < self.cap:
            return shut
        busy = Shut(now + BUSY, "busy")
        return max(shut, busy) if shut else busy

    # --- counting --------------------------------------------------------------------------------

    def reserve(self, now: float, free: bool) -> tuple[int, ...]:
        """Count one send before it happens; the dates charged (both around midnight), none if not metered."""
        self.in_flight += 1
        if not free or not self.metered:
            return ()
        today = self.day(now)
        days = self._dates
        if now < self._begins + TURN:
            days = (today - 1, today)
        elif now >= self._ends - TURN:
            days = (today, today + 1)
        for day in days:
            self._used[day] = self._used.get(day, 0) + 1
        self._stamps.append(now)
        self._lower = None
        self._take(now)
        return days

    def release(self) -> None:
        """One send ended, whatever came of it."""
        self.in_flight -= 1

    def refund(self, days: tuple[int, ...], at: float) -> None:
        """Take back a reservation of which no byte was sent."""
        for day in days:
            if self._used.get(day, 0) > 0:
                self._used[day] -= 1
        if days and at in self._stamps:
            self._stamps.remove(at)
        self._looked_until = 0.0

    # --- what the upstream and the operator say --------------------------------------------------

    def spend_day(self, now: float, limit: int | None = None) -> float:
        """The upstream says the day is spent; the moment it is over."""
        if limit is not None:
            self.limit = limit
        today = self.day(now)
        self._used[today] = max(self._used.get(today, 0), self.limit)
        self._looked_until = 0.0
        return self._day_opens(now)

    def spend_minute(self, now: float, until: float | None) -> float:
        """The upstream says the minute is full, until a moment if it named one; the moment it is over."""
        if until is None:
            recent = self._recent(now)
            until = recent[0] + MINUTE if recent else now + FULL_MINUTE
        self._full_until = max(self._full_until, until)
        self._looked_until = 0.0
        return self._full_until

    def raise_used(self, day: int, used: int) -> None:
        """A date has at least so many sends: others share the account, or a former run made them."""
        if used > self._used.get(day, 0):
            self._used[day] = used
            self._looked_until = 0.0

    def restore_minute(self, stamps: Iterable[float]) -> None:
        """A former run sent at these moments."""
        self._stamps = deque(sorted({*self._stamps, *stamps}))
        self._looked_until = 0.0

    def crowd(self, now: float) -> None:
        """Others who share the account have filled its minute for a moment."""
        self._full_until = max(self._full_until, now + CROWDED)
        self._looked_until = 0.0

    def reopen_minute(self) -> None:
        """Operator's hand: forget that the upstream called the minute full. What we sent still counts."""
        self._full_until = self._looked_until = 0.0

    def reconcile(self, reading: Reading, now: float) -> bool:
        """Take over what `GET /key` says; True when the account can send more today than before.

        The count is raised at once and lowered only when two readings a minute apart, with nothing under way, agree:
        the upstream's counter lags, and under-counting costs a refused request.
        """
        before = self.day_remaining(now)
        if reading.used is not None:
            self.remote = (now, self.day(now), reading.used)
        if reading.limit is not None and self.metered:
            self.limit = reading.limit
        if reading.used is not None:
            self._adopt(reading.used, now)
        self._looked_until = 0.0
        return self.day_remaining(now) > before

    def _adopt(self, used: int, now: float) -> None:
        today = self.day(now)
        if used + self.in_flight >= self._used.get(today, 0):
            self._used[today] = used + self.in_flight
            self._lower = None
        elif self.in_flight or self.shared:
            self._lower = None
        elif self._lower is None or self._lower[1:] != (today, used):
            self._lower = (now, today, used)
        elif now - self._lower[0] >= AGREEMENT:
            self._used[today] = used
            self._lower = None

    # --- inner -----------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Work out room or closure, and until when that holds if nothing is counted in between."""
        if not self._begins <= now < self._ends:
            self._open_day(now)
        day = self.limit - self._used.get(self._today, 0)
        recent = self._recent(now)
        minute = self.minute_cap - len(recent) if self._full_until <= now else 0
        if day > 0 and minute > 0 and (now >= self._turn_over or not self._spent(self._today - 1)):
            self._room, self._shut = (day, minute), None
            self._looked_until = min(recent[0] + MINUTE, self._ends) if recent else self._ends
            return
        shut = max(Shut(self._day_opens(now), "day"), Shut(self._minute_opens(now), "minute"))
        self._room, self._shut = None, shut
        self._looked_until = shut.until

    def _take(self, now: float) -> None:
        """One request fewer is left; the usual case need not be worked out anew."""
        room = self._room
        if room is None or now >= self._looked_until or min(room) <= 1:
            self._looked_until = 0.0
            return
        self._room = (room[0] - 1, room[1] - 1)
        self._looked_until = min(self._looked_until, now + MINUTE)

    def _open_day(self, now: float) -> None:
        """Work out once what holds for a whole UTC date."""
        self._today = int((now + self.skew) // DAY)
        self._begins = self._today * DAY - self.skew
        self._ends = self._begins + DAY
        self._dates = (self._today,)
        self._turn_over = self._opens_on(self._today)
        for day in [d for d in self._used if d < self._today - KEPT_DAYS]:
            del self._used[day]

    def _opens_on(self, day: int) -> float:
        """The moment from which a date is trusted to have begun."""
        return day * DAY - self.skew + TURN_MIN + TURN_SPREAD * spread(self.name, day)

    def _recent(self, now: float) -> deque[float]:
        stamps = self._stamps
        while stamps and stamps[0] + MINUTE <= now:
            stamps.popleft()
        return stamps

    def _spent(self, day: int) -> bool:
        return self._used.get(day, 0) >= self.limit

    def _day_opens(self, now: float) -> float:
        """When the day lets the next request pass; a moment in the past if it does so already."""
        today = self.day(now)
        if self._spent(today):
            return self._opens_on(today + 1)
        return self._turn_over if self._spent(today - 1) else 0.0

    def _minute_opens(self, now: float) -> float:
        recent = self._recent(now)
        surplus = len(recent) - self.minute_cap
        return max(recent[surplus] + MINUTE if surplus >= 0 else 0.0, self._full_until)
