"""The retry budget of a provider: retries may not multiply the load of an outage (routing rule A.7)."""

SIZE = 20.0
PER_ASK = 0.2  # one extra attempt for five requests
PER_SECOND = 1 / 6  # and one every six seconds, so that a quiet client may retry too


class Budget:
    """A bucket of extra attempts."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = SIZE
        self._at = 0.0

    def earn(self, now: float) -> None:
        """A new request arrived."""
        self._fill(now)
        self._left = min(SIZE, self._left + PER_ASK)

    def spend(self, now: float) -> bool:
        """Take one extra attempt; False when the bucket is empty."""
        self._fill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def left(self, now: float) -> float:
        """Extra attempts that may be made now."""
        self._fill(now)
        return self._left

    def _fill(self, now: float) -> None:
        if self._at:
            self._left = min(SIZE, self._left + max(0.0, now - self._at) * PER_SECOND)
        self._at = now
