"""Cancellation in every phase leaves no socket, no task and no place."""

import asyncio
import time
from contextlib import suppress

import pytest

from keywheel.gateway.upstream import Upstream
from tests.gateway.asking import BOTH_LOOPS, PATIENT, ask, asking, fetch, read_all
from tests.gateway.rawserver import EMPTY, OK, Peer, answering, chunked, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


async def cancel_after(turns: int, upstream: Upstream, body: bytes = b"{}") -> None:
    task = asyncio.create_task(fetch(upstream, PATIENT, body))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("places", [1, 5])
@pytest.mark.parametrize("fresh", [True, False], ids=["new connection", "kept connection"])
async def test_cancelled_at_any_turn_leaves_nothing_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch, places: int, fresh: bool
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send_sliced(chunked(b"he", b"llo"), 9)

    async def resolve() -> list[str]:  # without the thread, so that the turns are the same ones
        return ["127.0.0.1"]

    async with serving(script) as server, asking(server, max_connections=places) as upstream:
        monkeypatch.setattr(upstream._dialer, "_resolve", resolve)
        for turns in range(25):
            if fresh:
                for connection in tuple(upstream._pool.idle):
                    connection.abort()
            elif not upstream.idle_connections:
                assert await fetch(upstream) == b"hello"
            await cancel_after(turns, upstream)
            assert upstream.open_connections == upstream.idle_connections
        assert await fetch(upstream) == b"hello"


async def test_cancelled_while_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(EMPTY)) as server, asking(server) as upstream:
        started = asyncio.Event()

        async def never(*_: object, **__: object) -> None:
            started.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(upstream._dialer, "_open", never)
        task = asyncio.create_task(ask(upstream))
        await started.wait()
        assert upstream.open_connections == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert upstream.open_connections == 0


async def test_cancelled_while_writing() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await asyncio.sleep(0.03)
        peer.writer.transport.resume_reading()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        task = asyncio.create_task(ask(upstream, body=b"x" * 20_000_000))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert upstream.open_connections == 0


@pytest.mark.parametrize("sent", [b"", OK, OK + b"content-length: 5\r\n\r\nab"])
async def test_cancelled_while_waiting_for_head_or_body(sent: bytes) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(sent)
        arrived.set()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        task = asyncio.create_task(fetch(upstream))
        await arrived.wait()
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert upstream.open_connections == 0
        began = time.monotonic()
        await server.settle()  # the upstream sees it at once
        assert time.monotonic() - began < 0.5


async def test_cancelled_while_waiting_for_a_place() -> None:
    async with (
        serving(answering(reply(b"ok"))) as server,
        asking(server, max_connections=1) as upstream,
    ):
        held = await ask(upstream)
        waiting = [asyncio.create_task(fetch(upstream)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        held.close()  # the place goes to the second in line
        assert await waiting[1] == b"ok"
        assert await waiting[2] == b"ok"
        assert waiting[0].cancelled()
        assert (server.accepted, upstream.open_connections, upstream.idle_connections) == (1, 1, 1)


async def test_cancelled_in_the_moment_a_place_is_handed_over() -> None:
    async with (
        serving(answering(reply(b"ok"))) as server,
        asking(server, max_connections=1) as upstream,
    ):
        held = await ask(upstream)
        waiting = [asyncio.create_task(fetch(upstream)) for _ in range(2)]
        await asyncio.sleep(0)
        held.close()
        waiting[0].cancel()
        assert await waiting[1] == b"ok"
        assert waiting[0].cancelled()
        assert (server.accepted, upstream.open_connections, upstream.idle_connections) == (1, 1, 1)


async def test_a_cancelled_read_can_be_taken_up_again() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 2\r\n\r\n")
        await go_on.wait()
        peer.send(b"ok")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await response.read()
        go_on.set()
        assert await read_all(response) == b"ok"
