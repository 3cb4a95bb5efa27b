"""Answers that must not be believed: each is an error of its own kind."""

import asyncio

import pytest

from keywheel.gateway.upstream import UpstreamError
from tests.gateway.asking import BOTH_LOOPS, ask, asking, fail, fetch
from tests.gateway.rawserver import OK, Peer, ending_with, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


WRONG = {
    "garbage": (b"<html>no</html>", "protocol"),
    "other protocol": (b"SSH-2.0-x\r\n", "protocol"),
    "version 2": (b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", "protocol"),
    "status 099": (b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", "protocol"),
    "switching": (
        b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI",
        "protocol",
    ),
    "switching without a word": (b"HTTP/1.1 101 S\r\n\r\n", "protocol"),
    "two lengths": (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", "protocol"),
    "length and chunked": (
        OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "protocol",
    ),
    "chunked and length": (
        OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
        "protocol",
    ),
    "negative length": (OK + b"content-length: -1\r\n\r\n", "protocol"),
    "huge length": (OK + b"content-length: 99999999999999999999\r\n\r\n", "protocol"),
    "gzip coding": (OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "protocol"),
    "chunked twice": (
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "protocol",
    ),
    "chunked not last": (OK + b"transfer-encoding: chunked, gzip\r\n\r\n", "protocol"),
    "bad chunk size": (OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", "protocol"),
    "bad chunk end": (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "protocol"),
    "gzip body": (reply(b"\x1f\x8b", b"Content-Encoding: GZIP"), "protocol"),
    "chained encodings": (
        reply(b"x", b"content-encoding: gzip", b"content-encoding: identity"),
        "protocol",
    ),
    "folded header": (OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n", "protocol"),
    "bare LF": (b"HTTP/1.1 200 OK\ncontent-length: 0\n\n", "protocol"),
    "101 headers": (OK + b"x: 1\r\n" * 101 + b"content-length: 0\r\n\r\n", "too-large"),
    "long header": (OK + b"x: " + b"a" * 100_000 + b"\r\n\r\n", "too-large"),
    "endless interim answers": (b"HTTP/1.1 100 C\r\n\r\n" * 3000, "too-large"),
    "endless trailers": (
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: 1\r\n" * 200_000,
        "too-large",
    ),
    "nothing": (b"", "reset"),
    "half a status": (b"HTT", "truncated"),
    "half a head": (OK + b"content-le", "truncated"),
    "only interim": (b"HTTP/1.1 100 Continue\r\n\r\n", "truncated"),
    "short body": (OK + b"content-length: 5\r\n\r\nhell", "truncated"),
    "no last chunk": (OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n", "truncated"),
    "inside a chunk": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab", "truncated"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("size", [1, 1_000_000], ids=["byte by byte", "whole"])
async def test_wrong_answer_is_an_error_of_its_kind(name: str, size: int) -> None:
    data, kind = WRONG[name]
    if size == 1 and len(data) > 1000:
        size = 700

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send_sliced(data, size)

    async with serving(script) as server, asking(server) as upstream:
        assert await fail(upstream) == (kind, True)
        assert upstream.open_connections == 0


async def test_head_of_exactly_the_limit_passes() -> None:
    rest = b"\r\ncontent-length: 2\r\n\r\n"
    head = OK + b"x: " + b"a" * (32 * 1024 - len(OK) - 3 - len(rest)) + rest
    async with serving(ending_with(head + b"ok")) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"ok"
    headers = b"".join(b"x-%d: 1\r\n" % number for number in range(99))
    async with (
        serving(ending_with(OK + headers + b"content-length: 0\r\n\r\n")) as server,
        asking(server) as upstream,
    ):
        response = await ask(upstream)
        assert len(response.headers) == 100
        response.close()


async def test_head_one_byte_above_the_limit_is_too_large() -> None:
    rest = b"\r\ncontent-length: 0\r\n\r\n"
    head = OK + b"x: " + b"a" * (32 * 1024 + 1 - len(OK) - 3 - len(rest)) + rest
    async with serving(ending_with(head)) as server, asking(server) as upstream:
        assert await fail(upstream) == ("too-large", True)


async def test_chunk_framing_is_limited_between_contents_and_not_in_all() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            for part in (b"1;" + b"x" * 3000 + b"\r\n", b"a\r\n"):
                await asyncio.sleep(0.001)
                peer.send(part)
        peer.send(b"0\r\n\r\n")
        await peer.until_closed()

    async with serving(script) as server, asking(server) as upstream:
        assert await fetch(upstream) == b"a" * 20


async def test_pieces_before_the_break_are_delivered_first() -> None:
    data = OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n"
    async with serving(ending_with(data)) as server, asking(server) as upstream:
        response = await ask(upstream)
        assert await response.read() == b"hello"
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await response.read()


async def test_reset_before_the_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with serving(script) as server, asking(server) as upstream:
        assert await fail(upstream) == ("reset", True)


async def test_reset_inside_the_body() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK + b"content-length: 9\r\n\r\nabc")
        await asyncio.sleep(0.005)
        peer.reset()

    async with serving(script) as server, asking(server) as upstream:
        response = await ask(upstream)
        assert await response.read() == b"abc"
        with pytest.raises(UpstreamError, match="truncated"):
            await response.read()
