"""Opens the library's connections: to addresses within reach only, with reads that end in time."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, cast

import httpcore2

from keywheel.addresses import Reach

SOON = 0.001  # seconds for an address when none are left; 0 would mean not to wait at all
AWAY = (httpcore2.ConnectError, httpcore2.ConnectTimeout)  # another address may answer


class Patience(threading.local):
    """Until when the thread that reads may wait. A connection's own limits are fixed; an attempt's are not."""

    due = inf

    def allow(self, seconds: float) -> None:
        """From now on."""
        self.due = time.monotonic() + seconds

    def left(self, limit: float | None) -> float | None:
        """Seconds that a read may take. Raises `httpcore2.ReadTimeout` when there are none."""
        if self.due == inf:
            return limit
        left = self.due - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no time is left")
        return left


class Opener(httpcore2.NetworkBackend):
    """Opens connections to addresses within reach; their reads are bounded by patience."""

    def __init__(self, reach: Reach, patience: Patience) -> None:
        self._plain = httpcore2.SyncBackend()
        self._reach = reach
        self._patience = patience

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        due = _due(timeout)
        with _looking_up():
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = self._reach.choose(host, (str(entry[4][0]) for entry in found))
        lost: Exception = httpcore2.ConnectError("no address")
        for address, seconds in _shares(addresses, due):
            try:
                stream = self._plain.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
            except AWAY as error:
                lost = error
            else:
                self._reach.last_good = address
                return _Line(stream, self._patience)
        raise lost


class AsyncOpener(httpcore2.AsyncNetworkBackend):
    """The same for asyncio; there the driver itself bounds the reads."""

    def __init__(self, reach: Reach) -> None:
        self._plain = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        self._reach = reach

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as the client's core wants it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        due, loop = _due(timeout), asyncio.get_running_loop()
        with _looking_up():
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = self._reach.choose(host, (str(entry[4][0]) for entry in found))
        lost: Exception = httpcore2.ConnectError("no address")
        for address, seconds in _shares(addresses, due):
            try:
                stream = await self._plain.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
            except AWAY as error:
                lost = error
            else:
                self._reach.last_good = address
                return stream
        raise lost


@contextmanager
def _looking_up() -> Generator[None]:
    """What goes wrong before there is an address to connect to, in the words of the client's core."""
    try:
        yield
    except TimeoutError:
        raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error


def _due(seconds: float | None) -> float:
    return inf if seconds is None else time.monotonic() + seconds


def _shares(addresses: Sequence[str], due: float) -> Iterator[tuple[str, float | None]]:
    """Each address with the seconds it may take: a fair share of what is left. None: as long as it takes."""
    for waiting, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        left = due - time.monotonic()
        yield address, None if left == inf else max(left / waiting, SOON)


class _Line(httpcore2.NetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore2.NetworkStream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._patience.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _Line(stream, self._patience)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
