"""State files of tests: opened, filled, read back, refused."""

from pathlib import Path
from typing import Any

import pytest

from keywheel.core.marks import Count
from keywheel.errors import StoreError
from keywheel.stores import Parcel
from keywheel.stores.sqlite import SqliteStore
from tests.stores.build import NOW, TODAY, joined, taken, tally

SIDES = ("", "-wal", "-shm", "-journal", ".lock")


def open_at(path: Path, **options: Any) -> SqliteStore:
    return SqliteStore(path, clock=lambda: NOW, **options)


def filled(path: Path) -> None:
    """A file with something in every table."""
    store = open_at(path)
    who = joined(store)
    taken(store, who, 7)
    store.push(Parcel(who, (Count("x", 1, "w", 1),), (tally("other", mine=300, others=20),)))
    store.save("learnt", b"figures")
    store.close()


def state(path: Path) -> tuple[object, ...]:
    store = open_at(path)
    try:
        used = tuple(store.used(account, TODAY) for account in ("team", "other"))
        return (used, len(store.stamps("team")), store.pull(), store.load("learnt"))
    finally:
        store.close()


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(StoreError) as caught:
        open_at(path, **options)
    return str(caught.value)
