"""A scripted server on loopback that writes exactly the bytes a test wants, when it wants."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"content-length: 0\r\n\r\n"


def reply(body: bytes, *headers: bytes) -> bytes:
    lines = [*headers, b"content-length: %d" % len(body)]
    return OK + b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return OK + b"transfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"


class Peer:
    """The server's side of one connection."""

    def __init__(
        self, server: "RawServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.number = server.accepted
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one whole request and note it; IncompleteReadError when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        whole = head + await self.reader.readexactly(length)
        self.server.requests.append(whole)
        return whole

    def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionAbortedError  # uvloop says it with a RuntimeError
        self.writer.write(data)

    async def send_sliced(self, data: bytes, size: int = 1) -> None:
        """Send in segments of `size`, each a read of its own for a client on the same loop."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])
            await a_read()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def stop_listening(self) -> None:
        """Shut down this side's reading only; the other side notices nothing."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_RD)

    async def until_closed(self) -> None:
        """Return when the client has closed the connection."""
        while await self.reader.read(65536):
            pass


async def a_read() -> None:
    """Let the other side, on the same loop, read what was written. In the first turn it only learns that there is."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen soon; TimeoutError if it does not."""
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Counts what came; `open` is the number of connections not closed yet."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.port = 0
        self.scheme = "http"
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/api"

    async def serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.accepted += 1
        self.open += 1
        try:
            await self.script(Peer(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client has left, which is the client's right
        except asyncio.CancelledError:
            pass  # only `serving` does that, at its end
        finally:
            self.open -= 1
            self.tasks.discard(task)
            if not writer.transport.is_closing():
                writer.close()

    async def settle(self) -> None:
        """Wait until every script has ended: a client that leaks a socket makes this time out."""
        await until(lambda: not self.open)


@asynccontextmanager
async def serving(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    strict: bool = True,
) -> AsyncIterator[RawServer]:
    """Serve `script` for every connection; `strict`: at the end no script and no new task may be left."""
    before = asyncio.all_tasks()
    server = RawServer(script)
    loop = asyncio.get_running_loop()
    complain = loop.get_exception_handler()
    loop.set_exception_handler(partial(_complain, complain))
    listener = await asyncio.start_server(server.serve_peer, host, port, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
        if strict:
            await server.settle()
            await until(lambda: asyncio.all_tasks() <= before)
    finally:
        loop.set_exception_handler(complain)
        listener.close()
        for task in tuple(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


def _complain(
    complain: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None,
    loop: asyncio.AbstractEventLoop,
    context: dict[str, Any],
) -> None:
    """A client may refuse a handshake. In its debug mode asyncio complains of that on the server's side."""
    if complain and "for incoming connection" not in context.get("message", ""):
        complain(loop, context)


def answering(*replies: bytes) -> Script:
    """Answer the requests of a connection with `replies`, the last one again and again."""

    async def script(peer: Peer) -> None:
        for number in range(10_000):
            await peer.request()
            peer.send(replies[min(number, len(replies) - 1)])

    return script


def ending_with(data: bytes) -> Script:
    """Answer the first request with `data`, then FIN."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(data)
        peer.writer.close()

    return script
