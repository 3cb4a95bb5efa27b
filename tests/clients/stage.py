"""Where scenes are played: a driver in its own process, and for every scene a fresh gateway with a fresh world."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import httpx2

from keywheel import sim
from keywheel.config import Config, UpstreamSettings
from keywheel.core.policy import Limits
from keywheel.engine import Engine
from keywheel.gateway import run
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from tests.clients.clients import Client, environment, install
from tests.journeys.rig import HELLO, ShiftedClock

PATIENCE = 40.0  # seconds for a scene; the longest waits 6 s between three tries
SETTLING = 1.0  # seconds within which a lease must be back when the client is gone
NO_QUEUE = Limits(
    max_queue=0.0
)  # what the client is told is looked at, not what the gateway waits for

CALM = sim.scenario("calm")

Talk = Callable[[dict[str, str]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class House:
    """A running gateway and the world behind it, on one clock."""

    world: sim.World
    engine: Engine
    http: httpx2.Client
    clock: ShiftedClock
    address: str

    def chat(self) -> int:
        """One plain request of our own; its status."""
        return self.http.post("/v1/chat/completions", json=HELLO).status_code

    def stats(self) -> dict[str, Any]:
        """What the gateway has counted."""
        return self.http.get("/admin/stats").json()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scene begins with."""

    scenario: sim.Scenario = CALM
    prepare: Callable[[House], object] = lambda _: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scene: the client's word, the upstream's journal, the gateway's figures."""

    told: dict[str, Any]
    attempts: tuple[str, ...]  # their kinds, as the upstream saw them since the scene began
    requests: int  # that reached the gateway since then
    open_leases: int  # a second after the client was done, or as soon as there were none
    stats: dict[str, Any]


@contextmanager
def house(scenario: sim.Scenario) -> Generator[House]:
    """Simulator and gateway on ports of their own, for as long as the block lasts."""
    world, clock = sim.World(scenario, seed=1), ShiftedClock()
    entries = [
        KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(sim.demo_keys(scenario), 1)
    ]
    app = sim.create_app(world, speed=float("inf"), clock=clock)
    with run.listen("127.0.0.1", 0) as behind, run.in_thread(app, behind) as upstream:
        config = Config(upstream=UpstreamSettings(base_url=f"{upstream}/api/v1"), limits=NO_QUEUE)
        engine = Engine(config, entries, clock=clock)
        with (
            run.listen("127.0.0.1", 0) as bound,
            run.in_thread(run.build(engine), bound) as address,
            httpx2.Client(base_url=address, timeout=20.0, trust_env=False) as http,
        ):
            engine.ready.wait(10)
            yield House(world, engine, http, clock, address)


def play(client: Client, folder: Path, settings: dict[str, Setting]) -> dict[str, Outcome]:
    """Install the client and play all its scenes in turn. Raises what keeps it from being played at all."""
    with _driver(client, install(client, folder), folder) as talk:
        return {scene: _perform(scene, settings[scene], talk) for scene in client.scenes}


def _perform(scene: str, setting: Setting, talk: Talk) -> Outcome:
    with house(setting.scenario) as there:
        setting.prepare(there)
        seen, asked = len(there.world.journal), there.stats()["totals"]["requests"]
        told = talk({"scene": scene, "address": there.address})
        left = _leases_after(there.engine, SETTLING)
        stats = there.stats()
        kinds = tuple(str(note.kind) for note in list(there.world.journal)[seen:])
        return Outcome(told, kinds, stats["totals"]["requests"] - asked, left, stats)


def _leases_after(engine: Engine, seconds: float) -> int:
    give_up = time.monotonic() + seconds
    while engine.pool.open_leases and time.monotonic() < give_up:
        time.sleep(0.005)
    return engine.pool.open_leases


@contextmanager
def _driver(client: Client, command: list[str], folder: Path) -> Generator[Talk]:
    """The client's driver, to be told scenes."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            command, cwd=folder, env=environment(), text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdin
        assert process.stdout
        to, of = process.stdin, process.stdout

        def hear() -> dict[str, Any]:
            watch = Timer(PATIENCE, _end, (process,))
            watch.start()
            line = of.readline()
            watch.cancel()
            if line:
                return json.loads(line)
            complaints.seek(0)
            return {"crashed": f"the driver ended or hung: {complaints.read()}"}

        def talk(order: dict[str, str]) -> dict[str, Any]:
            if process.poll() is not None:
                return {"crashed": "the driver ended in an earlier scene"}
            to.write(json.dumps(order) + "\n")
            to.flush()
            return hear()

        try:
            hello = hear()
            assert hello == {"version": client.version}, hello
            yield talk
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a driver with what started it: uv waits for its Python, which would keep the pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
