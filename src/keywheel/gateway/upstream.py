"""The gateway's client for its one upstream: plain HTTP/1.1, pooled, as little work as it can be.

It is no HTTP library: no redirects, no cookies, no content decoding, no HTTP/2. It exists
because a general client costs ten times more CPU than everything else a proxied request needs.

    upstream = Upstream("https://openrouter.ai/api/v1")
    response = await upstream.request("POST", "/chat/completions", headers, body, Timeouts())
    try:
        while piece := await response.read(): ...
    finally:
        response.close()
"""

import asyncio
import re
import ssl
import time
from collections.abc import Sequence
from functools import lru_cache

from keywheel.gateway.bounds import Timeouts, UpstreamError
from keywheel.gateway.connection import BODY, DONE, Connection, Sink
from keywheel.gateway.dial import Dialer, parse_origin, parse_proxy, tls_context
from keywheel.secret import Veiled

__all__ = ["Pool", "Response", "Timeouts", "Upstream", "UpstreamError"]

OWN_HEADERS = frozenset(
    {b"host", b"accept-encoding", b"connection", b"content-length", b"transfer-encoding"}
)
LINGER = 0.25  # seconds that the end of a body may take behind its last wanted byte
REQUEST_LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n")


class Upstream:
    """One upstream host. Belongs to the event loop it is first used on."""

    def __init__(  # noqa: PLR0913  every argument is one setting of the gateway
        self,
        base_url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 512,
        idle_seconds: float = 20.0,
        ca_file: str | None = None,
        proxy: str | None = None,
        allow_private: bool = False,
    ) -> None:
        """`proxy` is `http://host:port`; proxy variables of the environment are not looked at.

        `ca_file` replaces the system's CAs. ValueError for a URL or context that is not safe.
        """
        origin = parse_origin(base_url)
        context = tls_context(ssl_context, ca_file) if origin.tls else None
        way = parse_proxy(proxy) if proxy else None
        self._dialer = Dialer(origin, context, way, allow_private=allow_private)
        self._pool = Pool(max_connections, idle_seconds)
        self._path = origin.path.encode("ascii")
        self._fixed = f"host: {origin.authority}\r\naccept-encoding: identity\r\n".encode("ascii")

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened."""
        return self._pool.places_taken

    @property
    def idle_connections(self) -> int:
        """Open connections that carry no request."""
        return len(self._pool.idle)

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        timeouts: Timeouts,
    ) -> "Response":
        """Send a request; returns when the head of its answer is complete.

        `path` is relative to the base URL's path and begins with `/`. Host, accept-encoding and
        content-length are added here; a caller who gives one of them, or a line break in any
        part, gets a ValueError. What goes wrong outside is an UpstreamError.
        """
        until = time.monotonic() + timeouts.total
        head = self._write_head(method, path, headers, body)
        connection = await self._acquire(timeouts)
        try:
            await connection.send(method, head, body, timeouts, until)
        except BaseException:
            self._pool.release(connection)
            raise
        return Response(self._pool, connection, timeouts.silence)

    async def close(self) -> None:
        """Close idle connections, abort busy ones, turn away who waits; no request after this."""
        await self._pool.close()

    async def _acquire(self, timeouts: Timeouts) -> Connection:
        connection = self._pool.take()
        if connection is None and not self._pool.reserve():
            connection = await self._pool.queue(timeouts.pool)
        if connection is not None:
            return connection
        try:
            connection = await self._dialer.dial(timeouts.connect)
        except BaseException:
            self._pool.vacate()
            raise
        self._pool.adopt(connection)
        return connection

    def _write_head(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        if not OWN_HEADERS.isdisjoint([name.lower() for name, _ in headers]):
            raise ValueError("host, connection and length headers are set by the client itself")
        line = _request_line(method, self._path, path)
        lines = [line, self._fixed, *[b"%b: %b\r\n" % header for header in headers]]
        if body or method not in {"GET", "HEAD"}:
            lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        head = Veiled(b"".join(lines))
        breaks = len(lines) + 1  # the fixed part is two lines
        del lines  # the key is in it, and a traceback may show what is here
        whole = head.count(b"\n") == head.count(b"\r") == breaks and b"\0" not in head
        if not whole:
            raise ValueError("a header holds a character that HTTP forbids")
        return head


@lru_cache(256)
def _request_line(method: str, base: bytes, path: str) -> bytes:
    line = f"{method} ".encode("ascii") + base + f"{path} HTTP/1.1\r\n".encode("ascii")
    if not REQUEST_LINE.fullmatch(line):
        raise ValueError("method or path holds a character that HTTP forbids")
    return line


class Response:
    """An answer whose head has arrived. `headers` have lower-case names.

    Read it to its end or close it; both give the connection back, once.
    """

    __slots__ = ("_connection", "_ended", "_pool", "_silence", "headers", "status")

    def __init__(self, pool: "Pool", connection: Connection, silence: float) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._pool = pool
        self._connection: Connection | None = connection
        self._silence = silence
        self._ended = False

    async def read(self) -> bytes:
        """The next piece, as large as has arrived; empty at the clean end of the body.

        Raises UpstreamError if the body breaks off, and after `close`.
        """
        # Looked up anew after every wait: another task may have closed this response meanwhile,
        # and then the connection may already carry someone else's request.
        while (connection := self._connection) is not None:
            if piece := connection.take():
                return piece
            if connection.phase is BODY:
                await connection.wait_for_body(self._silence)
                continue
            self._ended = connection.phase is DONE
            self.close()
            connection.raise_failure()
        if not self._ended:
            raise UpstreamError("reset", "the response was closed", sent=True)
        return b""

    async def pump(self, sink: Sink, silence: float) -> bool:
        """Give every piece to `sink` as it arrives, until it wants no more; False at the clean end of the body.

        `silence`: seconds that the next piece may take; the sink says so for the one after. Raises as `read` does, and
        whatever the sink raises.
        """
        while (connection := self._connection) is not None:
            if piece := connection.take():
                silence = sink(piece)
                if not silence:
                    return True
            elif connection.phase is BODY:
                try:
                    await connection.pour(sink, silence)
                except BaseException:
                    if self._connection is connection:
                        connection.stop_pouring()
                    raise
                if connection.phase is BODY and not connection.is_pouring:
                    return True
            else:
                break
        return bool(await self.read())

    def close(self) -> None:
        """Give the connection back if its whole answer has arrived, otherwise abort it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)

    def retire(self) -> None:
        """Close a response of which nothing more is wanted, e.g. behind `[DONE]`.

        The end of the body often comes a moment later than its last event: it is waited for in the background, so that
        the connection can be kept.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.retire(connection)

    def set_silence(self, seconds: float) -> None:
        """Change the longest time without a byte, also for a read that is waiting."""
        self._silence = seconds
        if self._connection is not None:
            self._connection.set_silence(seconds)


class Pool:
    """Who holds a connection, which ones idle, who waits for one.

    Decides without I/O. A place is taken in the moment of the decision and stands for one
    connection, open or being opened; it ends with `vacate` or when `release` finds the connection
    unfit. A place that becomes free goes to whoever waits longest before anyone new can ask.
    """

    def __init__(self, places: int, idle_seconds: float) -> None:
        self.places_taken = 0
        self.idle: list[Connection] = []  # the one used last is at the end and is used next
        self._places = places
        self._idle_seconds = idle_seconds
        self._waiting: dict[asyncio.Future[Connection | None], None] = {}
        self._live: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """The idle connection used last, with its place, if one is fit; unfit ones are dropped."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_fit() and not self._is_stale(connection):
                return connection
            connection.abort()
            self.vacate()
        return None

    def reserve(self) -> bool:
        """Take a place for a new connection, if one is free."""
        if self._closed:
            raise UpstreamError("pool", "the upstream client is closed", sent=False)
        if self.places_taken >= self._places:
            return False
        self.places_taken += 1
        return True

    async def queue(self, seconds: float) -> Connection | None:
        """Wait in line for a place; it comes with a fit connection, or None: open one."""
        loop = asyncio.get_running_loop()
        ticket: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting[ticket] = None
        alarm = loop.call_later(seconds, _refuse, ticket, f"none free for {seconds:g} s")
        try:
            connection = await ticket
        except BaseException:
            self._withdraw(ticket)
            raise
        finally:
            alarm.cancel()
            self._waiting.pop(ticket, None)
        if connection is None or connection.is_fit():
            return connection
        connection.abort()
        return None

    def adopt(self, connection: Connection) -> None:
        """Know a connection that was opened in a reserved place."""
        self._live.add(connection)
        connection.lost.add_done_callback(lambda _: self._forget(connection))
        if self._closed:
            connection.abort()

    def release(self, connection: Connection) -> None:
        """Take a connection back after an exchange: pass it on, keep it, or close it."""
        if connection.finish():
            self._keep(connection)
        else:
            connection.abort()
            self.vacate()

    def retire(self, connection: Connection) -> None:
        """Take a connection back at the next news of it: its end, or else it is closed."""
        if connection.phase is not BODY:
            self.release(connection)
            return
        news = connection.wait_for_body(LINGER)
        news.add_done_callback(lambda _: self.release(connection))

    def vacate(self) -> None:
        """Give a place up, to the one who waits longest or for later."""
        ticket = self._next_ticket()
        if ticket is None:
            self.places_taken -= 1
        else:
            ticket.set_result(None)

    async def close(self) -> None:
        """Abort every connection and wait until the sockets are gone."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for ticket in self._waiting:
            _refuse(ticket, "the upstream client is closed")
        gone = [connection.lost for connection in self._live]
        for connection in tuple(self._live):
            connection.abort()
        await asyncio.gather(*gone)

    def _keep(self, connection: Connection) -> None:
        ticket = self._next_ticket()
        if ticket is not None:
            ticket.set_result(connection)
            return
        connection.idle_since = time.monotonic()
        self.idle.append(connection)
        if self._sweeper is None:
            self._schedule_sweep(self._idle_seconds)

    def _next_ticket(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            ticket = next(iter(self._waiting))
            del self._waiting[ticket]
            if not ticket.done():
                return ticket
        return None

    def _withdraw(self, ticket: asyncio.Future[Connection | None]) -> None:
        """Whoever waited was cancelled; what the ticket brought in that very moment goes on."""
        if not ticket.done() or ticket.cancelled() or ticket.exception() is not None:
            return
        connection = ticket.result()
        if connection is not None and connection.is_fit():
            self._keep(connection)
            return
        if connection is not None:
            connection.abort()
        self.vacate()

    def _forget(self, connection: Connection) -> None:
        self._live.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
            self.vacate()

    def _is_stale(self, connection: Connection) -> bool:
        return time.monotonic() - connection.idle_since >= self._idle_seconds

    def _schedule_sweep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        while self.idle and self._is_stale(self.idle[0]):
            self.idle.pop(0).abort()
            self.vacate()
        if self.idle:
            age = time.monotonic() - self.idle[0].idle_since
            self._schedule_sweep(self._idle_seconds - age)


def _refuse(ticket: asyncio.Future[Connection | None], reason: str) -> None:
    if not ticket.done():
        ticket.set_exception(UpstreamError("pool", reason, sent=False))
