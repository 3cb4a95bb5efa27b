"""Runs the gateway, and the simulator, under uvicorn."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from keywheel.config import Config, GatewaySettings
from keywheel.engine import Engine
from keywheel.errors import Error
from keywheel.gateway.app import Gateway
from keywheel.gateway.upstream import Upstream

START_PATIENCE = 10.0  # seconds for a server in a thread to come up
BACKLOG = 2048


class CannotListen(Error):
    """The address is taken or not ours."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `CannotListen` with the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error.strerror}; is another program using it? Choose another --port."
        ) from error


def url(bound: socket.socket) -> str:
    """The address of a listening socket as clients write it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build(engine: Engine) -> Gateway:
    """The gateway around an engine."""
    return Gateway(engine, upstream(engine.config))


def upstream(config: Config) -> Upstream:
    """The client for the configured upstream. Raises ValueError for an unsafe address."""
    settings = config.upstream
    return Upstream(
        settings.base_url,
        ca_file=settings.ca_file,
        proxy=settings.proxy,
        allow_private=settings.allow_private,
        max_connections=settings.connections,
    )


def serve(gateway: Any, bound: socket.socket, settings: GatewaySettings) -> None:
    """Serve until SIGINT or SIGTERM; running streams get `drain` seconds."""
    _server(gateway, drain=int(settings.drain)).run(sockets=[bound])


@contextmanager
def in_thread(app: Any, bound: socket.socket) -> Generator[str]:
    """Serve an application in a thread for as long as the block lasts; its address."""
    server = _server(app, drain=1)
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


def _server(app: Any, *, drain: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=drain,
        )
    )
