"""One client request at the upstream: the gateway's driver of the attempts flow.

`run` carries out the steps until there is an answer or a refusal. A streamed answer has then *committed*: `pipe` passes
the rest on and settles the lease at the last byte. Whatever happens in between, a lease is settled exactly once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from keywheel.core.attempts import Done, Ended, Expired, Refused, Report, Send, Served, Wait
from keywheel.core.rows import ROWS
from keywheel.core.types import Abandoned, Answered, Failed, Lease, Outcome, Verdict
from keywheel.engine import Engine, Flow
from keywheel.gateway.upstream import Response, Timeouts, Upstream, UpstreamError
from keywheel.secret import Veiled
from keywheel.wire.ask import Request
from keywheel.wire.dialects import DIALECTS, Usage, read_usage
from keywheel.wire.faults import Phase, Reply, judge, judge_failure
from keywheel.wire.glance import usage_of_good
from keywheel.wire.moments import refused_moments
from keywheel.wire.replies import error_event
from keywheel.wire.stream import Scanner

log = structlog.get_logger("keywheel.exchange")

OWN_HEADERS = ((b"content-type", b"application/json"), (b"user-agent", b"keywheel"))
MAX_PLAIN = 16 * 1024 * 1024  # bytes of a plain answer
MAX_ERROR = 64 * 1024  # bytes of an error body that are looked at
MAX_HELD = 64 * 1024  # bytes and …
MAX_HELD_EVENTS = 64  # … events before the first content
MAX_STREAM = 64 * 1024 * 1024
REASONING_ONLY = "budget-spent-on-reasoning"
NO_USAGE = Usage()

Headers = Sequence[tuple[bytes, bytes]]
Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plain:
    """A complete answer, byte for byte as it came."""

    body: bytes


@dataclass(slots=True)
class Stream:
    """An answer that has begun: what was held back, and where the rest comes from."""

    lease: Lease
    response: Response
    scanner: Scanner
    held: bytes
    began: float
    ttft: float
    deadline: float


class Exchange:
    """Carries out one request."""

    __slots__ = (
        "_dialect",
        "_engine",
        "_flow",
        "_headers",
        "_limits",
        "_request",
        "_upstream",
        "answer",
        "elsewhere",
    )

    def __init__(
        self, engine: Engine, upstream: Upstream, request: Request, headers: Headers, flow: Flow
    ) -> None:
        self._engine = engine
        self._upstream = upstream
        self._request = request
        self._headers = headers
        self._flow = flow
        self._dialect = DIALECTS[request.dialect]
        self._limits = engine.config.limits
        self.answer: Plain | Stream | None = None
        self.elsewhere = 0.0  # seconds spent at the upstream or waiting for a lane: not ours

    # --- until there is an answer ----------------------------------------------------------------

    async def run(self) -> Served | Refused:
        """Attempts until one answers (then `answer` is set), or none may be made any more."""
        step = self._engine.advance(self._flow)
        while True:
            match step:
                case Send() | Wait():
                    report = await self._carry_out(step)
                case Served() | Refused():
                    return step
                case _:
                    raise AssertionError(step)
            step = self._engine.advance(self._flow, report)

    async def _carry_out(self, step: Send | Wait) -> Report:
        began = self._engine.clock()
        if isinstance(step, Send):
            report = await self._send(step)
        else:
            await asyncio.sleep(max(0.0, step.until - began))
            report = Done(self._engine.clock())
        self.elsewhere += self._engine.clock() - began
        return report

    async def _send(self, step: Send) -> Report:
        """One attempt. Whoever interrupts it leaves an abandoned lease behind, and nobody to blame."""
        began = self._engine.clock()
        response: Response | None = None
        try:
            async with asyncio.timeout(max(0.0, step.deadline - began)):
                response = await self._open(step, began)
                report = await self._judge(step, response, began)
        except UpstreamError as error:
            report = self._broken(step, error, began)
        except TimeoutError:  # each limit alone was kept: slow bytes, or several limits in a row
            now = self._engine.clock()
            report = Expired(now, now - began)
        except BaseException as error:
            self._engine.settle(step.lease, Abandoned(_reason(error)))
            if response:
                response.close()
            raise
        if response and not isinstance(self.answer, Stream):
            response.close()
        return report

    async def _open(self, step: Send, began: float) -> Response:
        left = step.deadline - began
        patience = step.first_content if self._request.stream else max(step.first_content, left / 2)
        patience = min(patience, left)
        timeouts = Timeouts(
            connect=min(self._limits.connect, left), head=patience, silence=patience
        )
        secret = self._engine.secrets[step.lease.key]
        authorization = (b"authorization", Veiled(f"Bearer {secret.reveal()}".encode()))
        body = self._request.with_model(step.lease.model)
        headers = (*self._headers, authorization)
        return await self._upstream.request("POST", self._dialect.path, headers, body, timeouts)

    async def _judge(self, step: Send, response: Response, began: float) -> Report:
        if response.status != 200:
            body = await _read(response, MAX_ERROR, cut=True)
            for refused in refused_moments(_text(response.headers), body, self._engine.clock()):
                log.warning("upstream moment", model=step.lease.model, refused=refused)
            verdict = self._verdict(Phase.HEADERS, response, body)
            return self._failed(began, verdict or judge_failure("malformed"))
        if self._request.stream and _is_event_stream(response):
            return await self._commit(step, response, began)
        return await self._whole(response, began)

    async def _whole(self, response: Response, began: float) -> Report:
        body = await _read(response, MAX_PLAIN)
        row = "ok"
        usage = None
        if not self._request.stream:
            usage = usage_of_good(body, self._dialect.name, _text(response.headers))
        if usage is None:
            verdict = self._verdict(Phase.BODY, response, body)
            if self._request.stream and (verdict is None or verdict.row.name == REASONING_ONLY):
                verdict = judge_failure("malformed", detail="a stream was asked for")
            if verdict and verdict.row.name != REASONING_ONLY:
                return self._failed(began, verdict)
            usage = read_usage(body) or NO_USAGE
            row = verdict.label if verdict else row
        now = self._engine.clock()
        self.answer = Plain(body)
        return Ended(now, _answered(now - began, now - began, usage, row))

    async def _commit(self, step: Send, response: Response, began: float) -> Report:
        """Hold everything until the first content; until then another lane can be tried unseen."""
        scanner = Scanner(self._dialect)
        held = bytearray()
        due = min(began + step.first_content, step.deadline)
        while not scanner.committed:
            response.set_silence(max(0.001, due - self._engine.clock()))
            data = await response.read()
            held += scanner.feed(data)
            if failure := self._before_content(scanner, response, ended=not data):
                return self._failed(began, failure)
            if not scanner.committed and _is_too_much(held, scanner):
                return self._failed(began, judge_failure("malformed", detail="no content"))
        now = self._engine.clock()
        self._request = self._request.without_body()  # a stream may last long
        self.answer = Stream(
            step.lease, response, scanner, bytes(held), began, now - began, step.deadline
        )
        return Done(now)

    def _before_content(
        self, scanner: Scanner, response: Response, *, ended: bool
    ) -> Verdict | None:
        if scanner.committed:
            return None
        if scanner.error is not None:
            verdict = self._verdict(Phase.STREAM_FIRST, response, scanner.error)
            return verdict or judge_failure("malformed")
        if ended or scanner.done or scanner.overflow or scanner.finish_error:
            return judge_failure(_END_KINDS.get(scanner.end() or "", "empty"))
        return None

    def _broken(self, step: Send, error: UpstreamError, began: float) -> Report:
        now = self._engine.clock()
        if error.kind.startswith("timeout") and now >= step.deadline - 0.05:
            return Expired(now, now - began)
        verdict = judge_failure(error.kind, detail=str(error))
        return Ended(now, Failed(verdict, now - began, unsent=not error.sent))

    def _failed(self, began: float, verdict: Verdict) -> Report:
        now = self._engine.clock()
        return Ended(now, Failed(verdict, now - began))

    def _verdict(self, phase: Phase, response: Response, body: bytes) -> Verdict | None:
        reply = Reply(phase, response.status, _text(response.headers), body)
        return judge(
            reply,
            now=self._engine.clock(),
            restricted=self._request.restricted,
            dialect=self._dialect.name,
        )

    # --- after the commit ------------------------------------------------------------------------

    def abandon(self) -> None:
        """Give a committed stream up before anything of it was passed on."""
        if isinstance(self.answer, Stream):
            self.answer.response.close()
            self._engine.settle(self.answer.lease, Abandoned("client gone"))

    async def pipe(self, stream: Stream, write: Write) -> Outcome:
        """Pass a committed stream on to its end and settle its lease. Never a second model's text."""
        try:
            outcome = await self._pass_on(stream, write)
        except BaseException as error:
            stream.response.close()
            self._engine.settle(stream.lease, Abandoned(_reason(error)))
            raise
        if isinstance(outcome, Answered):
            stream.response.retire()
        else:
            stream.response.close()
        self._engine.settle(stream.lease, outcome)
        return outcome

    async def _pass_on(self, stream: Stream, write: Write) -> Outcome:
        if stream.held:
            await write(stream.held)
        kind = await self._copy(stream, write)
        elapsed = self._engine.clock() - stream.began
        if kind == "deadline":
            await write(
                self._event(stream, 504, "deadline_exceeded", "The deadline ended the answer.")
            )
            return Abandoned("deadline")
        if kind is None or kind == REASONING_ONLY:
            row = ROWS[kind].label if kind else "ok"
            return _answered(stream.ttft, elapsed, stream.scanner.usage or NO_USAGE, row)
        if kind == "done-missing":
            await write(stream.scanner.mend())
            usage = stream.scanner.usage or NO_USAGE
            return _answered(stream.ttft, elapsed, usage, "32 done-missing")
        verdict = self._after_content(stream, kind)
        code = verdict.upstream_code or "upstream_failed"
        message = verdict.message or verdict.row.signal
        await write(self._event(stream, verdict.status or 502, code, message))
        return Failed(verdict, elapsed)

    async def _copy(self, stream: Stream, write: Write) -> str | None:
        """Copy until the upstream ends; what was wrong with the end, None for a clean one.

        Runs once for every piece of every stream, so the time limit is set anew only when it changes: after pieces
        without content, and towards the deadline.
        """
        scanner, response, clock = stream.scanner, stream.response, self._engine.clock
        gap = self._limits.gap
        usual = limit = min(gap, self._limits.silence)
        size, contents = len(stream.held), scanner.content_events
        due = clock() + gap
        response.set_silence(usual)
        while not (scanner.done or scanner.error or scanner.finish_error or scanner.overflow):
            try:
                data = await response.read()
            except UpstreamError as error:
                late = error.kind == "timeout-silence" and clock() >= stream.deadline - 0.05
                return "deadline" if late else error.kind
            if not data:
                break
            if piece := scanner.feed(data):
                await write(piece)
            now = clock()
            if scanner.content_events != contents:
                contents, due = scanner.content_events, now + gap
            if scanner.done:
                break
            left = min(usual, due - now, stream.deadline - now)
            if left <= 0:  # bytes that keep coming never let the time limit ring
                return "deadline" if now >= stream.deadline else "timeout-silence"
            if left != limit:
                limit = left
                response.set_silence(left)
            size += len(data)
            if size > MAX_STREAM:
                return "too-large"
        return scanner.end()

    def _after_content(self, stream: Stream, kind: str) -> Verdict:
        if stream.scanner.error is not None:
            verdict = self._verdict(Phase.STREAM_MID, stream.response, stream.scanner.error)
            if verdict:
                return verdict
        return judge_failure(_END_KINDS.get(kind, kind), committed=True)

    def _event(self, stream: Stream, status: int, code: str, message: str) -> bytes:
        return error_event(
            self._dialect.name,
            status=status,
            code=code,
            message=message,
            id=stream.scanner.id,
            created=stream.scanner.created,
            model=stream.scanner.model,
            sequence=stream.scanner.events,
            eol=stream.scanner.eol,
        )


