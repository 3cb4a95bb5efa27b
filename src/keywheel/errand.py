"""One request of a program while it lasts: what the blocking and the asyncio driver have in common."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2

from keywheel import hints, listing
from keywheel.awaiting import FIRST_LOOK
from keywheel.axle import Axle, is_collecting
from keywheel.core.steps import Done, Ended, Expired, Refused, Report, Send, Served, Try
from keywheel.core.types import Abandoned, Answered, Failed, Finished, Lease, Outcome
from keywheel.engine import Engine
from keywheel.errors import RequestFailed
from keywheel.flow import Flow, Terms
from keywheel.problems import Problem, of_exception, of_refusal
from keywheel.secret import Veiled
from keywheel.wire.ask import Request, read
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.hearing import Finding, Hearing, Stage, Times
from keywheel.wire.replies import model_body

WRITE, POOL = 10.0, 2.0  # seconds (rule A.7)
IDENTITY = (b"accept-encoding", b"identity")
JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
OWN_BUG = Problem(500, "internal_error", "keywheel failed; the log of your program says how.")

_PATHS = {dialect.path: name for name, dialect in DIALECTS.items()}
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class Reply:
    """What the program gets. `passage`: a stream that has begun; its body is not here."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    passage: "Passage | None" = None
    problem: Problem | None = None
    result: Served | Refused | None = None
    hearing: Hearing | None = None


@dataclass(slots=True)
class Errand:
    """Everything but I/O. `source`: where the committed stream comes from, for the driver alone."""

    axle: Axle
    engine: Engine
    dialect: str
    headers: Headers
    request_id: str
    began: float
    terms: Terms
    request: Request
    flow: Flow | None = None
    hearing: Hearing | None = None
    source: Any = None
    status: int = 0
    code: str = ""
    tries: tuple[Try, ...] = ()
    _over: threading.Lock = field(default_factory=threading.Lock)

    # --- the way there ---------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds that the first model list may take."""
        return min(FIRST_LOOK, self.terms.patience or FIRST_LOOK)

    def open(self) -> Flow:
        """The flow, which begins now or has begun. Raises `RequestFailed`."""
        if self.flow:
            return self.flow
        terms = self.terms
        if terms.patience:
            spent = self.engine.clock() - self.began
            terms = terms._replace(patience=max(0.001, terms.patience - spent))
        self.flow = self.engine.open(self.request, terms)
        return self.flow

    def listen(self, step: Send) -> Hearing:
        """Who judges the answer of an attempt that begins now."""
        limits, request = self.engine.config.limits, self.request
        times = Times(
            self.engine.clock(), step.first_content, step.deadline, limits.gap, limits.silence
        )
        self.hearing = Hearing(
            DIALECTS[self.dialect], times, stream=request.stream, restricted=request.restricted
        )
        return self.hearing

    def message(self, step: Send, patience: float) -> httpx2.Request:
        """The request of an attempt. The key is put in here and nowhere else."""
        upstream, limits = self.engine.config.upstream, self.engine.config.limits
        secret = self.engine.secrets[step.lease.key]
        authorization = (b"authorization", Veiled(f"Bearer {secret.reveal()}".encode()))
        return httpx2.Request(
            "POST",
            upstream.base_url.rstrip("/") + DIALECTS[self.dialect].path,
            headers=[*hints.passed_on(self.headers), IDENTITY, authorization],
            content=self.request.with_model(step.lease.model),
            extensions={
                "timeout": {
                    "connect": min(limits.connect, patience),
                    "read": max(patience, limits.silence),
                    "write": WRITE,
                    "pool": POOL,
                }
            },
        )

    def report(self, finding: Finding, began: float, source: Any) -> Report:
        """What came of an attempt. A stream that has committed is kept for later."""
        now = self.engine.clock()
        if finding is Stage.COMMITTED:
            self.source = source
            self.request = self.request.without_body()  # a stream may last long
            return Done(now)
        if isinstance(finding, Stage):
            return Expired(now, now - began)
        return Ended(now, finding)

    def give_up(self) -> None:
        """The program left before there was an answer."""
        if self.flow:
            self.engine.abandon(self.flow)
        self.finish("abandoned")

    # --- the way back ----------------------------------------------------------------------------

    def reply(self, result: Served | Refused) -> Reply:
        """The answer, or what is said instead."""
        self.tries = result.tries
        if isinstance(result, Refused):
            return self.refuse(of_refusal(result, self.request_id, self.engine.clock()), result)
        self.status = 200
        headers = self._headers(result.lease)
        hearing = self.hearing
        assert hearing is not None  # noqa: S101 - whoever was served was listened to
        if self.source is not None:
            passage = Passage(self, result.lease, hearing)
            headers["content-type"] = EVENTS
            return Reply(200, headers, passage=passage, result=result, hearing=hearing)
        self.finish("ok")
        return Reply(200, headers, hearing.body, result=result, hearing=hearing)

    def refuse(self, problem: Problem, result: Refused | None = None) -> Reply:
        """A problem in the shape of the dialect."""
        self.status, self.code = problem.status, problem.code
        self.finish("failed")
        headers = {
            "content-type": JSON,
            "x-request-id": self.request_id,
            "x-keywheel-attempts": str(len(self.tries)),
        }
        body = problem.body(self.dialect)
        return Reply(
            problem.status, headers | problem.headers(), body, problem=problem, result=result
        )

    def finish(self, outcome: str) -> None:
        """The request is over: tell it, once."""
        if not self._over.acquire(blocking=False):
            return
        now = self.engine.clock()
        self.tries = self.tries or self.engine.tries(self.request_id)
        last = self.tries[-1] if self.tries else Try("", "", "", "", 0.0)
        self.engine.finish(
            Finished(
                now, self.request_id, self.dialect, outcome, self.status, self.code,
                len(self.tries), last.key, last.account, last.model, now - self.began,
            )
        )  # fmt: skip

    def _headers(self, lease: Lease) -> dict[str, str]:
        return {
            "content-type": JSON,
            "x-request-id": self.request_id,
            "x-keywheel-key": lease.key,
            "x-keywheel-account": lease.account,
            "x-keywheel-model": lease.model,
            "x-keywheel-attempts": str(len(self.tries)),
        }


