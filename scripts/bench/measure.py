"""What is measured: CPU of the proxy, added latency, first byte of a stream, memory."""

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from .figures import Figure, Row, Section, added, arrivals, level, middle, per_event
from .load import PATIENCE, BadReply, Connection, check, closed_loop, connected, open_loop
from .material import Load
from .stand import Stand, Target

EVENTS = 100  # of a stream whose events are counted
SETTLE = 0.02  # seconds in which a proxy ends what follows an answer: log line, statistics
KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Seconds are those of one round of one target."""

    rounds: int = 5
    cpu_seconds: float = 0.4
    latency_seconds: float = 1.2
    first_byte_seconds: float = 0.5
    concurrency: int = 16
    rate: float = 100.0
    spacing: float = 0.002
    streams: int = 400


QUICK = Plan(rounds=3, cpu_seconds=0.15, latency_seconds=0.5, first_byte_seconds=0.25, streams=200)


# --- CPU -------------------------------------------------------------------------------------------


def cpu(stand: Stand, plan: Plan) -> Section:
    """CPU of the proxies in µs, closed loop over kept-alive connections."""
    loads = _cpu_loads(plan)
    costs = _run(uvloop.new_event_loop(), _cpu(stand.proxies, loads, plan))

    def row(title: str, goal: str, name: str, less: str = "") -> Row:
        figures = {
            target.name: middle(list(_costs(costs[target.name], name, less)))
            for target in stand.proxies
        }
        return Row(title, figures, goal)

    rows = (
        row("plain request, 1 KiB answer", "≤ 5", "plain"),
        row("plain request, 200 KB prompt", "", "prompt"),
        row("stream of one event", "", "short"),
        row(f"each further event, {plan.spacing * 1e3:g} ms apart", "≤ 2", "paced", "short"),
        row("each further event, as fast as possible", "", "flood", "short"),
    )
    title = f"CPU of the proxy in µs, closed loop, {plan.concurrency} connections"
    return Section(title, rows, ratio=True)


def _cpu_loads(plan: Plan) -> tuple[Load, ...]:
    return (
        Load("plain"),
        Load("prompt", prompt_bytes=200_000),
        Load("short", events=1),
        Load("paced", events=EVENTS, spacing=plan.spacing),
        Load("flood", events=EVENTS),
    )


def _costs(costs: dict[str, list[float]], name: str, less: str) -> Iterator[float]:
    if not less:
        yield from costs[name]
        return
    for long, short in zip(costs[name], costs[less], strict=True):
        yield per_event(long, short, EVENTS - 1)


async def _cpu(
    targets: Sequence[Target], loads: Sequence[Load], plan: Plan
) -> dict[str, dict[str, list[float]]]:
    """µs a request, by target and load, round by round; the first round only warms up."""
    costs = {target.name: {load.name: list[float]() for load in loads} for target in targets}
    for number in range(plan.rounds + 1):
        for load in loads:
            for target in turned(targets, number):
                cost = await _cost(target, load, plan)
                if number:
                    costs[target.name][load.name].append(cost)
    return costs


async def _cost(target: Target, load: Load, plan: Plan) -> float:
    requests = target.requests(load)
    async with connected(target.port, plan.concurrency) as connections:
        await closed_loop(connections, requests, load.events, 0.0)
        await asyncio.sleep(SETTLE)
        before = target.program.cpu()
        count = await closed_loop(connections, requests, load.events, plan.cpu_seconds)
        await asyncio.sleep(SETTLE)
        return (target.program.cpu() - before) / count * 1e6


# --- latency ---------------------------------------------------------------------------------------


def latency(stand: Stand, plan: Plan) -> Section:
    """Milliseconds from the intended start to the last byte of a plain answer."""
    samples = _latencies(stand, plan, Load("plain"), plan.latency_seconds)
    last = {name: [[end for _, end in r] for r in rounds] for name, rounds in samples.items()}
    title = f"Latency of a plain request in ms, open loop, {plan.rate:g} requests/s"
    return Section(title, _latency_rows(last, {0.5: "≤ 1", 0.99: "≤ 5"}))


def first_byte(stand: Stand, plan: Plan) -> Section:
    """Milliseconds from the intended start to the first byte of a stream's body."""
    samples = _latencies(stand, plan, Load("short", events=3), plan.first_byte_seconds)
    first = {name: [[begin for begin, _ in r] for r in rounds] for name, rounds in samples.items()}
    title = f"First byte of a stream in ms, open loop, {plan.rate:g} streams/s"
    return Section(title, _latency_rows(first, {0.5: "≤ 2", 0.99: ""}))


