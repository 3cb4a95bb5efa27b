"""Who may ask for what: host names, browsers and tokens. Every route has a class; one without a class is refused.

Decisions use the matched route and the raw headers, never a URL put together from them.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from keywheel.config import GatewaySettings
from keywheel.errors import ConfigError
from keywheel.problems import Problem

Headers = Iterable[tuple[bytes, bytes]]
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
MIN_TOKEN = 32  # characters; shorter ones can be guessed
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::[0-9]{1,5})?")


class Access(StrEnum):
    """What a route needs."""

    OPEN = "open"
    CLIENT = "client"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought along."""

    host: str
    origin: str | None
    tokens: tuple[str, ...]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks each request before anything else looks at it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._tokens = [_digest(token) for token in settings.tokens]
        self._needed = bool(settings.tokens) or settings.require_token
        self._hosts = {*LOOPBACK_NAMES, *(name.lower() for name in settings.hosts)}
        if not is_loopback(settings.host):
            self._hosts.add(settings.host.lower())

    def check(self, headers: Headers, access: Access) -> Problem | None:
        """What stands against a request, None when it may pass."""
        brought = _credentials(headers)
        if problem := self._check_browser(brought):
            return problem
        if access is Access.OPEN or not self._needed:
            return None
        return None if self._knows(brought.tokens) else _UNAUTHORIZED

    def _check_browser(self, brought: Credentials) -> Problem | None:
        match = _HOST.fullmatch(brought.host)
        if not match or match["name"] not in self._hosts:
            return _WRONG_HOST
        if brought.origin is not None and brought.origin.partition("://")[2] != brought.host:
            return _CROSS_ORIGIN
        return None

    def _knows(self, tokens: Sequence[str]) -> bool:
        if len(tokens) != 1:
            return False
        digest = _digest(tokens[0])
        matches = [hmac.compare_digest(digest, known) for known in self._tokens]
        return any(matches)


def check_settings(settings: GatewaySettings) -> None:
    """Refuse to start in a way that would be open to others. Raises `ConfigError`."""
    weak = [token for token in settings.tokens if len(token) < MIN_TOKEN]
    if weak:
        raise ConfigError(
            f"gateway.tokens: {len(weak)} of {len(settings.tokens)} are shorter than {MIN_TOKEN} characters; "
            "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if settings.require_token and not settings.tokens:
        raise ConfigError("gateway.require_token: no token is configured; set KEYWHEEL_TOKENS")
    if not is_loopback(settings.host) and not settings.tokens:
        raise ConfigError(
            f"gateway.host: {settings.host} can be reached by others, so clients need a token; set KEYWHEEL_TOKENS, "
            "or listen on 127.0.0.1"
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _credentials(headers: Headers) -> Credentials:
    host, origin, tokens = "", None, list[str]()
    for name, value in headers:
        match name:
            case b"host":
                host = value.decode("latin-1").lower()
            case b"origin":
                origin = value.decode("latin-1").lower()
            case b"authorization":
                tokens.append(_bearer(value))
            case b"x-api-key":
                tokens.append(value.decode("latin-1"))
            case _:
                pass
    return Credentials(host, origin, tuple(tokens))


def _bearer(value: bytes) -> str:
    scheme, _, token = value.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


_WRONG_HOST = Problem(
    403, "wrong_host",
    "The Host header names no address of this gateway. Use 127.0.0.1 or localhost, or list the name in gateway.hosts.",
    final=True,
)  # fmt: skip
_CROSS_ORIGIN = Problem(
    403, "cross_origin", "Pages of other origins may not use this gateway.", final=True
)
_UNAUTHORIZED = Problem(
    401, "unauthorized", "A token is needed: send Authorization: Bearer <one of KEYWHEEL_TOKENS>.", final=True
)  # fmt: skip
