"""Time limits: each part of a request has its own."""

import asyncio
import time
from typing import cast

import pytest

from keywheel.gateway.upstream import Timeouts, Upstream, UpstreamError
from tests.gateway.asking import BOTH_LOOPS, PATIENT, SHORT, ask, asking, fail, fetch
from tests.gateway.rawserver import OK, Peer, answering, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


async def test_no_head_in_time_counts_from_the_last_request_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        began = time.monotonic()
        assert await fail(upstream, SHORT) == ("timeout-head", True)
        assert 0.035 < time.monotonic() - began < 0.5


async def test_head_in_drops_does_not_move_its_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in OK + b"x: " + b"a" * 1000:
            peer.send(bytes([byte]))
            await asyncio.sleep(0.005)
            if peer.reader.at_eof():
                return

    async with serving(script) as server, asking(server) as upstream:
        assert await fail(upstream, SHORT) == ("timeout-head", True)


async def test_silence_in_the_body_is_a_time_out() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 9\r\n\r\nabc")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream, SHORT)
        assert await response.read() == b"abc"
        with pytest.raises(UpstreamError, match="timeout-silence"):
            await response.read()


async def test_slow_but_steady_body_outlives_every_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send_sliced(OK + b"transfer-encoding: chunked\r\n\r\n", 100)
        for _ in range(3):
            for part in (b"1;", b"e", b"x", b"t", b"\r\n", b"a", b"\r\n"):  # one carries content
                peer.send(part)
                await asyncio.sleep(0.009)
        peer.send(b"0\r\n\r\n")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream, SHORT) == b"a" * 3


async def test_time_in_which_nobody_reads_is_no_silence() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 4\r\n\r\nab")
        await asyncio.sleep(0.1)
        peer.send(b"cd")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream, SHORT)
        assert await response.read() == b"ab"
        await asyncio.sleep(0.08)
        assert await response.read() == b"cd"
        response.close()


@pytest.mark.parametrize("waiting", [False, True])
async def test_silence_can_be_changed_before_and_during_a_read(waiting: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 4\r\n\r\n")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream, PATIENT)
        began = time.monotonic()
        if not waiting:
            response.set_silence(0.02)
        task = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        if waiting:
            response.set_silence(0.02)
        with pytest.raises(UpstreamError, match="timeout-silence"):
            await task
        assert time.monotonic() - began < 1


async def test_silence_can_be_made_longer_while_a_read_waits() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 1\r\n\r\n")
        await asyncio.sleep(0.08)
        peer.send(b"a")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream, SHORT)
        task = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        response.set_silence(2)
        assert await task == b"a"
        response.close()


async def test_request_that_the_peer_does_not_take_is_a_write_time_out() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await asyncio.sleep(0.1)
        peer.writer.transport.resume_reading()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        result = await fail(upstream, SHORT, b"x" * 20_000_000)
        assert result == ("timeout-write", True)


async def test_request_taken_slowly_is_no_write_time_out() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        taken = 0
        for _ in range(5):
            peer.writer.transport.pause_reading()
            await asyncio.sleep(0.02)
            peer.writer.transport.resume_reading()
            taken += len(await peer.reader.readexactly(1_000_000))
        await peer.reader.readexactly(12_000_000 - taken)
        peer.send(reply(b"ok"))
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        body = b"x" * 12_000_000
        patient = Timeouts(head=2.0, write=0.06, silence=2.0)
        assert await fetch(upstream, patient, body) == b"ok"


@pytest.mark.parametrize("phase", ["head", "body"])
async def test_event_loop_that_stood_still_gives_no_false_verdict(phase: str) -> None:
    written = OK + b"content-length: 4\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        if phase == "body":
            peer.send(written)
        await asyncio.sleep(0.01)
        peer.send(b"late" if phase == "body" else written + b"late")
        time.sleep(0.08)  # noqa: ASYNC251  longer than every limit, with the bytes in the kernel
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream, SHORT) == b"late"


class StallingServer(asyncio.Protocol):
    """Answers, and then keeps the whole event loop from running, inside the same callback.

    So the bytes are in the kernel before uvloop runs its timers, and are read only after that.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(reply(b"late"))
        time.sleep(0.08)  # longer than the limit


async def test_bytes_that_waited_for_a_stalled_loop_are_seen_before_the_verdict() -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(StallingServer, "127.0.0.1", 0)
    upstream = Upstream(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    try:
        assert await fetch(upstream, SHORT) == b"late"
    finally:
        await upstream.close()
        listener.close()
        await asyncio.sleep(0.001)


async def test_head_is_waited_for_only_when_the_whole_request_was_taken() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.until_closed()

    limits = Timeouts(head=0.03, write=1.0)
    async with serving(script) as server, asking(server) as upstream:
        assert await fail(upstream, limits, b"x" * 20_000_000) == ("timeout-head", True)


async def test_a_wait_for_writing_ends_only_when_the_kernel_has_every_byte() -> None:
    async with serving(answering(reply(b"ok"))) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"ok"
        assert upstream._pool.idle[0].transport.get_write_buffer_limits() == (0, 1)