class Passage:
    """A stream that has committed, on its way to the program. Whoever ends it, its lease is settled once."""

    def __init__(self, errand: Errand, lease: Lease, hearing: Hearing) -> None:
        self.errand = errand
        self.lease = lease
        self.hearing = hearing
        self.source = errand.source
        self.outcome: Outcome | None = None
        self._once = threading.Lock()
        self._pid = os.getpid()

    @property
    def answered(self) -> bool:
        """Whether it has come to a good end."""
        return isinstance(self.outcome, Answered)

    def lose(self, kind: str) -> None:
        """The connection failed; `kind` is one of `wire.faults.FAILURES`."""
        self.hearing.break_off(kind, self.errand.engine.clock())

    def finish(self) -> bytes:
        """The source has ended: what the program still gets."""
        tail, outcome = self.hearing.conclude(self.errand.engine.clock())
        return tail if self._settle(outcome) else b""

    def give_up(self, reason: str = "client gone") -> None:
        """The program wants no more of it. Blames nobody."""
        if is_collecting():
            self.errand.axle.lose(lambda: self._settle(Abandoned(reason)))
        else:
            self._settle(Abandoned(reason))

    def _settle(self, outcome: Outcome) -> bool:
        """Whether it was this call that settled it. A forked child settles nothing of its parent's."""
        if self._pid != os.getpid() or not self._once.acquire(blocking=False):
            return False
        self.outcome = outcome
        errand = self.errand
        errand.engine.settle(self.lease, outcome)
        if isinstance(outcome, Answered):
            errand.finish("ok")
        elif isinstance(outcome, Failed):
            errand.code = outcome.verdict.label
            errand.tries = (*errand.tries[:-1], errand.tries[-1]._replace(row=errand.code))
            errand.finish("failed")
        else:
            errand.code = "deadline_exceeded" if outcome.reason == "deadline" else ""
            errand.finish("failed" if errand.code else "abandoned")
        return True


def begin(
    axle: Axle, dialect: str, headers: Headers, body: bytes, read_timeout: float | None = None
) -> Errand:
    """Read a request. Raises `RequestFailed`; `read_timeout` is the client's own, in seconds."""
    engine = axle.start()
    began = engine.clock()
    lower = [(name.lower(), value) for name, value in headers]
    known = {name: value for name, value in lower if name != b"x-stainless-read-timeout"}
    request = read(body, dialect, hints.session(known))
    terms = hints.terms(hints.request_id(known), known, request.stream)
    if read_timeout and not request.stream:  # it bounds what comes in one piece
        terms = terms._replace(patience=min(read_timeout, terms.patience or read_timeout))
    return Errand(axle, engine, dialect, lower, terms.request_id, began, terms, request)


def refusal(axle: Axle, dialect: str, error: RequestFailed) -> Reply:
    """A request that could not even be read."""
    problem, engine = of_exception(error), axle.engine
    engine.finish(
        Finished(
            engine.clock(), "", dialect, "failed", problem.status, problem.code, 0, "", "", "", 0.0
        )
    )
    headers = {"content-type": JSON, **problem.headers()}
    return Reply(problem.status, headers, problem.body(dialect), problem=problem)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request leads: to a dialect, or to an answer that needs no upstream."""

    dialect: str = ""
    answer: Callable[[Engine], Reply] | None = None


def route(method: str, path: str, query: str = "") -> Route:
    """By the end of the path: the base URL before it is the client's affair."""
    path = path.rstrip("/")
    for ending, dialect in _PATHS.items():
        if path.endswith(ending):
            return Route(dialect) if method == "POST" else _refused(_WRONG_METHOD)
    for ending, tell in listing.LISTS.items():
        if method == "GET" and path.endswith(ending):
            return Route(answer=partial(_models, tell, path, query))
    _, found, id = path.partition("/models/")
    if method == "GET" and found:
        return Route(answer=lambda engine: _model(engine, id))
    served = ", ".join(f"POST …{ending}" for ending in _PATHS)
    return _refused(
        Problem(
            404, "not_found", f"{method} {path} is not served. Served: {served}, GET …/models.",
            final=True,
        )
    )  # fmt: skip


_WRONG_METHOD = Problem(405, "method_not_allowed", "Only POST is served here.", final=True)


def _refused(problem: Problem) -> Route:
    return Route(answer=lambda _engine: _said(problem))


def _said(problem: Problem) -> Reply:
    headers: Mapping[str, str] = {"content-type": JSON, **problem.headers()}
    return Reply(problem.status, dict(headers), problem.body("chat"), problem=problem)


def _models(tell: listing.Tell, path: str, query: str, engine: Engine) -> Reply:
    found = listing.answer(engine, tell, path, query)
    return _said(found) if isinstance(found, Problem) else Reply(200, {"content-type": JSON}, found)


def _model(engine: Engine, id: str) -> Reply:
    found = listing.find(engine, id)
    if isinstance(found, Problem):
        return _said(found)
    return Reply(200, {"content-type": JSON}, model_body(found))
