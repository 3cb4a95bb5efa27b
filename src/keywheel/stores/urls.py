"""Which store a URL names. The URL may hold a password: it is taken apart here, and never shown."""

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from keywheel.errors import ConfigError
from keywheel.secret import Secret

FORMS = "sqlite:PATH, memory:, redis://host:port/0 or rediss://host:port/0"
REDIS_PORT = 6379
PROTOCOLS = {"2": 2, "3": 3}


@dataclass(frozen=True, slots=True)
class InMemory:
    """`memory:`."""


@dataclass(frozen=True, slots=True)
class InFile:
    """`sqlite:PATH`."""

    path: Path


@dataclass(frozen=True, slots=True)
class InRedis:
    """`redis://` or `rediss://`. `protocol`: which RESP is spoken."""

    host: str
    port: int
    database: int
    tls: bool
    user: str | None
    password: Secret | None
    protocol: Literal[2, 3]


Place = InMemory | InFile | InRedis


def read_url(url: Secret, *, allow_private: bool = False) -> Place:
    """Where the state is kept. Raises `ConfigError`, which names the setting and the remedy, not the URL."""
    try:
        parts = urlsplit(url.reveal())
        port = parts.port
    except ValueError:
        _refuse(f"cannot be read; use {FORMS}")
    if parts.scheme == "memory":
        return InMemory()
    if parts.scheme == "sqlite":
        path = unquote(parts.path)
        return (
            InFile(Path(path).expanduser()) if path else _refuse("names no file; use sqlite:PATH")
        )
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        _refuse(f"names no store; use {FORMS}")
    place = _redis(parts, port or REDIS_PORT)
    if not place.tls and not _may_be_plain(place.host, allow_private):
        _refuse(
            "would send the password and the counters in plain text; use rediss://, "
            "or state.allow_private = true for a server in a private network"
        )
    return place


def password(url: Secret) -> Secret | None:
    """The password in a URL of any form, None if it has none."""
    try:
        return _password(urlsplit(url.reveal()))
    except ValueError:
        return None


def _password(parts: SplitResult) -> Secret | None:
    return Secret(unquote(parts.password)) if parts.password else None


def _redis(parts: SplitResult, port: int) -> InRedis:
    options = parse_qs(parts.query)
    protocol = options.pop("protocol", ["3"])[-1]
    number = parts.path.strip("/") or "0"
    if options or protocol not in PROTOCOLS:
        _refuse("has an unknown option; ?protocol=2 and ?protocol=3 are all there are")
    if not number.isdecimal():
        _refuse("must end with the number of a database, such as /0")
    return InRedis(
        host=parts.hostname or "",
        port=port,
        database=int(number),
        tls=parts.scheme == "rediss",
        user=unquote(parts.username) if parts.username else None,
        password=_password(parts),
        protocol=3 if protocol == "3" else 2,
    )


def _may_be_plain(host: str, allow_private: bool) -> bool:
    """Only on this machine, or where the operator says so and no address of the host is a public one."""
    addresses = [ip_address(name) for name in _addresses(host)]
    if addresses and all(address.is_loopback for address in addresses):
        return True
    return allow_private and not any(address.is_global for address in addresses)


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()  # not known now: only `allow_private` can say that plain text will do
    return {str(address[0]).partition("%")[0] for *_, address in found}


def _refuse(problem: str) -> NoReturn:
    raise ConfigError(f"state.url {problem}")
