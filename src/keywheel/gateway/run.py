"""Runs the gateway, and the simulator, under uvicorn."""

import asyncio
import errno
import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from keywheel.config import Config, GatewaySettings
from keywheel.engine import Engine
from keywheel.errors import ConfigError, Error
from keywheel.gateway.app import Gateway
from keywheel.gateway.intake import Intake, expire
from keywheel.gateway.upstream import Upstream

START_PATIENCE = 10.0  # seconds for a server in a thread to come up
BACKLOG = 2048
IDLE = 75  # seconds that a connection may stay open between two requests (requirement C18)
FAREWELL = 1  # seconds that requests have for their last words when their time is over
LEAVE = 5.0  # seconds in which clients of one that retires can be told on their open connections
LOOK_AGAIN = 0.02  # seconds
GARBAGE = (
    20_000  # objects between two collections; at Python's 700 they take 4 % of the CPU of a request
)
SWEEP = 10  # of uvicorn's ticks, i.e. once a second


class CannotListen(Error):
    """The address is taken or not ours."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `CannotListen` with the remedy."""
    # by number, so that no name service decides who can reach us
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # which only repeats the address
        remedy = _REMEDIES.get(error.errno or 0, "is this an address of this machine?")
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}; {remedy}") from None


_REMEDIES = {
    errno.EADDRINUSE: "another program uses it; choose another --port",
    errno.EACCES: "ports below 1024 need more rights; choose another --port",
}


def url(bound: socket.socket) -> str:
    """The address of a listening socket as clients write it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build(engine: Engine, admin: bytes | None = None) -> Gateway:
    """The gateway around an engine. `admin`: the hash of the admin token, where it is not configured."""
    return Gateway(engine, upstream(engine.config), admin)


def upstream(config: Config) -> Upstream:
    """The client for the configured upstream. Raises `ConfigError` for an unsafe address or an unusable CA file."""
    settings = config.upstream
    try:
        return Upstream(
            settings.base_url,
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            allow_private=settings.allow_private,
            max_connections=settings.connections,
        )
    except ValueError as error:
        raise ConfigError(f"upstream: {error}") from None
    except OSError as error:  # a certificate file is missing or holds none
        raise ConfigError(f"upstream.ca_file: {settings.ca_file}: {error.strerror}") from None


def serve(
    app: Any,
    bound: socket.socket,
    settings: GatewaySettings,
    begun: Callable[[Callable[[], object]], object] | None = None,
) -> NoReturn:
    """Serve until SIGINT (`KeyboardInterrupt`) or SIGTERM (`SystemExit` 0); running streams get `drain` seconds.

    A second signal ends them at once. `begun` is called when it serves, with what makes it retire: from then on it
    leaves new connections to others that listen on the same socket, answers what comes on its own, and ends.
    """
    keep_no_core()
    gc.freeze()  # what is loaded stays
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, _end)  # uvicorn raises it anew when it has shut down
    _server(app, settings, begun).run(sockets=[bound])
    raise SystemExit(0)


def keep_no_core() -> None:
    """A crash leaves no copy of the memory on the disk: keys are in it (requirement C25)."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not everywhere

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


@contextmanager
def in_thread(app: Any, bound: socket.socket) -> Generator[str]:
    """Serve an application in a thread for as long as the block lasts; its address."""
    server = _server(app, GatewaySettings(drain=1))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [bound]}, name="keywheel-sim", daemon=True
    )
    thread.start()
    give_up = time.monotonic() + START_PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > give_up:
            raise CannotListen("the simulator did not start")
        time.sleep(0.01)
    try:
        yield url(bound)
    finally:
        server.should_exit = True
        thread.join(START_PATIENCE)


class _Server(uvicorn.Server):
    """Also looks for clients that take too long, and lets the requests under way come to an end when it ends itself."""

    _hurried = False
    _retires = False

    def __init__(
        self,
        config: uvicorn.Config,
        drain: float,
        begun: Callable[[Callable[[], object]], object] | None,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self._begun and self.started:
            loop = asyncio.get_running_loop()
            self._begun(lambda: loop.call_soon_threadsafe(self._retire))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._hurried = True
            return
        if isinstance(self.config.app, Gateway):
            self.config.app.draining = self.config.app.refusing = True
        super().handle_exit(sig, frame)

    def _retire(self) -> None:
        if isinstance(self.config.app, Gateway):
            self.config.app.draining = True
        self._retires = self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End. Until the requests under way have ended the port stays open, so that `/readyz` can say what happens;
        unless others answer there."""
        if self._retires:
            await self._take_leave()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        if not await self._have_ended(self._drain):
            for task in tuple(self.server_state.tasks):
                task.cancel()
            self._hurried = False
            await self._have_ended(FAREWELL)
        await super().shutdown(sockets)

    async def _take_leave(self) -> None:
        """Answer one more request on each connection that is open, and say in the answer that it was the last."""
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, Intake):
                connection.is_last = True
        due = time.monotonic() + min(LEAVE, self._drain)
        while self.server_state.connections and not self._hurried and time.monotonic() < due:  # noqa: ASYNC110 - as below
            await asyncio.sleep(LOOK_AGAIN)

    async def _have_ended(self, seconds: float) -> bool:
        """Wait for the requests under way; whether they ended in time."""
        due = time.monotonic() + seconds
        tasks = self.server_state.tasks
        while tasks and not self._hurried and time.monotonic() < due:  # noqa: ASYNC110 - a signal ends it too
            await asyncio.sleep(LOOK_AGAIN)
        return not tasks

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP == 0:
            expire(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _server(
    app: Any,
    settings: GatewaySettings,
    begun: Callable[[Callable[[], object]], object] | None = None,
) -> uvicorn.Server:
    return _Server(
        drain=settings.drain,
        begun=begun,
        config=uvicorn.Config(
            app,
            http=Intake,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asks is never taken from a header
            limit_concurrency=settings.connections + 1,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=FAREWELL,
        ),
    )
