"""I25: a damaged, older or newer state file is refused, migrated or read as it was; never as smaller counters."""

import sqlite3
from pathlib import Path
from random import Random

import pytest

from keywheel.errors import StoreError
from keywheel.stores import schema, set_aside
from tests.stores.build import NOW, joined, taken
from tests.stores.statefile import SIDES, filled, open_at, refusal, state

pytestmark = pytest.mark.usefixtures("quiet")


# --- damaged files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"garbage " * 2000, b"SQLite format 3\0", b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert "keywheel state reset" in refusal(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.executescript("CREATE TABLE day (x); PRAGMA user_version = 1;")
    other.close()
    assert "another program" in refusal(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_is_refused_or_changes_nothing(path: Path, seed: int) -> None:
    filled(path)
    whole, before, random = path.read_bytes(), state(path), Random(seed)
    outcomes = {"refused": 0, "same": 0}
    for _ in range(60):
        place, bit = random.randrange(len(whole) * 8) // 8, random.randrange(8)
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        outcomes[_outcome(path, before, f"bit {bit} of byte {place}")] += 1
    assert outcomes["same"]


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_where_something_is_written_is_never_a_smaller_count(
    path: Path, seed: int
) -> None:
    filled(path)
    whole, before, random = path.read_bytes(), state(path), Random(seed)
    written = [place for place, byte in enumerate(whole) if byte]
    outcomes = {"refused": 0, "same": 0}
    for place in random.sample(written, 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.randrange(8)
        path.write_bytes(flipped)
        outcomes[_outcome(path, before, f"byte {place}")] += 1
    assert outcomes["refused"] > 30


def test_a_truncated_file_is_refused_unless_nothing_was_written_there(path: Path) -> None:
    filled(path)
    whole, before, random = path.read_bytes(), state(path), Random(1)
    outcomes = {"refused": 0, "same": 0}
    for _ in range(30):
        length = random.randrange(len(whole))
        path.write_bytes(whole[:length])
        outcomes[_outcome(path, before, f"{length} bytes")] += 1
    assert outcomes["refused"] > 20


def test_a_flipped_bit_in_the_log_gives_an_older_state_or_none(path: Path, tmp_path: Path) -> None:
    """The process is gone without folding in its log, and the log is damaged as well."""
    store, copy = open_at(path), tmp_path / "copy" / "state.db"
    who = joined(store)
    taken(store, who, 9)
    parts = {side: Path(f"{path}{side}").read_bytes() for side in ("", "-wal")}
    store.close()
    copy.parent.mkdir()
    random = Random(1)
    for _ in range(40):
        log = bytearray(parts["-wal"])
        log[random.randrange(len(log))] ^= 1 << random.randrange(8)
        for side in ("-shm", "-journal"):
            Path(f"{copy}{side}").unlink(missing_ok=True)
        copy.write_bytes(parts[""])
        Path(f"{copy}-wal").write_bytes(log)
        try:
            (used, _), stamps, _, _ = state(copy)
        except StoreError:
            continue
        assert used == stamps <= 9


def _outcome(path: Path, before: tuple[object, ...], what: str) -> str:
    for side in SIDES[1:]:
        Path(f"{path}{side}").unlink(missing_ok=True)
    try:
        after = state(path)
    except StoreError:
        return "refused"
    assert after == before, what
    return "same"


def test_what_is_set_aside_keeps_everything(path: Path) -> None:
    filled(path)
    before = state(path)
    aside = set_aside(path, NOW)
    assert not path.exists()
    assert state(path)[0] == (0, 0)
    assert state(aside) == before


def test_a_file_without_its_name_is_refused(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE meta SET name = 'birtj'")
    file.close()
    assert "its name is missing" in refusal(path)


def test_the_tables_of_another_program_are_not_migrated(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.executescript("CREATE TABLE send (x); PRAGMA user_version = 1;")
        refusal(path)
        assert other.execute("SELECT sql FROM sqlite_schema").fetchall() == [
            ("CREATE TABLE send (x)",)
        ]
    other.close()


# --- older and newer ones --------------------------------------------------------------------------


def test_the_sends_of_a_file_of_format_1_are_kept(path: Path) -> None:
    filled(path)
    before = state(path)
    with sqlite3.connect(path) as file:
        rows = file.execute("SELECT account, lease, at, seal FROM send").fetchall()
        file.execute("DROP TABLE send")
        file.execute(next(sql for sql in schema.STEPS[0] if "TABLE send" in sql))
        file.executemany("INSERT INTO send VALUES (?, ?, ?, ?)", rows)
        file.execute("PRAGMA user_version = 1")
        file.commit()
        assert schema.damage(file) is None
    file.close()
    assert state(path) == before
    store = open_at(path)
    assert taken(store, joined(store), 8) == ["again"] * 7 + ["taken"]
    store.close()


STEP_2 = ("ALTER TABLE snapshot ADD COLUMN note TEXT", "CREATE TABLE more (x INTEGER)")


def test_an_older_file_is_migrated_and_keeps_its_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    before = state(path)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, STEP_2[1:]))
    assert state(path) == before


def test_a_newer_file_is_refused_and_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(schema, "STEPS", (*schema.STEPS, STEP_2[1:]))
        filled(path)
    content = path.read_bytes()
    assert "newer keywheel" in refusal(path)
    assert path.read_bytes() == content


def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    before = state(path)
    with monkeypatch.context() as broken:
        broken.setattr(schema, "STEPS", (*schema.STEPS, (*STEP_2, "CREATE NONSENSE")))
        refusal(path)
    assert state(path) == before
