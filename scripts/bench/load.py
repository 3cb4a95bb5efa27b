"""The load generator: a small HTTP/1.1 client, a closed loop for capacity and an open loop for latency."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import cast

import httptools

from .material import DONE

PATIENCE = 20.0  # seconds that a load may last beyond its plan before the run is given up
LEAD = 0.02  # seconds to get a schedule ready before its first request
HOST = "127.0.0.1"
HEADERS = (  # what the OpenAI SDK sends
    "accept: application/json\r\n"
    "accept-encoding: gzip, deflate\r\n"
    "content-type: application/json\r\n"
    "authorization: Bearer bench\r\n"
    "user-agent: OpenAI/Python 3.54.0\r\n"
    "x-stainless-lang: python\r\n"
    "x-stainless-package-version: 3.54.0\r\n"
    "x-stainless-os: Linux\r\n"
    "x-stainless-arch: x64\r\n"
    "x-stainless-runtime: CPython\r\n"
    "x-stainless-runtime-version: 3.11.7\r\n"
    "x-stainless-async: false\r\n"
    "x-stainless-retry-count: 0\r\n"
    "x-stainless-read-timeout: 600\r\n"
)


class BadReply(Exception):
    """An answer was wrong or did not come: a benchmark with failures measures nothing."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `first`, `last`: when its first and its last byte of body came, in monotonic seconds."""

    status: int
    body: bytes
    first: float
    last: float


def request(path: str, body: bytes, *lines: str) -> bytes:
    """A POST as bytes. `lines`: further lines of its head."""
    more = "".join(f"{line}\r\n" for line in lines)
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\n{HEADERS}{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def check(reply: Reply, events: int, *, exact: bool = True) -> None:
    """Raise BadReply unless this is a complete answer, for a stream with so many events of content; where a proxy
    writes its streams anew (not `exact`), with at least as many."""
    if reply.status != 200:
        raise BadReply(f"status {reply.status}: {reply.body[:400].decode(errors='replace')}")
    # beside its content, a stream has the finish, the usage and [DONE]
    count = reply.body.count(b"data: ")
    enough = count == events + 3 if exact else count > events
    whole = enough and reply.body.endswith(DONE)
    if not (whole if events else reply.body.endswith(b"}")):
        raise BadReply(f"incomplete answer: … {reply.body[-400:].decode(errors='replace')}")


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._parts: list[bytes] = []
        self.first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(BadReply(f"connection closed before the answer: {exc}"))

    def ask(self, data: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future is its answer."""
        self._parts = []
        self.first = 0.0
        self._answer = self._loop.create_future()
        self._transport.write(data)
        return self._answer

    def close(self) -> None:
        """Close, whether an answer is still due or not."""
        if self._answer:
            self._answer.cancel()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._parts:
            self.first = time.monotonic()
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._answer and not self._answer.done():
            status, body = self._parser.get_status_code(), b"".join(self._parts)
            self._answer.set_result(Reply(status, body, self.first, time.monotonic()))


async def connect(port: int) -> Connection:
    """A new connection to a port of this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return connection


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncGenerator[deque[Connection]]:
    """Open connections, closed at the end together with those that were added."""
    connections: deque[Connection] = deque()
    try:
        for _ in range(count):
            connections.append(await connect(port))
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def closed_loop(
    connections: Sequence[Connection],
    requests: Sequence[bytes],
    events: int,
    seconds: float,
    *,
    exact: bool = True,
) -> int:
    """Each connection asks again as soon as it was answered, for so many seconds; the number of answers."""
    until = time.monotonic() + seconds
    supply = cycle(requests)

    async def client(connection: Connection) -> int:
        count = 0
        while not count or time.monotonic() < until:
            check(await connection.ask(next(supply)), events, exact=exact)
            count += 1
        return count

    async with asyncio.timeout(seconds + PATIENCE):
        return sum(await asyncio.gather(*map(client, connections)))


async def open_loop(
    port: int,
    idle: deque[Connection],
    requests: Sequence[bytes],
    events: int,
    times: Sequence[float],
    *,
    exact: bool = True,
) -> list[tuple[float, Reply]]:
    """Requests start by schedule, whatever became of earlier ones; more connections are opened when all are busy.

    The result is the *intended* start and the answer of each, so that waiting for a late start counts as latency.
    """
    start = time.monotonic() + LEAD

    async def client(at: float, data: bytes) -> tuple[float, Reply]:
        due = start + at
        await asyncio.sleep(due - time.monotonic())
        connection = idle.pop() if idle else await connect(port)
        reply = await connection.ask(data)
        idle.append(connection)
        check(reply, events, exact=exact)
        return due, reply

    async with asyncio.timeout(max(times, default=0.0) + PATIENCE):
        plan = zip(times, cycle(requests), strict=False)
        return list(await asyncio.gather(*(client(at, data) for at, data in plan)))
