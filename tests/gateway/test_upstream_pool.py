"""The pool's decisions, with connections that are no sockets."""

import asyncio
import random
from typing import cast

import pytest

from keywheel.gateway.connection import Connection
from keywheel.gateway.upstream import Pool, UpstreamError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeConnection:
    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.idle_since = 0.0
        self.fit = True
        self.whole = True

    def finish(self) -> bool:
        return self.whole and self.fit

    def is_fit(self) -> bool:
        return self.fit

    def abort(self) -> None:
        self.fit = False
        if not self.lost.done():
            self.lost.set_result(None)


def opened(pool: Pool) -> Connection:
    """What a request does that finds a free place."""
    assert pool.reserve()
    connection = cast("Connection", FakeConnection())
    pool.adopt(connection)
    return connection


async def test_empty_pool_has_nothing_to_take_and_as_many_places_as_it_says() -> None:
    pool = Pool(2, 10)
    assert pool.take() is None
    assert [pool.reserve() for _ in range(3)] == [True, True, False]
    pool.vacate()
    assert pool.reserve()
    assert pool.places_taken == 2


async def test_a_connection_that_was_taken_is_idle_for_nobody_else() -> None:
    pool = Pool(2, 10)
    connection = opened(pool)
    pool.release(connection)
    assert pool.take() is connection
    assert pool.take() is None
    assert (pool.places_taken, pool.idle) == (1, [])
    await pool.close()


async def test_last_used_is_taken_first() -> None:
    pool = Pool(3, 10)
    first, second, third = opened(pool), opened(pool), opened(pool)
    for connection in (second, third, first):
        pool.release(connection)
    assert [pool.take(), pool.take(), pool.take()] == [first, third, second]
    await pool.close()


async def test_unfit_idle_connections_are_dropped_and_their_places_are_free() -> None:
    pool = Pool(2, 10)
    good, bad = opened(pool), opened(pool)
    pool.release(good)
    pool.release(bad)
    cast("FakeConnection", bad).fit = False
    assert pool.take() is good
    assert pool.places_taken == 1
    await asyncio.sleep(0)
    assert pool.places_taken == 1
    await pool.close()


async def test_expired_idle_connection_is_not_taken() -> None:
    pool = Pool(2, 10)
    connection = opened(pool)
    pool.release(connection)
    connection.idle_since -= 11
    assert pool.take() is None
    assert (pool.places_taken, connection.is_fit()) == (0, False)
    await pool.close()


async def test_lost_idle_connection_gives_its_place_up_once() -> None:
    pool = Pool(2, 10)
    connection, busy = opened(pool), opened(pool)
    pool.release(connection)
    connection.abort()
    busy.abort()
    await asyncio.sleep(0)
    assert (pool.places_taken, pool.idle) == (1, [])
    pool.release(busy)
    assert pool.places_taken == 0


async def test_waiting_is_first_come_first_served_and_overtaken_by_nobody() -> None:
    pool = Pool(1, 10)
    connection = opened(pool)
    order: list[str] = []

    async def wait(name: str) -> None:
        got = await pool.queue(1)
        order.append(name)
        assert got is connection
        assert pool.take() is None
        assert not pool.reserve()
        pool.release(connection)

    tasks = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    pool.release(connection)
    assert pool.take() is None
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
    assert (pool.places_taken, pool.idle) == (1, [connection])
    await pool.close()


async def test_connection_that_dies_on_its_way_to_the_waiting_one_leaves_the_place() -> None:
    pool = Pool(1, 10)
    connection = opened(pool)
    task = asyncio.create_task(pool.queue(1))
    await asyncio.sleep(0)
    pool.release(connection)
    cast("FakeConnection", connection).fit = False
    assert await task is None
    assert pool.places_taken == 1
    pool.vacate()
    assert pool.places_taken == 0


@pytest.mark.parametrize("fit", [True, False])
async def test_what_came_in_the_moment_of_cancellation_goes_on(fit: bool) -> None:
    pool = Pool(1, 10)
    connection = opened(pool)
    task = asyncio.create_task(pool.queue(1))
    await asyncio.sleep(0)
    pool.release(connection)
    cast("FakeConnection", connection).fit = fit
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.idle == ([connection] if fit else [])
    assert pool.places_taken == int(fit)
    await pool.close()


async def test_a_bare_place_is_passed_on_at_cancellation_too() -> None:
    pool = Pool(1, 10)
    assert pool.reserve()
    first, second = (asyncio.create_task(pool.queue(1)) for _ in range(2))
    await asyncio.sleep(0)
    pool.vacate()
    first.cancel()
    assert await second is None
    assert pool.places_taken == 1


async def test_who_gave_up_waiting_is_forgotten() -> None:
    pool = Pool(1, 10)
    assert pool.reserve()
    for _ in range(3):
        with pytest.raises(UpstreamError, match="none free"):
            await pool.queue(0.001)
    assert not pool._waiting
    pool.vacate()
    assert pool.places_taken == 0


async def test_closed_pool_gives_nothing_and_aborts_what_comes_late() -> None:
    pool = Pool(2, 10)
    assert pool.reserve()
    await pool.close()
    connection = cast("Connection", FakeConnection())
    pool.adopt(connection)
    assert not connection.is_fit()
    pool.release(connection)
    assert pool.places_taken == 0
    with pytest.raises(UpstreamError, match="closed"):
        pool.reserve()


async def open_or_fail(pool: Pool, chance: random.Random) -> Connection:
    """What a request does in a place it has reserved."""
    try:
        await asyncio.sleep(0)
        if chance.random() < 0.2:
            raise ConnectionError
    except BaseException:
        pool.vacate()
        raise
    connection = cast("Connection", FakeConnection())
    pool.adopt(connection)
    return connection


@pytest.mark.parametrize("seed", range(20))
async def test_places_are_conserved_over_random_histories(seed: int) -> None:
    """Every step may fail, be cancelled or lose its connection; at the end nothing is owed."""
    chance = random.Random(seed)
    pool = Pool(3, 10)
    using: set[Connection] = set()

    async def use() -> None:
        connection = pool.take()
        if connection is None and not pool.reserve():
            connection = await pool.queue(chance.choice([0.0, 1.0]))
        if connection is None:
            connection = await open_or_fail(pool, chance)
        assert connection not in using
        using.add(connection)
        assert pool.places_taken <= 3
        try:
            await asyncio.sleep(0)
            cast("FakeConnection", connection).whole = chance.random() < 0.7
        finally:
            using.discard(connection)
            pool.release(connection)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(60):
        tasks.append(asyncio.create_task(use()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2 and pool.idle:
            chance.choice(pool.idle).abort()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    expected = (type(None), ConnectionError, UpstreamError, asyncio.CancelledError)
    assert all(isinstance(result, expected) for result in results)
    await asyncio.sleep(0)
    assert pool.places_taken == len(pool.idle)
    await pool.close()
    await asyncio.sleep(0)
    assert pool.places_taken == 0
