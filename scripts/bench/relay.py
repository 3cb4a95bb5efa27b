"""The least a proxy in Python can do: uvicorn in front, httptools behind, nothing looked at in between.

`python -m bench.relay --port N --upstream M`, loopback only. What keywheel spends beyond it, keywheel's work costs.
"""

import argparse
import asyncio
from typing import Any, cast

import httptools
import uvicorn

HOST = "127.0.0.1"
HEAD = b"POST /api%b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
NOT_PASSED_ON = frozenset({b"transfer-encoding", b"connection", b"keep-alive"})

Answer = tuple[int, list[tuple[bytes, bytes]]]


class Connection(asyncio.Protocol):
    """One kept-alive connection to the upstream; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    async def ask(self, path: bytes, body: bytes) -> Answer:
        """Send a request; the head of its answer."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._begun = self._ended = False
        self._transport.write(HEAD % (path, len(body)) + body)
        while not self._begun:
            await self._wait()
        return self._parser.get_status_code(), self._headers

    async def read(self) -> bytes:
        """The next piece of the body, empty at its end."""
        while not self._pieces and not self._ended:
            await self._wait()
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._news and not self._news.done():
            self._news.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in NOT_PASSED_ON:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._ended = True

    def _wait(self) -> asyncio.Future[None]:
        self._news = self._loop.create_future()
        return self._news


class Relay:
    """The ASGI application."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._idle: list[Connection] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        connection = self._idle.pop() if self._idle else await self._connect()
        status, headers = await connection.ask(scope["raw_path"], body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while piece := await connection.read():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._idle.append(connection)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, HOST, self._upstream)
        return connection


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="bench.relay")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        Relay(options.upstream), host=HOST, port=options.port,
        http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
