"""What happened lately: the last requests and attempts, and the minutes of the last hour. Bounded."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from keywheel.core.totals import Totals
from keywheel.core.types import Attempted, Finished

STEP = 60.0  # seconds of one point of the time line
POINTS = 60  # an hour
LEAST = 300.0  # seconds over which a rate is taken at least, so that a burst at the start is no forecast
FEW = 5  # attempts; fewer are no rate: one would use up a day of 50 by midnight
EVENTS = 400  # ended requests and attempts that are kept; a request has one or two attempts


@dataclass(slots=True)
class Minute(Totals):
    """Counts of one minute. `ttft`: seconds, in all, of the `first` contents seen; `accounts`: attempts by account."""

    number: int = 0  # since 1970
    first: int = 0
    ttft: float = 0.0
    accounts: Counter[str] = field(default_factory=Counter[str])

    def join(self, more: "Minute") -> None:
        """Count what another worker counted in this minute."""
        self.merge(more)
        self.first += more.first
        self.ttft += more.ttft
        self.accounts.update(more.accounts)


class History:
    """Fed by `Stats` with what ended."""

    __slots__ = ("_events", "_minutes", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self._events: deque[Attempted | Finished] = deque(maxlen=EVENTS)
        self._minutes: deque[Minute] = deque(maxlen=POINTS)

    def attempted(self, event: Attempted) -> None:
        """Take one attempt."""
        self._events.append(event)
        minute = self._minute(event.at)
        minute.attempted(event)
        minute.accounts[event.account] += 1
        if event.ttft is not None:
            minute.first += 1
            minute.ttft += event.ttft

    def finished(self, event: Finished) -> None:
        """Take one request."""
        self._events.append(event)
        self._minute(event.at).finished(event)

    def requests(self) -> Iterator[tuple[Finished, tuple[Attempted, ...]]]:
        """The last requests with their attempts, the latest first. Of the oldest ones attempts may be missing."""
        tries: dict[str, list[Attempted]] = {}
        found: list[tuple[Finished, tuple[Attempted, ...]]] = []
        for event in self._events:
            if isinstance(event, Attempted):
                tries.setdefault(event.request_id, []).append(event)
            else:
                found.append((event, tuple(tries.pop(event.request_id, ()))))
        return reversed(found)

    def minutes(self, now: float) -> list[Minute]:
        """The last hour, a point a minute, the current one last; a minute without anything is all zeros."""
        last = int(now // STEP)
        seen = {minute.number: minute for minute in self._minutes}
        numbers = range(last - POINTS + 1, last + 1)
        return [seen.get(number) or Minute(number=number) for number in numbers]

    def rate(self, account: str, now: float, span: float) -> float:
        """Attempts a second of one account over about the last `span` seconds, or since the start if that is less;
        0.0 when there are too few to tell."""
        first = int((now - span) // STEP) + 1
        count = sum(m.accounts[account] for m in self._minutes if m.number >= first)
        if count < FEW:
            return 0.0
        return count / max(LEAST, now - max(first * STEP, self.since))

    @property
    def events(self) -> Sequence[Attempted | Finished]:
        """The requests and attempts that are kept, the oldest first."""
        return self._events

    @property
    def kept(self) -> Sequence[Minute]:
        """The minutes in which something happened, the oldest first."""
        return self._minutes

    def fill(self, events: Iterable[Attempted | Finished], minutes: Iterable[Minute]) -> None:
        """Take over a whole history, in any order."""
        self._events = deque(sorted(events, key=_moment), maxlen=EVENTS)
        self._minutes = deque(sorted(minutes, key=_number), maxlen=POINTS)

    def merge(self, more: "History") -> None:
        """Take in what happened at another worker."""
        self.since = min(self.since, more.since)
        minutes = {minute.number: minute for minute in self._minutes}
        for minute in more._minutes:
            minutes.setdefault(minute.number, Minute(number=minute.number)).join(minute)
        self.fill([*self._events, *more._events], minutes.values())

    def _minute(self, at: float) -> Minute:
        number = int(at // STEP)
        minutes = self._minutes
        if not minutes or minutes[-1].number < number:
            minutes.append(Minute(number=number))
        return minutes[-1]


def _moment(event: Attempted | Finished) -> float:
    return event.at


def _number(minute: Minute) -> int:
    return minute.number
