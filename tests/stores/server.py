"""A Redis server of a test's own, on loopback, with nothing on the disk."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis, RedisError

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
START = 5.0  # seconds a server gets to come up


@dataclass(frozen=True)
class Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> Redis:
        return Redis(port=self.port, decode_responses=True, **options)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path, *arguments: str, port: int = 0) -> Iterator[Server]:
    """Started when it is entered, ended when it is left."""
    if PROGRAM is None:
        pytest.skip("there is neither redis-server nor valkey-server")
    port = port or free_port()
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    process = subprocess.Popen(
        [PROGRAM, *options, "--dir", str(folder), *arguments], stdout=subprocess.DEVNULL
    )
    try:
        _wait(port)
        yield Server(port, process)
    finally:
        process.kill()
        process.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RedisError("the server does not start")
