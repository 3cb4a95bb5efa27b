"""Fetches the model list and the facts about keys. Costs no quota: `GET /models` needs no key, `GET /key` is free."""

import hashlib
import hmac
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx2

from keywheel.secret import Secret
from keywheel.wire.models import BadCatalogue, Entry, KeyFacts, read_key, read_models

MAX_BYTES = 32 * 1024 * 1024
TIMEOUT = 10.0


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
    """A small blocking client for the two questions; used by the keeper's thread only."""

    def __init__(self, base_url: str, *, salt: bytes, ca_file: str | None = None) -> None:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._base = base_url.rstrip("/")
        self._salt = salt
        self._http = httpx2.Client(
            timeout=TIMEOUT, trust_env=False, follow_redirects=False, verify=context
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
        """Every model the upstream lists. Raises `Unavailable`."""
        status, body, _ = self._get("/models", {})
        if status != 200:
            raise Unavailable(f"GET /models answered {status}")
        try:
            return read_models(body)
        except BadCatalogue as error:
            raise Unavailable(f"GET /models: {error}") from error

    def key(self, secret: Secret) -> KeyCheck:
        """Whether a key is valid, and what is known about its account. Raises `Unavailable`."""
        status, body, date = self._get("/key", {"authorization": f"Bearer {secret.reveal()}"})
        if status == 401:
            return KeyCheck(False, date=date)
        if status != 200:
            raise Unavailable(f"GET /key answered {status}")
        facts = read_key(body)
        if facts is None:
            raise Unavailable("GET /key answered something that is not a key's facts")
        return KeyCheck(True, facts, self._hash(facts.account_id), date)

    def _hash(self, account_id: str | None) -> str | None:
        """The identity is personal data: only a keyed hash of it is kept."""
        if account_id is None:
            return None
        return hmac.digest(self._salt, account_id.encode(), hashlib.sha256).hex()

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes, float | None]:
        try:
            with self._http.stream("GET", self._base + path, headers=headers) as response:
                body = _limited(response)
                return response.status_code, body, _date(response.headers.get("date"))
        except httpx2.HTTPError as error:
            raise Unavailable(f"GET {path}: {type(error).__name__}") from None


def _limited(response: httpx2.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise Unavailable(f"the answer is larger than {MAX_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except ValueError:
        return None
