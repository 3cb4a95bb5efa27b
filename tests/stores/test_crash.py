"""kill -9 at any moment and at every write: what is found again is never below the true sends, and hardly above.

Some kills in every run, always the same; KEYWHEEL_KILLS=200 makes so many of each sort.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from keywheel.stores.sqlite import SqliteStore
from tests.stores.taker import DATE, NOW

KILLS = int(os.environ.get("KEYWHEEL_KILLS", "40"))
ABOVE = 2  # takes a killed worker may have had under way
TAKER = str(Path(__file__).with_name("taker.py"))
ENOUGH = 10**6  # a day limit that is never reached
MODES = (("-", "process"), ("g", "process"), ("g", "power"))  # group, durability

traced = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def taker(
    path: Path, mode: tuple[str, str], *before: str, limit: int = ENOUGH, start: int = 1
) -> "subprocess.Popen[bytes]":
    command = [*before, sys.executable, TAKER, str(path), *mode, str(limit), str(start)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def recovered(path: Path) -> int:
    """What a start after the crash finds."""
    store = SqliteStore(path, clock=lambda: NOW)
    try:
        assert len(store.stamps("team")) == store.used("team", DATE)
        return store.used("team", DATE)
    finally:
        store.close()


def sends_of(process: "subprocess.Popen[bytes]") -> int:
    return len(process.communicate(timeout=60)[0])


def kill_in_the_middle(
    path: Path, random: Random, mode: tuple[str, str], workers: int = 1, first: int = 1
) -> int:
    """Start workers, let each send, kill all; how many sends there were."""
    crowd = [taker(path, mode, start=first + number) for number in range(workers)]
    firsts = [len(os.read(worker.stdout.fileno(), 1)) for worker in crowd if worker.stdout]
    time.sleep(random.uniform(0, 0.006))
    for worker in random.sample(crowd, workers):
        worker.kill()
    return sum(firsts) + sum(map(sends_of, crowd))


@pytest.mark.parametrize("seed", range(KILLS // 4))
@pytest.mark.parametrize("mode", MODES)
def test_a_worker_killed_at_any_moment_loses_no_count(
    seed: int, mode: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "state.db"
    sends = kill_in_the_middle(path, Random(seed), mode)
    assert sends <= recovered(path) <= sends + ABOVE


@pytest.mark.parametrize("seed", range(KILLS // 4))
def test_two_workers_killed_at_any_moment_lose_no_count(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    sends = kill_in_the_middle(path, Random(seed), ("g", "process"), workers=2)
    assert sends <= recovered(path) <= sends + 2 * ABOVE


def test_a_crash_after_a_crash_loses_nothing_either(tmp_path: Path) -> None:
    path, random = tmp_path / "state.db", Random(1)
    sends = sum(kill_in_the_middle(path, random, MODES[0], first=start) for start in range(4))
    assert sends <= recovered(path) <= sends + 4 * ABOVE


def test_two_workers_on_one_file_share_the_day_to_the_last_send(tmp_path: Path) -> None:
    path, limit = tmp_path / "state.db", 300
    crowd = [taker(path, ("g", "process"), limit=limit, start=number) for number in range(2)]
    shares = [sends_of(worker) for worker in crowd]
    assert sum(shares) == recovered(path) == limit


# --- at every write --------------------------------------------------------------------------------

CALLS = {"pwrite64": 90, "fdatasync": 12, "ftruncate": 2, "unlink": 3, "linkat": 1, "link": 1}


def injected(call: str, fault: str, number: int) -> tuple[str, ...]:
    inject = f"inject={call}:{fault}:when={number}"
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)


def moments() -> Iterator[tuple[tuple[str, str], str, int]]:
    """Which call of which mode to die in: spread over all of them, so that more kills fill the gaps."""
    every = [
        (mode, call, n)
        for mode in MODES
        for call, last in CALLS.items()
        for n in range(1, last + 1)
    ]
    step = max(1, len(every) // (KILLS + KILLS // 2))
    yield from every[::step]


def killed_at(folder: Path, mode: tuple[str, str], call: str, number: int) -> tuple[int, int]:
    """Sends of a worker that dies in its n-th call, and what is recovered."""
    path = folder / f"{'-'.join(mode)}-{call}-{number}" / "state.db"
    sends = sends_of(taker(path, mode, *injected(call, "signal=KILL", number), limit=12))
    return sends, recovered(path)


@traced
def test_a_worker_killed_at_any_write_loses_no_count(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda moment: killed_at(tmp_path, *moment), moments()))
    assert len(found) >= KILLS
    assert {sends for sends, _ in found} >= set(range(3))
    assert [(s, r) for s, r in found if not s <= r <= s + ABOVE] == []


# --- the disk fails --------------------------------------------------------------------------------


@traced
@pytest.mark.parametrize(
    ("mode", "call", "error", "number", "says"),
    [
        (("-", "power"), "fdatasync", "EIO", "8+", "failed to write"),
        (("g", "power"), "fdatasync", "EIO", "12", "failed to write"),
        (("-", "process"), "pwrite64", "EIO", "40", "failed to write"),
        (("-", "process"), "pwrite64", "ENOSPC", "40+", "disk is full"),
        (("g", "process"), "pwrite64", "ENOSPC", "60+", "disk is full"),
    ],
)
def test_a_failing_disk_stops_the_sends_and_is_named(
    mode: tuple[str, str], call: str, error: str, number: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "state.db"
    inject = ("-e", f"inject={call}:error={error}:when={number}")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", *inject]
    command += [sys.executable, TAKER, str(path), *mode, str(ENOUGH), "1"]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert says in ended.stderr.decode()
    assert str(path) in ended.stderr.decode()
    assert len(ended.stdout) <= recovered(path) <= len(ended.stdout) + ABOVE
