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
    adding and reading cheap; the buckets are touched only when one of them begins or leaves.
    """

    __slots__ = ("_buckets", "_ends", "_failed", "_newest", "_size", "_sources", "_total", "_width")

    def __init__(self, seconds: float = 300.0, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._size = buckets
        self.clear()

    def add(self, ok: bool, now: float, source: str = "") -> None:
        """Count one outcome at its moment of completion."""
        if now >= self._ends:
            self._begin(int(now // self._width))
        bucket = self._newest
        bucket[1] += 1
        self._total += 1
        if not ok:
            bucket[2] += 1
            self._failed += 1
            self._sources[source] = bucket[0]

    def counts(self, now: float) -> Counts:
        """The totals of the buckets that are still inside the window."""
        self._expire(int(now // self._width))
        return Counts(self._total, self._failed, len(self._sources))

    def clear(self) -> None:
        """Forget everything."""
        self._buckets: list[list[int]] = []  # index, outcomes, failures; oldest first
        self._newest: list[int] = []
        self._ends = 0.0  # of the newest bucket
        self._sources: dict[str, int] = {}  # source → bucket of its latest failure
        self._total = self._failed = 0

    def _begin(self, index: int) -> None:
        self._expire(index)
        self._newest = [index, 0, 0]
        self._buckets.append(self._newest)
        self._ends = (index + 1) * self._width

    def _expire(self, index: int) -> None:
        oldest = index - self._size + 1
        if not self._buckets or self._buckets[0][0] >= oldest:
            return
        if self._newest[0] < oldest:
            self.clear()
            return
        while self._buckets[0][0] < oldest:
            _, total, failed = self._buckets.pop(0)
            self._total -= total
            self._failed -= failed
        self._sources = {name: at for name, at in self._sources.items() if at >= oldest}
