"""What is measured: CPU of the proxies, added latency, first byte of a stream, memory."""

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import uvloop

from .figures import Figure, Rounds, Row, Section, added, arrivals, level, middle, per_event
from .load import PATIENCE, BadReply, Reply, closed_loop, connected, open_loop
from .material import Load
from .stand import Stand, Target

T = TypeVar("T")

WARM_UP = Load("plain")  # once on each connection, so that those to the upstream are open too
EVENTS = 100  # of a stream whose events are counted
SETTLE = 0.02  # seconds in which a proxy ends what follows an answer: log line, statistics
STREAMS_SETTLE = 1.2  # seconds, at least one more event of every slow stream
MS, US = 1e3, 1e6
KIB, MIB = 1024, 1024 * 1024


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
    streams: int = 400


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
    costs = _run(uvloop.new_event_loop, _cpu(stand.proxies, loads, plan))
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
                cost = await _cost(target, load, plan)
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
        count = await closed_loop(connections, requests, load.events, plan.cpu_seconds)
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

    async def measure() -> Mapping[str, Rounds]:
        targets = (*stand.proxies, stand.direct)
        taken: dict[str, list[list[float]]] = {target.name: [] for target in targets}
        for number in range(plan.rounds):
            times = arrivals(plan.rate, seconds, seed=number)
            for target in turned(targets, number):
                requests = target.requests(load)
                async with connected(target.port, plan.concurrency) as idle:
                    await closed_loop(idle, target.requests(WARM_UP), 0, 0.0)
                    replies = open_loop(target.port, idle, requests, load.events, times)
                    late = [(moment(reply) - due) * MS for due, reply in await replies]
                taken[target.name].append(late)
        return taken

    # select() sleeps by the microsecond; epoll, and uvloop with it, by the millisecond
    return _run(lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()), measure())


# --- memory ----------------------------------------------------------------------------------------


def memory(stand: Stand, plan: Plan) -> Section:
    """Resident memory: idle after the start, and what each open stream adds. Wants a fresh stand."""

    async def measure() -> dict[str, tuple[int, int]]:
        return {target.name: await _held(target, plan.streams) for target in stand.proxies}

    figures = _run(uvloop.new_event_loop, measure())
    idle = {name: Figure(before / MIB) for name, (before, _) in figures.items()}
    each = {
        name: Figure((during - before) / plan.streams / KIB)
        for name, (before, during) in figures.items()
    }
    rows = (
        Row("idle after the start, MiB", idle, "≤ 60"),
        Row(f"each of {plan.streams} open streams, KiB", each, "≤ 64"),
    )
    return Section("Resident memory of the proxy", rows)


async def _held(target: Target, streams: int) -> tuple[int, int]:
    """Bytes before, and with so many streams open, each with an event a second."""
    requests = target.requests(Load("slow", events=1000, spacing=1.0))
    before = target.program.memory()
    async with connected(target.port, streams) as connections:
        answers = [c.ask(requests[n % len(requests)]) for n, c in enumerate(connections)]
        async with asyncio.timeout(PATIENCE):
            while not all(connection.first for connection in connections):
                _raise_failure(answers)
                await asyncio.sleep(0.05)
        await asyncio.sleep(STREAMS_SETTLE)
        _raise_failure(answers)
        return before, target.program.memory()


def _raise_failure(answers: Iterable[asyncio.Future[Reply]]) -> None:
    """A slow stream that has ended was refused or cut off."""
    for answer in answers:
        if answer.done():
            raise BadReply(f"a slow stream ended with {answer.result().body[:400]!r}")


# --- both ------------------------------------------------------------------------------------------


def turned(targets: Sequence[T], number: int) -> Sequence[T]:
    """The targets, each round beginning with the next one: none is always the first."""
    start = number % len(targets)
    return (*targets[start:], *targets[:start])


def _run(loop: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[None, None, T]) -> T:
    """Run to the end, without the generator's own garbage collection in between."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()
