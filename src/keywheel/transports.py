"""The library's drivers: httpx2 transports that lead each request through the wheel, blocking and for asyncio.

They stand where an SDK has its connection, so the SDK sees one upstream that does not fail:

    client = OpenAI(**keywheel.for_openai())

A refusal is an answer with the status, the body and the headers that the gateway gives, so the SDK raises what it
always raises.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import cast

import httpx2

from keywheel import awaiting
from keywheel.axle import Axle
from keywheel.bodies import AsyncBody, AsyncSource, Body, Source
from keywheel.core.steps import Done, Refused, Report, Send, Served, Take, Wait
from keywheel.core.types import Abandoned
from keywheel.errand import Errand, Passage, Reply, Route, begin, refusal, route
from keywheel.errors import RequestFailed
from keywheel.problems import of_exception
from keywheel.wire.hearing import Finding, Hearing, Stage
from keywheel.wires import AsyncWire, Wire, failure

log = logging.getLogger("keywheel.transports")


class KeywheelTransport(httpx2.BaseTransport):
    """For `httpx2.Client`. `inner` carries the requests; without one, keywheel's own connections do."""

    def __init__(self, axle: Axle, inner: httpx2.BaseTransport | None = None) -> None:
        self._axle = axle
        self._inner = inner or Wire(axle.config.upstream)
        axle.attach(self._inner)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request of a client; what goes wrong is an answer, too."""
        where = route(request.method, request.url.path, request.url.query.decode("ascii"))
        reply = self._look(where) if where.answer else self._ask(where.dialect, request)
        return _respond(reply, self.body(reply.passage) if reply.passage else None)

    def serve(self, errand: Errand) -> Reply:
        """Lead a request to its answer, or to the beginning of one."""
        errand.engine.ready.wait(errand.patience)
        try:
            return errand.reply(self._run(errand))
        except RequestFailed as error:
            return errand.refuse(of_exception(error))
        except BaseException:
            errand.give_up()
            raise

    def body(self, passage: Passage) -> Body:
        """What a committed stream still has to say."""
        return Body(self._axle, passage, self._allow)

    def close(self) -> None:
        """Close the connections. The wheel goes on for others."""
        self._axle.tidy()
        self._inner.close()

    def _look(self, where: Route) -> Reply:
        engine = self._axle.start()
        engine.ready.wait(awaiting.FIRST_LOOK)
        assert where.answer is not None  # noqa: S101 - the caller looked
        return where.answer(engine)

    def _ask(self, dialect: str, request: httpx2.Request) -> Reply:
        try:
            body, limit = request.read(), _read_timeout(request)
            errand = begin(self._axle, dialect, request.headers.raw, body, limit)
        except RequestFailed as error:
            return refusal(self._axle, dialect, error)
        return self.serve(errand)

    def _run(self, errand: Errand) -> Served | Refused:
        engine, flow = errand.engine, errand.open()
        step = engine.advance(flow)
        while not isinstance(step, Served | Refused):
            match step:
                case Send():
                    report = self._send(errand, step)
                case Wait():
                    report = self._sleep(errand, step)
                case Take():
                    report = self._take(errand, step)
            step = engine.advance(flow, report)
        return step

    def _take(self, errand: Errand, step: Take) -> Report:
        """Reserve in a store that is far away. Whoever is interrupted gives the lease back unused."""
        try:
            return errand.engine.take(step)
        except BaseException as error:
            errand.engine.settle(step.lease, Abandoned(awaiting.reason(error), unsent=True))
            raise

    def _sleep(self, errand: Errand, step: Wait) -> Done:
        """Wait, but no longer than until there is a lane."""
        clock, flow, woken = errand.engine.clock, errand.open(), threading.Event()
        flow.wake = woken.set
        try:
            if not flow.woken:
                woken.wait(max(0.0, step.until - clock()))
        finally:
            flow.wake = None
        return Done(clock())

    def _send(self, errand: Errand, step: Send) -> Report:
        """One attempt. Whoever interrupts it leaves an abandoned lease behind, and nobody to blame."""
        clock = errand.engine.clock
        began, hearing = clock(), errand.listen(step)
        source: Source | None = None
        try:
            self._allow(hearing.patience)
            response = self._inner.handle_request(errand.message(step, hearing.patience))
            stream = cast("httpx2.SyncByteStream", response.stream)
            source = Source(response, iter(stream))
            finding = self._listen(source, hearing, clock)
        except BaseException as error:
            finding = _lose(error, hearing, clock(), headed=source is not None)
            if finding is None:
                errand.engine.settle(step.lease, Abandoned(awaiting.reason(error)))
                _close(source)
                raise
        _tell(hearing, step)
        if finding is not Stage.COMMITTED:
            _close(source)
        return errand.report(finding, began, source)

    def _listen(self, source: Source, hearing: Hearing, clock: Callable[[], float]) -> Finding:
        """Read until it is clear what the answer is."""
        hearing.begin(source.response.status_code, _head(source.response))
        finding: Finding = Stage.READING
        while finding is Stage.READING:
            self._allow(hearing.wait(clock()))
            finding = hearing.hear(next(source.pieces, b""), clock())
        return finding

    def _allow(self, seconds: float) -> None:
        """Another transport than our own has its own limits."""
        if isinstance(self._inner, Wire):
            self._inner.patience.allow(seconds)


class AsyncKeywheelTransport(httpx2.AsyncBaseTransport):
    """For `httpx2.AsyncClient`, in one event loop or one after the other."""

    def __init__(self, axle: Axle, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._axle = axle
        self._inner = inner or AsyncWire(axle.config.upstream)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request of a client; what goes wrong is an answer, too."""
        where = route(request.method, request.url.path, request.url.query.decode("ascii"))
        reply = await (self._look(where) if where.answer else self._ask(where.dialect, request))
        return _respond(reply, self.body(reply.passage) if reply.passage else None)

    async def serve(self, errand: Errand) -> Reply:
        """Lead a request to its answer, or to the beginning of one."""
        try:
            await awaiting.first_look(errand.engine.ready, errand.patience)
            return errand.reply(await self._run(errand))
        except RequestFailed as error:
            return errand.refuse(of_exception(error))
        except BaseException:
            errand.give_up()
            raise

    def body(self, passage: Passage) -> AsyncBody:
        """What a committed stream still has to say."""
        return AsyncBody(self._axle, passage)

    async def aclose(self) -> None:
        """Close the connections. The wheel goes on for others."""
        self._axle.tidy()
        await self._inner.aclose()

    async def _look(self, where: Route) -> Reply:
        engine = self._axle.start()
        await awaiting.first_look(engine.ready, awaiting.FIRST_LOOK)
        assert where.answer is not None  # noqa: S101 - the caller looked
        return where.answer(engine)

    async def _ask(self, dialect: str, request: httpx2.Request) -> Reply:
        try:
            body, limit = await request.aread(), _read_timeout(request)
            errand = begin(self._axle, dialect, request.headers.raw, body, limit)
        except RequestFailed as error:
            return refusal(self._axle, dialect, error)
        return await self.serve(errand)

    async def _run(self, errand: Errand) -> Served | Refused:
        engine, flow = errand.engine, errand.open()
        step = engine.advance(flow)
        while not isinstance(step, Served | Refused):
            match step:
                case Send():
                    report = await self._send(errand, step)
                case Wait():
                    report = await awaiting.lane(engine, flow, step.until)
                case Take():
                    report = await awaiting.reservation(engine, step)
            step = engine.advance(flow, report)
        return step

    async def _send(self, errand: Errand, step: Send) -> Report:
        """One attempt. Whoever interrupts it leaves an abandoned lease behind, and nobody to blame."""
        clock = errand.engine.clock
        began, hearing = clock(), errand.listen(step)
        source: AsyncSource | None = None
        try:
            async with asyncio.timeout(hearing.patience) as limit:
                message = errand.message(step, hearing.patience)
                response = await self._inner.handle_async_request(message)
                stream = cast("httpx2.AsyncByteStream", response.stream)
                source = AsyncSource(response, aiter(stream))
                finding = await _listen(source, hearing, clock, limit)
        except BaseException as error:
            finding = _lose(error, hearing, clock(), headed=source is not None)
            if finding is None:
                errand.engine.settle(step.lease, Abandoned(awaiting.reason(error)))
                await _aclose(source)
                raise
        _tell(hearing, step)
        if finding is not Stage.COMMITTED:
            await _aclose(source)
        return errand.report(finding, began, source)


