"""`POST /v1/chat/completions` and its siblings, from the client's first byte to the last.

One request: read the body (bounded) → `wire.ask` → the exchange with the upstream → bytes back. A client that leaves is
noticed at once and ends the work; a stream that stays silent for long gets comments, while fallback stays possible.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from keywheel import hints, problems
from keywheel.awaiting import FIRST_LOOK, first_look
from keywheel.core.steps import Refused, Served, Try
from keywheel.core.types import Abandoned, Failed, Finished
from keywheel.engine import Engine
from keywheel.errors import InvalidRequest, RequestFailed
from keywheel.flow import Terms
from keywheel.gateway import shortcut, traces
from keywheel.gateway.exchange import Exchange, Plain, Stream
from keywheel.gateway.logs import Line, tell_request
from keywheel.gateway.outlet import Outlet, SendMessage, raw
from keywheel.gateway.shortcut import Shortcut
from keywheel.gateway.upstream import Upstream
from keywheel.gateway.waiting import KeepAlive, Receive, Watch
from keywheel.problems import Problem
from keywheel.wire.ask import Request, read, reading
from keywheel.wire.hearing import Hearing
from keywheel.wire.replies import error_event, is_openrouters

Scope = Mapping[str, Any]

log = logging.getLogger("keywheel.request")

LARGE = 64 * 1024  # bytes of a body above which reading it would hold up other requests
PLAIN = ((b"content-type", b"application/json"),)
STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(slots=True)
class Visit:
    """One client request while it lasts."""

    request_id: str
    outlet: Outlet
    began: float
    client: str = ""
    request: Request | None = None
    tries: tuple[Try, ...] = ()
    status: int = 0
    code: str = ""
    outcome: str = "abandoned"
    overhead: float = 0.0
    hearing: Hearing | None = None  # of the stream that is passed on

    def end_badly(self, code: str, row: str) -> None:
        """An answer that had begun did not come to its end."""
        self.outcome, self.code = "failed", code
        self.tries = (*self.tries[:-1], self.tries[-1]._replace(row=row))


class ClientGone(Exception):
    """The client left before its body was read."""


OWN_BUG = Problem(
    500, "internal_error", "keywheel failed; its log tells more under this request's id."
)
SHUTTING_DOWN = Problem(
    503, "shutting_down", "The gateway is shutting down; the answer is not complete."
)


class Inference:
    """Serves one dialect under one path."""

    def __init__(self, engine: Engine, upstream: Upstream, dialect: str, path: str) -> None:
        self._engine = engine
        self.upstream = upstream
        self.dialect = dialect
        self._path = path
        self._openrouter = is_openrouters(path)
        self._limits = engine.config.limits
        self._max_body = engine.config.gateway.max_body

    async def __call__(
        self, scope: Scope, receive: Receive, send: SendMessage, client: str = ""
    ) -> None:
        """The ASGI application of this route. `client`: who asks, as far as that is known."""
        headers = dict(scope["headers"])
        short = shortcut.take(scope)
        visit = Visit(
            hints.request_id(headers), short or Outlet(send), self._engine.clock(), client
        )
        if caller := headers.get(b"traceparent"):
            traces.note(visit.request_id, caller)
        try:
            body = await self._take_body(headers, receive, short)
            visit.request = await self._read(body, headers)
            del body
            with short or Watch(receive) as watch:
                await self._serve(visit, scope["headers"], headers, watch)
        except ClientGone:
            pass
        except RequestFailed as error:
            await self._refuse(visit, problems.of_exception(error))
        except Exception:
            log.exception("own bug", extra={"id": visit.request_id})
            await self._cut_short(visit, OWN_BUG)
        finally:
            self._finish(visit)

    async def _serve(
        self,
        visit: Visit,
        all_headers: hints.Headers,
        headers: Mapping[bytes, bytes],
        watch: Shortcut | Watch,
    ) -> None:
        request = visit.request
        assert request is not None  # noqa: S101 - read before
        terms = hints.terms(visit.request_id, headers, request.stream, visit.client)
        try:
            if not self._engine.ready.is_set():
                terms = await self._first_look(visit, terms)
            flow = self._engine.open(request, terms)
            passed_on = hints.passed_on(all_headers)
            exchange = Exchange(
                self._engine, self.upstream, request, passed_on, flow, self._openrouter
            )
            await self._answer(visit, request, exchange)
        except asyncio.CancelledError:
            if not watch.gone:  # the gateway is ending and this request's time is over
                await self._cut_short(visit, SHUTTING_DOWN)
                return
            raise

    async def _first_look(self, visit: Visit, terms: Terms) -> Terms:
        """Wait for the first model list; what is left of the client's patience."""
        clock = self._engine.clock
        due = visit.began + min(FIRST_LOOK, terms.patience or FIRST_LOOK)
        await first_look(self._engine.ready, due - clock())
        if not terms.patience:
            return terms
        return terms._replace(patience=max(0.001, terms.patience - (clock() - visit.began)))

    # --- the request -----------------------------------------------------------------------------

    async def _take_body(
        self, headers: Mapping[bytes, bytes], receive: Receive, short: Shortcut | None
    ) -> bytes:
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("The body is encoded; send it without Content-Encoding.")
        body = short.take_body() if short else None
        if body is None:
            declared = headers.get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > self._max_body:
                raise TooLarge(self._max_body)
            return await self._receive_body(receive)
        if len(body) > self._max_body:
            raise TooLarge(self._max_body)
        return body

    async def _receive_body(self, receive: Receive) -> bytes:
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

    async def _read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Request:
        session = hints.session(headers)
        if len(body) <= LARGE:
            return read(body, self.dialect, session)
        steps = reading(body, self.dialect, session)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            await asyncio.sleep(0)  # others have their turn

    # --- answering -------------------------------------------------------------------------------

    async def _answer(self, visit: Visit, request: Request, exchange: Exchange) -> None:
        try:
            result = await (self._quiet(visit, exchange) if request.stream else exchange.run())
        except BaseException:
            exchange.abandon()
            raise
        visit.tries = result.tries
        answer = exchange.answer
        if isinstance(result, Refused):
            now = self._engine.clock()
            await self._refuse(visit, problems.of_refusal(result, visit.request_id, now))
        elif isinstance(answer, Plain):
            await self._send_plain(visit, result, answer.body, exchange.elsewhere)
        elif answer:
            await self._send_stream(visit, result, exchange, answer)

    async def _quiet(self, visit: Visit, exchange: Exchange) -> Served | Refused:
        """The exchange, with comments for a client that waits long."""
        headers = (*STREAM, *raw({"x-request-id": visit.request_id}))
        with KeepAlive(visit.outlet, headers, self._limits.keepalive) as quiet:
            result = await exchange.run()
            await quiet.end()
        return result

    async def _send_plain(
        self, visit: Visit, served: Served, body: bytes, elsewhere: float
    ) -> None:
        visit.status, visit.outcome = 200, "ok"
        visit.overhead = max(0.0, self._engine.clock() - visit.began - elsewhere)
        overhead = (b"x-keywheel-overhead-ms", b"%.2f" % (visit.overhead * 1e3))
        headers = (*PLAIN, *_own_headers(visit, served), overhead)
        await visit.outlet.respond(200, headers, body)

    async def _send_stream(
        self, visit: Visit, served: Served, exchange: Exchange, stream: Stream
    ) -> None:
        visit.status, visit.hearing = 200, stream.hearing
        outlet = visit.outlet
        try:
            if not outlet.started:
                await outlet.start(200, (*STREAM, *_own_headers(visit, served)))
        except BaseException:
            exchange.abandon()
            raise
        outcome = await exchange.pipe(stream, outlet)
        if isinstance(outcome, Failed):
            visit.end_badly(outcome.verdict.label, outcome.verdict.label)
        elif isinstance(outcome, Abandoned):
            visit.end_badly("deadline_exceeded", "abandoned")
        else:
            visit.outcome = "ok"
        await outlet.finish()

    async def _refuse(self, visit: Visit, problem: Problem) -> None:
        visit.status, visit.code, visit.outcome = problem.status, problem.code, "failed"
        if visit.outlet.started:
            # comments or content are out already: the error follows in the stream
            await visit.outlet.finish(self._event(visit.hearing, problem))
            return
        body = problem.body(self.dialect, self._path, visit.request_id)
        headers = {"x-request-id": visit.request_id, "x-keywheel-attempts": str(len(visit.tries))}
        await visit.outlet.respond(
            problem.status, (*PLAIN, *raw(headers | problem.headers())), body
        )

    def _event(self, hearing: Hearing | None, problem: Problem) -> bytes:
        if hearing:
            return hearing.event(problem.status, problem.code, problem.message)
        return error_event(
            self.dialect, status=problem.status, code=problem.code, message=problem.message,
            openrouter=self._openrouter,
        )  # fmt: skip

    async def _cut_short(self, visit: Visit, problem: Problem) -> None:
        """An honest end, where there is still room for one."""
        if not visit.outlet.started or (visit.request and visit.request.stream):
            await self._refuse(visit, problem)

    def _finish(self, visit: Visit) -> None:
        now = self._engine.clock()
        visit.tries = visit.tries or self._engine.tries(visit.request_id)
        last = visit.tries[-1] if visit.tries else Try("", "", "", "", 0.0)
        total = now - visit.began
        event = Finished(
            now, visit.request_id, self.dialect, visit.outcome, visit.status, visit.code,
            len(visit.tries), last.key, last.account, last.model, total,
            visit.overhead,
        )  # fmt: skip
        self._engine.finish(event)
        tell_request(
            Line(
                visit.request_id, visit.outcome, visit.status, [f"{t.key} {t.model} {t.row}" for t in visit.tries],
                round(total, 3), visit.code or None, last.key or None, last.account or None, last.model or None,
                (visit.request.dropped or None) if visit.request else None,
            )
        )  # fmt: skip


class TooLarge(RequestFailed):
    """The body is larger than the gateway takes."""

    status = 413
    code = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body is larger than {limit:,} bytes. Send less, or raise gateway.max_body."
        )


def _own_headers(visit: Visit, served: Served) -> hints.Headers:
    lease = served.lease
    return (
        (b"x-request-id", visit.request_id.encode()),
        *_lane_headers(lease.key, lease.account, lease.model),
        (b"x-keywheel-attempts", b"%d" % len(served.tries)),
    )


@lru_cache(4096)
def _lane_headers(key: str, account: str, model: str) -> hints.Headers:
    names = {"x-keywheel-key": key, "x-keywheel-account": account, "x-keywheel-model": model}
    return tuple(raw(names))
