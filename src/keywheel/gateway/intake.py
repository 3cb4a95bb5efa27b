"""What a client may send before the application sees it: sizes and times of a request's head and body.

uvicorn's protocol on httptools has no such limits of its own (requirement C18).
"""

from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from keywheel.gateway.inference import problem_body
from keywheel.problems import Problem

HEAD_SIZE = 16 * 1024  # bytes of request line and headers
HEADERS = 64
TARGET = 4 * 1024  # bytes
HEAD_SECONDS = 10.0  # from the first byte, or from the connection on
BODY_SECONDS = 30.0
STALL_SECONDS = 30.0  # without the client taking anything of what waits for it

_MALFORMED = Problem(400, "invalid_request", "This is not a valid HTTP/1.1 request.")
_UPGRADE = Problem(
    400, "invalid_request",
    "Upgrade is not served: use plain HTTP/1.1 (in Java: HttpClient.Builder.version(HTTP_1_1)).",
)  # fmt: skip
_HEAD_TOO_LARGE = Problem(
    431, "head_too_large", f"More than {HEADERS} headers, or more than {HEAD_SIZE} bytes of them."
)
_TARGET_TOO_LONG = Problem(414, "target_too_long", f"A path has at most {TARGET} bytes.")


class Intake(HttpToolsProtocol):
    """One client connection. `patience`: seconds that the client has for the rest of its head or body, None: any."""

    patience: float | None = HEAD_SECONDS  # a client that connects must say something soon
    _since = 0.0  # when `expire` first saw what is waited for; asking the clock in every request costs more
    _in_head = True
    _seen = 0
    _waiting = 0
    _moved = 0.0
    _problem = _MALFORMED

    def data_received(self, data: bytes) -> None:
        """Pass on what came; a head that does not end is refused."""
        if self._in_head:
            self._seen += len(data)
            if self.patience is None:  # a further request on an idle connection begins
                self._await(HEAD_SECONDS)
        super().data_received(data)
        if self._in_head and self._seen > HEAD_SIZE and not self.transport.is_closing():
            self._problem = _HEAD_TOO_LARGE
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """Check the head before anything is done with it. What is raised here ends in `send_400_response`."""
        self._in_head = False
        self._await(BODY_SECONDS)
        if len(self.url) > TARGET:
            self._refuse(_TARGET_TOO_LONG)
        size = sum([len(name) + len(value) for name, value in self.headers], len(self.url))
        if len(self.headers) > HEADERS or size > HEAD_SIZE:
            self._refuse(_HEAD_TOO_LARGE)
        if not self.url.startswith(b"/"):  # absolute forms are for proxies
            self._refuse(_MALFORMED)
        if self._wants_upgrade():
            self._refuse(_UPGRADE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The client has sent what it had to."""
        self._in_head, self._seen = True, 0
        self._await(None)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse and close, in the shape of every other error."""
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # an answer is on its way: nothing of ours may stand inside it
            return
        problem = self._problem
        body = problem_body("chat", problem)
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[problem.status] + head % len(body) + body)
        self.transport.close()

    def expire(self, now: float) -> None:
        """Close a connection whose client takes too long; one that we do not read from is not to blame."""
        self._watch_writing(now)
        if self.patience is None:
            return
        if self.flow.read_paused or not self._since:
            self._since = now
        elif now > self._since + self.patience:
            self.transport.close()

    def _wants_upgrade(self) -> bool:
        """Behind a request for another protocol the parser would take the body for a second request."""
        return any(name == b"upgrade" for name, _ in self.headers)

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

    def _refuse(self, problem: Problem) -> None:
        self._problem = problem
        raise ValueError(problem.code)


def expire(connections: Iterable[Any], now: float) -> None:
    """Look after all connections of a server; about once a second is enough."""
    for connection in tuple(connections):
        if isinstance(connection, Intake):
            connection.expire(now)
