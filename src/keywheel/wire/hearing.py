"""One attempt's answer, judged as it arrives: everything about it that is not I/O, the same for every driver.

    hearing = Hearing(dialect, times, stream=True)
    hearing.begin(status, headers)                                the head is there
    while (finding := hearing.hear(piece, now)) is Stage.READING:  b"" is the clean end of the body
        …
Answered, Failed: over. `Stage.COMMITTED`: the client gets `held` and all that follows.

    left = hearing.resume(now)                                    `held` is on its way
    while left:                                                   seconds that the next piece may take
        … the client gets hearing.scanner.feed(piece) …
        left = hearing.heed(len(piece), now)
    tail, outcome = hearing.conclude(now)
"""

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from keywheel.core.rows import ROWS
from keywheel.core.types import Abandoned, Answered, Failed, Outcome, Verdict
from keywheel.wire.dialects import Dialect, Usage, read_usage
from keywheel.wire.faults import Phase, Reply, judge, judge_failure
from keywheel.wire.glance import usage_of_good
from keywheel.wire.moments import refused_moments
from keywheel.wire.replies import error_event
from keywheel.wire.stream import Scanner

MAX_PLAIN = 16 * 1024 * 1024  # bytes of a plain answer (requirement C17)
MAX_STREAM = 64 * 1024 * 1024
HEAD = (
    4 * 1024
)  # bytes of a plain answer in which its model is looked for: it stands before what was said
MAX_ERROR = 64 * 1024  # bytes of an error body that are looked at
REFUSAL = 5.0  # seconds for the body of a refusal, whose status says enough
MAX_HELD = 64 * 1024  # bytes and …
MAX_HELD_EVENTS = 64  # … events before the first content (rule A.7)
SHORTEST = 0.001  # seconds: a time-out is never zero, which would mean none
NEAR = 0.05  # seconds before the deadline from which a time-out is the deadline's doing
REASONING_ONLY = "budget-spent-on-reasoning"
NO_USAGE = Usage()

Headers = Sequence[tuple[bytes, bytes]]


class Stage(Enum):
    """What is known of an attempt that has no outcome yet. EXPIRED: the deadline ended it before any content."""

    READING = auto()
    COMMITTED = auto()
    EXPIRED = auto()


Finding = Stage | Answered | Failed


class Times(NamedTuple):
    """The moments `began` and `deadline`, and spans: until the first content, between contents, without a byte."""

    began: float
    first_content: float
    deadline: float
    gap: float
    silence: float

    def patience(self, *, stream: bool) -> float:
        """Seconds that the head of the answer may take; a plain one comes with its content behind it."""
        left = self.deadline - self.began
        return min(left, self.first_content if stream else max(self.first_content, left / 2))


class Ending(NamedTuple):
    """How a committed stream ended: what the client still gets, and what the attempt was."""

    tail: bytes
    outcome: Outcome


