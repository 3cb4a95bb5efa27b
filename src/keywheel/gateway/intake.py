"""What a client may send before the application sees it: sizes and times of a request's head and body.

uvicorn's protocol on httptools has no such limits of its own (requirement C18).
"""

import asyncio
from collections.abc import Iterable
from math import inf
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from keywheel.gateway.outlet import raw
from keywheel.gateway.shortcut import EXTENSION, Shortcut
from keywheel.problems import Problem

HEAD_SIZE = 16 * 1024  # bytes of request line and headers
HEADERS = 64
TARGET = 4 * 1024  # bytes
HEAD_SECONDS = 10.0  # from the first byte, or from the connection on
BODY_SECONDS = 30.0
STALL_SECONDS = 60.0  # without the client taking anything of what waits for it (fault 20)
EARLY = 64 * 1024  # bytes of further requests that are kept while one is answered

_MALFORMED = Problem(400, "invalid_request", "This is not a valid HTTP/1.1 request.")
_HEAD_TOO_LARGE = Problem(
    431, "head_too_large", f"More than {HEADERS} headers, or more than {HEAD_SIZE} bytes of them."
)
_TOO_SLOW = Problem(
    408, "request_timeout", "The request did not come to its end in time. Send it again."
)
_TARGET_TOO_LONG = Problem(414, "target_too_long", f"A path has at most {TARGET} bytes.")
_CROWDED = Problem(
    503, "too_many_connections", "More clients are connected than gateway.connections allows.", retry_after=1.0
)  # fmt: skip
_ENDING = Problem(503, "shutting_down", "The gateway is shutting down.", retry_after=1.0)


