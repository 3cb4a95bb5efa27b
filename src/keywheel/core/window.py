"""Exact counts of successes and failures over the trailing seconds."""

from typing import NamedTuple


class Counts(NamedTuple):
    """What a window holds. `sources`: how many different counterparts (keys of a model, models of a key)
    the failures came from."""

    total: int
    failed: int
    sources: int


class Window:
    """A trailing window cut into equal buckets; whole buckets leave it.

    Counts are exact, not averaged: an average would hide a tight burst (routing rule A.6). Running totals make
    adding and reading cheap; the buckets are touched only when one of them leaves.
    """

    __slots__ = ("_buckets", "_failed", "_newest", "_size", "_sources", "_total", "_width")

    def __init__(self, seconds: float = 300.0, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._size = buckets
        self.clear()

    def add(self, ok: bool, now: float, source: str = "") -> None:
        """Count one outcome at its moment of completion."""
        index = int(now // self._width)
        if index > self._newest:
            self._advance(index)
        self._total += 1
        bucket = self._buckets[-1]
        bucket[1] += 1
        if not ok:
            bucket[2] += 1
            self._failed += 1
            self._sources[source] = self._newest

    def counts(self, now: float) -> Counts:
        """The totals of the buckets that are still inside the window."""
        self._expire(int(now // self._width))
        return Counts(self._total, self._failed, len(self._sources))

    def clear(self) -> None:
        """Forget everything."""
        self._buckets: list[list[int]] = []  # index, outcomes, failures; oldest first
        self._sources: dict[str, int] = {}  # source → bucket of its latest failure
        self._newest = -1
        self._total = self._failed = 0

    def _advance(self, index: int) -> None:
        self._expire(index)
        self._newest = index
        self._buckets.append([index, 0, 0])

    def _expire(self, index: int) -> None:
        oldest = index - self._size + 1
        if not self._buckets or self._buckets[0][0] >= oldest:
            return
        if self._newest < oldest:
            self.clear()
            return
        while self._buckets[0][0] < oldest:
            _, total, failed = self._buckets.pop(0)
            self._total -= total
            self._failed -= failed
        self._sources = {name: at for name, at in self._sources.items() if at >= oldest}
