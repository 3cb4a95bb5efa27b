"""Who may ask for what: host names, browsers and tokens. Every route has a class; one without a class is refused.

Decisions use the matched route and the raw headers, never a URL put together from them.
"""

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from keywheel.config import GatewaySettings
from keywheel.errors import ConfigError
from keywheel.gateway.penalty import Penalty
from keywheel.gateway.sessions import Sessions
from keywheel.problems import Problem
from keywheel.secret import Secret

Headers = Iterable[tuple[bytes, bytes]]
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
MIN_TOKEN = 32  # characters; shorter ones can be guessed
ADMITTED = 1024  # requests, alike in what is looked at, that are known again
MIN_DIFFERENT = 8  # different characters; 32 random hex digits with fewer are one in 10^8
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::[0-9]{1,5})?")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]*=*")  # what may stand behind "Bearer" (RFC 6750)


class Access(StrEnum):
    """What a route needs."""

    OPEN = "open"
    CLIENT = "client"
    READ = "read"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought along."""

    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    tokens: tuple[Secret, ...]
    cookies: tuple[bytes, ...] = ()
    from_page: bool = False


def is_loopback(host: str) -> bool:
    """Whether an address to listen on stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks each request before anything else looks at it.

    `admin`: the SHA-256 of the admin token; None: there is none, so what needs it stays closed.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        admin: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        configured = settings.admin_token
        self._admin = [_digest(configured)] if configured else [admin] if admin else []
        self._tokens = [_digest(token) for token in settings.tokens]
        many = len(self._tokens) > 1  # the bearers of one token cannot be told apart
        self._names = [f"token{n}" if many else "" for n, _ in enumerate(self._tokens, 1)]
        self._needed = (
            bool(settings.tokens) or settings.require_token or not is_loopback(settings.host)
        )
        self.sessions = Sessions(clock)
        self._penalty = Penalty(clock)
        self._admitted: dict[bytes, str] = {}
        self._salt = os.urandom(32)
        self._hosts = {*LOOPBACK_NAMES, *(name.lower() for name in settings.hosts)}
        if not _is_wildcard(settings.host):
            self._hosts.add(_as_header(settings.host))

    def check(self, headers: Headers, access: Access) -> Problem | None:
        """What stands against a request, None when it may pass."""
        if access is Access.CLIENT:
            verdict = self._judge(headers)
            return verdict if isinstance(verdict, Problem) else None
        brought = _credentials(headers)
        if problem := self._check_browser(brought):
            return problem
        if access is Access.OPEN or (access is not Access.OPERATOR and not self._needed):
            return None
        return self._check_admin(brought, access)

    def admit(self, headers: Headers) -> Problem | str:
        """What stands against a request that goes upstream; else whose it is, empty where that is not known."""
        # Judged once for all requests alike; a keyed hash, so that no token is kept and no digest can be guessed.
        decisive = [header for header in headers if header[0] in _DECISIVE]
        sign = hashlib.blake2b(repr(decisive).encode(), key=self._salt).digest()
        client = self._admitted.get(sign)
        if client is not None:
            return client
        verdict = self._judge(decisive)
        if isinstance(verdict, str):
            if len(self._admitted) >= ADMITTED:
                self._admitted.clear()
            self._admitted[sign] = verdict
        return verdict

    def _judge(self, headers: Headers) -> Problem | str:
        brought = _credentials(headers)
        problem = self._check_browser(brought)
        if problem or not self._needed:
            return problem or ""
        place = _place(brought.tokens, self._tokens)
        return self._names[place - 1] if place else _UNAUTHORIZED

    def log_in(self, headers: Headers, token: Secret) -> str | None:
        """The Set-Cookie line of a new session, None for a wrong token."""
        if not _is_one_of([token], self._admin):
            return None
        return self.sessions.begin(_credentials(headers).cookies)

    def log_out(self, headers: Headers) -> str:
        """The Set-Cookie line that ends a session."""
        return self.sessions.end(_credentials(headers).cookies)

    async def hold(self, problem: Problem, peer: str) -> None:
        """Keep the answer to a wrong token back for a while."""
        if problem.status == 401:
            await self._penalty.serve(peer)

    def _check_admin(self, brought: Credentials, access: Access) -> Problem | None:
        """The admin token, or a session; a session changes something only from the page's own script."""
        if _is_one_of(brought.tokens, self._admin):
            return None
        if not brought.tokens and self.sessions.knows(brought.cookies):
            changes = access is Access.OPERATOR
            return _NOT_FROM_PAGE if changes and not brought.from_page else None
        return _FORBIDDEN if _is_one_of(brought.tokens, self._tokens) else _NEEDS_ADMIN

    def _check_browser(self, brought: Credentials) -> Problem | None:
        """Foreign names lead here by DNS rebinding, foreign origins by a page in the user's browser."""
        host = brought.hosts[0] if len(brought.hosts) == 1 else ""
        match = _HOST.fullmatch(host)
        if not match:
            return _NO_HOST
        if match["name"] not in self._hosts:
            return _WRONG_HOST
        if any(origin.partition("://")[2] != host for origin in brought.origins):
            return _CROSS_ORIGIN
        return None


def _is_one_of(tokens: Sequence[Secret], known: Iterable[bytes]) -> bool:
    """Whether exactly one token came, and it is one of the known."""
    return _place(tokens, known) > 0


