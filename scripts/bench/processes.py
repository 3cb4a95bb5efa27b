"""Programs under measurement: started on a core, watched through /proc, always ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STOP_PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL
CPU_CLOCK = 2  # CPUCLOCK_SCHED of the kernel: time of all threads of a process, in nanoseconds


class DidNotStart(Exception):
    """A program ended or stayed silent; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where programs run: the proxies, and load generator and upstream."""

    proxy: set[int]
    rest: set[int]

    def __str__(self) -> str:
        proxy, rest = ("+".join(map(str, sorted(cores))) for cores in (self.proxy, self.rest))
        return f"proxy on core {proxy}, load and upstream on {rest}"


@dataclass(frozen=True, slots=True)
class Program:
    """A running program with its children."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        return descendants(self.process.pid, parents())

    def cpu(self) -> float:
        """Seconds of CPU, user and kernel, spent so far by all threads of all its processes."""
        return sum(map(cpu_seconds, self.pids()))

    def memory(self) -> int:
        """Bytes resident in memory, of all its processes."""
        return sum(resident((PROC / str(pid) / "status").read_text()) for pid in self.pids())

    def check(self) -> None:
        """Raise DidNotStart if it ended."""
        if self.process.poll() is not None:
            raise DidNotStart(self.explain(f"ended with {self.process.returncode}"))

    def explain(self, what: str) -> str:
        """A sentence with the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-12:]
        return "\n  ".join([f"{self.name} {what}; the end of its log:", *lines])


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    cores: set[int],
) -> Generator[Program]:
    """A program with its own log and process group, on these cores, for as long as the block lasts."""
    log = folder / f"{name}.log"
    with log.open("wb") as output, pinned(cores):
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, process_group=0,
        )  # fmt: skip
    try:
        yield Program(name, process, log)
    finally:
        _end(process)


@contextmanager
def paused(programs: Iterable[Program]) -> Generator[None]:
    """These programs get no CPU for as long as the block lasts: what they do by themselves would disturb."""
    pids = [pid for program in programs for pid in program.pids()]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def pinned(cores: set[int]) -> Generator[None]:
    """This process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def share_out(available: set[int]) -> Cores:
    """One core for the proxy and the others for the rest; the same one for both if there is no other."""
    proxy = {max(available)}
    return Cores(proxy, available - proxy or proxy)


def cpu_seconds(pid: int) -> float:
    """User and kernel time of a whole process: what utime + stime of /proc/PID/stat say, but exact.

    Those come in ticks of 10 ms, longer than a round of nginx takes to spend.
    """
    return time.clock_gettime((~pid << 3) | CPU_CLOCK)


def parent(stat: str) -> int:
    """The parent's id in a /proc/PID/stat. The name before it may hold anything, spaces and parentheses too."""
    return int(stat.rpartition(")")[2].split()[1])


def resident(status: str) -> int:
    """VmRSS of a /proc/PID/status in bytes; 0 for a process that has ended."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def busy(seconds: float = 1.0) -> float:
    """How much of the machine's CPU time is spent by others, 0 to 1, seen for so many seconds."""
    before = (PROC / "stat").read_text()
    time.sleep(seconds)
    return busy_between(before, (PROC / "stat").read_text())


def busy_between(before: str, after: str) -> float:
    """The share of CPU time between two readings of /proc/stat that was neither idle nor waiting for a disk."""
    first, second = (list(map(int, text.split(None, 9)[1:9])) for text in (before, after))
    spent = [b - a for a, b in zip(first, second, strict=True)]
    return 1.0 - (spent[3] + spent[4]) / (sum(spent) or 1)


def parents() -> dict[int, int]:
    """The parent of every process there is."""
    found: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = parent((entry / "stat").read_text())
            except OSError:  # it ended meanwhile
                continue
    return found


def descendants(pid: int, parents: Mapping[int, int]) -> list[int]:
    """A process and everything below it."""
    children = [child for child, parent in parents.items() if parent == pid]
    return [pid, *(found for child in children for found in descendants(child, parents))]


def say(message: str) -> None:
    """Tell whoever runs the benchmark."""
    print(f"bench: {message}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
