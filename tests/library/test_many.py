"""Many threads and many tasks on one wheel: quota kept, every lease settled, nothing left over."""

import asyncio
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from keywheel.config import Config
from keywheel.core.policy import Limits
from keywheel.errors import NoUsableLane, QuotaExhausted
from keywheel.testing import Simulator
from tests.library.probing import totals, under_way

IMPATIENT = replace(Config(), limits=Limits(max_queue=0.0))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def assert_all_closed(before: int) -> None:
    """The simulator's ends of the connections are in this process, too, and close a moment later."""
    give_up = time.monotonic() + 5
    while open_files() > before + 1 and time.monotonic() < give_up:
        time.sleep(0.005)
    assert open_files() <= before + 1


def overdrawn(sim: Simulator) -> int:
    """Requests that the upstream refused because a quota was used up."""
    return sum(kind in ("minute", "day") for kind in sim.attempts)


def test_fifty_threads_with_twenty_requests_each(sim: Simulator) -> None:
    before, threads = open_files(), threading.active_count()
    ends = Counter[str]()

    def work(number: int) -> None:
        for turn in range(20):
            try:
                if (number + turn) % 3 == 0:
                    with wheel.stream("Hello", max_tokens=5) as stream:
                        "".join(stream)
                else:
                    wheel.chat("Hello", max_tokens=5)
                ends["answered"] += 1
            except (QuotaExhausted, NoUsableLane) as error:
                ends["refused" if error.retry_after else "refused for good"] += 1

    with sim.wheel(IMPATIENT) as wheel:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(work, range(50)))
        assert under_way(wheel.engine) == 0
        figures = wheel.stats().to_dict()
        assert figures["totals"]["requests"] == 1000
        room = sum(account["minute"]["limit"] for account in figures["accounts"])
    assert ends["answered"] + ends["refused"] == 1000
    assert ends["answered"] >= room  # and not one request less than the quota allows
    assert overdrawn(sim) == 0
    assert threading.active_count() <= threads
    assert_all_closed(before)


def test_a_thousand_tasks(sim: Simulator) -> None:
    ends = Counter[str]()

    async def main() -> None:
        async with sim.async_wheel(IMPATIENT) as wheel:

            async def ask(number: int) -> None:
                try:
                    if number % 3 == 0:
                        async with await wheel.stream("Hello", max_tokens=5) as stream:
                            async for _ in stream:
                                pass
                    else:
                        await wheel.chat("Hello", max_tokens=5)
                    ends["answered"] += 1
                except (QuotaExhausted, NoUsableLane):
                    ends["refused"] += 1

            await asyncio.gather(*(ask(number) for number in range(1000)))
            assert under_way(wheel.engine) == 0
            assert totals(wheel.engine)["requests"] == 1000

    before = open_files()
    asyncio.run(main())
    assert sum(ends.values()) == 1000
    assert ends["answered"] >= 20
    assert overdrawn(sim) == 0
    assert_all_closed(before)
