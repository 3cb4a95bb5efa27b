"""How a gateway is started: in this process, or as several workers of it."""

import contextlib
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

import keywheel
from keywheel import config as settings
from keywheel import sim
from keywheel.cli.manners import say
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError
from keywheel.gateway import admintoken, guard, logs, run
from keywheel.gateway.work import Job, opened
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.stores.opening import default_file, place_of
from keywheel.stores.urls import InMemory

NO_ADMIN = (
    "there is no admin token yet, so nobody can disable or reset keys and models: set KEYWHEEL_ADMIN_TOKEN, "
    "or start once in a terminal, which shows a new one"
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What was asked for on the command line. There is no secret in it, so it can be handed to workers.

    `flags`: settings by `section__name`. `simulator`: where it listens, if answers are invented. `admin`: the hash of
    the admin token. `count`: of the workers. `group`: what they know each other by. `folder`: where they meet, and
    keep state that is not to be kept for longer.
    """

    flags: Mapping[str, Any]
    config_file: Path | None
    scenario: str | None = None
    simulator: str | None = None
    admin: bytes | None = None
    count: int = 1
    group: str | None = None
    folder: Path | None = None

    def simulating(self, scenario: str) -> "Launch":
        """The same with invented answers."""
        return replace(self, scenario=scenario)

    def gather(self) -> Environment:
        """Settings and keys as they are now. Raises `ConfigError`."""
        found = gather(settings.from_flags(**self.flags), config_file=self.config_file)
        guard.check_settings(found.config.gateway)
        return found

    def job(self, found: Environment) -> Job:
        """What is served. Raises `ConfigError`."""
        config, keys = found.config, found.keys
        if self.simulator:
            config, keys = self._simulated(config)
        if self.count > 1:
            config = _shared(config, self.count)
        return Job(config, keys, self.admin, simulated=self.simulator is not None)

    def _simulated(self, config: settings.Config) -> tuple[settings.Config, tuple[KeyEntry, ...]]:
        """The simulator's keys are in accounts of their own, and its figures not among the real ones."""
        demo = sim.demo_keys(scenario_of(self.scenario or ""))
        keys = tuple(
            KeyEntry(label(number), Secret(key), "simulator") for number, key in enumerate(demo, 1)
        )
        upstream = replace(config.upstream, base_url=f"{self.simulator}/api/v1")
        state = config.state
        if state.url is None:
            url = f"sqlite:{self.folder}/state.db" if self.folder else "memory:"
            state = replace(state, url=Secret(url))
        return replace(config, upstream=upstream, accounts={}, state=state), keys


def _shared(config: settings.Config, count: int) -> settings.Config:
    """Settings for one of several. While they are renewed there is one more of them."""
    if isinstance(place_of(config.state), InMemory):
        raise ConfigError(
            'state.url: "memory:" is not shared by several workers; use sqlite:PATH or redis://'
        )
    state = replace(config.state, slots=max(config.state.slots, count + 1))
    return replace(config, state=state)


def scenario_of(name: str) -> sim.Scenario:
    """A scenario by its name or file. Raises `ConfigError`."""
    try:
        return sim.scenario(name)
    except sim.ScenarioError as error:
        raise ConfigError(str(error)) from None


def start(launch: Launch, found: Environment) -> NoReturn:
    """Serve until a signal. Everything that can be wrong is found before that."""
    with contextlib.ExitStack() as stack:
        if launch.scenario is not None:
            address = stack.enter_context(simulator(launch.scenario))
            launch = replace(launch, simulator=address)
        admin, hint = _admin(found.config.gateway, simulated=launch.simulator is not None)
        launch = replace(launch, admin=admin.digest if admin else None)
        hello = _Hello(launch, found, admin.fresh if admin else None, hint)
        if launch.count > 1:
            _serve_by_several(launch, hello)
        _serve(launch, hello)


@dataclass(frozen=True, slots=True)
class _Hello:
    """What is said when the gateway serves. `token`: the admin token, if it was made just now."""

    launch: Launch
    found: Environment
    token: Secret | None
    hint: str | None

    def begin_logs(self, job: Job) -> None:
        """Logs of this process, without any secret."""
        logs.set_up(job.config.log, [*job.secrets, *([self.token] if self.token else [])])

    def say(self, job: Job, bound: socket.socket) -> None:
        """Say it; from then on there are only logs."""
        address = run.url(bound)
        click.echo(self._first_line(job))
        click.echo(f"OpenAI base URL: {address}/v1")
        click.echo(
            f"Try: curl {address}/v1/chat/completions -H 'content-type: application/json' "
            '-d \'{"model":"auto","messages":[{"role":"user","content":"Hello"}]}\''
        )
        if self.token:
            click.echo(f"Admin token, shown only now: {self.token.reveal()}")
        sys.stdout.flush()
        for warning in (*self.found.warnings, guard.advice(job.config.gateway), self.hint):
            if warning:
                say(warning)

    def _first_line(self, job: Job) -> str:
        """It says where answers come from: nobody should take invented ones for real."""
        name = f"keywheel {keywheel.__version__} serves from"
        if not job.simulated:
            return f"{name} {job.config.upstream.base_url} with {len(job.keys)} key(s)"
        why = "--sim" if self.found.keys else "no OPENROUTER_API_KEY is set"
        return f"{name} the built-in simulator ({why}), scenario {self.launch.scenario}: answers are invented"


def _serve(launch: Launch, hello: _Hello) -> NoReturn:
    job = launch.job(hello.found)
    gateway = job.config.gateway
    hello.begin_logs(job)
    with opened(job) as app, run.listen(gateway.host, gateway.port) as bound:
        hello.say(job, bound)
        run.serve(app, bound, gateway)


def _serve_by_several(launch: Launch, hello: _Hello) -> NoReturn:
    """Workers open the state themselves; what they cannot use is said before anything is served."""
    if sys.platform == "win32":
        raise ConfigError("--workers: several processes cannot share a port on this system")
    from keywheel.gateway.workers import Workers  # noqa: PLC0415 - not everywhere

    with tempfile.TemporaryDirectory(prefix="keywheel-") as folder:
        launch = replace(launch, group=secrets.token_hex(8), folder=Path(folder))
        job = launch.job(hello.found)
        gateway = job.config.gateway
        with run.listen(gateway.host, gateway.port) as bound:
            hello.begin_logs(job)
            workers = Workers(partial(work, launch), bound, launch.count, gateway.drain)
            workers.run(lambda: hello.say(job, bound))


def work(
    launch: Launch, number: int, bound: socket.socket, begun: Callable[[Callable[[], object]], object], /
) -> NoReturn:  # fmt: skip
    """What a worker does: all of the gateway, in a process of its own, with settings and keys as they are now."""
    job = launch.job(launch.gather())
    logs.set_up(job.config.log, job.secrets)
    with opened(job, group=launch.group, folder=launch.folder, worker=number) as app:
        run.serve(app, bound, job.config.gateway, begun)


def _admin(
    gateway: settings.GatewaySettings, *, simulated: bool
) -> tuple[admintoken.AdminToken | None, str | None]:
    """What opens the operator's routes, and what to say about it. A new token is for a person's eyes only."""
    folder = default_file().parent
    seen = sys.stdout.isatty()
    if gateway.admin_token or (not simulated and (seen or admintoken.is_kept(folder))):
        return admintoken.admin_token(gateway, folder), None
    if seen:
        return admintoken.fresh(), None
    return None, None if simulated else NO_ADMIN


@contextlib.contextmanager
def simulator(name: str) -> Generator[str]:
    """A simulator in this process; its address."""
    app = sim.create_app(sim.World(scenario_of(name)))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as address:
        yield address
