"""What every store offers, and the values that go in and out.

A `Store` holds what several workers must agree on: the minute and the day of each account, and the marks. An `Archive`
holds what one machine wants back after a restart. Memory and SQLite are both; Redis and Valkey are a `Store` only, and
their workers keep an archive in SQLite beside it. All calls block; none takes longer than half a second.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from keywheel.core.marks import Mark
from keywheel.core.quota import MINUTE
from keywheel.errors import StoreError

PATIENCE = 0.5  # seconds a call waits for the store (routing rule A.11.3)
KEPT = MINUTE  # seconds a send stamp lives: a minute and its guard
SILENT = 5.0  # seconds after the last reply it received that a worker counts as silent
GONE = 2 * 86_400.0  # seconds after which a silent worker gets no room and takes no share any more
OTHERS = "others"  # the writer that stands for what `GET /key` showed beyond us


class StoreLost(StoreError):
    """The store did not answer in time, or has lost what was in it. What was asked may have happened."""


class Answer(StrEnum):
    """What came of a `take`."""

    TAKEN = "taken"
    AGAIN = "again"  # this lease was taken before: nothing was counted
    MINUTE = "minute"  # refused: the minute is full
    DAY = "day"  # refused: the day is spent


class Caller(NamedTuple):
    """The worker that calls, and what it last heard.

    `slot`: host label and worker number, the same after a restart. `start`: which run of it. `heard`: the store's time
    in the last receipt of a push, 0.0 before the first. `birth`: of the store as this worker accepted it. `slots`: how
    many workers share the store by configuration.
    """

    slot: str
    start: int
    heard: float = 0.0
    birth: str = ""
    slots: int = 1

    @property
    def writer(self) -> str:
        """The name under which this run of the worker counts."""
        return f"{self.slot}@{self.start}"


class Tally(NamedTuple):
    """An account on a UTC date (days since 1970), as one worker sees it.

    `mine`: what this run of the worker has sent, the send at hand not included. `others`: what `GET /key` showed
    beyond all our workers. `limit`: sends a day.
    """

    account: str
    date: int
    mine: int
    others: int
    limit: int


class Claim(NamedTuple):
    """One send to be permitted. `tallies`: one of the day, or two around midnight, of the same account."""

    caller: Caller
    lease: str
    tallies: tuple[Tally, ...]
    minute_limit: int

    @property
    def account(self) -> str:
        """Whose quota is asked for."""
        return self.tallies[0].account


class Taken(NamedTuple):
    """The answer to a claim, with the counts after it: sends of the last 61 s, and of each date claimed."""

    answer: Answer
    minute: int
    days: tuple[int, ...]

    @property
    def permitted(self) -> bool:
        """Whether the request may be sent."""
        return self.answer in (Answer.TAKEN, Answer.AGAIN)


class Sent(NamedTuple):
    """A send of which the store may not know. `age`: seconds ago."""

    account: str
    lease: str
    age: float


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a worker tells in an exchange. `tallies`: of every metered account and current date, those without a send
    too: the room of silent workers is fixed for these. `leaving`: this is its last word."""

    caller: Caller
    marks: tuple[Mark, ...] = ()
    tallies: tuple[Tally, ...] = ()
    sends: tuple[Sent, ...] = ()
    leaving: bool = False


class Standing(NamedTuple):
    """An account on a date: sent by all, kept free for silent workers, and sent by the caller's run alone."""

    used: int
    rooms: int
    mine: int


class Receipt(NamedTuple):
    """The answer to a parcel: the store's time and birth, and how each tally stands after it."""

    now: float
    birth: str
    standings: tuple[Standing, ...]


class Store(Protocol):
    """What several workers share."""

    @property
    def inline(self) -> bool:
        """Whether `take` is fast enough to be called on the event loop."""
        ...

    @property
    def remote(self) -> bool:
        """Whether it may be silent while this machine is well: then each worker goes on by its share."""
        ...

    def take(self, claim: Claim) -> Taken:
        """Count one send on the minute and on every date claimed, all or nothing, before a byte leaves.

        The same lease again counts nothing while its stamp lives. Raises `StoreError`; after `StoreLost` it may have
        been counted, and must not be sent.
        """
        ...

    def push(self, parcel: Parcel) -> Receipt:
        """Tell marks, counts and sends. Repeating it changes nothing. Raises `StoreError`."""
        ...

    def pull(self) -> tuple[Mark, ...]:
        """All marks there are. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Give back what the store holds open. Calling it again does nothing."""
        ...


class Figures(NamedTuple):
    """What one key did with one model for one client in one hour. `client`: which token, or empty.

    `latency` and `ttft` are sums in seconds; `ttft` over the `first` attempts that gave content.
    """

    hour: int  # hours since 1970
    key: str
    model: str
    client: str = ""
    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency: float = 0.0
    ttft: float = 0.0
    first: int = 0


class Archive(Protocol):
    """What one machine keeps for itself. No secret and no prompt goes in here."""

    def save(self, name: str, data: bytes) -> None:
        """Keep a small snapshot under a name, instead of the one before. Raises `StoreError`."""
        ...

    def load(self, name: str) -> bytes | None:
        """The snapshot of a name, None if there is none. Raises `StoreError`."""
        ...

    def stamps(self, account: str) -> tuple[float, ...]:
        """When this account sent in the last 61 s, in UTC seconds. Raises `StoreError`."""
        ...

    def used(self, account: str, date: int) -> int:
        """Sends of an account on a date by all writers, `others` included. Raises `StoreError`."""
        ...

    def add_history(self, rows: Iterable[Figures]) -> None:
        """Add these figures to those of the same hour, key, model and client. Raises `StoreError`."""
        ...

    def history(self, since: int, until: int) -> tuple[Figures, ...]:
        """The figures of the hours since ≤ hour < until, in order. Raises `StoreError`."""
        ...

    def tend(self, now: float) -> None:
        """Forget what is past keeping. To be called every few minutes, off the event loop. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Give back what the archive holds open. Calling it again does nothing."""
        ...
