"""What is measured in rounds: CPU of the proxies, added latency, first byte of a stream."""

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import nan
from typing import TypeVar

import uvloop

from .figures import Rounds, Row, Section, added, arrivals, level, middle, per_event
from .load import BadReply, Reply, closed_loop, connected, open_loop
from .material import Load
from .processes import paused, say
from .stand import Stand, Target

T = TypeVar("T")

WARM_UP = Load("plain")  # once on each connection, so that those to the upstream are open too
EVENTS = 100  # of a stream whose events are counted
SETTLE = 0.02  # seconds in which a proxy ends what follows an answer: log line, statistics
MS, US = 1e3, 1e6
TROUBLE = (BadReply, TimeoutError, OSError)  # what ends the run, or a rival's part in it


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Seconds are those of one round of one target."""

    rounds: int = 5
    cpu_seconds: float = 0.3
    latency_seconds: float = 1.0
    first_byte_seconds: float = 0.5
    concurrency: int = 16
    rate: float = 100.0
    spacing: float = 0.002
    streams: int = 1000
    soak_seconds: float = 60.0


QUICK = Plan(rounds=3, cpu_seconds=0.05, latency_seconds=0.25, first_byte_seconds=0.12, streams=200)

# --- CPU -------------------------------------------------------------------------------------------

Costs = dict[str, list[float]]  # µs a request by load, round by round


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the CPU table: the cost of a load, or of each event it has more than another load."""

    title: str
    load: str
    less: str = ""
    goal: str = ""

    def rounds(self, costs: Costs) -> list[float]:
        """The line's figure in every round."""
        if not self.less:
            return costs[self.load]
        pairs = zip(costs[self.load], costs[self.less], strict=True)
        return [per_event(long, short, EVENTS - 1) for long, short in pairs]


def cpu(stand: Stand, plan: Plan) -> Section:
    """CPU of the proxies in µs, closed loop over kept-alive connections."""
    loads = (
        WARM_UP,
        Load("prompt", prompt_bytes=200_000),
        Load("short", events=1),
        Load("paced", events=EVENTS, spacing=plan.spacing),
        Load("flood", events=EVENTS),
    )
    lines = (
        Line("plain request, answer of 1 KiB", "plain", goal="≤ 5 ×"),
        Line("plain request, prompt of 200 kB", "prompt"),
        Line("stream of one event", "short"),
        Line(f"further event, {plan.spacing * MS:g} ms after the last", "paced", "short", "≤ 2 ×"),
        Line("further event, no pause", "flood", "short"),
    )
    costs = run(uvloop.new_event_loop, _cpu(stand.proxies, loads, plan))
    rows = (
        Row(
            line.title,
            {target.name: middle(line.rounds(costs[target.name])) for target in stand.proxies},
            line.goal,
        )
        for line in lines
    )
    title = f"CPU of the proxy in µs; closed loop, {plan.concurrency} connections"
    return Section(title, tuple(rows), ratio=True)


async def _cpu(targets: Sequence[Target], loads: Sequence[Load], plan: Plan) -> dict[str, Costs]:
    costs: dict[str, Costs] = {target.name: {load.name: [] for load in loads} for target in targets}
    for number in range(plan.rounds + 1):  # the first round warms up
        for load in loads:
            for target in turned(targets, number):
                with alone(target, targets):
                    cost = await or_nothing(target, load.name, _cost(target, load, plan), nan)
                if number:
                    costs[target.name][load.name].append(cost)
    return costs


async def _cost(target: Target, load: Load, plan: Plan) -> float:
    """µs of CPU a request."""
    requests = target.requests(load)
    async with connected(target.port, plan.concurrency) as connections:
        await closed_loop(connections, target.requests(WARM_UP), 0, 0.0)
        await asyncio.sleep(SETTLE)
        before = target.program.cpu()
        count = await closed_loop(
            connections, requests, load.events, plan.cpu_seconds, exact=target.exact
        )
        await asyncio.sleep(SETTLE)
        return (target.program.cpu() - before) / count * US


