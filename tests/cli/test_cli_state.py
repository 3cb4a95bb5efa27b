"""`keywheel state`: nothing is deleted, nothing is taken from a running gateway, nothing secret is shown."""

import json
import sqlite3
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keywheel.stores import Figures
from keywheel.stores.sqlite import SqliteStore
from tests.cli.commandline import data, keywheel, refusal

SALT = b"never shown salt"


@pytest.fixture
def kept(folder: Path) -> Path:
    path = folder / "state" / "keywheel" / "state.db"
    with gateway(path) as store:
        store.save("salt", SALT)
        store.add_history([Figures(480_000, "primary", "a/b:free", attempts=3)])
    return path


@contextmanager
def gateway(path: Path) -> Generator[SqliteStore]:
    """Somebody who has the file."""
    store = SqliteStore(path)
    try:
        yield store
    finally:
        store.close()


def attempts(path: Path) -> int:
    with gateway(path) as store:
        return sum(row.attempts for row in store.history(0, 10**6))


# --- show ------------------------------------------------------------------------------------------


def test_what_is_in_it_by_names_counts_and_sizes(kept: Path) -> None:
    told = data("state", "show")
    assert told["path"] == str(kept)
    assert told["tables"] == {"day": 0, "send": 0, "mark": 0, "snapshot": 1, "history": 1}
    assert told["snapshots"] == {"salt": len(SALT)}
    assert (told["format"], told["in_use"], told["shared_with"]) == (2, False, None)
    result = keywheel("state", "show", COLUMNS="80")
    assert result.exit_code == 0
    assert SALT.decode() not in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_it_may_be_looked_at_and_copied_while_a_gateway_uses_it(kept: Path, folder: Path) -> None:
    with gateway(kept) as store:
        store.add_history([Figures(480_001, "primary", "a/b:free", attempts=4)])
        assert data("state", "show")["in_use"] is True
        assert keywheel("state", "export", "copy.db").exit_code == 0
    assert attempts(folder / "copy.db") == 7


def test_without_a_file_everything_says_so() -> None:
    for args in (("show",), ("export", "copy.db"), ("reset", "--yes")):
        assert refusal(1, "state", *args).startswith("there is no state file ")


def test_where_nothing_is_kept_everything_says_so(kept: Path) -> None:
    said = refusal(1, "state", "show", KEYWHEEL_STATE__URL="memory:")
    assert said == 'state.url is "memory:", so nothing is kept'
    assert kept.exists()


def test_a_server_that_shares_counters_is_named_without_its_password(kept: Path) -> None:
    told = data("state", "show", KEYWHEEL_STATE__URL="rediss://me:hidden@store.example:6380/0")
    assert (told["shared_with"], told["path"]) == ("store.example:6380", str(kept))
    assert "hidden" not in json.dumps(told)


# --- export and import -----------------------------------------------------------------------------


def test_a_copy_is_one_file_that_only_its_owner_can_read(kept: Path, folder: Path) -> None:
    result = keywheel("state", "export", "copy.db")
    copy = folder / "copy.db"
    assert (result.exit_code, result.stdout) == (0, "")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.glob("copy*")) == ["copy.db"]
    assert attempts(copy) == attempts(kept) == 3


@pytest.mark.usefixtures("kept")
def test_no_file_is_written_over(folder: Path) -> None:
    (folder / "copy.db").write_text("mine")
    assert (
        refusal(1, "state", "export", "copy.db") == "copy.db is there already; choose another name"
    )
    assert (folder / "copy.db").read_text() == "mine"


def test_state_moves_to_another_host(kept: Path, folder: Path) -> None:
    keywheel("state", "export", "copy.db")
    there = folder / "there" / "state.db"
    result = keywheel("state", "import", "copy.db", KEYWHEEL_STATE__URL=f"sqlite:{there}")
    assert (result.exit_code, result.stdout) == (0, "")
    assert attempts(there) == 3
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    assert attempts(kept) == 3


def test_what_an_import_replaces_is_put_aside(kept: Path) -> None:
    keywheel("state", "export", "copy.db")
    with gateway(kept) as store:
        store.add_history([Figures(480_001, "primary", "a/b:free", attempts=4)])
    assert keywheel("state", "import", "copy.db", "--yes").exit_code == 0
    (aside,) = (path for path in kept.parent.glob("state.db.2*Z"))
    assert (attempts(kept), attempts(aside)) == (3, 7)


def test_only_our_own_sound_files_are_imported(kept: Path, folder: Path) -> None:
    (folder / "text.db").write_text("no database" * 500)
    other = sqlite3.connect(folder / "other.db")
    other.execute("CREATE TABLE x (y)")
    other.close()
    for name in ("text.db", "other.db"):
        assert f"{name} is no sound state file" in refusal(1, "state", "import", name, "--yes")
    assert attempts(kept) == 3


def test_a_file_of_a_newer_keywheel_is_not_imported(kept: Path, folder: Path) -> None:
    keywheel("state", "export", "copy.db")
    newer = sqlite3.connect(folder / "copy.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert "written by a newer keywheel" in refusal(1, "state", "import", "copy.db", "--yes")
    assert attempts(kept) == 3


# --- reset -----------------------------------------------------------------------------------------


def test_a_reset_puts_the_file_aside_and_says_where(kept: Path) -> None:
    result = keywheel("state", "reset", "--yes")
    (aside,) = (path for path in kept.parent.glob("state.db.2*Z"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"put aside: {aside}; to have it back: keywheel state import {aside}" in result.stderr
    assert not kept.exists()
    assert attempts(aside) == 3


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 130)])
def test_a_reset_asks_first(kept: Path, answer: str, code: int) -> None:
    result = keywheel("state", "reset", input=answer)
    assert (result.exit_code, result.stdout) == (code, "")
    assert "aside and begin with an empty state? [y/N]" in result.stderr
    assert kept.exists() is bool(code)


@pytest.mark.parametrize("args", [("reset", "--yes"), ("import", "copy.db", "--yes")])
def test_nothing_is_taken_from_a_running_gateway(kept: Path, args: tuple[str, ...]) -> None:
    keywheel("state", "export", "copy.db")
    with gateway(kept):
        assert "is used by another gateway; stop that one" in refusal(1, "state", *args)
    assert attempts(kept) == 3
