"""TLS is always verified, directly and through a CONNECT proxy."""

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from keywheel.gateway.sockets import PAUSE_ABOVE, READ_SIZE
from keywheel.gateway.upstream import Timeouts, Upstream, UpstreamError
from tests.gateway.asking import BOTH_LOOPS, PATIENT, fail, fetch
from tests.gateway.rawserver import OK, Peer, answering, chunked, reply, serving

pytestmark = pytest.mark.anyio

HASTY = Timeouts(connect=0.05)


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cert.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def good_tls(ca: trustme.CA) -> ssl.SSLContext:
    return server_tls(ca.issue_cert("localhost", "127.0.0.1"))


async def test_verified_tls_serves_and_is_reused(good_tls: ssl.SSLContext, ca_file: str) -> None:
    body = b"x" * 3_000_000
    async with serving(answering(chunked(b"he", b"llo"), reply(body)), tls=good_tls) as server:
        upstream = Upstream(server.url, ca_file=ca_file)
        assert await fetch(upstream, body=body) == b"hello"
        assert await fetch(upstream) == body
        assert server.requests[0].endswith(body)
        assert (server.accepted, upstream.idle_connections) == (1, 1)
        await upstream.close()
        assert upstream.open_connections == 0


async def test_own_context_serves_too(good_tls: ssl.SSLContext, ca: trustme.CA) -> None:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    async with serving(answering(reply(b"ok")), tls=good_tls) as server:
        upstream = Upstream(server.url.replace("localhost", "127.0.0.1"), ssl_context=context)
        assert await fetch(upstream) == b"ok"
        await upstream.close()


async def test_kept_tls_connection_that_the_server_closed_is_not_used(
    good_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(b"ok"))
        await peer.writer.drain()

    async with serving(script, tls=good_tls) as server:
        upstream = Upstream(server.url, ca_file=ca_file)
        for _ in range(3):
            assert await fetch(upstream) == b"ok"
            await server.settle()
        assert server.accepted == len(server.requests) == 3
        await upstream.close()


def expired(ca: trustme.CA) -> trustme.LeafCert:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return ca.issue_cert("localhost", not_after=yesterday)


BAD_CERTS: dict[str, Callable[[trustme.CA], trustme.LeafCert]] = {
    "expired": expired,
    "wrong host": lambda ca: ca.issue_cert("other.example"),
    "unknown CA": lambda _: trustme.CA().issue_cert("localhost"),
}


@pytest.mark.parametrize("name", BAD_CERTS)
async def test_bad_certificate_is_refused_before_a_byte_is_sent(
    ca: trustme.CA, ca_file: str, name: str
) -> None:
    async with serving(answering(reply(b"ok")), tls=server_tls(BAD_CERTS[name](ca))) as server:
        assert await fail(Upstream(server.url, ca_file=ca_file)) == ("tls", False)
        assert server.requests == []


async def test_system_trust_does_not_know_a_private_ca(good_tls: ssl.SSLContext) -> None:
    async with serving(answering(reply(b"ok")), tls=good_tls) as server:
        assert await fail(Upstream(server.url)) == ("tls", False)


