"""What one machine keeps for itself, in memory as in a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keywheel.core.marks import Block
from keywheel.core.types import Kind, Provenance, Scope
from keywheel.stores import Figures, Parcel
from keywheel.stores.memory import MemoryStore
from keywheel.stores.sqlite import SqliteStore
from tests.stores.build import NOW, TODAY, claim, joined, taken, tally
from tests.stores.conftest import Hand

HOUR = int(NOW // 3_600)
KEEP = 2  # days


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture(params=["memory", "sqlite"])
def archive(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Hand
) -> Iterator[MemoryStore | SqliteStore]:
    in_memory = request.param == "memory"
    store = (
        MemoryStore(clock=clock, keep=KEEP)
        if in_memory
        else SqliteStore(tmp_path / "state.db", clock=clock, keep=KEEP)
    )
    yield store
    store.close()


AnArchive = MemoryStore | SqliteStore


def figures(hour: int = HOUR, key: str = "primary", client: str = "", attempts: int = 1) -> Figures:
    return Figures(hour, key, "m:free", client, attempts, 1, 0, 500, 300, 2.5, 0.5, 1)


def test_a_snapshot_is_kept_under_its_name(archive: AnArchive) -> None:
    assert archive.load("learnt") is None
    archive.save("learnt", b"\x00\xff old")
    archive.save("learnt", b"\x00\xff new")
    archive.save("salt", b"")
    assert (archive.load("learnt"), archive.load("salt")) == (b"\x00\xff new", b"")


def test_history_adds_up_by_hour_key_model_and_client(archive: AnArchive) -> None:
    archive.add_history([figures(), figures(attempts=4), figures(key="tertiary")])
    archive.add_history([figures(client="c1"), figures()])
    assert archive.history(HOUR, HOUR + 1) == (
        Figures(HOUR, "primary", "m:free", "", 6, 3, 0, 1500, 900, 7.5, 1.5, 3),
        figures(client="c1"),
        figures(key="tertiary"),
    )


def test_history_is_asked_by_hours(archive: AnArchive) -> None:
    archive.add_history([figures(HOUR + n) for n in (3, 1, 2)])
    assert [row.hour for row in archive.history(HOUR + 1, HOUR + 3)] == [HOUR + 1, HOUR + 2]
    assert archive.history(HOUR + 4, HOUR + 9) == ()


def test_the_minute_log_is_there_after_a_restart(archive: AnArchive, clock: Hand) -> None:
    who = joined(archive)
    archive.take(claim(who, 1))
    clock.wait(20.0)
    archive.take(claim(who, 2))
    assert archive.stamps("team") == (NOW, NOW + 20.0)
    assert archive.stamps("other") == ()
    clock.wait(41.0)
    assert archive.stamps("team") == (NOW + 20.0,)


def test_what_was_used_on_a_date_counts_everybody(archive: AnArchive) -> None:
    taken(archive, joined(archive), 3, tally(others=5))
    assert archive.used("team", TODAY) == 8
    assert archive.used("team", TODAY + 1) == archive.used("other", TODAY) == 0


def test_tending_forgets_what_is_past_keeping_and_nothing_else(
    archive: AnArchive, clock: Hand
) -> None:
    who = joined(archive)
    for day in range(-4, 1):
        archive.take(claim(who, day, tally("a", date=TODAY + day)))
    archive.add_history([figures(HOUR - n) for n in (49, 48, 1)])
    ended = Block(Scope(Kind.KEY, "k"), "w", NOW, NOW + 50, Provenance.HEURISTIC, "edge")
    archive.push(Parcel(who, (ended,)))
    archive.save("learnt", b"x")
    clock.wait(55.0)
    archive.tend(clock.now)
    assert [archive.used("a", TODAY + day) for day in range(-4, 1)] == [0, 0, 1, 1, 1]
    assert [row.hour for row in archive.history(0, HOUR + 1)] == [HOUR - 48, HOUR - 1]
    assert (archive.pull(), archive.load("learnt")) == ((), b"x")
    clock.wait(10.0)
    archive.tend(clock.now)
    assert archive.stamps("a") == ()
