"""What a client's headers say about how it wants to be served, and which of them go on to the upstream."""

import os
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from keywheel.errors import InvalidRequest
from keywheel.flow import Terms

Headers = Sequence[tuple[bytes, bytes]]

OWN_HEADERS = ((b"content-type", b"application/json"), (b"user-agent", b"keywheel"))
SDK_MARGIN = 2.0  # seconds before the client's own time-out at which we answer
# Request headers that reach the upstream, beside what we write ourselves (everything else stays here).
PASSED_ON = frozenset({b"x-session-id", b"http-referer", b"x-title"})
PASSED_ON_PREFIX = b"x-openrouter-"
OURS = frozenset({b"x-keywheel-fallback", b"x-keywheel-max-wait"})
_HARMLESS = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_chance = random.Random(os.urandom(32))  # ids are no secrets; a system call for each is dear
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))
_new = _chance.getrandbits


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's own id if it is harmless to repeat, otherwise a new one."""
    given = headers.get(b"x-request-id")
    if given and _HARMLESS.fullmatch(given):
        return given.decode("ascii")
    return f"{_new(96):024x}"


def session(headers: Mapping[bytes, bytes]) -> str | None:
    """The conversation's name, if the client gives it one."""
    return headers.get(b"x-session-id", b"").decode("latin-1") or None


def passed_on(headers: Headers) -> Headers:
    """Our own headers, and those of the client that are meant for the upstream and not for this hop alone."""
    meant = _meant_for_upstream(tuple(dict(headers)))
    if not meant:
        return OWN_HEADERS
    hop = [value for name, value in headers if name == b"connection"]
    dropped = {part.strip().lower() for value in hop for part in value.split(b",")}
    kept = (header for header in headers if header[0] in meant and header[0] not in dropped)
    return (*OWN_HEADERS, *kept)


@lru_cache(64)
def _meant_for_upstream(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(n for n in names if n in PASSED_ON or n.startswith(PASSED_ON_PREFIX))


def terms(request_id: str, headers: Mapping[bytes, bytes], stream: bool, client: str = "") -> Terms:
    """The hints a client gives. One of ours that cannot be read raises `InvalidRequest`, another is as good as none.

    The SDKs' read time-out bounds the time between two pieces, so it bounds a plain answer and no stream.
    """
    _check(tuple(headers))
    sdk = None if stream else _seconds(headers.get(b"x-stainless-read-timeout"))
    own = _seconds(headers.get(b"x-request-timeout"))
    hints = [hint for hint in (sdk and max(sdk - SDK_MARGIN, sdk / 2), own) if hint]
    return Terms(
        request_id,
        min(hints) if hints else None,
        _max_wait(headers.get(b"x-keywheel-max-wait")),
        _is_pinned(headers.get(b"x-keywheel-fallback", b"on")),
        client,
    )


@lru_cache(64)  # a client's requests all have the same names
def _check(names: tuple[bytes, ...]) -> None:
    """A misspelt header of ours would otherwise be without effect, and without a word."""
    strange = [name for name in names if name.startswith(b"x-keywheel-") and name not in OURS]
    if strange:
        known = " and ".join(sorted(name.decode() for name in OURS))
        name = strange[0].decode("latin-1")
        raise InvalidRequest(f"There is no header {name}; there are {known}.", param=name)


def _max_wait(value: bytes | None) -> float:
    seconds = 0.0 if value in (None, b"0") else _seconds(value)
    if seconds is None:
        name = "x-keywheel-max-wait"
        raise InvalidRequest(
            f"The header {name} holds no number of seconds, such as 60.", param=name
        )
    return seconds


def _is_pinned(value: bytes) -> bool:
    if value.lower() not in (b"on", b"off"):
        name = "x-keywheel-fallback"
        raise InvalidRequest(f"The header {name} must be on or off.", param=name)
    return value.lower() == b"off"


def _seconds(value: bytes | None) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None
