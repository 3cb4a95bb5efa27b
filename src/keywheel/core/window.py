"""Exact counts of successes and failures over the trailing seconds."""

from typing import NamedTuple


class Counts(NamedTuple):
    """What a window holds. `sources`: how many different counterparts (keys of a model, models of a key)
    the failures came from."""

    total: int
    failed: int
    sources: int


class _Bucket:
    __slots__ = ("failed", "index", "ok", "sources")

    def __init__(self, index: int) -> None:
        self.index = index
        self.ok = 0
        self.failed = 0
        self.sources: set[str] = set()


class Window:
    """A trailing window cut into equal buckets; whole buckets leave it.

    Counts are exact, not averaged: an average would hide a tight burst (routing rule A.6).
    """

    __slots__ = ("_buckets", "_size", "_width")

    def __init__(self, seconds: float = 300.0, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._size = buckets
        self._buckets: list[_Bucket] = []

    def add(self, ok: bool, now: float, source: str = "") -> None:
        """Count one outcome at its moment of completion."""
        bucket = self._current(now)
        if ok:
            bucket.ok += 1
            return
        bucket.failed += 1
        bucket.sources.add(source)

    def counts(self, now: float) -> Counts:
        """The totals of the buckets that are still inside the window."""
        self._expire(int(now // self._width))
        if not self._buckets:
            return Counts(0, 0, 0)
        failed = sum(b.failed for b in self._buckets)
        ok = sum(b.ok for b in self._buckets)
        sources = {source for b in self._buckets for source in b.sources}
        return Counts(ok + failed, failed, len(sources))

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()

    def _current(self, now: float) -> _Bucket:
        index = int(now // self._width)
        self._expire(index)
        if not self._buckets or self._buckets[-1].index < index:
            self._buckets.append(_Bucket(index))
        return self._buckets[-1]

    def _expire(self, index: int) -> None:
        oldest = index - self._size + 1
        while self._buckets and self._buckets[0].index < oldest:
            del self._buckets[0]
