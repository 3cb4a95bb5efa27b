"""The decision log: whole lines, one owner, bounded, and never in the way of a request."""

import json
import os
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from keywheel import trail
from keywheel.config import Config, LogSettings
from keywheel.core.replay import Record, chosen, decide, policy_of
from keywheel.engine import Engine
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.trail import Trail
from tests.core.build import ASK, answered, pool, take
from tests.gateway.asgi import served

KEY = "sk-or-v1-" + "5ec2e7" * 10


def read(path: Path) -> list[Record]:
    return [msgspec.json.decode(line, type=Record) for line in path.read_bytes().splitlines()]


def decided(writer: Trail, number: int = 3) -> None:
    """So many decisions are seen by it."""
    made = pool()
    made.watch = writer.see
    for n in range(number):
        made.settle(take(made, ASK._replace(request_id=f"r{n}")), answered(), 1_791_201_600.0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_decision_is_a_line_that_can_be_decided_again(tmp_path: Path) -> None:
    writer = Trail(tmp_path / "log")
    writer.start()
    decided(writer)
    writer.close()
    records = read(tmp_path / "log")
    assert [record.request_id for record in records] == ["r0", "r1", "r2"]
    assert all(chosen(decide(r, policy_of(r))) == r.chosen for r in records)
    assert json.loads((tmp_path / "log").read_text().splitlines()[0])["version"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="other rights there")
def test_the_file_is_its_owners_alone_also_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    (tmp_path / "log").chmod(0o644)
    writer = Trail(tmp_path / "log")
    decided(writer)
    writer._write()
    assert (tmp_path / "log").read_text().startswith("old\n{")
    assert mode(tmp_path / "log") == 0o600


def test_a_full_file_becomes_the_predecessor_and_no_more_than_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "LARGEST", 4_000)
    writer = Trail(tmp_path / "log")
    decided(writer, 40)
    writer._write()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.old"]
    assert all(file.stat().st_size <= 4_000 for file in tmp_path.iterdir())
    assert mode(tmp_path / "log.old") == 0o600
    ids = [r.request_id for name in ("log.old", "log") for r in read(tmp_path / name)]
    assert ids == [f"r{n}" for n in range(40)][-len(ids) :]


def test_a_file_that_was_put_aside_is_begun_anew(tmp_path: Path) -> None:
    writer = Trail(tmp_path / "log")
    for name in ("first", "second"):
        decided(writer, 1)
        writer._write()
        (tmp_path / "log").rename(tmp_path / name)
    assert [len(read(tmp_path / name)) for name in ("first", "second")] == [1, 1]


def test_what_does_not_fit_in_is_dropped_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trail, "WAITING", 2)
    writer = Trail(tmp_path / "log")
    decided(writer, 5)
    writer._write()
    assert (len(read(tmp_path / "log")), writer.dropped) == (2, 3)
    assert "3 decisions were not recorded, 3 in all" in caplog.text
    caplog.clear()
    writer._write()
    assert caplog.text == ""


def test_a_disk_that_fails_ends_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Trail(tmp_path / "nowhere" / "log")
    for _ in range(2):
        decided(writer)
        writer._write()
    assert writer.dropped == 6
    assert caplog.text.count("cannot be written: No such file or directory") == 1
    (tmp_path / "nowhere").mkdir()
    decided(writer)
    writer._write()
    assert len(read(tmp_path / "nowhere" / "log")) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_what_is_no_plain_file_is_not_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("pipe", "link"):
        writer = Trail(tmp_path / name)
        decided(writer)
        writer._write()
        assert writer.dropped == 3
    os.close(reader)
    assert (tmp_path / "target").read_bytes() == b""
    assert "it is not a plain file" in caplog.text


def test_an_error_of_ours_ends_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Record:
        raise ZeroDivisionError

    monkeypatch.setattr(trail, "take_down", fail)
    writer = Trail(tmp_path / "log")
    decided(writer, 1)
    assert writer.dropped == 1
    assert "could not be taken down" in caplog.text


def test_workers_write_to_files_of_their_own() -> None:
    names = [found.path.name for n in range(3) if (found := Trail.of("x/log.jsonl", n))]
    assert names == ["log.jsonl", "log.jsonl.w1", "log.jsonl.w2"]
    assert (Trail.of(None, 0), Trail.of("", 0)) == (None, None)


def test_an_engine_writes_it_where_the_settings_say_and_no_secret(tmp_path: Path) -> None:
    from keywheel.core.tried import Tried
    from keywheel.wire.models import read_models

    settings = Config(log=LogSettings(decisions=str(tmp_path / "log")))
    engine = Engine(settings, [KeyEntry("primary", Secret(KEY), "test")])
    listed = json.dumps({"data": [served("a/small-8b:free")]}).encode()
    engine.take_models(read_models(listed))
    assert engine._trail
    engine._trail.start()
    engine.note(lambda made, now: made.select(ASK, Tried(), now) and None)
    engine.close()
    (record,) = read(tmp_path / "log")
    assert record.chosen.key == "primary"
    assert KEY[9:25] not in (tmp_path / "log").read_text()
    assert Engine(Config(), []).pool.watch is None
