"""Virtual time: an event heap. Nothing waits, the clock jumps from event to event."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Act = Callable[[], None]


class Loop:
    """Runs what is due, in the order of its time and, at the same time, of its planning."""

    __slots__ = ("_heap", "_order", "now")

    def __init__(self, start: float) -> None:
        self.now = start
        self._heap: list[tuple[float, int, Act]] = []
        self._order = count()

    def at(self, when: float, act: Act) -> None:
        """Plan something; what lies in the past is done at once."""
        heappush(self._heap, (max(when, self.now), next(self._order), act))

    def after(self, seconds: float, act: Act) -> None:
        """Plan something for later."""
        self.at(self.now + seconds, act)

    def run(self) -> None:
        """Until nothing is planned any more."""
        heap = self._heap
        while heap:
            self.now, _, act = heappop(heap)
            act()
