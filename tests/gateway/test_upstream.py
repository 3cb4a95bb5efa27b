"""Requests and well-formed answers, over raw sockets."""

import asyncio
import random

import pytest

from keywheel.gateway.upstream import Upstream
from tests.gateway.asking import BOTH_LOOPS, PATIENT, ask, asking, fetch, read_all
from tests.gateway.rawserver import EMPTY, OK, Peer, answering, chunked, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


async def test_request_has_exactly_the_expected_bytes() -> None:
    async with serving(answering(EMPTY)) as server, asking(server) as upstream:
        await fetch(upstream, body=b'{"a":1}')
    assert server.requests == [
        b"POST /api/chat HTTP/1.1\r\nhost: localhost:%d\r\naccept-encoding: identity\r\n"
        b'x-a: 1\r\ncontent-length: 7\r\n\r\n{"a":1}' % server.port
    ]


async def test_get_without_body_has_no_length_and_post_has_zero() -> None:
    async with serving(answering(EMPTY)) as server, asking(server) as upstream:
        (await upstream.request("GET", "/key", [], b"", PATIENT)).close()
        (await upstream.request("POST", "/key", [], b"", PATIENT)).close()
    assert b"content-length" not in server.requests[0]
    assert server.requests[1].endswith(b"content-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/a b", []),
        ("GET", "/a\r\nx: y", []),
        ("GET", "key", []),
        ("get", "/key", []),
        ("GET", "/käy", []),
        ("GET", "/key", [(b"x", b"a\r\nhost: evil")]),
        ("GET", "/key", [(b"x", b"a\rb")]),
        ("GET", "/key", [(b"x\n", b"a")]),
        ("GET", "/key", [(b"x", b"\0")]),
        ("GET", "/key", [(b"Host", b"evil")]),
        ("GET", "/key", [(b"content-length", b"3")]),
        ("GET", "/key", [(b"Transfer-Encoding", b"chunked")]),
    ],
)
async def test_what_could_smuggle_is_refused_before_connecting(
    method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    upstream = Upstream("http://127.0.0.1:1/")
    with pytest.raises(ValueError, match=r"forbids|set by the client|ascii"):
        await upstream.request(method, path, headers, b"", PATIENT)
    assert upstream.open_connections == 0


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 3_000_000])
async def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    body = random.Random(size).randbytes(size)
    async with serving(answering(reply(b"ok"))) as server, asking(server) as upstream:
        assert await fetch(upstream, body=body) == b"ok"
    assert server.requests[0].endswith(b"content-length: %d\r\n\r\n" % size + body)


BODIES = {
    "length": (reply(b"hello"), b"hello", True),
    "empty": (EMPTY, b"", True),
    "chunked": (chunked(b"he", b"llo"), b"hello", True),
    "chunked, empty": (chunked(), b"", True),
    "trailers dropped": (chunked(b"hello", trailer=b"x-t: 1\r\ny-t: 2\r\n"), b"hello", True),
    "chunk extension": (
        OK + b"transfer-encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        b"hello",
        True,
    ),
    "until eof": (OK + b"\r\nhello", b"hello", False),
    "1.0 until eof": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False),
    "1.0 with length": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
        b"hello",
        True,
    ),
    "connection: close": (reply(b"hello", b"Connection: close"), b"hello", False),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + reply(b"hello"),
        b"hello",
        True,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
    "identity": (reply(b"hello", b"content-encoding: identity"), b"hello", True),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("sliced", [False, True], ids=["whole", "byte by byte"])
async def test_body_is_read_and_connection_kept_as_http_says(name: str, sliced: bool) -> None:
    data, body, kept = BODIES[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send_sliced(data, 1 if sliced else len(data))
        if kept:
            await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        assert b"link" not in dict(response.headers)
        assert await read_all(response) == body
        assert upstream.idle_connections == int(kept)


async def test_every_boundary_of_an_answer_may_fall_between_two_reads() -> None:
    data = chunked(b"he", b"llo", trailer=b"x-t: 1\r\n")
    cuts = iter(range(1, len(data)))

    async def script(peer: Peer) -> None:
        for cut in cuts:
            await peer.request()
            peer.send(data[:cut])
            await asyncio.sleep(0.0005)
            peer.send(data[cut:])
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        for _ in range(1, len(data)):
            assert await fetch(upstream) == b"hello"
        assert server.accepted == 1


async def test_head_answer_has_no_body_and_keeps_the_connection() -> None:
    async with (
        serving(answering(OK + b"content-length: 5\r\n\r\n")) as server,
        asking(server) as upstream,
    ):
        for _ in range(2):
            response = await upstream.request("HEAD", "/", [], b"", PATIENT)
            assert (b"content-length", b"5") in response.headers
            assert await read_all(response) == b""
        assert server.accepted == 1


async def test_headers_have_lower_case_names_and_bare_values_in_order() -> None:
    data = (
        b"HTTP/1.1 429 Slow\r\nX-One:  a b \t\r\nSET-x: 1\r\nset-x: 2\r\ncontent-length: 0\r\n\r\n"
    )
    async with serving(answering(data)) as server, asking(server) as upstream:
        response = await ask(upstream)
        assert response.status == 429
        assert response.headers[:3] == [(b"x-one", b"a b"), (b"set-x", b"1"), (b"set-x", b"2")]
        response.close()


async def test_half_closed_server_is_read_to_the_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.stop_listening()
        await peer.send_sliced(reply(b"hello"), 3)

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"hello"
