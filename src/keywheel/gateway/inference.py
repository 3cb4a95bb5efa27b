"""`POST /v1/chat/completions` and its siblings, from the client's first byte to the last.

One request: read the body (bounded) → `wire.ask` → the exchange with the upstream → bytes back. A client that leaves is
noticed at once and ends the work; a stream that stays silent for long gets comments, while fallback stays possible.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from keywheel import problems
from keywheel.core.attempts import Refused, Served, Try
from keywheel.core.types import Abandoned, Failed, Finished
from keywheel.engine import Engine, Terms
from keywheel.errors import InvalidRequest, RequestFailed
from keywheel.gateway.exchange import OWN_HEADERS, Exchange, Plain, Stream
from keywheel.gateway.outlet import Outlet, SendMessage, raw
from keywheel.gateway.upstream import Upstream
from keywheel.problems import Problem
from keywheel.wire.ask import Request, read
from keywheel.wire.replies import error_body, error_event, keepalive

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Scope = Mapping[str, Any]

log = structlog.get_logger("keywheel.request")

_HARMLESS = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
LOOK_AGAIN = 0.02  # seconds
FIRST_LOOK = 10.0  # seconds that a request waits for the first model list
LARGE = 64 * 1024  # bytes of a body above which reading it would hold up other requests
SDK_MARGIN = 2.0  # seconds before the client's own time-out at which we answer
PLAIN = ((b"content-type", b"application/json"),)
STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
# Request headers that reach the upstream, beside what we write ourselves (everything else stays here).
PASSED_ON = frozenset({b"x-session-id", b"http-referer", b"x-title"})
PASSED_ON_PREFIX = b"x-openrouter-"


@dataclass(slots=True)
class Visit:
    """One client request while it lasts."""

    request_id: str
    outlet: Outlet
    began: float
    request: Request | None = None
    tries: tuple[Try, ...] = ()
    status: int = 0
    code: str = ""
    outcome: str = "abandoned"
    overhead: float = 0.0


class ClientGone(Exception):
    """The client left before its body was read."""


OWN_BUG = Problem(
    500, "internal_error", "keywheel failed; its log tells more under this request's id."
)
SHUTTING_DOWN = Problem(
    503, "shutting_down", "The gateway is shutting down; the answer is not complete."
)


class Inference:
    """Serves one dialect."""

    def __init__(self, engine: Engine, upstream: Upstream, dialect: str) -> None:
        self._engine = engine
        self.upstream = upstream
        self.dialect = dialect
        self._limits = engine.config.limits
        self._max_body = engine.config.gateway.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """The ASGI application of this route."""
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        visit = Visit(request_id, Outlet(send), self._engine.clock())
        try:
            await self._serve(visit, headers, scope["headers"], receive)
        except ClientGone:
            pass
        except RequestFailed as error:
            await self._refuse(visit, problems.of_exception(error))
        except Exception:
            log.exception("own bug", id=visit.request_id)
            await self._cut_short(visit, OWN_BUG)
        finally:
            self._finish(visit)

    async def _serve(
        self, visit: Visit, headers: Mapping[bytes, bytes], all_headers: Any, receive: Receive
    ) -> None:
        body = await self._read_body(headers, receive)
        session = headers.get(b"x-session-id", b"").decode("latin-1") or None
        if len(body) > LARGE:
            visit.request = await asyncio.to_thread(read, body, self.dialect, session)
        else:
            visit.request = read(body, self.dialect, session)
        del body
        terms = _terms(visit.request_id, headers, visit.request.stream)
        async with _Watch(receive) as watch:
            try:
                await self._first_look(visit, terms)
                waited = self._engine.clock() - visit.began
                if terms.patience:
                    terms = replace(terms, patience=max(0.001, terms.patience - waited))
                flow = self._engine.open(visit.request, terms)
                exchange = Exchange(
                    self._engine, self.upstream, visit.request, _passed_on(all_headers), flow
                )
                await self._answer(visit, exchange)
            except asyncio.CancelledError:
                if not watch.gone:  # the gateway is ending and this request's time is over
                    await self._cut_short(visit, SHUTTING_DOWN)
                    return
                raise

    async def _first_look(self, visit: Visit, terms: Terms) -> None:
        """Wait for the first model list. A thread for each who waits would hold up the others, and the end."""
        due = visit.began + min(FIRST_LOOK, terms.patience or FIRST_LOOK)
        # ready is a threading.Event: the keeper sets it in its thread
        while not self._engine.ready.is_set() and self._engine.clock() < due:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_AGAIN)

    async def _read_body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("The body is encoded; send it without Content-Encoding.")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise TooLarge(self._max_body)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    # --- answering -------------------------------------------------------------------------------

    async def _answer(self, visit: Visit, exchange: Exchange) -> None:
        request = visit.request
        assert request is not None  # noqa: S101 - read before
        with _KeepAlive(visit, self._limits.keepalive, enabled=request.stream) as quiet:
            try:
                result = await exchange.run()
                await quiet.end()
            except BaseException:
                exchange.abandon()
                raise
        visit.tries = result.tries
        if isinstance(result, Refused):
            now = self._engine.clock()
            await self._refuse(visit, problems.of_refusal(result, visit.request_id, now))
        elif isinstance(exchange.answer, Plain):
            await self._send_plain(visit, result, exchange)
        elif isinstance(exchange.answer, Stream):
            await self._send_stream(visit, result, exchange, exchange.answer)

    async def _send_plain(self, visit: Visit, served: Served, exchange: Exchange) -> None:
        assert isinstance(exchange.answer, Plain)  # noqa: S101 - the caller looked
        visit.status, visit.outcome = 200, "ok"
        headers = self._headers(visit, served)
        visit.overhead = max(0.0, self._engine.clock() - visit.began - exchange.elsewhere)
        headers["x-keywheel-overhead-ms"] = f"{visit.overhead * 1e3:.2f}"
        await visit.outlet.respond(200, (*PLAIN, *raw(headers)), exchange.answer.body)

    async def _send_stream(
        self, visit: Visit, served: Served, exchange: Exchange, stream: Stream
    ) -> None:
        visit.status = 200
        outlet = visit.outlet
        try:
            if not outlet.started:
                await outlet.start(200, (*STREAM, *raw(self._headers(visit, served))))
        except BaseException:
            exchange.abandon()
            raise
        outcome = await exchange.pipe(stream, outlet.write)
        if isinstance(outcome, Failed):
            visit.outcome, visit.code = "failed", outcome.verdict.label
            visit.tries = (*visit.tries[:-1], replace(visit.tries[-1], row=outcome.verdict.label))
        elif isinstance(outcome, Abandoned):
            visit.outcome, visit.code = "failed", "deadline_exceeded"
        else:
            visit.outcome = "ok"
        await outlet.finish()

    async def _refuse(self, visit: Visit, problem: Problem) -> None:
        visit.status, visit.code, visit.outcome = problem.status, problem.code, "failed"
        if visit.outlet.started:
            # comments or content are out already: the error follows in the stream
            event = error_event(
                self.dialect, status=problem.status, code=problem.code, message=problem.message
            )
            await visit.outlet.finish(event)
            return
        body = problem_body(self.dialect, problem)
        headers = {"x-request-id": visit.request_id, "x-keywheel-attempts": str(len(visit.tries))}
        await visit.outlet.respond(
            problem.status, (*PLAIN, *raw(headers | problem.headers())), body
        )

    async def _cut_short(self, visit: Visit, problem: Problem) -> None:
        """An honest end, where there is still room for one."""
        if not visit.outlet.started or (visit.request and visit.request.stream):
            await self._refuse(visit, problem)

    def _headers(self, visit: Visit, served: Served) -> dict[str, str]:
        lease = served.lease
        return {
            "x-request-id": visit.request_id,
            "x-keywheel-key": lease.key,
            "x-keywheel-account": lease.account,
            "x-keywheel-model": lease.model,
            "x-keywheel-attempts": str(len(served.tries)),
        }

    def _finish(self, visit: Visit) -> None:
        now = self._engine.clock()
        last = visit.tries[-1] if visit.tries else Try("", "", "", "", 0.0)
        total = now - visit.began
        event = Finished(
            now, visit.request_id, self.dialect, visit.outcome, visit.status, visit.code,
            len(visit.tries), last.key, last.account, last.model, total,
            visit.overhead,
        )  # fmt: skip
        self._engine.finish(event)
        log.info(
            "request", id=visit.request_id, outcome=visit.outcome, status=visit.status, code=visit.code or None,
            key=last.key or None, account=last.account or None, model=last.model or None,
            tries=[f"{t.key} {t.model} {t.row}" for t in visit.tries], seconds=round(total, 3),
            dropped=list(visit.request.dropped) or None if visit.request else None,
        )  # fmt: skip


class TooLarge(RequestFailed):
    """The body is larger than the gateway takes."""

    status = 413
    code = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes (gateway.max_body).")


class _KeepAlive:
    """Comments for a client that has waited long: status 200 goes out, errors then travel in the stream."""

    def __init__(self, visit: Visit, seconds: float, *, enabled: bool) -> None:
        self._outlet = visit.outlet
        self._headers = (*STREAM, *raw({"x-request-id": visit.request_id}))
        self._seconds = seconds
        self._enabled = enabled
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> "_KeepAlive":
        if self._enabled:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._task:
            self._task.cancel()

    async def end(self) -> None:
        """No more comments: the answer is there. Waits until the last one is out."""
        self.__exit__()
        if self._task:
            await asyncio.wait((self._task,))  # awaiting it would swallow our own cancellation

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._comment())

    async def _comment(self) -> None:
        await self._outlet.start(200, self._headers)
        while True:
            await self._outlet.write(keepalive())
            await asyncio.sleep(self._seconds)


class _Watch:
    """Cancels what happens inside as soon as the client leaves; that is then no error."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive

    async def __aenter__(self) -> "_Watch":
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - ASGI applications run in a task
        self._task = task
        self._watcher = asyncio.get_running_loop().create_task(self._wait())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, _trace: object) -> bool:
        self._watcher.cancel()
        if not self.gone or not isinstance(error, asyncio.CancelledError):
            return False
        self._task.uncancel()
        return True

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()