def _latency_rows(
    samples: dict[str, list[list[float]]], goals: dict[float, str]
) -> tuple[Row, ...]:
    """Without a proxy, and what each proxy adds."""
    ms = {name: [[v * 1e3 for v in r] for r in rounds] for name, rounds in samples.items()}
    direct = ms.pop("direct")
    rows: list[Row] = []
    for share, goal in goals.items():
        figures = {name: added(rounds, direct, share) for name, rounds in ms.items()}
        figures["direct"] = level(direct, share)
        rows.append(Row(f"p{share * 100:g}, added by", figures, goal))
    return tuple(rows)


def _latencies(
    stand: Stand, plan: Plan, load: Load, seconds: float
) -> dict[str, list[list[tuple[float, float]]]]:
    """Samples by target, round by round; every target of a round gets the same schedule."""
    # select() sleeps by the microsecond; epoll, and uvloop with it, by the millisecond
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    return _run(loop, _latency_rounds(stand, plan, load, seconds))


async def _latency_rounds(
    stand: Stand, plan: Plan, load: Load, seconds: float
) -> dict[str, list[list[tuple[float, float]]]]:
    targets = (stand.direct, *stand.proxies)
    samples = {target.name: list[list[tuple[float, float]]]() for target in targets}
    for number in range(plan.rounds):
        times = arrivals(plan.rate, seconds, seed=number)
        for target in turned(targets, number):
            requests = target.requests(load)
            async with connected(target.port, plan.concurrency) as idle:
                await closed_loop(idle, requests, load.events, 0.0)
                taken = await open_loop(target.port, idle, requests, load.events, times)
            samples[target.name].append(taken)
    return samples


# --- memory ----------------------------------------------------------------------------------------


def memory(stand: Stand, plan: Plan) -> Section:
    """Resident memory: idle after the start, and what each open stream adds."""
    figures = _run(uvloop.new_event_loop(), _memory(stand.proxies, plan))
    idle = {name: Figure(before / MIB) for name, (before, _) in figures.items()}
    each = {
        name: Figure((during - before) / plan.streams / KIB)
        for name, (before, during) in figures.items()
    }
    rows = (
        Row("idle, MiB", idle, "≤ 60"),
        Row(f"per stream with {plan.streams} open, KiB", each, "≤ 64"),
    )
    return Section("Memory resident", rows)


async def _memory(targets: Sequence[Target], plan: Plan) -> dict[str, tuple[int, int]]:
    return {target.name: await _stream_memory(target, plan.streams) for target in targets}


async def _stream_memory(target: Target, streams: int) -> tuple[int, int]:
    """Bytes before, and with so many streams open, each with an event a second."""
    requests = target.requests(Load("slow", events=1000, spacing=1.0))
    before = target.program.memory()
    async with connected(target.port, streams) as connections:
        answers = [c.ask(requests[n % len(requests)]) for n, c in enumerate(connections)]
        async with asyncio.timeout(PATIENCE):
            while not all(connection.first for connection in connections):
                _fail_early(answers)
                await asyncio.sleep(0.05)
        await asyncio.sleep(2.0)  # two events each: the streams have settled
        _fail_early(answers)
        return before, target.program.memory()
