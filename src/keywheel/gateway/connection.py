"""One HTTP/1.1 connection to the upstream: bytes in, a head and body pieces out, one deadline.

The parser is httptools. Nothing here decides who may use a connection (`upstream`) or where it
leads (`dial`). No task, no timer and no lock per piece: a waiting reader is one future, and one
timer handle chases a deadline that is a plain number.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from keywheel.gateway.bounds import Kind, Limit, Timeouts, UpstreamError
from keywheel.gateway.sockets import PAUSE_ABOVE, ended_cleanly, shared_buffer, watch_readable

MAX_HEAD_BYTES = 32 * 1024  # security requirement C17
MAX_HEADERS = 100  # security requirement C17
SINGLE_WRITE_BELOW = 64 * 1024  # joining a small body to its head saves a system call and a packet
IDENTITY = frozenset({b"", b"identity"})  # codings that leave a body as it is
NO_BODY_METHODS = frozenset({"HEAD", "CONNECT"})
RECHECK_TURNS = 2  # uvloop runs timers and ready callbacks before it polls: one turn sees no bytes

Sink = Callable[[bytes], float]  # takes a piece; seconds that the next may take, 0.0 for no more


class Phase(Enum):
    """Where a connection stands in its exchange."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()
    FAILED = auto()


# To look up `Phase.BODY` takes Python 3.11 five times as long, and each piece of a stream does so several times.
IDLE, HEAD, BODY, DONE, FAILED = Phase


