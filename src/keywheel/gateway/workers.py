"""Several processes that listen on one socket: started, replaced when they die, renewed one by one, ended together.

Each worker reads settings and keys itself, so no secret is handed from process to process, and a renewal takes up what
has changed. The parent serves nothing; it waits for signals and for its workers.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NoReturn, Protocol, cast

from keywheel.errors import Error

log = logging.getLogger("keywheel.workers")

START = 30.0  # seconds that a worker has to begin
LASTS = 10.0  # seconds; one that lived shorter is started anew later and later
PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before one that died is started anew
FAREWELL = 5.0  # seconds beyond the drain limit, then workers are ended by force
LONG = 60.0  # seconds to sleep when nothing is due
BEGUN, RETIRE = "begun", "retire"
_spawn = get_context("spawn")  # a forked child would have copies of locks, and no threads


class Work(Protocol):
    """What a worker does, in its own process: serve on the socket until a signal. `begun` is to be called when it
    serves, with what makes it retire."""

    def __call__(
        self, number: int, bound: socket.socket, begun: Callable[[Callable[[], object]], object], /
    ) -> NoReturn: ...


class Stillborn(Error):
    """A worker ended before it served, and did not say why."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process. `number`: its place, the same for the one that replaces it after its death. `leaves`: it was told
    to go."""

    number: int
    process: SpawnProcess
    channel: Connection
    born: float
    begun: bool = False
    leaves: bool = False


@dataclass(slots=True)
class Workers:
    """`drain`: seconds that requests under way get at the end."""

    work: Work
    bound: socket.socket
    count: int
    drain: float
    _alive: list[Worker] = field(default_factory=list[Worker])
    _outdated: list[Worker] = field(default_factory=list[Worker])
    _deaths: dict[int, int] = field(default_factory=dict[int, int])  # in a row, by number
    _due: dict[int, float] = field(
        default_factory=dict[int, float]
    )  # when to start anew, by number
    _ends_by: float | None = None

    def run(self, begun: Callable[[], object]) -> NoReturn:
        """Start all and stay until SIGINT (`KeyboardInterrupt`) or SIGTERM (`SystemExit` 0); SIGHUP renews them.

        `begun` is called when all serve. Raises what the first worker that cannot start says.
        """
        with _signals() as inbox:
            try:
                for number in range(self.count):
                    self._start(number)
                by = self._await_all(inbox)
                if by is None:
                    begun()
                by = self._tend(inbox, by)
            finally:
                self._kill()
        raise KeyboardInterrupt if by == signal.SIGINT else SystemExit(0)

    # --- the loop --------------------------------------------------------------------------------

    def _await_all(self, inbox: socket.socket) -> int | None:
        """Until all serve; the signal that came before."""
        due = time.monotonic() + START
        while not all(worker.begun for worker in self._alive):
            for name in self._look(inbox, due - time.monotonic()):
                if name != signal.SIGHUP:
                    return name
            for worker in self._alive:
                self._hear(worker)
                if not worker.process.is_alive():
                    raise Stillborn("a worker ended before it served; what it wrote says why")
            if time.monotonic() > due:
                raise Stillborn(f"the workers did not begin within {START:.0f} s")
        return None

    def _tend(self, inbox: socket.socket, ended_by: int | None) -> int | None:
        """Until all have ended; the first signal that told them to."""
        if ended_by is not None:
            self._end()
        while self._alive or self._ends_by is None:
            for name in self._look(inbox, self._patience()):
                if name != signal.SIGHUP:
                    ended_by = ended_by or name
                    self._end()
                elif self._ends_by is None:
                    log.warning("renewing %d workers", self.count)
                    self._outdated = self._staying()
            for worker in tuple(self._alive):
                self._attend(worker)
            self._go_on()
        return ended_by

    def _look(self, inbox: socket.socket, seconds: float) -> bytes:
        """Wait until something happens; the signals that came."""
        watched: list[int | Connection | socket.socket] = [inbox]
        watched += [worker.process.sentinel for worker in self._alive]
        watched += [worker.channel for worker in self._alive if not worker.begun]
        return inbox.recv(100) if inbox in wait(watched, max(0.0, seconds)) else b""

    def _patience(self) -> float:
        now = time.monotonic()
        dues = [now + LONG, *self._due.values()]
        dues += [worker.born + START for worker in self._alive if not worker.begun]
        if self._ends_by is not None:
            dues.append(self._ends_by)
        return min(dues) - now

    def _attend(self, worker: Worker) -> None:
        try:
            self._hear(worker)
        except Error as error:
            log.error("a worker cannot begin: %s", error)
        if not worker.process.is_alive():
            self._bury(worker)
        elif not worker.begun and time.monotonic() > worker.born + START:
            log.error("a worker did not begin within %.0f s", START)
            worker.process.kill()

    def _hear(self, worker: Worker) -> None:
        """What a worker says at its start. Raises what it raised."""
        if worker.begun or not worker.channel.poll():
            return
        with suppress(EOFError):
            said = worker.channel.recv()
            if isinstance(said, Error):
                raise said
            worker.begun = True

    def _go_on(self) -> None:
        """Start who is due, and let the next outdated one go as soon as its successor serves."""
        now = time.monotonic()
        if self._ends_by is not None:
            if now >= self._ends_by:
                self._kill()
            return
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._start(number)
        if not self._outdated or self._due or not all(w.begun for w in self._alive):
            return
        if len(self._staying()) > self.count:
            self._retire(self._outdated.pop(0))
        if self._outdated:
            self._start(self._free_number())

    # --- one worker ------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        ours, theirs = cast("tuple[Connection, Connection]", _spawn.Pipe())
        process = _spawn.Process(
            target=_begin,
            args=(self.work, number, self.bound, theirs),
            name=f"keywheel-worker-{number}",
        )
        with _held(signal.SIGINT, signal.SIGHUP):
            process.start()
        theirs.close()
        self._alive.append(Worker(number, process, ours, time.monotonic()))

    def _retire(self, worker: Worker) -> None:
        worker.leaves = True
        with suppress(OSError):  # it has just died
            worker.channel.send(RETIRE)

    def _bury(self, worker: Worker) -> None:
        """One has ended: start another in its place, unless it was to end or had no place yet."""
        self._alive.remove(worker)
        worker.process.join()
        worker.channel.close()
        if worker.leaves or self._ends_by is not None:
            return
        if len(self._staying()) + len(self._due) >= self.count:
            log.error("the renewal is given up; the workers go on as they were")
            self._outdated.clear()
            return
        if worker in self._outdated:
            self._outdated.remove(worker)
        number, now = worker.number, time.monotonic()
        lasted = worker.begun and now - worker.born > LASTS
        deaths = self._deaths[number] = 0 if lasted else self._deaths.get(number, 0) + 1
        pause = PAUSES[min(deaths, len(PAUSES) - 1)]
        log.error(
            "worker %d has ended (code %s); another begins in %.0f s",
            number, worker.process.exitcode, pause,
        )  # fmt: skip
        self._due[number] = now + pause

    def _staying(self) -> list[Worker]:
        return [worker for worker in self._alive if not worker.leaves]

    def _free_number(self) -> int:
        taken = {worker.number for worker in self._alive}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    # --- the end ---------------------------------------------------------------------------------

    def _end(self) -> None:
        """Tell all to end; told again, they do not wait for requests under way."""
        self._ends_by = self._ends_by or time.monotonic() + self.drain + FAREWELL
        for worker in self._alive:
            worker.process.terminate()

    def _kill(self) -> None:
        for worker in self._alive:
            worker.process.kill()
        for worker in self._alive:
            worker.process.join()
        self._alive.clear()


@contextmanager
def _signals() -> Generator[socket.socket]:
    """A socket from which the numbers of signals can be read."""
    inbox, outbox = socket.socketpair()
    outbox.setblocking(False)
    before = {name: signal.signal(name, _nothing) for name in _TOLD_BY}
    previous = signal.set_wakeup_fd(outbox.fileno())
    try:
        yield inbox
    finally:
        signal.set_wakeup_fd(previous)
        for name, handler in before.items():
            signal.signal(name, handler)
        inbox.close()
        outbox.close()


_TOLD_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _held(*names: signal.Signals) -> Generator[None]:
    """Signals come after the block; a process that is started inside lets them in when it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, names)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing(_signal: int, _frame: object) -> None:
    """The signal is read from the socket."""


# --- in the worker's process -------------------------------------------------------------------------


def _begin(work: Work, number: int, bound: socket.socket, channel: Connection) -> None:
    """The first function of a worker."""
    os.setpgrp()  # what a terminal sends is for the parent, which tells its workers
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))

    def begun(retire: Callable[[], object]) -> None:
        threading.Thread(target=_follow, args=(channel, retire), daemon=True).start()
        channel.send(BEGUN)

    try:
        work(number, bound, begun)
    except Error as error:
        channel.send(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _follow(channel: Connection, retire: Callable[[], object]) -> None:
    """Do as the parent says; without a parent, end."""
    try:
        while channel.recv() == RETIRE:
            retire()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
