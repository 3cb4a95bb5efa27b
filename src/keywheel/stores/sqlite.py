"""The default store: one SQLite file, shared by the workers of one gateway on one machine.

There are no rooms and no shares here: a worker that cannot reach the file of its own machine sends nothing on metered
accounts, so nobody has to leave room for it.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from keywheel.core.marks import Mark, fade
from keywheel.core.types import DAY
from keywheel.stores import schema
from keywheel.stores.book import Minute, Place, Send
from keywheel.stores.contract import (
    KEPT,
    OTHERS,
    Answer,
    Claim,
    Figures,
    Parcel,
    Receipt,
    Standing,
    StoreLost,
    Taken,
    Tally,
)
from keywheel.stores.database import Database, Durability
from keywheel.stores.rows import MarkRow, from_text, to_row
from keywheel.stores.schema import seal

KEPT_DAYS = 2  # a date may be charged a little before and after its day
HOURS_A_DAY = 24
AHEAD = (
    5.0  # seconds; a stamp from later was set before the clock was put back, and counts from now on
)
BULK = 64  # rows past 61 s are deleted so many at a time: one take in 64 takes some 50 µs longer


class SqliteStore:
    """`Store` and `Archive` in a file. `keep`: days of history. `group`: given by the parent of several workers.

    Raises `StoreError` for a file that cannot be used, is in use, or is damaged.
    """

    remote = False

    def __init__(
        self,
        path: Path,
        *,
        group: str | None = None,
        durability: Durability = "process",
        keep: int = 90,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # A take that waits for the disk would hold up everybody.
        self.inline = durability == "process"
        self._clock = clock
        self._keep = keep * HOURS_A_DAY
        self._database = Database(path, group=group, durability=durability)
        with self._database.transaction() as db:
            self._birth = schema.birth(db)
        self._seen = Seen()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # --- what workers share ----------------------------------------------------------------------

    def take(self, claim: Claim) -> Taken:
        """See `Store.take`."""
        if claim.caller.birth != self._birth:
            raise StoreLost("the state file is another one than before")
        now, writer = self._clock(), claim.caller.writer
        with self._database.transaction() as db:
            seen = self._seen
            seen.catch_up(db, self._database.edition(), now)
            sends = seen.sends(claim.account)
            days = [seen.counts(db, tally, writer) for tally in claim.tallies]
            answer = _judge(claim, sends, days)
            if answer is Answer.TAKEN:
                seen.log(db, claim.account, claim.lease, now)
                for tally, counts in zip(claim.tallies, days, strict=True):
                    counts[writer] += 1
                    _count(db, tally, writer, counts[writer])
            return Taken(answer, len(sends), tuple(sum(counts.values()) for counts in days))

    def push(self, parcel: Parcel) -> Receipt:
        """See `Store.push`."""
        now, writer = self._clock(), parcel.caller.writer
        with self._database.transaction() as db:
            seen = self._seen
            seen.catch_up(db, self._database.edition(), now)
            days = [seen.counts(db, tally, writer) for tally in parcel.tallies]
            for sent in parcel.sends:
                if sent.lease not in seen.sends(sent.account):
                    seen.log(db, sent.account, sent.lease, now - sent.age)
            db.executemany(_MARK, [_sealed(to_row(mark)) for mark in parcel.marks])
            standings = tuple(Standing(sum(counts.values()), 0, counts[writer]) for counts in days)
        return Receipt(now, self._birth, standings)

    def pull(self) -> tuple[Mark, ...]:
        """See `Store.pull`."""
        with self._database.transaction() as db:
            texts = [text for (text,) in db.execute("SELECT text FROM mark")]
        return _marks(texts, self._clock())

    # --- what one machine keeps ------------------------------------------------------------------

    def save(self, name: str, data: bytes) -> None:
        """See `Archive.save`."""
        with self._database.transaction() as db:
            row = (name, data, seal(name, data))
            db.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", row)

    def load(self, name: str) -> bytes | None:
        """See `Archive.load`."""
        with self._database.transaction() as db:
            row = db.execute("SELECT data FROM snapshot WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def stamps(self, account: str) -> tuple[float, ...]:
        """See `Archive.stamps`."""
        since = self._clock() - KEPT
        with self._database.transaction() as db:
            rows = db.execute("SELECT at FROM send WHERE account = ? AND at > ?", (account, since))
            return tuple(sorted(at for (at,) in rows))

    def used(self, account: str, date: int) -> int:
        """See `Archive.used`."""
        with self._database.transaction() as db:
            return sum(_counts(db, account, date).values())

    def add_history(self, rows: Iterable[Figures]) -> None:
        """See `Archive.add_history`."""
        with self._database.transaction() as db:
            db.executemany(_ADD_HISTORY, rows)

    def history(self, since: int, until: int) -> tuple[Figures, ...]:
        """See `Archive.history`."""
        query = (
            "SELECT * FROM history WHERE hour >= ? AND hour < ? ORDER BY hour, key, model, client"
        )
        with self._database.transaction() as db:
            return tuple(Figures(*row) for row in db.execute(query, (since, until)))

    def tend(self, now: float) -> None:
        """See `Archive.tend`."""
        with self._database.transaction() as db:
            rows = dict(db.execute("SELECT key, text FROM mark").fetchall())
            alive = {to_row(mark).key for mark in _marks(rows.values(), self._clock())}
            db.executemany("DELETE FROM mark WHERE key = ?", [(k,) for k in rows.keys() - alive])
            db.execute(_FORGET, (self._clock() - KEPT, _ALL))
            db.execute("DELETE FROM day WHERE date < ?", (int(now // DAY) - KEPT_DAYS,))
            self._seen.forget_days()
            db.execute("DELETE FROM history WHERE hour < ?", (int(now // 3_600) - self._keep,))
        self._database.fold()


class Seen:
    """What this process knows of the tables `send` and `day`, so that a take has nothing to read.

    Invariant: within a transaction, from `catch_up` on, it knows each row of `send` younger than 61 s and the last row
    of all, and of every date it keeps what `day` says. That lasts into the next transaction while the edition of the
    database is the same. When a sibling wrote, what is new in `send` lies behind the last row known, because rows are
    only added at the end, never changed, and the last one is never deleted; dates are read anew. When something was
    undone, everything is.
    """

    def __init__(self) -> None:
        self._edition = (0, -1)
        self._minute = Minute()
        self._days: dict[Place, dict[str, int]] = {}  # → writer → count
        self._past = 0  # rows past 61 s that may still be in the table

    def catch_up(self, db: sqlite3.Connection, edition: tuple[int, int], now: float) -> None:
        """To be called first in a transaction: from then on until its end, what is told here is the truth."""
        if edition != self._edition:
            if edition[0] != self._edition[0]:
                self._minute = Minute()
            for row in db.execute(_NEWS, (self._minute.last,)):
                self._minute.note(Send._make(row))
            self._days.clear()
            self._edition = edition
        for send in self._minute.take_later(now + AHEAD):
            self.log(db, send.account, send.lease, now)
            db.execute("DELETE FROM send WHERE number = ?", (send.number,))
        self._past += self._minute.age(now)
        if self._past >= BULK:
            db.execute(_FORGET, (now - KEPT, self._minute.past))
            self._past = 0

    def sends(self, account: str) -> Mapping[str, int]:
        """Those of the last 61 s by lease, as they change."""
        return self._minute.of(account)

    def log(self, db: sqlite3.Connection, account: str, lease: str, at: float) -> None:
        """Write down a send. A number that is given already is an error of SQLite: then the invariant is broken."""
        number = self._minute.last + 1
        row = (account, lease, at)
        db.execute("INSERT INTO send VALUES (?, ?, ?, ?, ?)", (number, *row, seal(*row)))
        self._minute.note(Send(at, number, account, lease))

    def counts(self, db: sqlite3.Connection, tally: Tally, writer: str) -> dict[str, int]:
        """Those of a date by writer, as they change, brought up to what the caller tells."""
        place = (tally.account, tally.date)
        counts = self._days.get(place)
        if counts is None:
            counts = self._days[place] = _counts(db, *place)
        for name, told in ((writer, tally.mine), (OTHERS, tally.others)):
            if told > counts.setdefault(name, 0):
                counts[name] = told
                _count(db, tally, name, told)
        return counts

    def forget_days(self) -> None:
        """Dates were deleted."""
        self._days.clear()


# --- statements ------------------------------------------------------------------------------------

_MARK = """INSERT INTO mark VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
    SET weight = excluded.weight, text = excluded.text, seal = excluded.seal
    WHERE excluded.weight >= weight"""
_NEWS = "SELECT at, number, account, lease FROM send WHERE number > ? ORDER BY number"
_ALL = 2**63 - 1
_FORGET = """DELETE FROM send WHERE at <= ? AND number <= ?
    AND number < (SELECT max(number) FROM send)"""
_ADD_HISTORY = """INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (hour, key, model, client) DO UPDATE SET
    attempts = attempts + excluded.attempts, succeeded = succeeded + excluded.succeeded,
    failed = failed + excluded.failed, tokens_in = tokens_in + excluded.tokens_in,
    tokens_out = tokens_out + excluded.tokens_out, latency = latency + excluded.latency,
    ttft = ttft + excluded.ttft, first = first + excluded.first"""


def _marks(texts: Iterable[str], now: float) -> tuple[Mark, ...]:
    return fade((mark for text in texts if (mark := from_text(text))), now)


def _judge(claim: Claim, sends: Mapping[str, int], days: list[dict[str, int]]) -> Answer:
    if claim.lease in sends:
        return Answer.AGAIN
    if len(sends) >= claim.minute_limit:
        return Answer.MINUTE
    places = zip(claim.tallies, days, strict=True)
    full = any(sum(counts.values()) >= tally.limit for tally, counts in places)
    return Answer.DAY if full else Answer.TAKEN


def _counts(db: sqlite3.Connection, account: str, date: int) -> dict[str, int]:
    query = "SELECT writer, n FROM day WHERE account = ? AND date = ?"
    return dict(db.execute(query, (account, date)).fetchall())


def _count(db: sqlite3.Connection, tally: Tally, writer: str, n: int) -> None:
    row = (tally.account, tally.date, writer, n)
    db.execute("INSERT OR REPLACE INTO day VALUES (?, ?, ?, ?, ?)", (*row, seal(*row)))


def _sealed(row: MarkRow) -> tuple[object, ...]:
    return (*row, seal(*row))