class Connection(asyncio.BufferedProtocol):
    """An open connection that carries one exchange after another.

    An exchange is `send`, then `take` and `wait_for_body` until `phase` is DONE or FAILED, then
    `finish`. `lost` is resolved when the socket is gone.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = shared_buffer()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.idle_since = 0.0
        self._keep = True
        self._choked = False
        self._held = False
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._limit = 0.0
        self._until = inf
        self._kind: Limit = "timeout-head"
        self._unsent = 0
        self._begin("")
        self.phase = IDLE

    # An exchange, as its owner sees it

    async def send(
        self, method: str, head: bytes, body: bytes, timeouts: Timeouts, until: float = inf
    ) -> None:
        """Write a request and wait for the head of its final answer; raises UpstreamError.

        No limit of this exchange ends later than `until`, on the clock of `time.monotonic`.
        """
        if self.lost.done() or self.transport.is_closing():
            raise UpstreamError("reset", "closed before the request was written", sent=False)
        self._begin(method)
        self._until = until
        self._write(head, body)
        while self.phase is HEAD:
            if self._choked:
                await self._wait("timeout-write", timeouts.write)
            else:
                await self._wait("timeout-head", timeouts.head)
        if not self.status:  # else the head is good, and whatever broke later is the body's
            self.raise_failure()

    def take(self) -> bytes:
        """Everything of the body that has arrived and was not taken yet."""
        pieces = self._pieces
        if not pieces:
            return b""
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._held:
            self._release_hold()
        return taken

    def wait_for_body(self, silence: float) -> asyncio.Future[None]:
        """Resolved at news of the body, or of its failure after `silence` seconds of nothing."""
        return self._wait("timeout-silence", silence)

    def pour(self, sink: Sink, silence: float) -> asyncio.Future[None]:
        """As `wait_for_body`, but pieces go to a sink the moment they arrive, for as long as it wants more.

        A task that is woken for each piece costs as much as all else that is done with it.
        """
        self._sink = sink
        return self._wait("timeout-silence", silence)

    @property
    def is_pouring(self) -> bool:
        """Whether a sink takes what arrives."""
        return self._sink is not None

    def stop_pouring(self) -> None:
        """Keep what arrives from now on for `take`."""
        self._sink = None

    def set_silence(self, seconds: float) -> None:
        """Give a reader that waits for the body another limit, counted from now."""
        if self._kind == "timeout-silence":
            self._limit = seconds
            self._arm(seconds)

    def raise_failure(self) -> None:
        """Raise what ended this exchange, if it did not end well."""
        if self._failure is not None:
            kind, message = self._failure
            raise UpstreamError(kind, message, sent=True)

    def finish(self) -> bool:
        """End the exchange; true if the connection can carry another one."""
        self._sink = None
        kept = self.phase is DONE and self._keep and not self._choked
        if kept:
            self.phase = IDLE
            self._pieces.clear()
            if self._held:
                self._release_hold()
        return kept

    def is_fit(self) -> bool:
        """Whether this idle connection may carry a request now.

        A close, or a byte nobody asked for, that still waits in the kernel is seen too: a request
        written into it would be lost and yet counted.
        """
        if self.phase is not IDLE or self.transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def abort(self) -> None:
        """Close at once, without a TLS farewell; a reader that waits is told."""
        self._fail("reset", "closed by this side")

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # So low that a wait ends only when the kernel has every byte. The TLS transport compares
        # with >=, where 0 would pause for ever. Both event loops set TCP_NODELAY themselves.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._keep = True
        self._poll = watch_readable(self.transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        if self.phase is BODY:
            self._receive(data)
        elif self.phase is HEAD:
            self._receive_head(data)
        else:
            self._keep = False
            if self.phase is IDLE:
                self.transport.abort()

    def eof_received(self) -> bool:
        if self.phase is BODY and self._until_eof and ended_cleanly(self.transport):
            self.phase = DONE
            self._wake()
        self._break_off("the upstream closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break_off(f"connection lost ({type(exc).__name__})" if exc else "connection lost")
        if self._timer is not None:
            self._timer.cancel()
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._wake()

    # What the parser tells

    def on_message_begin(self) -> None:
        if self.phase is DONE:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is HEAD:  # trailers are dropped
            self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        if self.phase is not HEAD:
            return
        status = self._parser.get_status_code()
        if self._parser.get_http_version() not in {"1.1", "1.0"} or status < 100:
            self._fail("protocol", f"no HTTP/1.1 answer: status {status}")
        elif len(self.headers) > MAX_HEADERS:
            self._fail("too-large", f"more than {MAX_HEADERS} headers")
        elif status < 200:
            self.headers.clear()  # an interim answer; the parser itself gives up at a 101
        elif complaint := self._read_framing():
            self._fail("protocol", complaint)
        else:
            self.status = status
            self._keep = self._keep and self._parser.should_keep_alive()
            self.phase = DONE if self._method in NO_BODY_METHODS else BODY
            self._news = True

    def on_body(self, piece: bytes) -> None:
        if self.phase is BODY:
            self._pieces.append(piece)
            self._size += len(piece)
            self._news = True
        elif self.phase is DONE:
            self._keep = False

    def on_message_complete(self) -> None:
        if self.phase is BODY:
            self.phase = DONE
            self._news = True

    # Within

    def _begin(self, method: str) -> None:
        self.phase = HEAD
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._method = method
        self._parser = HttpResponseParser(self)
        self._failure: tuple[Kind, str] | None = None
        self._heard = self._until_eof = self._news = False
        self._head_bytes = self._barren = self._size = 0

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) < SINGLE_WRITE_BELOW:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self._unsent = self.transport.get_write_buffer_size()

    def _receive_head(self, data: bytes) -> None:
        room = MAX_HEAD_BYTES - self._head_bytes
        self._head_bytes += len(data)
        self._heard = True
        self._receive(data[:room])
        if self.phase is HEAD and len(data) >= room:
            self._fail("too-large", f"head above {MAX_HEAD_BYTES} bytes")
        elif len(data) > room:
            self.data_received(data[room:])

    def _receive(self, data: bytes) -> None:
        self._news = False
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._keep = False
            if self.phase is not DONE:
                self._fail("protocol", str(error))
        if self._news:
            self._barren = 0
            sink = self._sink
            if sink is None or not self._pieces or not self._pour(sink):
                self._announce()
        elif self.phase is BODY:
            self._receive_nothing(len(data))

    def _announce(self) -> None:
        """Tell whoever waits; one who takes less than comes slows the upstream down."""
        if self._size > PAUSE_ABOVE and not self._held:
            self._held = True
            self.transport.pause_reading()
        self._wake()

    def _pour(self, sink: Sink) -> bool:
        """Give the sink what has arrived; whether it wants more and there will be more."""
        try:
            seconds = sink(self.take())
        except Exception as error:  # the reader's own, and the reader's to handle
            self._sink = None
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
            return True
        if not seconds or self.phase is not BODY:
            self._sink = None
            return False
        self._limit = seconds
        self._arm(seconds)
        return True

    def _receive_nothing(self, count: int) -> None:
        """Bytes without content (chunk sizes, extensions, trailers): no silence, but bounded."""
        self._deadline = min(time.monotonic() + self._limit, self._until)
        self._barren += count
        if self._barren > MAX_HEAD_BYTES:
            self._fail("too-large", f"{self._barren} bytes of chunk framing or trailers")

    def _read_framing(self) -> str:
        """Note how the body ends; what forbids reading it, or an empty text.

        Contradictory or repeated lengths never come so far: httptools refuses them.
        """
        codings = self._values(b"transfer-encoding")
        if codings not in ([], [b"chunked"]):
            return "transfer coding other than chunked"
        if not IDENTITY.issuperset(self._values(b"content-encoding")):
            return "encoded body, though identity was asked for"
        self._until_eof = not codings and not self._values(b"content-length")
        return ""

    def _values(self, wanted: bytes) -> list[bytes]:
        return [value.lower() for name, value in self.headers if name == wanted]

    def _release_hold(self) -> None:
        self._held = False
        self.transport.resume_reading()

    def _break_off(self, message: str) -> None:
        self._fail("truncated" if self._heard else "reset", message)

    def _fail(self, kind: Kind, message: str) -> None:
        """The connection is of no more use; an exchange under way has failed for this reason."""
        self._keep = False
        if self.phase is HEAD or self.phase is BODY:
            self.phase = FAILED
            self._failure = (kind, message)
            self._wake()
        self.transport.abort()

    # One waiter, one deadline

    def _wait(self, kind: Limit, seconds: float) -> asyncio.Future[None]:
        self._kind = kind
        self._limit = seconds
        self._arm(seconds)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter = self._waiter
        self._waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _arm(self, seconds: float) -> None:
        """Move the deadline; the timer is touched only if it would ring too late."""
        now = time.monotonic()
        self._deadline = deadline = min(now + seconds, self._until)
        if self._timer is None or self._timer_at > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_later(max(0.0, deadline - now), self._ring, RECHECK_TURNS)

    def _ring(self, turns: int) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._arm(left)
        elif turns:
            # The loop may have stood still while bytes came in: let it look before judging.
            self._timer = self._loop.call_soon(self._ring, turns - 1)
        elif self._kind == "timeout-write" and self._has_written():
            self._arm(self._limit)
        else:
            self._fail(self._kind, f"nothing for {self._limit:g} s")

    def _has_written(self) -> bool:
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        return self._unsent < before