class Intake(HttpToolsProtocol):
    """One client connection. `patience`: seconds that the client has for the rest of its head or body, None: any."""

    patience: float | None = HEAD_SECONDS  # a client that connects must say something soon
    is_last = False  # whether the next answer is the last one here
    _since = 0.0  # when `expire` first saw what is waited for; asking the clock in every request costs more
    _in_head = True
    _seen = 0
    _waiting = 0
    _moved = 0.0
    _problem = _MALFORMED
    _shortcut: Shortcut | None = None  # of the request under way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connects."""
        super().connection_made(transport)
        self._early = bytearray()

    def data_received(self, data: bytes) -> None:
        """Pass on what came; a head that does not end is refused.

        One request at a time: what comes while it is answered waits outside the parser, and is read only so that the
        client's leave is noticed.
        """
        if self._is_answering():
            self._early += data
            if len(self._early) > EARLY:
                self.flow.pause_reading()
            return
        if self._in_head:
            self._seen += len(data)
            if self.patience is None:  # a further request on an idle connection begins
                self._await(HEAD_SECONDS)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except HttpParserError:
            self.send_400_response("")
        if self._in_head and self._seen > HEAD_SIZE and not self.transport.is_closing():
            self._problem = _HEAD_TOO_LARGE
            self.send_400_response("")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped, or it would come to the headers and be believed like them."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head before anything is done with it. What is raised here ends in `send_400_response`."""
        self._in_head = False
        self._await(BODY_SECONDS)
        if problem := self._objection():
            self._problem = problem
            raise ValueError(problem.code)
        expected = dict(self.headers).get(b"expect", b"")
        self.expect_100_continue = expected.lower() == b"100-continue"
        if self.parser.should_upgrade():
            return  # `_decline` follows
        super().on_headers_complete()
        if self.pipeline:  # it came in one piece with the request under way
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """The client has sent what it had to."""
        self._in_head, self._seen = True, 0
        if self.parser.should_upgrade():
            return
        self._await(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request may begin, and it may be here already."""
        super().on_response_complete()
        if self._early and not self._is_answering() and not self.transport.is_closing():
            early, self._early = bytes(self._early), bytearray()
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; so is whoever waits for it."""
        super().connection_lost(exc)
        if self._shortcut:
            self._shortcut.leave()

    def send_400_response(self, msg: str) -> None:
        """Refuse and close, in the shape of every other error."""
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # an answer is on its way: nothing of ours may stand inside it
            return
        problem = self._problem
        body = problem.body("chat", getattr(self, "url", b"").decode("latin-1"))
        head = (
            b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
            % len(body)
        )
        hints = b"".join([b"%b: %b\r\n" % header for header in raw(problem.headers())])
        self.transport.write(STATUS_LINE[problem.status] + head + hints + b"\r\n" + body)
        self.transport.close()

    def expire(self, now: float) -> None:
        """Close a connection whose client takes too long; one that we do not read from is not to blame."""
        self._watch_writing(now)
        if self.patience is None:
            return
        if self.flow.read_paused or not self._since:
            self._since = now
        elif now > self._since + self.patience:
            self._refuse_to_wait()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.is_last:
            cycle.keep_alive = False
        if cycle.scope["http_version"] == "1.0":
            self._shortcut = None
            super()._start_asgi_task(cycle, _unframed(cycle, app))
            return
        self._shortcut = Shortcut(cycle)
        cycle.scope["extensions"] = {EXTENSION: self._shortcut}  # pyright: ignore[reportGeneralTypeIssues]
        task = self._shortcut.task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _objection(self) -> Problem | None:
        """What forbids to take up the request whose head has come."""
        if len(self.url) > TARGET:
            return _TARGET_TOO_LONG
        if len(self.headers) > HEADERS or (self._seen > HEAD_SIZE and self._size() > HEAD_SIZE):
            return _HEAD_TOO_LARGE
        if not self.url.startswith(b"/") or self.parser.get_method() == b"CONNECT":
            return _MALFORMED  # absolute forms and tunnels are for proxies
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            return _MALFORMED
        if max(len(self.connections), len(self.tasks)) >= (self.limit_concurrency or inf):
            return _CROWDED
        if getattr(self.config.app, "refusing", False) and self.parser.get_method() != b"GET":
            return _ENDING
        return None

    def _size(self) -> int:
        """Bytes of the head; what was seen may hold a part of the body."""
        return sum([len(name) + len(value) for name, value in self.headers], len(self.url))

    def _is_answering(self) -> bool:
        """Whether a whole request is here and its answer is not complete."""
        if self.pipeline:
            return True
        return self._in_head and self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _decline(self, rest: bytes) -> None:
        """Take a request that offers another protocol for the plain request it is too (RFC 9110, 7.8).

        The parser has taken what follows the head for that other protocol; so a new one gets the head without the
        offer, and then the rest.
        """
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        version = self.parser.get_http_version().encode("ascii")
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._seen = 0
        self.data_received(b"".join([line, *lines, b"\r\n", rest]))

    def _refuse_to_wait(self) -> None:
        """Close; where a request has begun that has no answer yet, with a word."""
        begun = self._seen if self._in_head else self.cycle and not self.cycle.response_complete
        if begun:
            self._problem = _TOO_SLOW
            self.send_400_response("")
        else:
            self.transport.close()

    def _watch_writing(self, now: float) -> None:
        """End a connection whose client takes nothing of what waits for it: its close would wait for ever."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting or not self._waiting or waiting < self._waiting:
            self._moved = now
        elif now > self._moved + STALL_SECONDS:
            self.transport.abort()
        self._waiting = waiting

    def _await(self, patience: float | None) -> None:
        self.patience, self._since = patience, 0.0


def _unframed(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """An application as an HTTP/1.0 client hears it: without chunks, ended by the end of the connection."""

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        cycle.chunked_encoding = False

        async def send_bare(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body":
                cycle.expected_content_length = len(message.get("body", b""))  # nobody counts
            await send(message)

        await app(scope, receive, send_bare)

    return answer


def expire(connections: Iterable[Any], now: float) -> None:
    """Look after all connections of a server; about once a second is enough."""
    for connection in tuple(connections):
        if isinstance(connection, Intake):
            connection.expire(now)
