"""One client request at the upstream: the gateway's driver of the attempts flow.

`run` carries out the steps until there is an answer or a refusal. A streamed answer has then *committed*: `pipe` passes
the rest on and settles the lease at the last byte. Whatever happens in between, a lease is settled exactly once.
What an answer means is judged in `keywheel.wire.hearing`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keywheel import awaiting
from keywheel.core.steps import Done, Ended, Expired, Refused, Report, Send, Served, Take, Wait
from keywheel.core.types import Abandoned, Answered, Lease, Outcome
from keywheel.engine import Engine
from keywheel.flow import Flow
from keywheel.gateway.upstream import Response, Timeouts, Upstream, UpstreamError
from keywheel.secret import Veiled
from keywheel.wire.ask import Request
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.hearing import Finding, Hearing, Stage, Times

log = logging.getLogger("keywheel.exchange")


POOL = 2.0  # seconds to wait for a connection when all are in use

Headers = Sequence[tuple[bytes, bytes]]


class Way(Protocol):
    """Where a stream goes to: `outlet.Outlet`, or whoever else takes it."""

    def put(self, data: bytes) -> bool:
        """Take a piece; whether `drain` is due before the next one."""
        ...

    async def drain(self) -> None:
        """Get rid of what was put."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """A complete answer, byte for byte as it came."""

    body: bytes


@dataclass(slots=True)
class Stream:
    """An answer that has begun, and where the rest comes from."""

    lease: Lease
    response: Response
    hearing: Hearing


class Exchange:
    """Carries out one request."""

    __slots__ = (
        "_dialect",
        "_engine",
        "_flow",
        "_headers",
        "_limits",
        "_openrouter",
        "_request",
        "_upstream",
        "answer",
        "elsewhere",
    )

    def __init__(
        self,
        engine: Engine,
        upstream: Upstream,
        request: Request,
        headers: Headers,
        flow: Flow,
        openrouter: bool = False,
    ) -> None:
        """`openrouter`: the client hears of errors in the stream as OpenRouter tells them."""
        self._openrouter = openrouter
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
        try:
            return await self._run()
        except BaseException:
            self._engine.abandon(self._flow)
            raise

    async def _run(self) -> Served | Refused:
        step = self._engine.advance(self._flow)
        while not isinstance(step, Served | Refused):
            step = self._engine.advance(self._flow, await self._carry_out(step))
        return step

    async def _carry_out(self, step: Take | Send | Wait) -> Report:
        began = self._engine.clock()
        match step:
            case Send():
                report = await self._send(step, began)
            case Wait():
                report = await awaiting.lane(self._engine, self._flow, step.until)
            case Take():
                report = await awaiting.reservation(self._engine, step)
        self.elsewhere += report.now - began
        return report

    async def _send(self, step: Send, began: float) -> Report:
        """One attempt. Whoever interrupts it leaves an abandoned lease behind, and nobody to blame."""
        clock, limits = self._engine.clock, self._limits
        times = Times(began, step.first_content, step.deadline, limits.gap, limits.silence)
        request = self._request
        hearing = Hearing(
            self._dialect, times, stream=request.stream, restricted=request.restricted,
            openrouter=self._openrouter,
        )  # fmt: skip
        response: Response | None = None
        try:
            response = await self._open(step, hearing.patience, max(0.0, step.deadline - began))
            finding = await self._listen(response, hearing)
        except UpstreamError as error:
            finding = hearing.lose(error.kind, clock(), detail=str(error), unsent=not error.sent)
        except BaseException as error:
            self._engine.settle(step.lease, Abandoned(awaiting.reason(error)))
            if response:
                response.close()
            raise
        for refused in hearing.refused_moments:
            log.warning("upstream moment", extra={"model": step.lease.model, "refused": refused})
        if response and finding is Stage.COMMITTED:
            self._request = self._request.without_body()  # a stream may last long
            self.answer = Stream(step.lease, response, hearing)
            return Done(clock())
        if response:
            response.close()
        return self._report(finding, hearing, began)

    async def _open(self, step: Send, patience: float, left: float) -> Response:
        connect = min(self._limits.connect, left)
        timeouts = Timeouts(connect, patience, patience, pool=min(POOL, left), total=left)
        secret = self._engine.secrets[step.lease.key]
        authorization = (b"authorization", Veiled(f"Bearer {secret.reveal()}".encode()))
        body = self._request.with_model(step.lease.model)
        headers = (*self._headers, authorization)
        return await self._upstream.request("POST", self._dialect.path, headers, body, timeouts)

    async def _listen(self, response: Response, hearing: Hearing) -> Finding:
        """Read until it is clear what the answer is."""
        clock = self._engine.clock
        hearing.begin(response.status, response.headers)
        finding: Finding = Stage.READING
        while finding is Stage.READING:
            response.set_silence(hearing.wait(clock()))
            finding = hearing.hear(await response.read(), clock())
        return finding

    def _report(self, finding: Finding, hearing: Hearing, began: float) -> Report:
        now = self._engine.clock()
        if isinstance(finding, Stage):
            return Expired(now, now - began)
        if isinstance(finding, Answered):
            self.answer = Plain(hearing.body)
        return Ended(now, finding)

    # --- after the commit ------------------------------------------------------------------------

    def abandon(self) -> None:
        """Give a committed stream up before anything of it was passed on."""
        if isinstance(self.answer, Stream):
            self.answer.response.close()
            self._engine.settle(self.answer.lease, Abandoned("client gone"))

    async def pipe(self, stream: Stream, way: Way) -> Outcome:
        """Pass a committed stream on to its end and settle its lease. Never a second model's text."""
        try:
            outcome = await self._pass_on(stream, way)
        except BaseException as error:
            stream.response.close()
            self._engine.settle(stream.lease, Abandoned(awaiting.reason(error)))
            raise
        if isinstance(outcome, Answered):
            stream.response.retire()
        else:
            stream.response.close()
        self._engine.settle(stream.lease, outcome)
        return outcome

    async def _pass_on(self, stream: Stream, way: Way) -> Outcome:
        hearing, clock = stream.hearing, self._engine.clock
        if hearing.held:
            way.put(bytes(hearing.held))
            await way.drain()
        await self._copy(stream, way)
        ending = hearing.conclude(clock())
        if ending.tail:
            way.put(ending.tail)
            await way.drain()
        return ending.outcome

    async def _copy(self, stream: Stream, way: Way) -> None:
        """Copy until the upstream ends. `take` runs once for every piece of every stream."""
        hearing, clock = stream.hearing, self._engine.clock
        feed, heed, put = hearing.scanner.feed, hearing.heed, way.put
        left = hearing.resume(clock())

        def take(data: bytes) -> float:
            nonlocal left
            piece = feed(data)
            full = put(piece) if piece else False
            left = heed(len(data), clock())
            return 0.0 if full else left

        more = True
        while left and more:
            try:
                more = await stream.response.pump(take, left)
            except UpstreamError as error:
                hearing.break_off(error.kind, clock())
                more = False
            paused = clock()
            await way.drain()
            hearing.pardon(clock() - paused)
