"""Opening a connection to the one configured upstream: address, TCP, proxy tunnel, TLS.

Security requirements C13 and C16: destinations come from the configuration only, the address is
checked after resolution and exactly that address is connected to, certificates are always
verified.
"""

import asyncio
import re
import socket
import ssl
import time
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from keywheel.addresses import Reach, is_loopback_name
from keywheel.gateway.bounds import Timeouts, UpstreamError
from keywheel.gateway.connection import Connection

STALL_SECONDS = 0.05  # an alarm later than this means that the event loop itself stood still
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A parsed base URL. `authority` is the value of the host header."""

    tls: bool
    host: str
    port: int
    authority: str
    path: str
    loopback: bool


def parse_origin(url: str) -> Origin:
    """Read an http(s) base URL; ValueError says what is wrong and what to write instead."""
    parts = urlsplit(url)
    if not re.fullmatch("[!-~]+", url) or parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("base URL must look like https://host/path")
    if "@" in parts.netloc:
        raise ValueError("base URL must not hold a user or password: give keys in the settings")
    if parts.query or parts.fragment:
        raise ValueError("base URL must not hold a query or a fragment")
    host, tls = parts.hostname, parts.scheme == "https"
    loopback = is_loopback_name(host)
    if not tls and not loopback:
        raise ValueError(f"base URL to {host} must begin with https://: http is for loopback only")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    suffix = "" if port == DEFAULT_PORTS[parts.scheme] else f":{port}"
    bracketed = f"[{host}]" if ":" in host else host
    return Origin(tls, host, port, bracketed + suffix, parts.path.rstrip("/"), loopback)


def parse_proxy(url: str) -> tuple[str, int]:
    """Host and port of `http://host:port`; ValueError otherwise."""
    parts = urlsplit(url)
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "http" or not parts.hostname or not parts.port or extra:
        raise ValueError("proxy must look like http://host:port")
    return parts.hostname, parts.port


def tls_context(given: ssl.SSLContext | None, ca_file: str | None) -> ssl.SSLContext:
    """A context that verifies: the given one if it does (else ValueError), or the system's CAs."""
    context = given or ssl.create_default_context(cafile=ca_file)
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ValueError("TLS verification cannot be switched off: name the CA with ca_file")
    if given is None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
    elif context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError("TLS below 1.2 cannot be allowed")
    return context


class Dialer:
    """Opens connections to one origin, directly or through a CONNECT proxy."""

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext | None,
        proxy: tuple[str, int] | None,
        *,
        allow_private: bool,
    ) -> None:
        self._origin = origin
        self._context = context
        self._proxy = proxy if origin.tls else None
        self._reach = Reach(origin.loopback, allow_private, proxied=self._proxy is not None)

    async def dial(self, seconds: float) -> Connection:
        """A new connection, ready for a request; UpstreamError if there is none in time."""
        try:
            async with Patience(seconds) as patience:
                return await self._dial(patience)
        except ssl.SSLCertVerificationError as error:
            raise UpstreamError("tls", str(error), sent=False) from error
        except ssl.SSLError as error:
            raise UpstreamError("tls-handshake", str(error), sent=False) from error
        except (OSError, UnicodeError) as error:
            reason = str(error) or f"no connection within {seconds:g} s"
            raise UpstreamError("unreachable", reason, sent=False) from error

    async def _dial(self, patience: "Patience") -> Connection:
        """Try the addresses in order; each but the last gets a fair share of what is left.

        asyncio's happy eyeballs do not exist in uvloop. A host whose first address is dead pays
        once: the address that worked goes first from then on.
        """
        addresses = await self._resolve()
        failure = OSError("no address")
        for waiting, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share = max(patience.left(), 0.0) / waiting if waiting > 1 else None
            try:
                async with asyncio.timeout(share):
                    connection = await self._open(address)
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error if str(error) else OSError(f"{address} did not answer in time")
            else:
                self._reach.last_good = address
                return connection
        raise failure

    async def _resolve(self) -> list[str]:
        host, port = self._proxy or (self._origin.host, self._origin.port)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._reach.choose(host, (str(entry[4][0]) for entry in found))

    async def _open(self, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        if self._proxy is not None:
            _, connection = await loop.create_connection(Connection, address, self._proxy[1])
            return await self._tunnel(connection)
        name = self._origin.host if self._context else None
        _, connection = await loop.create_connection(
            Connection, address, self._origin.port, ssl=self._context, server_hostname=name
        )
        return connection

    async def _tunnel(self, connection: Connection) -> Connection:
        try:
            await self._ask_proxy(connection)
            transport = await asyncio.get_running_loop().start_tls(
                connection.transport,
                connection,
                self._context or ssl.create_default_context(),
                server_hostname=self._origin.host,
            )
            if transport is None:
                raise ConnectionError("closed during the TLS handshake")
            connection.connection_made(transport)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _ask_proxy(self, connection: Connection) -> None:
        target = f"{self._origin.host}:{self._origin.port}"
        if ":" in self._origin.host:
            target = f"[{self._origin.host}]:{self._origin.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode("ascii")
        try:
            await connection.send("CONNECT", head, b"", Timeouts())
        except UpstreamError as error:
            raise ConnectionError(f"proxy: {error}") from error
        if connection.status != 200:
            raise ConnectionRefusedError(f"the proxy answered {connection.status}")


class Patience:
    """A time limit that does not count the time in which the event loop itself stood still."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> "Patience":
        await self._timeout.__aenter__()
        self._arm(self._seconds)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._alarm.cancel()
        return await self._timeout.__aexit__(kind, error, trace)

    def left(self) -> float:
        """Seconds until the limit."""
        return self._due - time.monotonic()

    def _arm(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._alarm = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        late = -self.left()
        if late > STALL_SECONDS:
            self._arm(late)
        else:
            self._timeout.reschedule(self._loop.time())
