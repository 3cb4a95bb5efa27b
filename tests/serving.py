"""Runs `keywheel serve` as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from keywheel import sim
from keywheel.gateway import run

FOREIGN = ("OPENROUTER", "KEYWHEEL", "OTEL")  # variables that would change what is tested
KEY = "sk-or-v1-" + "5ec2e7" * 10
SOON = 30.0  # seconds that anything may take on a busy machine
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