# --- small parts of both -----------------------------------------------------------------------------


async def _listen(
    source: AsyncSource, hearing: Hearing, clock: Callable[[], float], limit: asyncio.Timeout
) -> Finding:
    """Read until it is clear what the answer is."""
    time = asyncio.get_running_loop().time
    hearing.begin(source.response.status_code, _head(source.response))
    finding: Finding = Stage.READING
    while finding is Stage.READING:
        limit.reschedule(time() + hearing.wait(clock()))
        finding = hearing.hear(await anext(source.pieces, b""), clock())
    return finding


def _lose(error: BaseException, hearing: Hearing, now: float, *, headed: bool) -> Finding | None:
    """What a connection's failure means; None for an error that is none."""
    lost = failure(error, headed=headed)
    return lost and hearing.lose(lost.kind, now, detail=str(error), unsent=lost.unsent)


def _tell(hearing: Hearing, step: Send) -> None:
    for refused in hearing.refused_moments:
        log.warning("%s: %s", step.lease.model, refused)


def _close(source: Source | None) -> None:
    if source:
        source.response.close()


async def _aclose(source: AsyncSource | None) -> None:
    if source:
        await source.response.aclose()


def _respond(reply: Reply, body: Body | AsyncBody | None) -> httpx2.Response:
    if body is None:
        return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
    return httpx2.Response(reply.status, headers=reply.headers, stream=body)


def _head(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in response.headers.raw]


def _read_timeout(request: httpx2.Request) -> float | None:
    limit = request.extensions.get("timeout", {}).get("read")
    return limit if isinstance(limit, int | float) else None
