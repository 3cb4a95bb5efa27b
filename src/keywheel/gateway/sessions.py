"""The browser's way in: a session instead of the admin token itself (requirement C35). Kept in memory only."""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping

NAME = "keywheel_session"
LASTS = 12 * 3_600  # seconds
MOST = 64  # sessions at once; the oldest makes room
ATTRIBUTES = "; Path=/; HttpOnly; SameSite=Strict"


class Sessions:
    """Who has logged in. Only hashes of the ids are kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: dict[bytes, float] = {}
        self._news: dict[bytes, float] = {}

    def begin(self, cookies: Iterable[bytes]) -> str:
        """A new session as a Set-Cookie line; the one that the browser had before is over."""
        self.end(cookies)
        while len(self._ends) >= MOST:
            del self._ends[next(iter(self._ends))]
        session = secrets.token_urlsafe(32)
        digest = _digest(session.encode())
        self._ends[digest] = self._news[digest] = self._clock() + LASTS
        return f"{NAME}={session}; Max-Age={LASTS}{ATTRIBUTES}"

    def end(self, cookies: Iterable[bytes]) -> str:
        """Log out; the Set-Cookie line that makes the browser forget."""
        for session in _sessions(cookies):
            if self._ends.pop(digest := _digest(session), None):
                self._news[digest] = 0.0
        return f"{NAME}=; Max-Age=0{ATTRIBUTES}"

    def knows(self, cookies: Iterable[bytes]) -> bool:
        """Whether the Cookie headers hold exactly one session, and it lasts."""
        found = _sessions(cookies)
        # looked up by its hash: how long that takes says nothing about the ids there are
        ends = self._ends.get(_digest(found[0]), 0.0) if len(found) == 1 else 0.0
        return ends > self._clock()

    # --- with other workers on this machine ------------------------------------------------------

    def take_news(self) -> str:
        """What began and ended since the last call, for `adopt` elsewhere."""
        news, self._news = self._news, {}
        return _told(news)

    def told(self) -> str:
        """All there are, for `adopt` elsewhere."""
        return _told(self._ends)

    def adopt(self, told: str) -> None:
        """Take over what another worker tells."""
        for digest, end in (entry.split("=") for entry in told.split()):
            self._ends[bytes.fromhex(digest)] = float(end)


def _told(ends: Mapping[bytes, float]) -> str:
    return " ".join(f"{digest.hex()}={end}" for digest, end in ends.items())


def _sessions(cookies: Iterable[bytes]) -> list[bytes]:
    pairs = (part.strip().partition(b"=") for line in cookies for part in line.split(b";"))
    return [value for name, _, value in pairs if name == NAME.encode()]


def _digest(session: bytes) -> bytes:
    return hashlib.sha256(session).digest()
