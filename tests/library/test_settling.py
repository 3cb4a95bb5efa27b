"""Whatever a program does with a stream, its lease is settled exactly once and nobody is blamed for it."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from keywheel.testing import Simulator, simulator
from keywheel.wheel import Keywheel
from tests.library.probing import HELLO, ONCE, blamed, totals, under_way

STREAM = HELLO | {"stream": True}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """One whose streams take a few milliseconds a word, so that they can be left early."""
    with simulator(speed=8) as running:
        yield running


@pytest.fixture
def wheel(sim: Simulator) -> Iterator[Keywheel]:
    with sim.wheel() as made:
        yield made


def client(wheel: Keywheel) -> httpx2.Client:
    return httpx2.Client(transport=wheel.transport(), timeout=60.0)


def assert_abandoned(wheel: Keywheel) -> None:
    """The one request so far."""
    assert under_way(wheel.engine) == 0
    figures = totals(wheel.engine)
    assert (figures["requests"], figures["abandoned"], figures["failed"]) == (1, 1, 0)
    assert blamed(wheel.engine) == []


def test_closed_early(wheel: Keywheel) -> None:
    with client(wheel) as http, http.stream("POST", ONCE, json=STREAM) as reply:
        pieces = reply.iter_raw()
        next(pieces)
        assert under_way(wheel.engine) == 1
    assert_abandoned(wheel)


def test_closed_before_it_was_read(wheel: Keywheel) -> None:
    with client(wheel) as http, http.stream("POST", ONCE, json=STREAM):
        pass
    assert_abandoned(wheel)


def test_an_error_in_the_consumer(wheel: Keywheel) -> None:
    def consume() -> None:
        with client(wheel) as http, http.stream("POST", ONCE, json=STREAM) as reply:
            next(reply.iter_raw())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert_abandoned(wheel)


def test_dropped_without_a_word(wheel: Keywheel) -> None:
    http = client(wheel)
    reply = http.send(http.build_request("POST", ONCE, json=STREAM), stream=True)
    next(iter(reply.stream))  # pyright: ignore
    del reply
    gc.collect()
    assert_abandoned(wheel)
    http.close()


def test_dropped_while_the_collector_runs_inside_the_engine(wheel: Keywheel) -> None:
    """The collector may run a consumer's clean-up in the middle of a decision, with the engine's lock taken."""
    http = client(wheel)
    engine = wheel.engine

    def consume(reply: httpx2.Response) -> Any:
        try:
            yield next(reply.iter_raw())
            yield b""
        finally:
            reply.close()

    loop: list[Any] = [
        consume(http.send(http.build_request("POST", ONCE, json=STREAM), stream=True))
    ]
    next(loop[0])
    loop.append(loop)
    gc.disable()
    try:
        del loop
        clock = engine.clock

        def collecting() -> float:
            gc.collect()
            return clock()

        engine.clock = collecting
        worker = threading.Thread(target=engine.usable, daemon=True)
        worker.start()
        worker.join(5)
        assert not worker.is_alive(), "the engine waits for itself"
        engine.clock = clock
    finally:
        gc.enable()
    assert_abandoned(wheel)
    http.close()


def test_closed_by_another_thread(wheel: Keywheel) -> None:
    with client(wheel) as http:
        reply = http.send(http.build_request("POST", ONCE, json=STREAM), stream=True)
        pieces = reply.iter_raw()
        next(pieces)
        other = threading.Thread(target=reply.stream.close)  # pyright: ignore
        other.start()
        other.join()
        for _ in pieces:
            pass
    assert_abandoned(wheel)


def test_a_stream_that_was_read_to_its_end_and_closed_again_is_an_answer(wheel: Keywheel) -> None:
    with client(wheel) as http, http.stream("POST", ONCE, json=STREAM) as reply:
        for piece in reply.iter_raw():
            if b"[DONE]" in piece:
                break  # as the SDKs do
    assert under_way(wheel.engine) == 0
    assert totals(wheel.engine)["succeeded"] == 1


def test_closing_the_wheel_under_a_stream(wheel: Keywheel) -> None:
    stream = wheel.stream("Hello")
    assert next(stream)
    wheel.close()
    stream.close()


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05])
def test_a_cancelled_task(wheel: Keywheel, moment: float) -> None:
    async def main() -> None:
        async with httpx2.AsyncClient(transport=wheel.async_transport()) as http:
            wheel.models()  # so that there is a list
            asking = asyncio.create_task(http.post(ONCE, json=STREAM, timeout=60.0))
            await asyncio.sleep(moment)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(main())
    assert under_way(wheel.engine) == 0
    assert blamed(wheel.engine) == []


def test_an_asyncio_stream_that_is_left_early(wheel: Keywheel) -> None:
    async def main() -> None:
        way = httpx2.AsyncClient(transport=wheel.async_transport(), timeout=60.0)
        async with way as http, http.stream("POST", ONCE, json=STREAM) as reply:
            await anext(reply.aiter_raw())

    asyncio.run(main())
    assert_abandoned(wheel)


def test_an_asyncio_stream_that_is_dropped(wheel: Keywheel) -> None:
    async def main() -> None:
        async with httpx2.AsyncClient(transport=wheel.async_transport(), timeout=60.0) as http:
            reply = await http.send(http.build_request("POST", ONCE, json=STREAM), stream=True)
            await anext(aiter(reply.stream))  # pyright: ignore
            del reply
            gc.collect()
            await asyncio.sleep(0.01)
            assert under_way(wheel.engine) == 0

    asyncio.run(main())
    assert_abandoned(wheel)


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # Python 3.12 on: threads are running
def test_a_forked_child_has_an_engine_of_its_own_and_settles_nothing_of_its_parents(
    wheel: Keywheel,
) -> None:
    stream = wheel.stream("Hello")
    assert next(stream)
    parent = wheel.engine
    child = os.fork()
    if child == 0:  # no assertion here may reach pytest
        code = 1
        try:
            fresh = wheel.engine is not parent
            stream.close()
            text = wheel.chat("Hello from the child").text
            code = (
                0 if fresh and text and wheel.stats().to_dict()["totals"]["succeeded"] == 1 else 2
            )
            wheel.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert under_way(parent) == 1
    assert list(stream)
    assert under_way(parent) == 0
    assert totals(parent)["succeeded"] == 1
