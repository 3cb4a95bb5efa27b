"""Which account a conversation used last: prompt caches are per account, so it had better stay there (rule A.3).

A tie-break only: it never overrides a block, a limit or the floor, and never makes a request wait.
"""

from collections import OrderedDict
from collections.abc import Iterator

IDLE = 600.0  # seconds after which the upstream's own cache has forgotten the conversation, too
MOST = 10_000  # conversations remembered; the least recently used leaves first


class Affinity:
    """Conversation (a keyed hash, never the id as sent) → account."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def entries(self) -> Iterator[tuple[str, str, float]]:
        """Conversation, account and moment, the least recently used first."""
        for conversation, (account, at) in self._seen.items():
            yield conversation, account, at

    def remember(self, conversation: str, account: str, now: float) -> None:
        """An account answered this conversation."""
        self._seen[conversation] = (account, now)
        self._seen.move_to_end(conversation)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)

    def account(self, conversation: str, now: float) -> str | None:
        """The account of a conversation that is not idle for too long."""
        found = self._seen.get(conversation)
        if found is None:
            return None
        account, at = found
        if now - at > IDLE:
            del self._seen[conversation]
            return None
        return account
