"""Fetches the model list and the facts about keys. Costs no quota: `GET /models` needs no key, `GET /key` is free."""

import hashlib
import hmac
import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx2

from keywheel.config import UpstreamSettings
from keywheel.lines import AWAY
from keywheel.secret import Secret
from keywheel.wire.facts import KeyFacts, read_balance, read_key
from keywheel.wire.loose import BadCatalogue
from keywheel.wire.models import Entry, read_models
from keywheel.wires import LOST, Wire

log = logging.getLogger("keywheel.catalog")

MAX_BYTES = 16 * 1024 * 1024  # the real list has about 2 MB
TIMEOUT = 10.0  # seconds of silence
PATIENCE = 30.0  # seconds for a whole answer
HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "keywheel"}


class Unavailable(Exception):
    """The upstream could not be asked, or its answer cannot be used. The message says what, without secrets."""


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """`GET /key` in short. `passed`: the key is valid. `date`: the upstream's clock, UTC seconds.

    `account`: keyed hash of the account's identity, None if unknown.
    """

    passed: bool
    facts: KeyFacts | None = None
    account: str | None = None
    date: float | None = None


class Catalog:
    """A small blocking client for the two questions; safe to use from several threads.

    Raises `ConfigError` when the settings cannot be used.
    """

    def __init__(self, settings: UpstreamSettings, *, salt: bytes = b"") -> None:
        wire = Wire(settings)
        wire.open()  # certificates are read now, so that their fault is told now
        self._base = settings.base_url.rstrip("/")
        self._salt = salt
        self._embedding: tuple[Entry, ...] = ()
        self._http = httpx2.Client(
            headers=HEADERS,
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            transport=wire,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> tuple[Entry, ...]:
        """Every model the upstream lists, the embedding models of their own list last. Raises `Unavailable`."""
        listed = self._list("/models")
        known = {entry.id for entry in listed}
        return (*listed, *(entry for entry in self._embedding_models() if entry.id not in known))

    def _embedding_models(self) -> tuple[Entry, ...]:
        """Where there is no such list, or it cannot be read, what is known stays: at first nothing. Chats need none."""
        try:
            found = self._list("/embeddings/models")
        except Unavailable as error:
            log.debug("the list of embedding models could not be read: %s", error)
        else:
            self._embedding = tuple(entry for entry in found if entry.model.embeds)
        return self._embedding

    def visible(self, secret: Secret) -> frozenset[str]:
        """The models that the settings of the key's account allow. Raises `Unavailable`."""
        return frozenset(entry.id for entry in self._list("/models/user", _Bearer(secret)))

    def key(self, secret: Secret) -> KeyCheck:
        """Whether a key is valid, and what is known about its account. Raises `Unavailable`."""
        status, body, date = self._get("/key", _Bearer(secret))
        if status == 401:
            return KeyCheck(False, date=date)
        if status != 200:
            raise Unavailable(f"GET /key answered {status}")
        facts = read_key(body)
        if facts is None:
            raise Unavailable("GET /key answered something that is not a key's facts")
        return KeyCheck(True, facts, self._hash(facts.account_id), date)

    def balance(self, secret: Secret) -> float | None:
        """Credits bought less credits used, in USD; None where the key may not know. Raises `Unavailable`."""
        status, body, _ = self._get("/credits", _Bearer(secret))
        return read_balance(body) if status == 200 else None

    def _list(self, path: str, auth: httpx2.Auth | None = None) -> tuple[Entry, ...]:
        status, body, _ = self._get(path, auth)
        if status != 200:
            raise Unavailable(f"GET {path} answered {status}")
        try:
            return read_models(body)
        except BadCatalogue as error:
            raise Unavailable(f"GET {path}: {error}") from None

    def _hash(self, account_id: str | None) -> str | None:
        """The identity is personal data: only a keyed hash of it is kept."""
        if account_id is None:
            return None
        return hmac.digest(self._salt, account_id.encode(), hashlib.sha256).hex()

    def _get(self, path: str, auth: httpx2.Auth | None = None) -> tuple[int, bytes, float | None]:
        try:
            with self._http.stream("GET", self._base + path, auth=auth) as response:
                status = response.status_code
                body = _whole(response, path) if status == 200 else b""
                return status, body, _date(response.headers.get("date"))
        except AWAY as error:  # its text says why, and holds no key
            raise Unavailable(f"GET {path}: {type(error).__name__}: {error}") from None
        except (*LOST, httpx2.InvalidURL) as error:
            raise Unavailable(f"GET {path}: {type(error).__name__}") from None


class _Bearer(httpx2.Auth):
    """Puts the key into the request at the last moment, so that no frame of ours holds it in plain text."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """The request with the key."""
        request.headers["authorization"] = f"Bearer {self._secret.reveal()}"
        yield request


def _whole(response: httpx2.Response, path: str) -> bytes:
    """The body as sent; bounded in size and time, and never decompressed."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unavailable(f"GET {path}: the answer is encoded, which was not asked for")
    parts: list[bytes] = []
    size, late = 0, time.monotonic() + PATIENCE
    for part in response.iter_raw():
        size += len(part)
        if size > MAX_BYTES:
            raise Unavailable(f"GET {path}: the answer is larger than {MAX_BYTES >> 20} MiB")
        if time.monotonic() > late:
            raise Unavailable(f"GET {path}: no whole answer in {PATIENCE:g} s")
        parts.append(part)
    return b"".join(parts)


def _date(value: str | None) -> float | None:
    """UTC seconds of a Date header; "-0000" says UTC, too, and gives no zone."""
    try:
        moment = parsedate_to_datetime(value) if value else None
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC)).timestamp() if moment else None
