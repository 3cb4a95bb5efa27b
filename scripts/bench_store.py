"""What one `take` costs: SQLite alone and shared, both durabilities, and a Redis server of its own on loopback.

Goal: at most 100 µs at the median for SQLite, which is called on the event loop; Redis is one round trip beside it.
Exits with 1 above the goal. The files lie in the folder given as first argument, by default in one for temporary files.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keywheel.secret import Secret
from keywheel.stores.contract import Caller, Claim, Parcel, Store, Tally
from keywheel.stores.database import Durability
from keywheel.stores.memory import MemoryStore
from keywheel.stores.sqlite import SqliteStore
from keywheel.stores.urls import InRedis, read_url

GOAL = 100.0  # µs at the median
TAKES = {"process": 4_000, "power": 400}
ACCOUNTS = 10
STEP = 0.35  # seconds between takes by the store's clock: a full minute log of 17 sends for each account


class Clock:
    """Seconds that pass with every look."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now += STEP
        return self.now


def timed(store: Store, takes: int) -> list[float]:
    """Microseconds of each take, in order of size."""
    who = Caller("host/0", 1)
    who = who._replace(birth=store.push(Parcel(who)).birth)
    spent: list[float] = []
    for number in range(takes):
        tallies = (Tally(f"account{number % ACCOUNTS}", 20_000, 0, 0, 10**9),)
        claim = Claim(who, f"{who.writer}/{number}", tallies, 10**9)
        began = time.perf_counter()
        store.take(claim)
        spent.append((time.perf_counter() - began) * 1e6)
    return sorted(spent)


def show(name: str, spent: list[float]) -> float:
    """Print a line; the median."""
    p50, p99 = (spent[int(len(spent) * share)] for share in (0.5, 0.99))
    print(f"{name:32} p50 {p50:7.0f} µs   p99 {p99:7.0f} µs")
    return p50


def sqlite(folder: Path, group: str | None, durability: Durability) -> float:
    """The median of one way to use SQLite."""
    path = folder / f"{group}-{durability}" / "state.db"
    store = SqliteStore(path, group=group, durability=durability, clock=Clock())
    try:
        users = "workers" if group else "one process"
        return show(f"sqlite, {users}, {durability}-safe", timed(store, TAKES[durability]))
    finally:
        store.close()


@contextmanager
def redis(folder: Path) -> Iterator[Callable[[int], Store] | None]:
    """Stores on a server of this script's own, by version of the protocol; None where there is no server."""
    sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests know how to start a server
    try:
        from keywheel.stores.redis import RedisStore  # noqa: PLC0415 - an extra
        from tests.stores.server import PROGRAM, redis_server  # noqa: PLC0415
    except ModuleNotFoundError:
        yield None
        return
    if PROGRAM is None:
        yield None
        return

    with redis_server(folder) as server:

        def store(protocol: int) -> Store:
            place = read_url(Secret(f"{server.url}?protocol={protocol}"))
            assert isinstance(place, InRedis)  # noqa: S101 - it was written three lines above
            return RedisStore(place, prefix=f"resp{protocol}")

        yield store


def main() -> int:
    """Everything once."""
    logging.disable()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        medians = [sqlite(folder, group, "process") for group in (None, "group")]
        for group in (None, "group"):
            sqlite(folder, group, "power")
        show("memory", timed(MemoryStore(clock=Clock()), TAKES["process"]))
        with redis(folder) as open_store:
            for protocol in (2, 3) if open_store else ():
                store = open_store(protocol)
                show(f"redis, RESP {protocol}", timed(store, TAKES["process"]))
                store.close()
    return int(max(medians) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
