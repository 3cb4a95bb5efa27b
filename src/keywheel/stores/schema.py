"""The tables of the state file, as steps that are only ever added to, and the check that they are intact.

`PRAGMA user_version` is the number of steps taken. What must never be read wrong (counts, stamps, marks, snapshots)
carries a seal over its row: SQLite notices a torn page, but not a changed figure.
"""

import sqlite3
from uuid import uuid4
from zlib import crc32

from keywheel.errors import StoreError

APPLICATION = 0x6B657977  # "keyw": tells our file from any other database

_STEP_1 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE day (
        account TEXT NOT NULL, date INTEGER NOT NULL, writer TEXT NOT NULL,
        n INTEGER NOT NULL CHECK (typeof(n) = 'integer' AND n >= 0), seal INTEGER NOT NULL,
        PRIMARY KEY (account, date, writer)) WITHOUT ROWID""",
    """CREATE TABLE send (
        account TEXT NOT NULL, lease TEXT NOT NULL, at REAL NOT NULL, seal INTEGER NOT NULL,
        PRIMARY KEY (account, lease)) WITHOUT ROWID""",
    """CREATE TABLE mark (
        key TEXT PRIMARY KEY, weight REAL NOT NULL, text TEXT NOT NULL, seal INTEGER NOT NULL
        ) WITHOUT ROWID""",
    """CREATE TABLE snapshot (
        name TEXT PRIMARY KEY, data BLOB NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE history (
        hour INTEGER NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, client TEXT NOT NULL,
        attempts INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
        latency REAL NOT NULL, ttft REAL NOT NULL, first INTEGER NOT NULL,
        PRIMARY KEY (hour, key, model, client)) WITHOUT ROWID""",
)
# Sends in the order they were written, so that a reader finds what is new to it behind the last row it knows.
_STEP_2 = (
    "ALTER TABLE send RENAME TO send_1",
    """CREATE TABLE send (
        number INTEGER PRIMARY KEY,
        account TEXT NOT NULL, lease TEXT NOT NULL, at REAL NOT NULL, seal INTEGER NOT NULL)""",
    "INSERT INTO send SELECT NULL, account, lease, at, seal FROM send_1 ORDER BY at",
    "DROP TABLE send_1",
)
STEPS: tuple[tuple[str, ...], ...] = (
    _STEP_1,
    _STEP_2,
)  # add at the end, never change one that was released

SEALED = (  # every row of these ends with its seal
    "SELECT account, date, writer, n, seal FROM day",
    "SELECT account, lease, at, seal FROM send",
    "SELECT key, weight, text, seal FROM mark",
    "SELECT name, data, seal FROM snapshot",
)


def seal(*values: object) -> int:
    """A checksum over the values of a row."""
    return crc32(repr(values).encode())


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, all or none. Raises `StoreError` for a file of a newer keywheel."""
    version, known = _number(connection, "user_version"), len(STEPS)
    if version > known:
        raise StoreError(
            f"the state file was written by a newer keywheel (format {version}, this one knows {known}); "
            "update keywheel, or give this one its own file with state.url"
        )
    foreign = version > 0 and _number(connection, "application_id") != APPLICATION
    if version == known or foreign:  # `damage` names the foreign one
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in STEPS[_number(connection, "user_version") :]:  # a sibling may have been faster
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {known}")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('birth', ?)", (uuid4().hex,))
    connection.execute("COMMIT")


def damage(connection: sqlite3.Connection) -> str | None:
    """What is wrong with an open file, None when nothing is."""
    if _number(connection, "application_id") != APPLICATION:
        return "it is a database of another program"
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        return "its pages are torn"
    if _tables(connection) != _tables_after(_number(connection, "user_version")):
        return "its tables are not ours"
    if _birth(connection) is None:
        return "its name is missing"
    for query in SEALED:
        for *values, told in connection.execute(query):
            if seal(*values) != told:
                return "a figure in it was changed"
    return None


def birth(connection: sqlite3.Connection) -> str:
    """The name this file got when it was made."""
    return str(_birth(connection))


def _birth(connection: sqlite3.Connection) -> object:
    row = connection.execute("SELECT value FROM meta WHERE name = 'birth'").fetchone()
    return row and row[0]


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _tables(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_schema"))


def _tables_after(steps: int) -> set[tuple[str, str]]:
    model = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for step in STEPS[:steps]:
            for statement in step:
                model.execute(statement)
        return _tables(model)
    finally:
        model.close()
