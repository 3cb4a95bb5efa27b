"""A store that lives as long as its process: for tests, for the library, and where nothing is to be kept."""

import time
from collections.abc import Callable, Iterable
from operator import add
from threading import Lock
from uuid import uuid4

from keywheel.core.marks import Mark
from keywheel.core.types import DAY
from keywheel.stores.book import Book
from keywheel.stores.contract import Claim, Figures, Parcel, Receipt, Taken

KEPT_DAYS = 2  # a date may be charged a little before and after its day
HOURS_A_DAY = 24


class MemoryStore:
    """`Store` and `Archive` in this process, safe to use from several threads."""

    inline, remote = True, False

    def __init__(self, *, clock: Callable[[], float] = time.time, keep: int = 90) -> None:
        self._clock = clock
        self._keep = keep * HOURS_A_DAY
        self._lock = Lock()
        self._book = Book(uuid4().hex)
        self._snapshots: dict[str, bytes] = {}
        self._history: dict[tuple[int, str, str, str], Figures] = {}

    def take(self, claim: Claim) -> Taken:
        """See `Store.take`."""
        with self._lock:
            return self._book.take(claim, self._clock())

    def push(self, parcel: Parcel) -> Receipt:
        """See `Store.push`."""
        with self._lock:
            return self._book.push(parcel, self._clock())

    def pull(self) -> tuple[Mark, ...]:
        """See `Store.pull`."""
        with self._lock:
            return self._book.pull(self._clock())

    def close(self) -> None:
        """There is nothing to give back."""

    def save(self, name: str, data: bytes) -> None:
        """See `Archive.save`."""
        with self._lock:
            self._snapshots[name] = data

    def load(self, name: str) -> bytes | None:
        """See `Archive.load`."""
        with self._lock:
            return self._snapshots.get(name)

    def stamps(self, account: str) -> tuple[float, ...]:
        """See `Archive.stamps`."""
        with self._lock:
            return self._book.stamps(account, self._clock())

    def used(self, account: str, date: int) -> int:
        """See `Archive.used`."""
        with self._lock:
            return self._book.used(account, date)

    def add_history(self, rows: Iterable[Figures]) -> None:
        """See `Archive.add_history`."""
        with self._lock:
            for row in rows:
                place = row[:4]
                self._history[place] = add_up(self._history.get(place), row)

    def history(self, since: int, until: int) -> tuple[Figures, ...]:
        """See `Archive.history`."""
        with self._lock:
            rows = [row for row in self._history.values() if since <= row.hour < until]
        return tuple(sorted(rows))

    def tend(self, now: float) -> None:
        """See `Archive.tend`."""
        oldest = int(now // 3_600) - self._keep
        with self._lock:
            self._book.forget(int(now // DAY) - KEPT_DAYS)
            self._history = {at: row for at, row in self._history.items() if row.hour >= oldest}


def add_up(old: Figures | None, new: Figures) -> Figures:
    if old is None:
        return new
    return Figures._make((*new[:4], *map(add, old[4:], new[4:])))
