"""kill -9 of a whole gateway under load: its next start knows of every request that truly left, and of hardly more.

Five kills in every run, always the same; KEYWHEEL_KILLS=200 makes so many of each sort. Nobody but the state file
tells: the simulated upstream shows no counter.
"""

import os
import time
from pathlib import Path
from random import Random

import pytest

from keywheel import sim
from tests.hosts.rig import Load, account, gateway, kill_all, upstream
from tests.serving import eventually

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc"),
    pytest.mark.timeout(3_600),
]
KILLS = int(os.environ.get("KEYWHEEL_KILLS", "5"))
ABOVE = 2  # per worker: what its two clients may have had under way
ROOMY = sim.Account(minute_limit=10**6, day_limit=10**6)
LIMITS = account(0, 10**6, 10**6)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_killed_under_load_knows_all_it_sent(tmp_path: Path, workers: int) -> None:
    random, options = Random(workers), ("--workers", str(workers)) if workers > 1 else ()
    kills = KILLS if workers == 1 else (KILLS + 1) // 2
    too_many = 0  # of the earlier kills
    with upstream(ROOMY, daily_counter=False) as up:
        for kill in range(kills + 1):
            with gateway(tmp_path, "h1", up.variables | LIMITS, *options) as host:
                true = up.count()
                more = host.used() - true - too_many
                assert 0 <= more <= ABOVE * workers * bool(kill), f"kill {kill}: {more} above"
                too_many += more
                with Load([host]):
                    assert eventually(lambda since=true: len(up.world.journal) > since + 2)
                    time.sleep(random.uniform(0, 0.3))
                    kill_all(host.process)
    print(f"{kills} kills, {workers} worker(s): {true} sends, {too_many} too many known")
