"""Which connection carries a request: reuse, places, back-pressure."""

import asyncio
import socket

import pytest

from keywheel.gateway.connection import Connection
from keywheel.gateway.sockets import PAUSE_ABOVE, READ_SIZE
from keywheel.gateway.upstream import Upstream, UpstreamError
from tests.gateway.asking import BOTH_LOOPS, PATIENT, SHORT, ask, asking, fail, fetch, read_all
from tests.gateway.rawserver import OK, Peer, answering, chunked, ending_with, reply, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


async def test_one_connection_serves_request_after_request() -> None:
    async with serving(answering(reply(b"a"), chunked(b"b"))) as server, asking(server) as upstream:
        assert [await fetch(upstream) for _ in range(5)] == [b"a", b"b", b"b", b"b", b"b"]
        assert (server.accepted, upstream.open_connections, upstream.idle_connections) == (1, 1, 1)


async def test_the_connection_used_last_is_used_next() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(reply(b"%d" % peer.number))

    async with serving(script) as server, asking(server) as upstream:
        first, second = await ask(upstream), await ask(upstream)
        names = [await first.read(), await second.read()]
        second.close()
        first.close()
        assert await fetch(upstream) == names[0]


async def test_answer_received_whole_but_not_read_keeps_the_connection() -> None:
    async with serving(answering(reply(b"abc"))) as server, asking(server) as upstream:
        for _ in range(3):
            (await ask(upstream)).close()
        assert await fetch(upstream) == b"abc"
        assert server.accepted == 1


async def test_answer_closed_half_way_aborts_the_connection() -> None:
    async with (
        serving(answering(OK + b"content-length: 9\r\n\r\nabc")) as server,
        asking(server) as upstream,
    ):
        response = await ask(upstream)
        response.close()
        response.close()
        assert upstream.open_connections == 0
        with pytest.raises(UpstreamError):
            await response.read()


@pytest.mark.parametrize(("late", "kept"), [(b"0\r\n\r\n", 1), (b"1\r\nx\r\n", 0)])
async def test_a_retired_answer_keeps_the_connection_only_if_nothing_but_its_end_follows(
    late: bytes, kept: int
) -> None:
    retired = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await retired.wait()
        peer.send(late)
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        assert await response.read() == b"abc"
        response.retire()
        retired.set()
        await until(lambda: upstream.idle_connections == kept and upstream.open_connections == kept)


async def test_a_closed_response_cannot_touch_the_next_one() -> None:
    async with (
        serving(answering(reply(b"first"), reply(b"second"))) as server,
        asking(server) as upstream,
    ):
        old = await ask(upstream)
        old.close()
        new = await ask(upstream)
        old.close()
        old.set_silence(0.001)
        with pytest.raises(UpstreamError):
            await old.read()
        assert await read_all(new) == b"second"
        assert await new.read() == b""
        assert server.accepted == 1


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"x"])
async def test_connection_with_bytes_nobody_asked_for_is_dropped(extra: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(b"ok") + (extra if peer.number == 1 else b""))
        if peer.number == 2:
            await asyncio.sleep(0.002)
            peer.send(extra)
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"ok"
        assert upstream.open_connections == 0  # they came together with the answer
        assert await fetch(upstream) == b"ok"
        await until(lambda: not upstream.open_connections)  # they came later
        assert await fetch(upstream) == b"ok"
        assert server.accepted == 3


async def test_bytes_after_a_whole_answer_that_is_not_read_yet_cost_the_connection() -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(b"ok"))
        await more.wait()
        peer.send(reply(b"forged"))
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        more.set()
        await asyncio.sleep(0.005)
        assert await read_all(response) == b"ok"
        assert upstream.open_connections == 0


@pytest.mark.parametrize(
    "answer", [reply(b"body"), OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n"]
)
async def test_body_of_a_head_answer_costs_the_connection(answer: bytes) -> None:
    async with serving(answering(answer)) as server, asking(server) as upstream:
        for _ in range(2):
            response = await upstream.request("HEAD", "/", [], b"", PATIENT)
            assert await read_all(response) == b""
        assert server.accepted == 2


async def test_new_connection_closed_before_the_request_is_written_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.close()

    async with serving(script) as server, asking(server) as upstream:
        dial = upstream._dialer.dial

        async def dial_and_dawdle(seconds: float) -> Connection:
            connection = await dial(seconds)
            await connection.lost
            return connection

        monkeypatch.setattr(upstream._dialer, "dial", dial_and_dawdle)
        assert await fail(upstream) == ("reset", False)
        assert upstream.open_connections == 0


async def test_kept_connection_that_the_server_closed_is_not_used() -> None:
    async with serving(ending_with(reply(b"ok"))) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"ok"
        await server.settle()
        await asyncio.sleep(0.002)
        assert (upstream.open_connections, upstream.idle_connections) == (0, 0)
        assert await fetch(upstream) == b"ok"
        assert len(server.requests) == server.accepted == 2


async def test_close_that_the_event_loop_has_not_seen_yet_costs_no_request() -> None:
    """The FIN waits in the kernel; a request written now would be lost, and counted."""
    async with serving(answering(reply(b"ok"))) as server, asking(server) as upstream:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(1)
        raw = Upstream(f"http://127.0.0.1:{listener.getsockname()[1]}")
        task = asyncio.create_task(fetch(raw))
        await asyncio.sleep(0.01)
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(reply(b"one"))
        assert await task == b"one"
        assert raw.idle_connections == 1
        peer.close()
        task = asyncio.create_task(fetch(raw))
        await asyncio.sleep(0.01)
        again, _ = listener.accept()
        assert b"POST" in again.recv(65536)
        again.sendall(reply(b"two"))
        assert await task == b"two"
        again.close()
        listener.close()
        await raw.close()
        assert await fetch(upstream) == b"ok"


async def test_request_written_into_a_closing_connection_is_never_sent_twice() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(b"ok"))
        await peer.request()
        peer.reset()

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"ok"
        assert await fail(upstream) == ("reset", True)
        assert (len(server.requests), server.accepted) == (2, 1)


