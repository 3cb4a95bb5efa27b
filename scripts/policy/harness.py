"""One gateway process on the virtual clock: it carries out a policy's steps in the simulated world.

The driver here does what `keywheel.gateway.exchange` does over sockets: a step is taken, its course is looked up, and
the report goes back in when that time has passed. The keeper's looks at `GET /key` happen here, too.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from keywheel.core.policy import Limits
from keywheel.core.queue import Ticket
from keywheel.core.steps import Done, Ended, Expired, Report, Result, Send, Served, Step, Take, Wait
from keywheel.core.types import Answered, Ask, Event, Failed, Lease, Outcome
from keywheel.problems import Problem, of_refusal
from keywheel.sim import Ask as WorldAsk
from keywheel.sim import World
from keywheel.sim.rulings import KeyView
from keywheel.wire.faults import judge_failure
from scripts.policy.audit import Audit
from scripts.policy.judging import Course, Judge, Patience
from scripts.policy.loop import Loop

LIMITS = Limits()
TICK = 15.0  # seconds between the looks at what is due; the real keeper looks every 0.5 s
KEY_SECONDS = 0.1  # what `GET /key` takes
NOTED = 2.0  # seconds of clock difference from which on the keeper corrects the date
REFUSED, RESET = "refused", "reset"
CONNECT_SECONDS = {REFUSED: 0.02, RESET: 0.3}  # until a broken network shows


class Policy(Protocol):
    """What decides. Times are the process's own clock; `events` is emptied by whoever reads it."""

    events: list[Event]

    def open(self, ask: Ask, now: float) -> Generator[Step, Report, Result]:
        """Lead one ask to its end."""
        ...

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """A committed stream has ended."""
        ...

    def called(self, now: float) -> Iterable[Ticket]:
        """Who waited and has a lane now."""
        ...

    def due(self, now: float) -> Iterable[str]:
        """Keys to be looked at by `GET /key` now."""
        ...

    def checked(self, key: str, view: KeyView | None, now: float) -> None:
        """What `GET /key` said; None: the key was refused."""
        ...

    def set_skew(self, skew: float) -> None:
        """The upstream's clock differs by so many seconds."""
        ...

    def usable(self, now: float, tried: frozenset[str] = frozenset()) -> bool:
        """Whether a small ask would find a lane now, on another model than those tried."""
        ...

    def opens(self, now: float, promised: float) -> float | None:
        """When a small ask would find a lane if nothing else happened; None: it makes no promises."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """What a client wants."""

    client: str
    tokens: int
    max_tokens: int | None
    stream: bool
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client got. `first`: moment of a stream's first content. `problem` None: an answer, or a broken stream.
    `status` 0: the gateway was not there."""

    at: float
    ok: bool
    status: int
    attempts: int
    first: float | None = None
    model: str = ""
    problem: Problem | None = None


Answer = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Weather:
    """Times (from, until) in which the network refuses connections, or resets them once the request is sent."""

    refused: tuple[tuple[float, float], ...] = ()
    resets: tuple[tuple[float, float], ...] = ()

    def fault(self, now: float) -> str | None:
        """What goes wrong with a connection made now."""
        if any(begin <= now < end for begin, end in self.refused):
            return REFUSED
        return RESET if any(begin <= now < end for begin, end in self.resets) else None


@dataclass(slots=True)
class Site:
    """What a gateway stands in. `secrets`: label → key. `offset`: its clock minus the true time."""

    loop: Loop
    world: World
    judge: Judge
    secrets: dict[str, str]
    audit: Audit
    until: float
    weather: Weather = field(default_factory=Weather)
    offset: float = 0.0


