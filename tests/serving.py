"""Runs `keywheel serve` as a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx2

from keywheel import sim
from keywheel.gateway import run

FOREIGN = ("OPENROUTER", "KEYWHEEL", "OTEL")  # variables that would change what is tested
KEY = "sk-or-v1-" + "5ec2e7" * 10
SOON = 30.0  # seconds that anything may take on a busy machine
LOOK_AGAIN = 0.02  # seconds
FREE = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


def settings(folder: Path) -> dict[str, str]:
    """The variables of this process without keys and settings; state goes into the folder."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(FOREIGN)}
    return kept | {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}


@contextmanager
def started(
    folder: Path, environment: dict[str, str], *args: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process and its three lines of greeting; killed at the end if it still runs."""
    command = (sys.executable, "-m", "keywheel", "serve", "--port", "0", *args)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().strip() for _ in range(3)]
        finally:
            process.kill()


@contextmanager
def simulated(scenario: sim.Scenario | None = None) -> Iterator[dict[str, str]]:
    """A simulator without delays, and the variables that lead to it with one key."""
    scenario = scenario or sim.scenario("calm")
    app = sim.create_app(sim.World(scenario, seed=1), speed=float("inf"))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as url:
        yield {
            "OPENROUTER_BASE_URL": f"{url}/api/v1",
            "OPENROUTER_API_KEY": sim.demo_keys(scenario)[0],
        }


def base_of(lines: list[str]) -> str:
    """Where a gateway listens, by its greeting."""
    return lines[1].removeprefix("OpenAI base URL: ").removesuffix("/v1")


def is_alive(base: str) -> bool:
    """Whether it answers; it does when it can also be told to end."""
    return httpx2.get(f"{base}/healthz", trust_env=False, timeout=SOON).status_code == 200


def ask(base: str) -> int:
    """The status of one request on a connection of its own."""
    with httpx2.Client(trust_env=False, timeout=SOON) as http:
        return http.post(f"{base}/v1/chat/completions", json=FREE).status_code


def ended(process: subprocess.Popen[str], by: signal.Signals) -> tuple[int, float]:
    """Exit code, and the seconds it took to end."""
    began = time.monotonic()
    process.send_signal(by)
    return process.wait(20), time.monotonic() - began


def workers(process: subprocess.Popen[str]) -> set[int]:
    """The process numbers of its workers."""
    found = set[int]()
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found.add(int(child))
    return found


def eventually(is_so: Callable[[], bool], seconds: float = SOON) -> bool:
    """Whether it becomes so in time."""
    due = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < due:
        time.sleep(LOOK_AGAIN)
    return found


class Crowd:
    """Clients in threads of their own, who do what they do until the block ends and `over` is set."""

    def __init__(self, aims: Iterable[Callable[[], object]]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=aim) for aim in aims]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(SOON)
