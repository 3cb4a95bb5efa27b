"""The state file as commands see it: looked at without taking it, or taken for as long as a change lasts."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from keywheel.config import Config
from keywheel.errors import Error
from keywheel.stores import place_of, schema
from keywheel.stores.contract import Figures
from keywheel.stores.files import Occupancy, create, prepare_folder
from keywheel.stores.opening import default_file
from keywheel.stores.urls import InFile, InMemory, InRedis

PATIENCE = 2.0  # seconds to wait for a gateway that writes at this moment
NOT_KEPT = 'state.url is "memory:", so nothing is kept'


def state_file(config: Config) -> Path:
    """The file in which this machine keeps state. Raises `Error` when it keeps none."""
    place = place_of(config.state)
    if isinstance(place, InMemory):
        raise Error(NOT_KEPT)
    return place.path if isinstance(place, InFile) else default_file()


def shared_with(config: Config) -> str | None:
    """The server that holds counters and blocks, if it is not the file; never with user or password."""
    place = place_of(config.state)
    return f"{place.host}:{place.port}" if isinstance(place, InRedis) else None


def existing(path: Path) -> Path:
    """The file. Raises `Error` when there is none."""
    if not path.is_file():
        raise Error(f"there is no state file {path}")
    return path


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """Read a file, whoever uses it, and change nothing. Raises `Error` for one that is not ours or damaged."""
    address = f"{existing(path).resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as connection:
            if fault := schema.damage(connection):
                raise Error(f"{path} is no sound state file: {fault}")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise Error(f"{path} is no sound state file: {error}") from None


def version(connection: sqlite3.Connection) -> int:
    """The format's number."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def rows(connection: sqlite3.Connection, table: str) -> int:
    """How many rows a table of ours has."""
    query = f"SELECT count(*) FROM {table}"  # noqa: S608 - a name of ours, which cannot be a parameter
    return int(connection.execute(query).fetchone()[0])


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises `Error` for a file of a newer keywheel."""
    if version(connection) > len(schema.STEPS):
        raise Error(
            f"{path} was written by a newer keywheel (format {version(connection)}); update this one"
        )


def history(path: Path, since: int, until: int) -> tuple[Figures, ...]:
    """The figures of the hours since ≤ hour < until."""
    query = "SELECT * FROM history WHERE hour >= ? AND hour < ? ORDER BY hour, key, model, client"
    with reading(path) as connection:
        return tuple(Figures(*row) for row in connection.execute(query, (since, until)))


def is_used(path: Path) -> bool:
    """Whether a gateway has it."""
    try:
        with taken(path):
            return False
    except Error:
        return True


@contextmanager
def taken(path: Path) -> Generator[None]:
    """Keep gateways from the file. Raises `Error` while one uses it."""
    prepare_folder(path)
    occupancy = Occupancy(path, None)
    try:
        yield
    finally:
        occupancy.leave()


def copy(source: Path, target: Path) -> None:
    """A copy in one piece of a file that may be in use; only its owner can read it. Raises `Error`."""
    if os.path.lexists(target):
        raise Error(f"{target} is there already; choose another name")

    def build(draft: Path) -> None:
        with reading(source) as old, closing(sqlite3.connect(draft)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it

    create(target, build)