def _place(tokens: Sequence[Secret], known: Iterable[bytes]) -> int:
    """Which of the known, counted from 1, the only token is, 0 for none; compared with all, in constant time."""
    if len(tokens) != 1:
        return 0
    digest = _digest(tokens[0])
    return max(
        [n * hmac.compare_digest(digest, each) for n, each in enumerate(known, 1)], default=0
    )


def check_settings(settings: GatewaySettings) -> None:
    """Refuse to start in a way that would be open to others. Raises `ConfigError`."""
    faults = [fault for token in settings.tokens if (fault := _weakness(token.reveal()))]
    if faults:
        raise ConfigError(
            f"gateway.tokens: {len(faults)} of {len(settings.tokens)} cannot be used: {faults[0]}; "
            "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    _check_admin_token(settings)
    if settings.require_token and not settings.tokens:
        raise ConfigError("gateway.require_token: no token is configured; set KEYWHEEL_TOKENS")
    if not is_loopback(settings.host) and not settings.tokens:
        raise ConfigError(
            f"gateway.host: {settings.host!r} can be reached by others, so clients need a token; "
            "set KEYWHEEL_TOKENS, or listen on 127.0.0.1"
        )
    for name in settings.hosts:
        match = _HOST.fullmatch(name.lower())
        if not match or match["name"] != name.lower():
            raise ConfigError(f"gateway.hosts: {name!r} is no host name (without a port)")


def _check_admin_token(settings: GatewaySettings) -> None:
    admin = settings.admin_token
    if admin is None:
        return
    if fault := _weakness(admin.reveal()):
        raise ConfigError(f"gateway.admin_token: cannot be used: {fault}")
    if _is_one_of([admin], [_digest(token) for token in settings.tokens]):
        raise ConfigError("gateway.admin_token: must differ from the tokens of clients")


def advice(settings: GatewaySettings) -> str | None:
    """What to do so that clients on other machines are let in, None when nothing is missing."""
    if not _is_wildcard(settings.host) or settings.hosts:
        return None
    return (
        f"listening on {settings.host}: requests that name this machine other than localhost are refused; "
        "list the names in gateway.hosts"
    )


def _weakness(token: str) -> str | None:
    """Why a token is refused; never the token itself."""
    if not _TOKEN.fullmatch(token):
        return "a token has letters, digits and -._~+/ only"
    if len(token) < MIN_TOKEN:
        return f"a token has at least {MIN_TOKEN} characters"
    if len(set(token)) < MIN_DIFFERENT:
        return f"a token has at least {MIN_DIFFERENT} different characters"
    if token.startswith("sk-or-"):
        return "this looks like an upstream key, which clients must not have"
    return None


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return not host


def _as_header(host: str) -> str:
    """An address or name as the Host header spells it."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower()
    return f"[{address}]" if address.version == 6 else str(address)


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()


def _credentials(headers: Headers) -> Credentials:
    hosts, origins, tokens = list[str](), list[str](), list[Secret]()
    cookies, from_page = list[bytes](), False
    for name, value in [header for header in headers if header[0] in _LOOKED_AT]:
        match name:
            case b"host":
                hosts.append(value.decode("latin-1").lower())
            case b"origin":
                origins.append(value.decode("latin-1").lower())
            case b"authorization":
                tokens.append(_bearer(value))
            case b"x-api-key":
                tokens.append(Secret(value.decode("latin-1")))
            case b"cookie":
                cookies.append(value)
            case _:
                from_page = True
    return Credentials(tuple(hosts), tuple(origins), tuple(tokens), tuple(cookies), from_page)


def _bearer(value: bytes) -> Secret:
    scheme, _, token = value.decode("latin-1").partition(" ")
    return Secret(token.strip() if scheme.lower() == "bearer" else "")


# A form or a link of another page cannot set this header; our page's script does.
PAGE_HEADER = b"x-keywheel-page"
_DECISIVE = frozenset({b"host", b"origin", b"authorization", b"x-api-key"})  # to go upstream
_LOOKED_AT = _DECISIVE | {b"cookie", PAGE_HEADER}
_WRONG_HOST = Problem(
    403, "wrong_host",
    "The Host header names no address of this gateway. Use 127.0.0.1 or localhost, or list the name in gateway.hosts.",
    final=True,
)  # fmt: skip
_NO_HOST = Problem(
    400, "invalid_request", "A request has exactly one Host header, with a valid name.", final=True
)
_CROSS_ORIGIN = Problem(
    403, "cross_origin", "Pages of other origins may not use this gateway.", final=True
)
_UNAUTHORIZED = Problem(
    401, "unauthorized", "A token is needed: send Authorization: Bearer <one of KEYWHEEL_TOKENS>.", final=True
)  # fmt: skip
_NEEDS_ADMIN = Problem(
    401, "unauthorized",
    "The admin token is needed: send Authorization: Bearer <KEYWHEEL_ADMIN_TOKEN>. `keywheel serve` shows one at its "
    "first start.",
    final=True,
)  # fmt: skip
_FORBIDDEN = Problem(
    403, "forbidden", "This is a client's token; here the admin token is needed.", final=True
)
_NOT_FROM_PAGE = Problem(
    403,
    "forbidden",
    "A session changes something only with the header x-keywheel-page.",
    final=True,
)
