"""Wrong tokens are answered late: the more of them from one peer, the later (requirements C3 and C35).

Only the wrong answer waits. Nobody else does, and a right token is never locked out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

FREE = 20  # failures of a peer that are answered at once: a client with an old token is no attack
FIRST, LONGEST = 0.1, 5.0  # seconds; doubling with each further failure
FORGIVEN = 60.0  # seconds without a failure after which a peer starts anew
PEERS = 1_024  # remembered; who failed longest ago makes room
HELD = 64  # answers that may wait at once; the others are given at once


class Penalty:
    """Counts failures by peer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, peer: str) -> float:
        """One more failure; the seconds that its answer should wait."""
        now = self._clock()
        count, at = self._failures.pop(peer, (0, now))
        count = 1 if now - at > FORGIVEN else count + 1
        self._failures[peer] = (count, now)
        if len(self._failures) > PEERS:
            self._failures.popitem(last=False)
        if count <= FREE:
            return 0.0
        return min(LONGEST, FIRST * 2.0 ** min(count - FREE - 1, 16))

    async def serve(self, peer: str) -> None:
        """Count a failure and wait before it is answered."""
        seconds = self.failed(peer)
        if not seconds or self._held >= HELD:
            return
        self._held += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._held -= 1