async def test_idle_connections_expire() -> None:
    async with (
        serving(answering(reply(b"ok"))) as server,
        asking(server, idle_seconds=0.03) as upstream,
    ):
        await asyncio.gather(*[fetch(upstream) for _ in range(3)])
        assert upstream.idle_connections == 3
        await asyncio.sleep(0.015)
        await fetch(upstream)
        await asyncio.sleep(0.02)
        assert upstream.idle_connections == 1
        await asyncio.sleep(0.03)
        assert (upstream.open_connections, upstream.idle_connections) == (0, 0)


async def test_early_answer_to_a_body_not_taken_is_read_and_not_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.01)
        peer.writer.transport.resume_reading()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream, body=b"x" * 20_000_000)
        assert response.status == 413
        assert await read_all(response) == b"no"
        assert upstream.open_connections == 0


async def test_reader_that_does_not_read_holds_the_server_back() -> None:
    total = 8 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            peer.send(b"x" * 65536)
            await peer.writer.drain()
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        await asyncio.sleep(0.05)
        first = await response.read()
        assert PAUSE_ABOVE < len(first) <= PAUSE_ABOVE + READ_SIZE
        assert len(first) + len(await read_all(response)) == total
        assert upstream.idle_connections == 1


async def test_connection_given_back_while_held_reads_on() -> None:
    async with serving(answering(reply(b"x" * 400_000))) as server, asking(server) as upstream:
        for _ in range(3):
            response = await ask(upstream)
            await asyncio.sleep(0.01)
            response.close()
        assert len(await fetch(upstream)) == 400_000


async def test_no_free_connection_in_time() -> None:
    async with (
        serving(answering(reply(b"ok"))) as server,
        asking(server, max_connections=1) as upstream,
    ):
        held = await ask(upstream)
        assert await fail(upstream, SHORT) == ("pool", False)
        held.close()
        assert await fetch(upstream, SHORT) == b"ok"
        assert server.accepted == 1


async def test_many_requests_share_few_places() -> None:
    script = answering(reply(b"ok"), chunked(b"o", b"k"))
    async with serving(script) as server, asking(server, max_connections=3) as upstream:
        results = await asyncio.gather(*[fetch(upstream) for _ in range(60)])
        assert results == [b"ok"] * 60
        assert (server.accepted, upstream.open_connections, upstream.idle_connections) == (3, 3, 3)


async def test_place_of_a_broken_connection_goes_to_the_one_who_waits() -> None:
    async with (
        serving(ending_with(b"junk")) as server,
        asking(server, max_connections=1) as upstream,
    ):
        results = await asyncio.gather(*[fail(upstream) for _ in range(4)])
        assert results == [("protocol", True)] * 4
        assert (server.accepted, upstream.open_connections) == (4, 0)


async def test_close_ends_idle_busy_and_waiting() -> None:
    script = answering(OK + b"content-length: 9\r\n\r\n")
    async with serving(script) as server, asking(server, max_connections=1) as upstream:
        response = await ask(upstream)
        reading = asyncio.create_task(response.read())
        waiting = asyncio.create_task(ask(upstream))
        await asyncio.sleep(0)
        await upstream.close()
        with pytest.raises(UpstreamError, match="reset"):
            await reading
        with pytest.raises(UpstreamError, match="pool"):
            await waiting
        with pytest.raises(UpstreamError, match="pool"):
            await ask(upstream)
        assert upstream.open_connections == 0


async def test_close_by_another_task_ends_a_read() -> None:
    async with (
        serving(answering(OK + b"content-length: 9\r\n\r\n")) as server,
        asking(server) as upstream,
    ):
        response = await ask(upstream)
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        response.close()
        with pytest.raises(UpstreamError):
            await reading
