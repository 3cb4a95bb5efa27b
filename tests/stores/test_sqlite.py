"""The state file: who may read and use it, how SQLite keeps it, what is said when the disk fails."""

import logging
import os
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keywheel.errors import StoreError
from keywheel.stores import StoreLost, set_aside
from keywheel.stores.database import is_wal_safe
from keywheel.stores.files import Occupancy
from keywheel.stores.sqlite import SqliteStore
from tests.stores.build import CAP, NOW, TODAY, claim, joined, taken, tally
from tests.stores.conftest import Hand
from tests.stores.statefile import SIDES, filled, open_at, refusal, state

pytestmark = pytest.mark.usefixtures("quiet")  # what is warned of this SQLite has a test of its own


# --- who may read it -------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_nobody_else_can_read_any_file_whatever_the_umask(
    path: Path, group: str | None, umask: int
) -> None:
    old = os.umask(umask & 0o077)
    try:
        store = open_at(path, group=group)
        store.take(claim(joined(store), 1))
        found = {side for side in SIDES if os.path.lexists(f"{path}{side}")}
        modes = {stat.S_IMODE(os.stat(f"{path}{side}").st_mode) for side in found}
        store.close()
    finally:
        os.umask(old)
    assert modes == {0o600}
    assert found >= {"", ".lock"}
    assert found & {"-wal", "-journal"}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_closed_to_them(path: Path) -> None:
    filled(path)
    path.chmod(0o644)
    open_at(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "chmod o-w" in refusal(tmp_path / "state.db")


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    filled(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert "not a plain file" in refusal(link)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert "belongs to another user" in refusal(path)


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said = refusal(tmp_path / "file" / "state.db")
    assert str(tmp_path) in said
    assert "state.url" in said


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="needs root to be somebody else"
)
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o555)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65_534)
    try:
        assert "Permission denied" in refusal(folder / "state.db")
    finally:
        os.seteuid(0)


# --- who may use it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "shares"),
    [
        (None, None, False),
        (None, "g", False),
        ("g", None, False),
        ("g", "h", False),
        ("g", "g", True),
    ],
)
def test_a_second_gateway_is_refused_and_a_sibling_is_not(
    path: Path, first: str | None, second: str | None, shares: bool
) -> None:
    running = open_at(path, group=first)
    if shares:
        open_at(path, group=second).close()
    else:
        assert "used by another gateway" in refusal(path, group=second)
    running.close()
    open_at(path, group=second).close()


def test_a_lock_file_left_by_another_gateway_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Occupancy(path, "old").leave()
    occupancies = [Occupancy(path, "new") for _ in range(3)]
    assert (tmp_path / "state.db.lock").read_text() == "new"
    for occupancy in occupancies:
        occupancy.leave()
        occupancy.leave()


def test_siblings_that_start_together_all_get_in(path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_at(path, group="g"), range(6)))
    for store in stores:
        store.close()
        store.close()


def test_a_refused_start_leaves_the_file_free(path: Path) -> None:
    filled(path)
    path.write_bytes(b"")
    refusal(path)
    set_aside(path, NOW)
    open_at(path).close()


def test_a_child_process_must_open_it_for_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(StoreError, match="for itself"):
        store.load("x")
    monkeypatch.undo()
    store.close()


def test_threads_take_one_after_the_other(path: Path) -> None:
    store = open_at(path)
    who = joined(store)
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda n: store.take(claim(who, n, tally(limit=99), cap=150)).answer, range(120)
            )
        )
    assert answers.count("taken") == store.used("team", TODAY) == 99
    store.close()


# --- SQLite itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_a_log_is_shared_only_where_sqlite_is_mended(
    version: tuple[int, int, int], safe: bool
) -> None:
    assert is_wal_safe(version, several=True) is safe
    assert is_wal_safe(version, several=False)


@pytest.mark.parametrize(
    ("version", "group", "mode"),
    [((3, 40, 1), None, "wal"), ((3, 40, 1), "g", "persist"), ((3, 51, 3), "g", "wal")],
)
def test_the_journal_fits_the_version_and_a_warning_names_it(
    version: tuple[int, int, int],
    group: str | None,
    mode: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    with caplog.at_level(logging.WARNING, "keywheel.stores"):
        store = open_at(path, group=group)
    assert ("rollback journal" in caplog.text) is (mode == "persist")
    store.close()
    reader = sqlite3.connect(path)
    assert reader.execute("PRAGMA journal_mode").fetchone()[0] == (
        "wal" if mode == "wal" else "delete"
    )
    reader.close()


def test_a_file_of_one_process_can_go_on_with_several_and_back(path: Path) -> None:
    filled(path)
    before = state(path)
    open_at(path, group="g").close()
    assert state(path) == before


def test_a_file_held_by_another_process_is_given_up_after_half_a_second(path: Path) -> None:
    store = open_at(path)
    who = joined(store)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreLost):
        store.take(claim(who, 1))
    assert 0.4 < time.monotonic() - began < 1.5
    holder.execute("ROLLBACK")
    holder.close()
    assert store.take(claim(who, 1)).days == (1,)
    store.close()


def test_a_full_disk_is_named_and_passes(path: Path) -> None:
    store = open_at(path)
    who = joined(store)
    connection = store._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="disk is full"):
        store.save("big", b"x" * 100_000)
    connection.execute("PRAGMA max_page_count = 100000")
    assert store.take(claim(who, 1)).permitted
    store.close()


def test_after_an_error_of_the_file_nothing_is_taken_until_it_is_opened_anew(path: Path) -> None:
    store = open_at(path)
    who = joined(store)
    with store._database.transaction() as db:
        db.execute("DROP TABLE send")
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be used"):
            store.take(claim(who, 1))
    store.close()
    assert "not ours" in refusal(path)


def test_a_clock_put_back_fills_the_minute_for_a_minute_only(path: Path) -> None:
    clock = Hand()
    store = SqliteStore(path, clock=clock)
    who = joined(store)
    taken(store, who, CAP)
    clock.wait(-3_600.0)
    assert store.take(claim(who, "late")).answer == "minute"
    assert store.stamps("team") == (clock.now,) * CAP
    clock.wait(61.1)
    assert store.take(claim(who, "late")).answer == "taken"
    store.close()
