"""The library's connections to the upstream, over httpx2's own pool, and what their failures mean.

The gateway has its own client, which is cheaper; this one is what a program has installed anyway.
"""

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpcore2
import httpx2

from keywheel.addresses import Reach, is_loopback_name
from keywheel.config import UpstreamSettings, url_fault
from keywheel.errors import ConfigError
from keywheel.lines import AsyncOpener, Opener, Patience

IDLE_SECONDS = 20.0  # a connection that rests longer may be closed already at the other end


@dataclass(frozen=True, slots=True)
class Failure:
    """A connection that gave no complete answer: its kind among `wire.faults.FAILURES`."""

    kind: str
    unsent: bool = False


# By the names of exceptions, which httpx2, its core and the older httpx share: before the head of an answer, and after.
FAILURES: Mapping[str, tuple[Failure, Failure]] = {
    name: (before, Failure(after))
    for name, before, after in (
        ("PoolTimeout", Failure("pool", True), "pool"),
        ("ConnectTimeout", Failure("unreachable", True), "reset"),
        ("ConnectError", Failure("unreachable", True), "reset"),
        ("ProxyError", Failure("unreachable", True), "reset"),
        ("UnsupportedProtocol", Failure("unreachable", True), "reset"),
        ("WriteTimeout", Failure("timeout-write"), "timeout-write"),
        ("WriteError", Failure("reset"), "reset"),
        ("TimeoutError", Failure("timeout-head"), "timeout-silence"),
        ("ReadTimeout", Failure("timeout-head"), "timeout-silence"),
        ("ReadError", Failure("reset"), "truncated"),
        ("RemoteProtocolError", Failure("protocol"), "protocol"),
        ("LocalProtocolError", Failure("protocol"), "protocol"),
    )
}
LOST = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)  # what a wire may raise; they have no common base
TLS = {"ConnectError": ((ssl.SSLCertVerificationError, "tls"), (ssl.SSLError, "tls-handshake"))}
CUT_OFF = (
    "disconnected",
    "peer closed",
    "without sending",
)  # how h11 words a connection that ended


def failure(error: BaseException, *, headed: bool) -> Failure | None:
    """What an exception of a client says; None for one that is no failure of a connection.

    `headed`: the head of the answer had come.
    """
    name = type(error).__name__
    if name not in FAILURES:
        return None
    if name == "RemoteProtocolError" and any(words in str(error) for words in CUT_OFF):
        return Failure("truncated" if headed else "reset")
    for kind, meaning in TLS.get(name, ()):
        if any(isinstance(cause, kind) for cause in _causes(error)):
            return Failure(meaning, unsent=True)
    return FAILURES[name][headed]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Wire(httpx2.BaseTransport):
    """Blocking connections. `patience` bounds every read of the thread that sets it."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._reach = _reach(settings)
        self._settings = settings
        self._lock = threading.Lock()
        self._pool: httpcore2.ConnectionPool | None = None
        self._pid = 0
        self.patience = Patience()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request; what fails is an exception of httpcore2."""
        answer = self.open().handle_request(_message(request))
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Pieces(answer),
            extensions=cast("dict[str, Any]", answer.extensions),  # pyright: ignore[reportUnknownMemberType]
        )

    def close(self) -> None:
        """Close what is open; a later request opens anew."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool and self._pid == os.getpid():
            pool.close()

    def open(self) -> httpcore2.ConnectionPool:
        """The pool; a forked child has one of its own. Raises `ConfigError` for an unusable CA file."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool, self._pid = self._make(), os.getpid()
            return self._pool

    def _make(self) -> httpcore2.ConnectionPool:
        options = _options(self._settings)
        options["network_backend"] = Opener(self._reach, self.patience)
        if self._reach.proxied:
            return httpcore2.HTTPProxy(self._settings.proxy or "", **options)
        return httpcore2.ConnectionPool(**options)


class AsyncWire(httpx2.AsyncBaseTransport):
    """Connections for asyncio: each event loop has its own, as none can serve two."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._reach = _reach(settings)
        self._settings = settings
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpcore2.AsyncConnectionPool]
        self._pools = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request; what fails is an exception of httpcore2."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = self._make()
        answer = await pool.handle_async_request(_message(request))
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_AsyncPieces(answer),
            extensions=cast("dict[str, Any]", answer.extensions),  # pyright: ignore[reportUnknownMemberType]
        )

    async def aclose(self) -> None:
        """Close what is open in this event loop; a later request opens anew."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.aclose()

    def _make(self) -> httpcore2.AsyncConnectionPool:
        options = _options(self._settings)
        options["network_backend"] = AsyncOpener(self._reach)
        if self._reach.proxied:
            return httpcore2.AsyncHTTPProxy(self._settings.proxy or "", **options)
        return httpcore2.AsyncConnectionPool(**options)


class _Pieces(httpx2.SyncByteStream):
    """The body of an answer as it comes."""

    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return iter(cast("Iterable[bytes]", self._answer.stream))

    def close(self) -> None:
        self._answer.close()


class _AsyncPieces(httpx2.AsyncByteStream):
    """The same for asyncio."""

    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(cast("AsyncIterable[bytes]", self._answer.stream))

    async def aclose(self) -> None:
        await self._answer.aclose()


def _reach(settings: UpstreamSettings) -> Reach:
    """Where connections may lead. Raises `ConfigError` for an unsafe base URL."""
    if fault := url_fault(settings.base_url):
        raise ConfigError(f"upstream.base_url: {fault}")
    parts = urlsplit(settings.base_url)
    proxied = bool(settings.proxy) and parts.scheme == "https"
    return Reach(is_loopback_name(parts.hostname or ""), settings.allow_private, proxied)


def _options(settings: UpstreamSettings) -> dict[str, Any]:
    """What the blocking pool and the one for asyncio have in common. Raises `ConfigError`."""
    return {
        "ssl_context": _tls(settings),
        "max_connections": settings.connections,
        "keepalive_expiry": IDLE_SECONDS,
    }


def _message(request: httpx2.Request) -> httpcore2.Request:
    url = request.url
    target = httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    return httpcore2.Request(
        request.method,
        target,
        headers=request.headers.raw,
        content=cast("httpx2.SyncByteStream", request.stream),
        extensions=request.extensions,
    )


def _tls(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """The system's CAs, or the file's; None where nothing is encrypted. Raises `ConfigError`."""
    if not settings.base_url.startswith("https:"):
        return None
    try:
        if settings.ca_file:
            return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigError(f"upstream.ca_file: {settings.ca_file}: {error.strerror}") from None
    return httpx2.create_ssl_context(trust_env=False)