class Hearing:
    """The state of one answer. `body`: a plain answer, whole; `held`: the beginning of a committed stream.

    `streams`: it comes as events, and `scanner` reads them. `openrouter`: the client hears of errors as in
    `replies.error_body`. `refused_moments`: sentences for the log.
    """

    __slots__ = (
        "_began",
        "_contents",
        "_dialect",
        "_due",
        "_flaw",
        "_headers",
        "_openrouter",
        "_restricted",
        "_size",
        "_status",
        "_stream",
        "_text",
        "_times",
        "_ttft",
        "body",
        "held",
        "patience",
        "refused_moments",
        "scanner",
        "streams",
    )

    def __init__(
        self,
        dialect: Dialect,
        times: Times,
        *,
        stream: bool = False,
        restricted: bool = False,
        openrouter: bool = False,
    ) -> None:
        self._dialect = dialect
        self._openrouter = openrouter
        self._times = times
        self._stream = stream
        self._restricted = restricted
        self._status = 0
        self._headers: Headers = ()
        self._text: dict[str, str] | None = None
        self._flaw: str | None = None
        self._ttft: float | None = None
        self._size = 0
        self._contents = 0
        self._due = 0.0  # when the body of a refusal is, and later the next content of a stream
        self.body = b""
        self.held = bytearray()
        self.patience = times.patience(stream=stream)
        self.refused_moments: tuple[str, ...] = ()
        self.streams = False

    # --- until there is a finding ----------------------------------------------------------------

    def begin(self, status: int, headers: Headers) -> None:
        """The head has come; header names are in lower case."""
        self._status, self._headers = status, headers
        self.streams = (
            self._stream
            and status == 200
            and _content_type(headers).lower().startswith(b"text/event-stream")
        )
        if self.streams:
            self.scanner = Scanner(self._dialect)

    def wait(self, now: float) -> float:
        """Seconds that the next piece of the body may take. Bytes that say nothing do not prolong it."""
        times = self._times
        if self.streams:
            due = times.began + times.first_content
        elif self._status != 200:
            due = self._due = self._due or min(times.began + self.patience, now + REFUSAL)
        elif self._stream or not self.held or self.held.isspace():
            due = times.began + self.patience
        else:
            return self.patience
        return max(SHORTEST, min(due, times.deadline) - now)

    def hear(self, piece: bytes, now: float) -> Finding:
        """The next piece of the body, or its clean end when it is empty."""
        if self.streams:
            return self._hear_events(piece, now)
        self.held += piece
        if self._status != 200:
            return self._refusal(now) if not piece or len(self.held) > MAX_ERROR else Stage.READING
        if len(self.held) > MAX_PLAIN:
            return self._failed(
                judge_failure("too-large", detail=f"more than {MAX_PLAIN} bytes"), now
            )
        return Stage.READING if piece else self._whole(now)

    def lose(
        self, kind: str, now: float, *, detail: str = "", unsent: bool = False
    ) -> Stage | Failed:
        """The connection gave no complete answer; `kind` is one of `faults.FAILURES`."""
        if self._status not in (0, 200):
            return self._refusal(now)  # the status of a refusal says enough
        if kind.startswith(_WAITS) and now >= self._times.deadline - NEAR:
            return Stage.EXPIRED
        if kind == "timeout-silence":  # bytes may have come all the time
            kind, detail = "timeout-content", ""
        verdict = judge_failure(kind, detail=detail)
        return Failed(verdict, now - self._times.began, unsent=unsent)

    def _refusal(self, now: float) -> Failed:
        body = bytes(self.held[:MAX_ERROR])
        self.refused_moments = refused_moments(self._header_text(), body, now)
        return self._failed(self._verdict(Phase.HEADERS, body, now) or _MALFORMED, now)

    def _whole(self, now: float) -> Answered | Failed:
        self.body = bytes(self.held)
        self.held = bytearray()
        if not self._stream:
            usage = usage_of_good(self.body, self._dialect.name, _content_type(self._headers))
            if usage is not None:
                return self._answered(now, usage, "ok")
        verdict = self._verdict(Phase.BODY, self.body, now)
        if self._stream and (verdict is None or verdict.row.name == REASONING_ONLY):
            verdict = judge_failure("malformed", detail="a stream was asked for")
        if verdict and verdict.row.name != REASONING_ONLY:
            return self._failed(verdict, now)
        return self._answered(
            now, read_usage(self.body) or NO_USAGE, verdict.label if verdict else "ok"
        )

    def _hear_events(self, piece: bytes, now: float) -> Finding:
        """Hold everything until the first content; until then another lane can be tried unseen."""
        scanner = self.scanner
        self.held += scanner.feed(piece) if piece else scanner.finish()
        if scanner.committed:
            return self._commit(now)
        if scanner.error is not None:
            return self._failed(
                self._verdict(Phase.STREAM_FIRST, scanner.error, now) or _MALFORMED, now
            )
        if not piece or scanner.done or scanner.overflow or scanner.finish_error:
            flaw = scanner.end() or _COMPLETE
            if flaw in _ENDS:  # it says itself why there is no content
                return self._commit(now)
            return self._failed(judge_failure(_END_KINDS[flaw]), now)
        if len(self.held) > MAX_HELD or scanner.events > MAX_HELD_EVENTS:
            return self._failed(judge_failure("malformed", detail="no content"), now)
        return Stage.READING

    def _commit(self, now: float) -> Stage:
        self._ttft = now - self._times.began
        return Stage.COMMITTED

    # --- after the commit ------------------------------------------------------------------------

    def resume(self, now: float) -> float:
        """What was held is on its way: seconds that the next piece may take, 0.0 when none is to come."""
        times, scanner = self._times, self.scanner
        self._size = len(self.held)
        self.held = bytearray()
        self._contents = scanner.content_events
        self._due = now + times.gap
        return self.heed(0, now)

    def heed(self, size: int, now: float) -> float:
        """A piece of that many bytes went through the scanner: seconds that the next one may take.

        0.0 when none is to come. Runs once for every piece of every stream.
        """
        scanner, times = self.scanner, self._times
        if scanner.closed:
            return 0.0
        if scanner.content_events != self._contents:
            self._contents = scanner.content_events
            self._due = now + times.gap
        self._size += size
        left = min(times.silence, self._due - now, times.deadline - now)
        if left > 0.0 and self._size <= MAX_STREAM:
            return left
        self._flaw = "too-large" if left > 0.0 else self._late(now)
        return 0.0

    def pardon(self, seconds: float) -> None:
        """Whoever takes the pieces was slow for so long: the upstream is not to blame for that."""
        self._due += seconds

    def break_off(self, kind: str, now: float) -> None:
        """The connection failed, for one of the reasons in `faults.FAILURES`."""
        late = kind == "timeout-silence" and now >= self._times.deadline - NEAR
        self._flaw = _DEADLINE if late else kind

    def conclude(self, now: float) -> Ending:
        """The end of a stream, however it came. Never a second model's text."""
        rest = self.scanner.finish()
        end = self.scanner.end() or _COMPLETE
        # With its reason to finish an answer is whole, however the connection ends.
        flaw = end if self._flaw != "too-large" and end in _ENDS else self._flaw or end
        if flaw == _DEADLINE:
            text = "The deadline ended the answer."
            return Ending(rest + self.event(504, "deadline_exceeded", text), Abandoned("deadline"))
        if flaw in _ENDS:
            tail = rest + self.scanner.mend()
            return Ending(tail, self._answered(now, self.scanner.usage or NO_USAGE, _ENDS[flaw]))
        verdict = self._broken(flaw, now)
        code = verdict.upstream_code or "upstream_failed"
        event = self.event(verdict.status or 502, code, verdict.message or verdict.row.signal)
        return Ending(rest + event, self._failed(verdict, now))

    def _late(self, now: float) -> str:
        """Bytes that keep coming never let a connection's own time limit ring."""
        return _DEADLINE if now >= self._times.deadline else "timeout-gap"

    def _broken(self, flaw: str, now: float) -> Verdict:
        error = self.scanner.error
        verdict = self._verdict(Phase.STREAM_MID, error, now) if error is not None else None
        return verdict or judge_failure(_END_KINDS.get(flaw, flaw), committed=True)

    def event(self, status: int, code: str, message: str) -> bytes:
        """The event that ends this stream badly, as part of the answer that has begun."""
        return error_event(
            self._dialect.name,
            status=status,
            code=code,
            message=message,
            id=self.scanner.id,
            created=self.scanner.created,
            model=self.scanner.model,
            sequence=self.scanner.events,
            eol=self.scanner.eol,
            openrouter=self._openrouter,
        )

    # --- both ------------------------------------------------------------------------------------

    def _verdict(self, phase: Phase, body: bytes, now: float) -> Verdict | None:
        reply = Reply(phase, self._status, self._header_text(), body)
        return judge(reply, now=now, restricted=self._restricted, dialect=self._dialect.name)

    def _answered(self, now: float, usage: Usage, row: str) -> Answered:
        total = now - self._times.began
        ttft = total if self._ttft is None else self._ttft  # a plain answer comes all at once
        model = self.scanner.model if self.streams else _named(self.body)
        return Answered(
            ttft, total, usage.tokens_in, usage.tokens_out, usage.cost, row, model or ""
        )

    def _failed(self, verdict: Verdict, now: float) -> Failed:
        return Failed(verdict, now - self._times.began)

    def _header_text(self) -> dict[str, str]:
        if self._text is None:
            self._text = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers
            }
        return self._text


# Waits that the deadline may have cut short: for an answer, for a connection to be made, for one to become free.
_WAITS = ("timeout", "unreachable", "tls-handshake", "pool")
_COMPLETE, _DEADLINE = "complete", "deadline"
_MALFORMED = judge_failure("malformed")
# The ends of a stream that are good, as `Scanner.end` calls them, with the row that tells of them.
_ENDS = {
    _COMPLETE: "ok",
    "done-missing": "32 done-missing",
    REASONING_ONLY: ROWS[REASONING_ONLY].label,
}
# The bad ones, as the classification knows them.
_END_KINDS = {
    "empty": "empty",
    "truncated": "truncated",
    "too-large": "too-large",
    "finish-error": "finish-error",
    "error": "malformed",
    REASONING_ONLY: REASONING_ONLY,
}


def _named(body: bytes) -> str:
    """The model that a whole answer names near its beginning; empty if it names none there."""
    found = _MODEL(body, 0, HEAD)
    return found[1].decode("ascii", "replace") if found else ""


_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]+)"').search


def _content_type(headers: Headers) -> bytes:
    for name, value in headers:
        if name == b"content-type":
            return value
    return b""
