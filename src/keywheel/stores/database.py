"""One SQLite file behind one connection and one lock: opened safely, never waited for longer than half a second.

"Durable" means two things, and a setting says which. `process`: what was committed survives the death of this process
at any moment, `kill -9` included, because it is with the operating system; a loss of power may cost the last moments.
`power`: it is on the disk. The first costs tens of microseconds, the second what the disk takes.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Literal, NoReturn

from keywheel.errors import StoreError
from keywheel.stores import files, schema
from keywheel.stores.contract import PATIENCE, StoreLost

log = logging.getLogger("keywheel.stores")

Durability = Literal["process", "power"]
Version = tuple[int, int, int]
WAL, JOURNAL = "wal", "persist"  # the cheaper of the two that need no new file for each commit
# Several processes that write one write-ahead log could lose pages before these versions, and from which on not.
MENDED: tuple[tuple[Version, Version], ...] = (
    ((3, 44, 6), (3, 45, 0)),
    ((3, 50, 7), (3, 51, 0)),
    ((3, 51, 3), (99, 0, 0)),
)
SYNCHRONOUS: Mapping[tuple[str, Durability], str] = {
    (WAL, "process"): "NORMAL",  # the disk is waited for when the log is folded in, not at a commit
    (WAL, "power"): "FULL",
    (JOURNAL, "process"): "OFF",  # anything else waits for the disk twice at every commit
    (JOURNAL, "power"): "FULL",
}
FIRST_PAUSE, LAST_PAUSE = 20e-6, 1e-3  # seconds between two tries while a sibling holds the file
LOG_PAGES = 4_000  # of the write-ahead log: `fold` folds them in; when it did not, a commit does
RESET = "`keywheel state reset` puts it aside and begins a new one"
# What SQLite reports, by the beginning of its name: the sentence, and whether the file is given up.
FAULTS: Mapping[str, tuple[str, bool]] = {
    "SQLITE_BUSY": ("is busy: another process holds it", False),
    "SQLITE_LOCKED": ("is busy: another process holds it", False),
    "SQLITE_FULL": ("cannot grow: the disk is full; make room", False),
    "SQLITE_READONLY": ("cannot be written: make it and its folder writable", False),
    "SQLITE_CANTOPEN": ("cannot be opened: make it and its folder writable", False),
    "SQLITE_IOERR": ("failed to write to the disk; look at the disk, then start anew", True),
    "SQLITE_CORRUPT": (f"is damaged; {RESET}", True),
    "SQLITE_NOTADB": (f"is damaged; {RESET}", True),
}
OTHERWISE = ("cannot be used", True)
_TROUBLE = (sqlite3.Error, UnicodeDecodeError)


def is_wal_safe(version: Version, several: bool) -> bool:
    """Whether this SQLite may keep a write-ahead log for one process, or for several."""
    return not several or any(first <= version < end for first, end in MENDED)


class Database:
    """An open state file. Safe to use from several threads of the process that opened it."""

    def __init__(
        self, path: Path, *, group: str | None = None, durability: Durability = "process"
    ) -> None:
        self.path = path
        self._lock = Lock()
        self._process = os.getpid()
        self._given_up = ""
        self._undone = 0
        files.prepare_folder(path)
        self._occupancy = files.Occupancy(path, group)
        try:
            self._connection = self._open(several=group is not None, durability=durability)
        except BaseException:
            self._occupancy.leave()
            raise

    def close(self) -> None:
        """Close the file and let others use it. Calling it again does nothing."""
        with self._lock:
            self._connection.close()
            self._occupancy.leave()

    def transaction(self) -> "Database":
        """Everything or, after any exception, nothing: `with database.transaction() as connection`.

        Raises `StoreError`.
        """
        return self

    def __enter__(self) -> sqlite3.Connection:
        self._hold()
        try:
            _insist(self._connection, "BEGIN IMMEDIATE")
        except BaseException as error:
            self._undo(error)
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is None:
                _insist(self._connection, "COMMIT")
        except BaseException as failed:
            error = failed
        if error is None:
            self._lock.release()
        else:
            self._undo(error)

    def edition(self) -> tuple[int, int]:
        """Within a transaction: the same as before unless another process has written, or a transaction of ours was
        undone. Own commits leave it as it is."""
        row = self._connection.execute("PRAGMA data_version").fetchone()
        return self._undone, row[0]

    def fold(self) -> None:
        """Fold the write-ahead log into the file; waits for the disk. Raises `StoreError`."""
        self._hold()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except _TROUBLE as error:
            self._fail(error)
        finally:
            self._lock.release()

    # --- inner -----------------------------------------------------------------------------------

    def _hold(self) -> None:
        if self._given_up:
            raise StoreError(self._given_up)
        if os.getpid() != self._process:
            raise StoreError("a state file is opened by each process for itself")
        if not self._lock.acquire(timeout=PATIENCE):
            raise StoreLost(f"the state file {self.path} is busy")

    def _undo(self, error: BaseException) -> NoReturn:
        """Take back what was done, let others in, and say what happened."""
        self._undone += 1
        try:
            with suppress(sqlite3.Error):  # SQLite may have undone it already
                self._connection.execute("ROLLBACK")
            if isinstance(error, _TROUBLE):
                self._fail(error)
            raise error
        finally:
            self._lock.release()

    def _fail(self, error: Exception) -> NoReturn:
        """Say what happened. After a failed write the file is not trusted again until it is opened anew."""
        garbled = isinstance(error, UnicodeDecodeError)  # a text in the file that is none
        name = "SQLITE_CORRUPT" if garbled else getattr(error, "sqlite_errorname", "")
        sentence, given_up = next(
            (f for start, f in FAULTS.items() if name.startswith(start)), OTHERWISE
        )
        told = f"the state file {self.path} {sentence} ({error})"
        if given_up:
            self._given_up = told
            log.error("%s", told)
        raise (StoreLost if sentence.startswith("is busy") else StoreError)(told) from None

    def _open(self, *, several: bool, durability: Durability) -> sqlite3.Connection:
        files.guard(self.path)
        if not self.path.exists():
            files.create(self.path, _build)
        if self.path.stat().st_size == 0:
            raise StoreError(f"the state file {self.path} is empty; {RESET}")
        try:
            connection = _connect(self.path)
        except sqlite3.Error as error:
            self._fail(error)
        try:
            _journal(connection, several, durability)
            schema.migrate(connection)
            if fault := schema.damage(connection):
                raise StoreError(f"the state file {self.path} is damaged: {fault}; {RESET}")
            connection.execute("PRAGMA busy_timeout = 0")  # from here on `_insist` waits
        except _TROUBLE as error:
            connection.close()
            self._fail(error)
        except StoreError:
            connection.close()
            raise
        return connection


def _insist(connection: sqlite3.Connection, statement: str) -> None:
    """Execute what another process may stand in the way of. SQLite's own waiting begins with a whole millisecond and
    soon sleeps for many; a take of a sibling is over in a tenth of one."""
    end, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)
        else:
            return


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _build(path: Path) -> None:
    connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")  # a draft is whole or not at all
        schema.migrate(connection)
    finally:
        connection.close()


def _journal(connection: sqlite3.Connection, several: bool, durability: Durability) -> None:
    mode = WAL if is_wal_safe(sqlite3.sqlite_version_info, several) else JOURNAL
    if mode is JOURNAL:
        log.warning(
            "SQLite %s may damage a write-ahead log that several workers share; a rollback journal is used. "
            "From 3.51.3 on it is safe; until then a loss of power may damage the state file",
            sqlite3.sqlite_version,
        )
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[mode, durability]}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
