"""What is measured over time: memory of idle proxies and of open streams, and what a soak leaves behind."""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import median

import uvloop

from .figures import Figure, Row, Section, arrivals
from .load import PATIENCE, BadReply, Reply, check, connect, connected
from .material import Load
from .measure import Plan, or_nothing, run
from .processes import PROC
from .stand import Stand, Target, ask

KIB, MIB = 1024, 1024 * 1024
STREAMS_SETTLE = 1.2  # seconds, at least one more event of every slow stream
TASKS_FILE = "tasks"  # where a watched keywheel writes how many tasks it has
SOAK_SETTLE = 3.0  # seconds after the last request, until what is left is counted
SAMPLE = 0.5  # seconds between two looks at the memory
IMPATIENT = 0.05  # seconds after which some clients of the soak leave
PLAIN, STREAM = Load("plain"), Load("soak", events=20, spacing=0.01)
ESTABLISHED, LISTEN = "01", "0A"


# --- open streams ----------------------------------------------------------------------------------


def memory(stand: Stand, plan: Plan) -> Section:
    """Resident memory: idle after the start, and what each open stream adds. Wants a fresh stand."""

    async def measure() -> dict[str, tuple[float, float]]:
        return {
            target.name: await or_nothing(target, "memory", _held(target, plan.streams), (nan, nan))
            for target in stand.proxies
        }

    figures = run(uvloop.new_event_loop, measure())
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


async def _held(target: Target, streams: int) -> tuple[float, float]:
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


# --- soak ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Left:
    """What a gateway holds at a moment. `clients`: their connections; `upstream`: those kept open to the upstream."""

    tasks: int
    clients: int
    upstream: int
    leases: int


def soak(stand: Stand, plan: Plan) -> Section:
    """Requests of every kind for a while, a third of them given up by their clients, and then silence.

    Wants keywheel to be watched (`bench.watched`).
    """
    keywheel = stand.proxies[0]

    async def measure() -> tuple[int, Left, list[int], Left]:
        await _once(keywheel, PLAIN, None, 0)
        await asyncio.sleep(SOAK_SETTLE)
        before = left(keywheel, stand.direct.port)
        sampling = asyncio.create_task(_sample(keywheel))
        count = await _soak(keywheel, plan)
        sampling.cancel()
        await asyncio.sleep(SOAK_SETTLE)
        memory = _memory_of.pop(keywheel.name)
        return count, before, memory, left(keywheel, stand.direct.port)

    count, before, memory, after = run(uvloop.new_event_loop, measure())
    quarter = max(1, len(memory) // 4)
    second, last = (median(part) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
    figures = (
        ("memory in the second quarter, MiB", second / MIB, ""),
        ("memory in the last quarter, MiB", last / MIB, ""),
        ("growth between them, bytes a request", (last - second) / (count / 2), "flat"),
        ("asyncio tasks more than before", after.tasks - before.tasks, "0"),
        ("connections of clients left", after.clients, "0"),
        ("connections to the upstream, kept for the next request", after.upstream, ""),
        ("leases left", after.leases, "0"),
    )
    rows = (Row(title, {keywheel.name: Figure(value)}, goal) for title, value, goal in figures)
    title = f"Soak of {plan.soak_seconds:g} s, {count} requests, a third of them given up"
    return Section(title, tuple(rows))


_memory_of: dict[str, list[int]] = {}


async def _sample(target: Target) -> None:
    samples = _memory_of.setdefault(target.name, [])
    while True:
        samples.append(target.program.memory())
        await asyncio.sleep(SAMPLE)


async def _soak(target: Target, plan: Plan) -> int:
    """Requests by schedule; the number of them."""
    start, chance = time.monotonic(), random.Random(1)
    times = arrivals(plan.rate, plan.soak_seconds, seed=1)
    kinds = zip(times, itertools.cycle((PLAIN, STREAM)), strict=False)

    unanswered: set[int] = set()

    async def client(number: int, at: float, load: Load, patience: float | None) -> None:
        await asyncio.sleep(start + at - time.monotonic())
        unanswered.add(number)
        await _once(target, load, patience, number)
        unanswered.discard(number)

    try:
        async with asyncio.timeout(plan.soak_seconds + PATIENCE), asyncio.TaskGroup() as group:
            for number, (at, load) in enumerate(kinds):
                patience = chance.uniform(0.0, IMPATIENT) if number % 3 == 0 else None
                group.create_task(client(number, at, load, patience))
    except TimeoutError:
        pool = ask(target, "/admin/state")["pool"]
        raise BadReply(
            f"{len(unanswered)} of {len(times)} requests were not answered {PATIENCE:g} s after the last; "
            f"the first of them was number {min(unanswered, default=0)}; keywheel's pool: {pool}"
        ) from None
    return len(times)


async def _once(target: Target, load: Load, patience: float | None, number: int) -> None:
    """One request on a connection of its own, given up after `patience` seconds."""
    requests = target.requests(load)
    connection = await connect(target.port)
    try:
        answer = connection.ask(requests[number % len(requests)])
        await asyncio.wait([answer], timeout=patience)
        if answer.done():
            check(answer.result(), load.events)
    finally:
        connection.close()


def left(target: Target, upstream: int) -> Left:
    """What a watched keywheel holds now."""
    pid = target.program.process.pid
    inodes = sockets(pid)
    clients = kept = 0
    for line in (PROC / str(pid) / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[3] != LISTEN:
            clients += port_of(fields[1]) == target.port
            kept += port_of(fields[2]) == upstream
    tasks = _tasks(target)
    return Left(tasks, clients, kept, ask(target, "/admin/state")["pool"]["in_flight"])


def port_of(address: str) -> int:
    """The port of an address as the kernel writes it: `0100007F:1F90`."""
    return int(address.rpartition(":")[2], 16)


def sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found: set[str] = set()
    for entry in (PROC / str(pid) / "fd").iterdir():
        try:
            name = str(entry.readlink())
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:["):
            found.add(name[8:-1])
    return found


def _tasks(target: Target) -> int:
    file = Path(target.program.log).with_name(TASKS_FILE)
    file.unlink(missing_ok=True)
    target.program.process.send_signal(signal.SIGUSR1)
    until = time.monotonic() + PATIENCE
    while not (file.exists() and (text := file.read_text())):
        if time.monotonic() > until:
            raise TimeoutError("keywheel does not tell its tasks")
        time.sleep(0.01)
    return int(text)