async def test_plain_answer_to_a_handshake_is_a_tls_failure_without_fallback(
    ca_file: str,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.send(reply(b"plain"))
        await peer.until_closed()

    async with serving(script) as server:
        url = server.url.replace("http:", "https:")
        assert await fail(Upstream(url, ca_file=ca_file)) == ("tls-handshake", False)
        assert server.accepted == 1


@pytest.mark.parametrize("patient", [True, False])
async def test_handshake_that_ends_or_stalls_is_unreachable(ca_file: str, patient: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        if not patient:
            await peer.until_closed()

    async with serving(script) as server:
        upstream = Upstream(server.url.replace("http:", "https:"), ca_file=ca_file)
        result = await fail(upstream, PATIENT if patient else HASTY)
        assert result == ("unreachable", False)


async def test_cancelled_at_any_turn_of_a_handshake_leaves_nothing(
    good_tls: ssl.SSLContext, ca_file: str
) -> None:
    async with serving(answering(reply(b"ok")), tls=good_tls) as server:
        for turns in range(0, 40, 3):
            upstream = Upstream(server.url, ca_file=ca_file)
            task = asyncio.create_task(fetch(upstream))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert upstream.open_connections == upstream.idle_connections
            await upstream.close()


@contextmanager
def one_blocking_tls_answer(
    context: ssl.SSLContext, data: bytes, *, farewell: bool
) -> Iterator[int]:
    """A server in a thread: only a blocking socket can leave without TLS's close_notify."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        raw, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(raw, server_side=True) as sock:
            sock.recv(65536)
            sock.sendall(data)
            if farewell:
                sock.unwrap()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(2)
        listener.close()


@pytest.mark.parametrize("farewell", [True, False])
async def test_body_until_eof_ends_only_with_the_tls_farewell(
    good_tls: ssl.SSLContext, ca_file: str, farewell: bool
) -> None:
    with one_blocking_tls_answer(good_tls, OK + b"\r\nhello", farewell=farewell) as port:
        upstream = Upstream(f"https://localhost:{port}", ca_file=ca_file)
        response = await upstream.request("GET", "/", [], b"", PATIENT)
        assert await response.read() == b"hello"
        if farewell:
            assert await response.read() == b""
        else:
            with pytest.raises(UpstreamError, match="truncated"):
                await response.read()
        await upstream.close()
        assert upstream.open_connections == 0


async def test_reader_that_does_not_read_holds_a_tls_server_back(
    good_tls: ssl.SSLContext, ca_file: str
) -> None:
    total = 8 * 1024 * 1024
    async with serving(answering(reply(b"x" * total)), tls=good_tls) as server:
        upstream = Upstream(server.url, ca_file=ca_file)
        response = await upstream.request("GET", "/", [], b"", PATIENT)
        await asyncio.sleep(0.05)
        first = await response.read()
        assert PAUSE_ABOVE < len(first) <= PAUSE_ABOVE + READ_SIZE
        rest = 0
        while piece := await response.read():
            rest += len(piece)
        assert len(first) + rest == total
        await upstream.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def tunnel(peer: Peer) -> None:
    target = (await peer.request()).split(b" ")[1].decode()
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(relay(reader, peer.writer), relay(peer.reader, writer))
    await writer.wait_closed()


async def test_https_goes_through_the_named_proxy(good_tls: ssl.SSLContext, ca_file: str) -> None:
    async with serving(tunnel) as proxy, serving(answering(reply(b"ok")), tls=good_tls) as server:
        upstream = Upstream(server.url, ca_file=ca_file, proxy=f"http://127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert await fetch(upstream) == b"ok"
        target = b"localhost:%d" % server.port
        assert proxy.requests == [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target)]
        assert (server.accepted, upstream.idle_connections) == (1, 1)
        await upstream.close()


async def test_tls_is_verified_through_a_proxy_too(ca: trustme.CA, ca_file: str) -> None:
    bad = server_tls(ca.issue_cert("other.example"))
    async with serving(tunnel) as proxy, serving(answering(reply(b"ok")), tls=bad) as server:
        upstream = Upstream(server.url, ca_file=ca_file, proxy=f"http://127.0.0.1:{proxy.port}")
        assert await fail(upstream) == ("tls", False)
        assert server.requests == []


async def test_refusal_of_the_proxy_is_named() -> None:
    async with serving(answering(b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\n\r\n")) as proxy:
        upstream = Upstream("https://api.example", proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamError, match="the proxy answered 407"):
            await fetch(upstream)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\n\r\n", b"junk", b"", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["refusal", "junk", "nothing", "yes, and gone"],
)
async def test_proxy_that_does_not_connect_is_unreachable(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer)

    async with serving(script) as proxy:
        upstream = Upstream("https://api.example", proxy=f"http://127.0.0.1:{proxy.port}")
        assert await fail(upstream) == ("unreachable", False)


async def test_ipv6_literal_is_bracketed_for_the_proxy() -> None:
    async with serving(answering(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n")) as proxy:
        url = "https://[2606:4700::1]/api"
        assert await fail(Upstream(url, proxy=f"http://localhost:{proxy.port}")) == (
            "unreachable",
            False,
        )
        assert proxy.requests[0].startswith(b"CONNECT [2606:4700::1]:443 HTTP/1.1\r\n")


async def test_silent_proxy_is_unreachable_within_the_connect_time_out() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_closed()

    async with serving(script) as proxy:
        upstream = Upstream("https://api.example", proxy=f"http://127.0.0.1:{proxy.port}")
        assert await fail(upstream, HASTY) == ("unreachable", False)


async def test_loopback_over_http_is_reached_without_the_proxy() -> None:
    async with serving(answering(reply(b"ok"))) as server:
        upstream = Upstream(server.url, proxy="http://127.0.0.1:1")
        assert await fetch(upstream) == b"ok"
        await upstream.close()