# --- latency ---------------------------------------------------------------------------------------


def latency(stand: Stand, plan: Plan) -> Section:
    """Milliseconds from the intended start to the last byte of a plain answer."""
    rounds = _latencies(stand, plan, Load("plain"), plan.latency_seconds, lambda reply: reply.last)
    title = f"Latency of a plain request in ms; open loop, {plan.rate:g} requests/s"
    return Section(title, _latency_rows(rounds, {0.5: "≤ 1", 0.99: "≤ 5"}))


def first_byte(stand: Stand, plan: Plan) -> Section:
    """Milliseconds from the intended start to the first byte of a stream's body."""
    load = Load("stream", events=3)
    rounds = _latencies(stand, plan, load, plan.first_byte_seconds, lambda reply: reply.first)
    title = f"First byte of a stream in ms; open loop, {plan.rate:g} streams/s"
    return Section(title, _latency_rows(rounds, {0.5: "≤ 2", 0.99: ""}))


def _latency_rows(rounds: Mapping[str, Rounds], goals: Mapping[float, str]) -> tuple[Row, ...]:
    """What each proxy adds to a percentile, and the percentile without a proxy."""
    rows: list[Row] = []
    for share, goal in goals.items():
        figures = {
            name: level(taken, share) if name == "direct" else added(taken, rounds["direct"], share)
            for name, taken in rounds.items()
        }
        rows.append(Row(f"p{share * 100:g}, added by a proxy", figures, goal))
    return tuple(rows)


def _latencies(
    stand: Stand, plan: Plan, load: Load, seconds: float, moment: Callable[[Reply], float]
) -> Mapping[str, Rounds]:
    """Milliseconds by target, round by round; every target of a round gets the same schedule."""

    async def late(target: Target, times: Sequence[float]) -> list[float]:
        async with connected(target.port, plan.concurrency) as idle:
            await closed_loop(idle, target.requests(WARM_UP), 0, 0.0)
            replies = await open_loop(
                target.port, idle, target.requests(load), load.events, times, exact=target.exact
            )
            return [(moment(reply) - due) * MS for due, reply in replies]

    async def measure() -> Mapping[str, Rounds]:
        targets = (*stand.proxies, stand.direct)
        taken: dict[str, list[list[float]]] = {target.name: [] for target in targets}
        for number in range(plan.rounds):
            times = arrivals(plan.rate, seconds, seed=number)
            for target in turned(targets, number):
                with alone(target, targets):
                    round_ = await or_nothing(target, load.name, late(target, times), [])
                taken[target.name].append(round_)
        return taken

    # select() sleeps by the microsecond; epoll, and uvloop with it, by the millisecond
    return run(lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()), measure())


# --- both ------------------------------------------------------------------------------------------


async def or_nothing(target: Target, what: str, work: Coroutine[None, None, T], nothing: T) -> T:
    """A measurement. A rival that fails gets nothing, once and for all; any other failure ends the run."""
    if (target.name, what) in _FAILED:
        work.close()
        return nothing
    try:
        return await work
    except TROUBLE as error:
        if not target.may_fail:
            raise
        _FAILED.add((target.name, what))
        say(f"{target.name} gets no figure for {what}: {str(error)[:200] or 'too slow'}")
        return nothing


_FAILED: set[tuple[str, str]] = set()


def alone(target: Target, targets: Sequence[Target]) -> AbstractContextManager[None]:
    """Rivals share the core with what is measured, and some work without being asked: they wait meanwhile."""
    return paused(other.program for other in targets if other.may_fail and other is not target)


def turned(targets: Sequence[T], number: int) -> Sequence[T]:
    """The targets, each round beginning with the next one: none is always the first."""
    start = number % len(targets)
    return (*targets[start:], *targets[:start])


def run(loop: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[None, None, T]) -> T:
    """Run to the end, without the generator's own garbage collection in between."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()
