"""A fake OpenRouter that costs next to nothing: `python -m bench.upstream --port N`, loopback only, endless quota."""

import argparse
import asyncio
from itertools import cycle
from typing import cast

import httptools
import uvloop

from . import material

HEADERS = (
    "server: cloudflare\r\n"
    "access-control-allow-origin: *\r\n"
    "cache-control: no-store, no-cache\r\n"
    "x-generation-id: {generation}\r\n"
    "cf-ray: 98a1b2c3d4e5f607-FRA\r\n"
)
BACKLOG = 2048
END = b"0\r\n\r\n"


def head(status: str, *fields: str) -> bytes:
    """The first lines of an answer, with the headers that OpenRouter's answers carry."""
    own = "".join(f"{line}\r\n" for line in fields)
    common = HEADERS.format(generation=material.GENERATION)
    return f"HTTP/1.1 {status}\r\n{common}{own}\r\n".encode()


def whole(body: bytes, status: str = "200 OK") -> bytes:
    """A complete answer with a JSON body."""
    return head(status, "content-type: application/json", f"content-length: {len(body)}") + body


def framed(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answers:
    """Every answer as bytes, made once."""

    def __init__(self, models: int) -> None:
        self.gets = {
            b"/api/v1/models": whole(material.models_answer(models)),
            b"/api/v1/key": whole(material.key_answer()),
        }
        self.plain = whole(material.plain_answer())
        self.missing = whole(b'{"error":{"message":"Not Found","code":404}}', "404 Not Found")
        self.stream = head(
            "200 OK", "content-type: text/event-stream", "transfer-encoding: chunked"
        )
        self.events = cycle([framed(event) for event in material.content_events(64)])
        self.last = framed(material.last_events()) + END


class Visitor(asyncio.Protocol):
    """One connection; httptools calls the `on_` methods."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.Handle | None = None
        self._path = b""
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._path = url
        self._parts = []

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            self._complete(*material.wish(b"".join(self._parts)))
        else:
            self._transport.write(self._answers.gets.get(self._path, self._answers.missing))

    def _complete(self, events: int, spacing: float) -> None:
        if not events:
            self._transport.write(self._answers.plain)
            return
        self._transport.write(self._answers.stream)
        self._timer = self._loop.call_soon(self._step, events, spacing)

    def _step(self, events: int, spacing: float) -> None:
        """One event a write, and a turn of the loop between two even without a pause."""
        if not events:
            self._transport.write(self._answers.last)
            return
        self._transport.write(next(self._answers.events))
        if spacing:
            self._timer = self._loop.call_later(spacing, self._step, events - 1, spacing)
        else:
            self._timer = self._loop.call_soon(self._step, events - 1, spacing)


async def serve(port: int, models: int) -> None:
    """Answer until the process is ended."""
    answers = Answers(models)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Visitor(answers), "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="bench.upstream")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=int, default=material.MODELS)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.models))


if __name__ == "__main__":
    main()
