"""Several hosts on one machine: gateways with a state of their own, one Redis, one upstream that counts what came.

Everything is a process or a thread of the test's own, on loopback.
"""

import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from keywheel import sim
from keywheel.gateway import run
from tests.serving import FREE, SOON, Crowd, base_of, settings, started, workers
from tests.stores.server import redis_server

MINUTE = 60.0


# --- the upstream ----------------------------------------------------------------------------------


@dataclass
class Upstream:
    """The simulator, and where it listens."""

    world: sim.World
    url: str

    @property
    def variables(self) -> dict[str, str]:
        keys = sim.demo_keys(self.world.scenario)
        return {"OPENROUTER_BASE_URL": f"{self.url}/api/v1", "OPENROUTER_API_KEYS": ",".join(keys)}

    def sends(self, account: str = "account-1") -> list[float]:
        """When requests for an account truly came."""
        return [note.at for note in tuple(self.world.journal) if note.account == account]

    def count(self) -> int:
        """How many came in all, when no more are on their way."""
        before = -1
        while before != (now := len(self.world.journal)):
            before = now
            time.sleep(0.15)
        return now


@contextmanager
def upstream(
    *accounts: sim.Account, speed: float = float("inf"), **fields: Any
) -> Iterator[Upstream]:
    """A simulator with one key for each account."""
    scenario = sim.Scenario(accounts=accounts, journal=1_000_000, **fields)
    world = sim.World(scenario, seed=1)
    app = sim.create_app(world, speed=speed)
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as url:
        yield Upstream(world, url)


def fullest(moments: list[float], length: float = MINUTE) -> int:
    """The most sends in any span of so many seconds."""
    moments = sorted(moments)
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= length:
            first += 1
        most = max(most, last - first + 1)
    return most


# --- the way to the store --------------------------------------------------------------------------


class Line:
    """A connection to a server that can be cut: what is sent disappears, and nobody is told. Or slow: answers late."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[socket.socket] = []
        self._whole = True
        self.delay = 0.0  # seconds that each answer takes longer
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def cut(self) -> None:
        self._whole = False

    def heal(self) -> None:
        """What was open during the cut is useless and ends."""
        self._end_all()
        self._whole = True

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()

    def _end_all(self) -> None:
        while self._pairs:
            with suppress(OSError):
                self._pairs.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._pairs.append(near)
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            self._pairs.append(far)
            asking = threading.Thread(target=self._carry, args=(near, far, False), daemon=True)
            asking.start()
            self._carry(far, near, True)
            asking.join()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if is_answer and self.delay:
                    time.sleep(self.delay)
                if self._whole:
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# --- the hosts -------------------------------------------------------------------------------------


@dataclass
class Host:
    """A gateway with a state folder of its own."""

    name: str
    base: str
    process: "subprocess.Popen[str]"
    line: Line | None = None
    statuses: Counter[object] = field(default_factory=Counter[object])
    served_at: list[float] = field(default_factory=list[float])

    def ask(self, http: httpx2.Client) -> int:
        """One request; what came of it is noted."""
        try:
            status = http.post(f"{self.base}/v1/chat/completions", json=FREE).status_code
        except httpx2.HTTPError as error:
            self.statuses[repr(error)] += 1
            return 0
        self.statuses[status] += 1
        if status == 200:
            self.served_at.append(time.time())
        return status

    def state(self) -> Any:
        return httpx2.get(f"{self.base}/admin/state", trust_env=False, timeout=SOON).json()

    def used(self) -> int:
        return int(self.state()["pool"]["day"]["used"])

    def troubles(self) -> dict[str, Any]:
        return {trouble["code"]: trouble for trouble in self.state()["troubles"]}


@contextmanager
def gateway(
    folder: Path, name: str, variables: dict[str, str], *options: str, line: Line | None = None
) -> Iterator[Host]:
    """`keywheel serve` in a process of its own, ended with the block. The folder may be one of an earlier run."""
    home = folder / name
    home.mkdir(exist_ok=True)
    environment = settings(home) | variables | {"KEYWHEEL_STATE__HOST": name}
    with started(home, environment, "--log-level", "error", *options) as (process, lines):
        try:
            yield Host(name, base_of(lines), process, line)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SOON)


def account(number: int, per_minute: int, per_day: int) -> dict[str, str]:
    """Settings of the account of a key by its number."""
    label = ("primary", "secondary", "tertiary")[number]
    name = f"KEYWHEEL_ACCOUNTS__A{number}"
    return {
        f"{name}__KEYS": label,
        f"{name}__PER_MINUTE": str(per_minute),
        f"{name}__PER_DAY": str(per_day),
    }


@contextmanager
def hosts(
    folder: Path, above: Upstream, workers: tuple[int, ...], variables: dict[str, str]
) -> Iterator[list[Host]]:
    """So many hosts with so many workers each, on one Redis, each by a line of its own."""
    slots = sum(workers) + sum(count > 1 for count in workers)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(folder))
        found: list[Host] = []
        for number, count in enumerate(workers, 1):
            line = Line(server.port)
            stack.callback(line.close)
            told = (
                above.variables
                | variables
                | {
                    "KEYWHEEL_STATE__URL": f"redis://127.0.0.1:{line.port}/0",
                    "KEYWHEEL_STATE__SLOTS": str(slots),
                    "KEYWHEEL_LIMITS__MAX_QUEUE": "0",
                }
            )
            options = ("--workers", str(count)) if count > 1 else ()
            opened = gateway(folder, f"h{number}", told, *options, line=line)
            found.append(stack.enter_context(opened))
        yield found


class Load(Crowd):
    """Clients of several hosts that ask without a pause, or with one."""

    def __init__(self, crowd: list[Host], each: int = 2, pause: float = 0.0) -> None:
        super().__init__([partial(self._run, host) for host in crowd for _ in range(each)])
        self._pause = pause

    def _run(self, host: Host) -> None:
        again = {"connection": "close"}  # a new one each time, so that all workers get some
        with httpx2.Client(trust_env=False, timeout=SOON, headers=again) as http:
            while not self.over.is_set():
                host.ask(http)
                self.over.wait(self._pause)


def kill_all(process: "subprocess.Popen[str]") -> None:
    """kill -9 for a gateway and its workers, at one moment."""
    for number in (process.pid, *workers(process)):
        with suppress(ProcessLookupError):
            os.kill(number, 9)
    process.wait(SOON)
