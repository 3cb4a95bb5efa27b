"""One suite for every store: a fixture gives the store together with a way to let its time pass."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keywheel.secret import Secret
from keywheel.stores import Store
from keywheel.stores.memory import MemoryStore
from keywheel.stores.redis import RedisStore
from keywheel.stores.sqlite import SqliteStore
from keywheel.stores.urls import InRedis, read_url
from tests.stores.build import NOW
from tests.stores.server import Server, redis_server


@dataclass
class Bench:
    """A store under test. `wait` lets seconds pass for it; `again` opens it anew, as a second process would."""

    store: Any
    wait: Callable[[float], None]
    again: Callable[[], Store]
    rooms: bool  # whether it keeps room for silent workers


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a state file in a folder that does not exist yet."""
    return tmp_path / "state" / "state.db"


@pytest.fixture
def quiet() -> Iterator[None]:
    """Without the warning that some versions of SQLite deserve."""
    logging.getLogger("keywheel.stores").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("keywheel.stores").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "workers", "resp2", "resp3"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with_redis = request.param.startswith("resp")
    running = request.getfixturevalue("server") if with_redis else None
    yield from _BENCHES[request.param](tmp_path, running)


def _memory(_folder: Path, _server: Any) -> Iterator[Bench]:
    clock = Hand()
    store = MemoryStore(clock=clock)
    yield Bench(store, clock.wait, lambda: store, rooms=True)


def _sqlite(folder: Path, _server: Any) -> Iterator[Bench]:
    clock = Hand()
    stores = [SqliteStore(folder / "state.db", clock=clock)]

    def again() -> Store:
        stores[-1].close()
        stores.append(SqliteStore(folder / "state.db", clock=clock))
        return stores[-1]

    yield Bench(stores[0], clock.wait, again, rooms=False)
    stores[-1].close()


def _workers(folder: Path, _server: Any) -> Iterator[Bench]:
    logging.getLogger("keywheel.stores").setLevel(logging.ERROR)
    clock = Hand()
    stores = [SqliteStore(folder / "state.db", clock=clock, group="g")]

    def again() -> Store:
        stores.append(SqliteStore(folder / "state.db", clock=clock, group="g"))
        return stores[-1]

    yield Bench(stores[0], clock.wait, again, rooms=False)
    for store in stores:
        store.close()
    logging.getLogger("keywheel.stores").setLevel(logging.NOTSET)


def _redis(protocol: int) -> Callable[[Path, Server], Iterator[Bench]]:
    def build(_folder: Path, server: Server) -> Iterator[Bench]:
        place = read_url(Secret(f"{server.url}?protocol={protocol}"))
        assert isinstance(place, InRedis)
        stores = [RedisStore(place)]

        def again() -> Store:
            stores.append(RedisStore(place))
            return stores[-1]

        yield Bench(stores[0], lambda seconds: pass_time(server, seconds), again, rooms=True)
        for store in stores:
            store.close()
        with server.client() as client:
            client.flushall()

    return build


def pass_time(server: Server, seconds: float) -> None:
    """The server's clock cannot be moved, so what it has noted is moved into the past."""
    with server.client() as client:
        for key in client.scan_iter("*:minute:*"):
            for lease, at in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {lease: at - seconds})
        for slot, heard in client.hgetall("{keywheel}:seen").items():
            client.hset("{keywheel}:seen", slot, float(heard) - seconds)


_BENCHES: dict[str, Any] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "workers": _workers,
    "resp2": _redis(2),
    "resp3": _redis(3),
}