# What `Scanner.end` says, as the classification knows it.
_END_KINDS = {
    "empty": "empty",
    "truncated": "truncated",
    "too-large": "too-large",
    "finish-error": "finish-error",
    "error": "malformed",
    REASONING_ONLY: REASONING_ONLY,
}


def _is_too_much(held: bytearray, scanner: Scanner) -> bool:
    """More than is held back for a content that does not come."""
    return len(held) > MAX_HELD or scanner.events > MAX_HELD_EVENTS


def _answered(ttft: float, total: float, usage: Usage, row: str) -> Answered:
    return Answered(ttft, total, usage.tokens_in, usage.tokens_out, usage.cost, row)


def _reason(error: BaseException) -> str:
    return "client gone" if isinstance(error, asyncio.CancelledError) else "own bug"


def _text(headers: Headers) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _is_event_stream(response: Response) -> bool:
    for name, value in response.headers:
        if name == b"content-type":
            return value.lower().startswith(b"text/event-stream")
    return False


async def _read(response: Response, limit: int, *, cut: bool = False) -> bytes:
    """The whole body; more than `limit` bytes are cut off or, for an answer, an error."""
    body = bytearray()
    try:
        while data := await response.read():
            body += data
            if len(body) > limit:
                raise UpstreamError("too-large", f"more than {limit} bytes", sent=True)
    except UpstreamError:
        if not cut:  # the status of a refusal says enough
            raise
    return bytes(body[:limit])