def problem_body(dialect: str, problem: Problem) -> bytes:
    """A problem in the shape of a dialect."""
    return error_body(
        dialect,
        status=problem.status,
        code=problem.code,
        message=problem.message,
        type=problem.type,
        param=problem.param,
        extra=problem.extra,
    )


def _passed_on(headers: Any) -> tuple[tuple[bytes, bytes], ...]:
    """Our own headers, and those of the client that are meant for the upstream and not for this hop alone."""
    hop = [value for name, value in headers if name == b"connection"]
    dropped = {part.strip().lower() for value in hop for part in value.split(b",")}
    theirs = (
        (name, value)
        for name, value in headers
        if (name in PASSED_ON or name.startswith(PASSED_ON_PREFIX)) and name not in dropped
    )
    return (*OWN_HEADERS, *theirs)


def _request_id(given: bytes) -> str:
    """The client's own id if it is harmless to repeat, otherwise a new one."""
    return given.decode("ascii") if _HARMLESS.fullmatch(given) else os.urandom(12).hex()


def _terms(request_id: str, headers: Mapping[bytes, bytes], stream: bool) -> Terms:
    """The hints a client gives. One that cannot be read is as good as none.

    The SDKs' read time-out bounds the time between two pieces, so it bounds a plain answer and no stream.
    """
    sdk = None if stream else _seconds(headers.get(b"x-stainless-read-timeout"))
    own = _seconds(headers.get(b"x-request-timeout"))
    hints = [hint for hint in (sdk and max(sdk - SDK_MARGIN, sdk / 2), own) if hint]
    return Terms(
        request_id,
        min(hints) if hints else None,
        _seconds(headers.get(b"x-keywheel-max-wait")) or 0.0,
        headers.get(b"x-keywheel-fallback", b"").lower() == b"off",
    )


def _seconds(value: bytes | None) -> float | None:
    try:
        seconds = float(value) if value else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None
