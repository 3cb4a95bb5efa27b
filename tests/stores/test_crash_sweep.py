"""kill -9 in every single system call on the state file and those beside it, from the first to the last.

Which calls there are is read off a run that nobody kills. Some of them in every run, always the same;
KEYWHEEL_KILLS=200 dies in each.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keywheel.stores.sqlite import SqliteStore
from tests.stores.taker import DATE, NOW

pytestmark = [
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
    pytest.mark.timeout(1_800),
]
KILLS = int(os.environ.get("KEYWHEEL_KILLS", "24"))
WHOLE = 200
ABOVE = 2  # takes a killed worker may have had under way
TAKES = 3
TAKER = str(Path(__file__).with_name("taker.py"))
MODES = (("-", "process"), ("-", "power"), ("g", "process"), ("g", "power"))
SIDES = ("", "-wal", "-shm", "-journal", ".lock")
Mode = tuple[str, str]


def traced(folder: Path, mode: Mode, *options: str) -> int:
    """Run a worker under strace, which looks at nothing but its store; how many sends it made."""
    places = [option for side in SIDES for option in ("-P", str(folder / f"state.db{side}"))]
    watched = ["strace", "-f", "-qq", "-P", str(folder), *places, *options]
    worker = [sys.executable, TAKER, str(folder / "state.db"), *mode, str(TAKES), "1"]
    ended = subprocess.run(
        [*watched, *worker],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return len(ended.stdout)


def calls(folder: Path, mode: Mode) -> Counter[str]:
    """Every system call on the store, and how often it is made."""
    log = folder.with_suffix(".log")
    assert traced(folder, mode, "-o", str(log)) == TAKES
    return Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def killed_in(folder: Path, mode: Mode, call: str, number: int) -> tuple[str, int, int, int]:
    """The moment; sends of a worker that dies in its n-th such call, and what is recovered."""
    home = folder / f"{call}-{number}"
    inject = (
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
    )
    sends = traced(home, mode, *inject)
    store = SqliteStore(home / "state.db", clock=lambda: NOW)
    try:
        assert len(store.stamps("team")) == store.used("team", DATE), (call, number)
        return call, number, sends, store.used("team", DATE)
    finally:
        store.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_killed_in_any_call_on_its_store_loses_no_count(
    tmp_path: Path, mode: Mode
) -> None:
    found = calls(tmp_path / "whole", mode)
    assert found["pwrite64"] > TAKES
    every = [(call, n) for call, last in sorted(found.items()) for n in range(1, last + 1)]
    step = 1 if KILLS >= WHOLE else max(1, len(every) * len(MODES) // KILLS)
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda moment: killed_in(tmp_path, mode, *moment), every[::step]))
    died = [sends for *_, sends, _ in ends if sends < TAKES]
    print(
        f"{mode}: {len(ends)} of {len(every)} calls ({dict(found)}), {len(died)} died before the last send"
    )
    assert died
    assert [end for end in ends if not end[2] <= end[3] <= end[2] + ABOVE] == []