class Gateway:
    """The process. It can crash, and starts again with what persists: nothing but what `GET /key` tells."""

    def __init__(self, site: Site, make: Callable[[], Policy]) -> None:
        self.site = site
        self._make = make
        self._open: dict[int, _Trip] = {}
        self._number = 0
        self.up = False
        self.start()

    def clock(self) -> float:
        """The process's own time."""
        return self.site.loop.now + self.site.offset

    def start(self) -> None:
        """Begin with an empty memory."""
        self.policy = self._make()
        self.up = True
        self._keep(self.policy)

    def crash(self, down: float) -> None:
        """Die with everything under way, and come back after some seconds."""
        self.up = False
        lost, self._open = list(self._open.values()), {}
        self.site.audit.crashed(self.site.loop.now)
        for trip in lost:
            trip.lose()
        self.site.loop.after(down, self.start)

    def ask(self, query: Query, answer: Answer) -> None:
        """A client's request arrives."""
        if not self.up:
            return answer(Reply(self.site.loop.now, False, 0, 0))
        self._number += 1
        trip = self._open[self._number] = _Trip(self, query, self._number, answer)
        return trip.begin()

    def forget(self, number: int) -> None:
        """A request is over."""
        self._open.pop(number, None)

    def hear(self) -> None:
        """Pass on what the policy says has happened, and wake who has a lane now."""
        for ticket in self.policy.called(self.clock()):
            if isinstance(ticket.owner, _Trip):
                ticket.owner.wake()
        events = self.policy.events
        if events:
            self.site.audit.hear(events)
            events.clear()

    def look(self) -> None:
        """Ask `GET /key` for what is due, soon."""
        self.site.loop.after(KEY_SECONDS, partial(self._check_all, self.policy))

    # --- the keeper ------------------------------------------------------------------------------

    def _keep(self, policy: Policy) -> None:
        site = self.site
        if policy is not self.policy or site.loop.now > site.until:
            return
        self.look()
        site.loop.after(TICK, partial(self._keep, policy))

    def _check_all(self, policy: Policy) -> None:
        if policy is self.policy and self.up and not self.site.weather.fault(self.site.loop.now):
            for label in policy.due(self.clock()):
                self._check(label)

    def _check(self, label: str) -> None:
        site, policy = self.site, self.policy
        skew = int(site.loop.now) + 0.5 - self.clock()  # the Date header has whole seconds
        policy.set_skew(skew if abs(skew) > NOTED else 0.0)
        policy.checked(label, site.world.key(site.secrets[label], site.loop.now), self.clock())
        self.hear()


