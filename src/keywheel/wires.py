"""The library's connections to the upstream, over httpx2's own pool, and what their failures mean.

The gateway has its own client, which is cheaper; this one is what a program has installed anyway.
"""

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, cast
from weakref import WeakKeyDictionary

import httpcore2
import httpx2

from keywheel.config import UpstreamSettings, url_fault
from keywheel.errors import ConfigError

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


class Patience(threading.local):
    """Until when the thread that reads may wait. A connection's own limits are fixed; an attempt's are not."""

    due = inf

    def allow(self, seconds: float) -> None:
        """From now on."""
        self.due = time.monotonic() + seconds

    def left(self, limit: float | None) -> float | None:
        """Seconds that a read may take. Raises `httpcore2.ReadTimeout` when there are none."""
        if self.due == inf:
            return limit
        left = self.due - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no time is left")
        return left


class Wire(httpx2.BaseTransport):
    """Blocking connections. `patience` bounds every read of the thread that sets it."""

    def __init__(self, settings: UpstreamSettings) -> None:
        _check(settings)
        self._settings = settings
        self._lock = threading.Lock()
        self._pool: httpcore2.ConnectionPool | None = None
        self._pid = 0
        self.patience = Patience()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request; what fails is an exception of httpcore2."""
        url = request.url
        target = httpcore2.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        answer = self._open().handle_request(
            httpcore2.Request(
                request.method,
                target,
                headers=request.headers.raw,
                content=cast("httpx2.SyncByteStream", request.stream),
                extensions=request.extensions,
            )
        )
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

    def _open(self) -> httpcore2.ConnectionPool:
        """The pool; a forked child has one of its own."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool, self._pid = self._make(), os.getpid()
            return self._pool

    def _make(self) -> httpcore2.ConnectionPool:
        settings = self._settings
        options: dict[str, Any] = {
            "ssl_context": _tls(settings),
            "max_connections": settings.connections,
            "keepalive_expiry": IDLE_SECONDS,
            "network_backend": _Backend(self.patience),
        }
        if settings.proxy and settings.base_url.startswith("https:"):
            return httpcore2.HTTPProxy(settings.proxy, **options)
        return httpcore2.ConnectionPool(**options)


class AsyncWire(httpx2.AsyncBaseTransport):
    """Connections for asyncio: each event loop has its own, as none can serve two."""

    def __init__(self, settings: UpstreamSettings) -> None:
        _check(settings)
        self._settings = settings
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncHTTPTransport]
        self._pools = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request; what fails is an exception of httpx2."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = self._make()
        return await pool.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what is open in this event loop; a later request opens anew."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.aclose()

    def _make(self) -> httpx2.AsyncHTTPTransport:
        settings = self._settings
        secure = settings.base_url.startswith("https:")
        return httpx2.AsyncHTTPTransport(
            verify=_tls(settings)
            or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the latter is not used
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=settings.connections, keepalive_expiry=IDLE_SECONDS
            ),
            proxy=settings.proxy if secure else None,
        )


class _Pieces(httpx2.SyncByteStream):
    """The body of an answer as it comes."""

    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return iter(cast("Iterable[bytes]", self._answer.stream))

    def close(self) -> None:
        self._answer.close()


class _Backend(httpcore2.NetworkBackend):
    """Opens connections whose reads are bounded by patience."""

    def __init__(self, patience: Patience) -> None:
        self._plain = httpcore2.SyncBackend()
        self._patience = patience

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._plain.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Line(stream, self._patience)


class _Line(httpcore2.NetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore2.NetworkStream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._patience.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _Line(stream, self._patience)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _check(settings: UpstreamSettings) -> None:
    if fault := url_fault(settings.base_url):
        raise ConfigError(f"upstream.base_url: {fault}")


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
