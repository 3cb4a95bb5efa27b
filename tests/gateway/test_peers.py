"""What workers ask each other, and what is left of those that have ended."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from keywheel.core.packing import pack
from keywheel.core.stats import Stats
from keywheel.core.sums import Part, total
from keywheel.core.types import Attempted
from keywheel.gateway import peers
from keywheel.gateway.peers import Peers

NOON = 1_791_200_000.0


def counted(attempts: int) -> Stats:
    """The counts of a worker after so many attempts."""
    stats = Stats(NOON)
    for _ in range(attempts):
        stats.record(Attempted(NOON, "r1", "k1", "a1", "m1", "ok", "", True, 0.5, 1.0))
    return stats


def worker(stats: Stats) -> Callable[[str, str], Any]:
    """What a worker tells that has counted so much."""

    def answer(question: str, about: str) -> Any:
        if question == "part":
            return pack(Part(total([stats])))
        return f"{question} {about}" if question == "echo" else None

    return answer


def sum_of(parts: Any) -> int:
    return sum(part.stats.totals.attempts for part in parts)


@pytest.fixture
def three(tmp_path: Path) -> Any:
    with ExitStack() as stack:
        workers = [Peers(tmp_path, n, worker(counted(10**n))) for n in range(3)]
        for each in workers:
            stack.callback(each.leave)
        yield workers


def test_each_tells_what_the_others_have_counted(three: list[Peers]) -> None:
    assert [sum_of(each.parts()) for each in three] == [110, 101, 11]
    assert three[0].ask("echo", "x y") == ["echo x y"] * 2
    assert three[0].ask("unknown") == []


def test_what_a_worker_counted_stays_when_it_leaves(three: list[Peers]) -> None:
    three[2].leave()
    assert [sum_of(each.parts()) for each in three[:2]] == [110, 101]
    three[1].leave()
    three[1].leave()  # once is enough
    assert sum_of(three[0].parts()) == 110


def test_a_new_worker_takes_the_place_of_a_killed_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "1.sock"))
    first = Peers(tmp_path, 0, worker(counted(1)))
    assert first.parts() == []
    second = Peers(tmp_path, 1, worker(counted(2)))
    assert sum_of(first.parts()) == 2
    first.leave()
    second.leave()


def test_one_that_hangs_is_passed_over_in_time(
    three: list[Peers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "7.sock"))
        silent.listen()
        began = time.monotonic()
        assert sum_of(three[0].parts()) == 110
        assert time.monotonic() - began < 5


def test_one_that_fails_is_passed_over_and_goes_on(
    three: list[Peers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(question: str, _about: str) -> Any:
        return pack(Part(counted(5))) if question == "part" else 1 / 0

    fourth = Peers(tmp_path, 3, broken)
    assert three[0].ask("echo") == ["echo "] * 2
    assert "could not be answered" in caplog.text
    assert sum_of(three[0].parts()) == 115
    fourth.leave()


def test_a_visitor_who_says_nothing_does_not_stop_a_worker(
    three: list[Peers], tmp_path: Path
) -> None:
    for said in (b"", b"\xff\xfe\n"):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "1.sock"))
            visitor.sendall(said)
    assert sum_of(three[0].parts()) == 110