class _Trip:
    """One request at the gateway."""

    __slots__ = (
        "_answer",
        "_ask",
        "_attempts",
        "_gateway",
        "_number",
        "_policy",
        "_query",
        "_steps",
        "_wait",
        "lost",
    )

    def __init__(self, gateway: Gateway, query: Query, number: int, answer: Answer) -> None:
        now = gateway.clock()
        self._gateway = gateway
        self._policy = gateway.policy
        self._query = query
        self._number = number
        self._answer = answer
        self._attempts = 0
        self._wait = 0  # which of its waits it is in; even: in none
        self.lost = False
        self._ask = Ask(
            tokens=query.tokens,
            reply_tokens=query.max_tokens or 0,
            stream=query.stream,
            deadline=now + (LIMITS.stream_deadline if query.stream else LIMITS.deadline),
            conversation=query.conversation,
            request_id=f"r{number}",
            client=query.client,
        )
        self._steps = gateway.policy.open(self._ask, now)

    def begin(self) -> None:
        """Take the first step."""
        try:
            self._do(next(self._steps))
        except StopIteration as stop:
            self._finish(stop.value)

    def lose(self) -> None:
        """The process died: the client's connection breaks, and what comes later reaches nobody."""
        self.lost = True
        self._answer(Reply(self._gateway.site.loop.now, False, 0, self._attempts))

    def _report(self, report: Report) -> None:
        try:
            self._do(self._steps.send(report))
        except StopIteration as stop:
            self._finish(stop.value)
        finally:
            self._gateway.hear()

    def _do(self, step: Step) -> None:
        while isinstance(step, Take):  # one process: the policy's reservation is the reservation
            step = self._steps.send(Done(self._gateway.clock()))
        if isinstance(step, Send):
            return self._send(step)
        assert isinstance(step, Wait)  # noqa: S101 - there is no other step
        if step.ticket:
            step.ticket.owner = self
        self._gateway.site.audit.waits(1)
        self._wait += 1
        return self._later(step.until - self._gateway.clock(), partial(self._resume, self._wait))

    def wake(self) -> None:
        """There is a lane: the wait is over."""
        if self._wait % 2:
            self._later(0.0, partial(self._resume, self._wait))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._gateway.site.loop.after(max(0.0, seconds), partial(self._unless_lost, act))

    def _unless_lost(self, act: Callable[[], None]) -> None:
        if not self.lost:
            act()

    def _resume(self, wait: int) -> None:
        if wait != self._wait:
            return  # woken before its time
        self._wait += 1
        self._gateway.site.audit.waits(-1)
        self._report(Done(self._gateway.clock()))

    # --- one attempt -----------------------------------------------------------------------------

    def _send(self, step: Send) -> None:
        self._attempts += 1
        course = self._course(step)
        if course.first is not None:
            return self._later(course.first, partial(self._commit, step.lease, course))
        return self._later(course.end, partial(self._over, course))

    def _course(self, step: Send) -> Course:
        site, lease = self._gateway.site, step.lease
        now, clock = site.loop.now, self._gateway.clock()
        fault = site.weather.fault(now)
        if fault == REFUSED:
            return _broken(fault, unsent=True)
        wanted = WorldAsk(
            (lease.model,), self._query.tokens, self._query.max_tokens, self._ask.stream
        )
        ruling = site.world.attempt(site.secrets[lease.key], wanted, now)
        if site.audit.attempt(lease, ruling, now, clock):
            self._gateway.look()
        if fault == RESET:
            return _broken(fault, unsent=False)
        left = step.deadline - clock
        first = step.first_content if self._ask.stream else max(step.first_content, left / 2)
        return site.judge.course(ruling, wanted, Patience(min(first, left), left), now, clock)

    def _over(self, course: Course) -> None:
        now = self._gateway.clock()
        if course.outcome is None:
            return self._report(Expired(now, course.end))
        return self._report(Ended(now, course.outcome))

    def _commit(self, lease: Lease, course: Course) -> None:
        """The first content goes to the client; the rest is settled at its end."""
        self._report(Done(self._gateway.clock()))
        assert course.first is not None  # noqa: S101 - else it was not to be committed
        end = partial(self._end_stream, lease, course, self._gateway.site.loop.now)
        self._later(course.end - course.first, end)

    def _end_stream(self, lease: Lease, course: Course, first: float) -> None:
        assert course.outcome is not None  # noqa: S101 - a stream's end is always judged
        self._policy.settle(lease, course.outcome, self._gateway.clock())
        self._gateway.hear()
        ok = isinstance(course.outcome, Answered)
        self._tell(Reply(self._gateway.site.loop.now, ok, 200, self._attempts, first, lease.model))

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self, result: Result) -> None:
        now = self._gateway.site.loop.now
        if isinstance(result, Served):
            if not self._ask.stream:
                self._tell(Reply(now, True, 200, self._attempts, model=result.lease.model))
            return
        self._gateway.site.audit.refused(
            result, self._ask, self._policy, now, self._gateway.clock()
        )
        problem = of_refusal(result, self._ask.request_id, self._gateway.clock())
        self._tell(Reply(now, False, problem.status, self._attempts, problem=problem))

    def _tell(self, reply: Reply) -> None:
        self._gateway.forget(self._number)
        self._gateway.site.audit.ended(self._ask.deadline - self._gateway.clock())
        self._answer(reply)


def _broken(fault: str, *, unsent: bool) -> Course:
    seconds = CONNECT_SECONDS[fault]
    verdict = judge_failure("unreachable" if unsent else "reset")
    return Course(None, seconds, Failed(verdict, seconds, unsent=unsent))
