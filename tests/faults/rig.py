"""The real gateway with its real server and upstream client, on one event loop with the fault proxy and the simulator.

    client → gateway → fault proxy → simulator

The first connections to the upstream meet what a test injects, later ones fair weather. At the end of every test
nothing may be left: no lease, no request under way, no busy connection, no task.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import uvicorn

from keywheel import sim
from keywheel.config import Config, GatewaySettings, UpstreamSettings
from keywheel.core.policy import Limits
from keywheel.core.types import Attempted, Event
from keywheel.engine import Engine
from keywheel.gateway import run
from keywheel.gateway.upstream import Upstream
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.sim import bodies
from keywheel.wire.models import read_models
from tests.faultproxy import Weather, asked, in_turn, relayed
from tests.gateway.rawserver import Peer, RawServer, Script, serving, until
from tests.journeys.rig import HELLO, ShiftedClock

FIRST = "google/gemma-4-31b-it:free"
SECOND = "openai/gpt-oss-20b:free"  # reasons, so that it has a time limit of its own
STREAM = HELLO | {"stream": True}
PATIENT = Limits(
    max_queue=0.0, connect=5.0, first_content_min=9.0, first_content_max=9.0,
    first_content_reasoning=9.0, gap=9.0, deadline=20.0, stream_deadline=20.0,
)  # fmt: skip
# The first model has 0.15 s for its first content, its fallback as much as a busy machine may need.
HASTY = replace(PATIENT, first_content_min=0.15, first_content_max=0.15)


@dataclass(frozen=True, slots=True)
class Told:
    """What a client got. `events`: the data of a stream's events."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        lines = self.body.decode().splitlines()
        return [line[6:] for line in lines if line.startswith("data: ")]

    @property
    def code(self) -> str:
        """The code of the error, in the body or in the stream's last event."""
        last = self.events[-1] if self.events else self.body
        return json.loads(last)["error"]["code"]


@dataclass
class Rig:
    """Everything a test looks at. `journal`: the attempts that ended."""

    engine: Engine
    clock: ShiftedClock
    upstream: Upstream
    proxy: RawServer
    world: sim.World
    server: uvicorn.Server
    port: int
    http: httpx2.AsyncClient
    journal: list[Attempted]

    async def ask(self, stream: bool = False, headers: dict[str, str] | None = None) -> Told:
        """One chat request and its whole answer."""
        body = STREAM if stream else HELLO
        reply = await self.http.post("/v1/chat/completions", json=body, headers=headers)
        return Told(reply.status_code, reply.headers, reply.content)

    async def stats(self) -> Any:
        return (await self.http.get("/admin/stats")).json()

    @property
    def rows(self) -> list[str]:
        """What became of each attempt, in their order."""
        return [event.row for event in self.journal]

    def is_idle(self) -> bool:
        """Whether nothing is under way any more."""
        busy = self.upstream.open_connections - self.upstream.idle_connections
        return not (busy or self.engine.pool.open_leases)

    async def settle(self) -> None:
        await until(self.is_idle)


@asynccontextmanager
async def listening(
    app: Any, settings: GatewaySettings
) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """Serve an application as `keywheel serve` does, on this event loop; at the end no request may be left."""
    server = run._server(app, settings)
    config, state = server.config, server.server_state
    config.load()

    def protocol() -> asyncio.BaseProtocol:
        return config.http_protocol_class(config, state, {})  # type: ignore[call-arg]

    listener = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], server
        await until(lambda: not state.tasks)
    finally:
        listener.close()
        for connection in tuple(state.connections):
            connection.transport.abort()
        await until(lambda: not state.connections)


def engine_for(config: Config, scenario: sim.Scenario, clock: ShiftedClock) -> Engine:
    """An engine that knows two models and the simulator's keys, without a background thread."""
    keys = sim.demo_keys(scenario)
    entries = [KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(keys, 1)]
    engine = Engine(config, entries, clock=clock)
    listed = read_models(bodies.model_list(sim.fixture_models()))
    engine.take_models(entry for entry in listed if entry.id in (FIRST, SECOND))
    engine.set_ready()
    return engine


@asynccontextmanager
async def rig(
    *faults: Script | Weather,
    limits: Limits = PATIENT,
    settings: GatewaySettings | None = None,
    behaviour: sim.Behaviour | None = None,
    speed: float = float("inf"),
    tls: ssl.SSLContext | None = None,
    base_url: str = "",
    weather: Weather | None = None,
    **upstream: Any,
) -> AsyncIterator[Rig]:
    """A gateway whose first connections meet `faults`. `base_url` "{port}" stands for the proxy's port.

    `weather`: that everything takes place in; otherwise the one that this run was asked for.
    """
    scenario = replace(sim.scenario("calm"), behaviour=behaviour or sim.Behaviour())
    world, clock = sim.World(scenario, seed=1), ShiftedClock()
    settings = settings or GatewaySettings()
    async with AsyncExitStack() as stack:
        behind, _ = await stack.enter_async_context(
            listening(sim.create_app(world, speed=speed), GatewaySettings())
        )
        target = ("127.0.0.1", behind)
        fair = relayed(target)
        scripts = [relayed(target, f) if isinstance(f, Weather) else _with(f, fair) for f in faults]
        script = in_turn(*scripts, then=fair)
        proxy = await stack.enter_async_context(serving(script, tls=tls))
        front = await stack.enter_async_context(_behind(weather or asked(), proxy))
        url = (base_url or proxy.scheme + "://127.0.0.1:{port}/api/v1").format(port=front)
        config = Config(
            upstream=UpstreamSettings(base_url=url, **upstream), limits=limits, gateway=settings
        )
        config = replace(config, models=replace(config.models, preferred=(FIRST, SECOND)))
        engine = engine_for(config, scenario, clock)
        journal: list[Attempted] = []
        engine.listen(lambda event: _note(journal, event))
        gateway = run.build(engine)
        stack.push_async_callback(gateway.upstream.close)
        port, server = await stack.enter_async_context(listening(gateway, settings))
        http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=15, trust_env=False, verify=False
        )
        await stack.enter_async_context(http)
        it = Rig(engine, clock, gateway.upstream, proxy, world, server, port, http, journal)
        yield it
        await it.settle()
        accounts = it.engine.pool.roster.accounts.values()
        assert [account.quota.in_flight for account in accounts] == [0] * len(accounts)


@asynccontextmanager
async def _behind(weather: Weather | None, proxy: RawServer) -> AsyncIterator[int]:
    """The port at which the proxy is reached, through the weather."""
    if weather is None:
        yield proxy.port
        return
    async with serving(relayed(("127.0.0.1", proxy.port), weather)) as front:
        yield front.port


def _with(fault: Script, after: Script) -> Script:
    """A connection that has met its fault and lives on does so in fair weather."""

    async def script(peer: Peer) -> None:
        await fault(peer)
        if not peer.writer.transport.is_closing():
            await after(peer)

    return script


def _note(journal: list[Attempted], event: Event) -> None:
    if isinstance(event, Attempted):
        journal.append(event)
