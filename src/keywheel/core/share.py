"""What one worker may send while the shared store is silent, so that all workers together keep every limit (A.11.3).

The argument, for n workers, an account with `cap` sends a minute, and `left` of the day after what was used and what is
kept free for silent workers:

* A worker takes from the store only while its exchanges are answered. A second after the last answer it stops.
* Five seconds after it the others see that it is silent, and keep free for it 1/n of what is left of the day and of
  the minute. Until then they may have sent as many as a minute allows, and these count for 61 s.
* So after 70 s it may go on: with 1/n of a minute, and in all with 1/n of what was left of the day less two minutes.
* It is back after two answered exchanges. The first tells what it sent; the second proves to the store that it has
  heard from it, which ends its room. A worker lost between the two has no more than it had before.
* Who heard nothing for two days sends nothing: by then nobody keeps room for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Place = tuple[str, int]  # account and UTC date

ANSWERS = 2  # answered exchanges after which a worker is back
TAKING = 1.0  # seconds after the last answer in which the store is still asked
WAITING = (
    70.0  # seconds after the last answer until the share begins: 5 s, a 61 s window, and a margin
)
GONE = 2 * 86_400.0  # seconds after which no room is kept any more
MINUTES = 2  # minutes' worth of sends that others may have made before they noticed


@dataclass(frozen=True, slots=True)
class Record:
    """A share as it is written down, so that a restart goes on with the same one."""

    heard_at: float
    parts: Mapping[Place, int]


class Share:
    """The share of one worker. Times are this worker's own; `slots`: how many workers there are by configuration."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.record: Record | None = None  # None: nothing is known yet, so there is no share
        self._answers = 0

    def restore(self, record: Record) -> None:
        """Go on with the share of an earlier run."""
        self.record = record

    def answered(self, now: float, left: Mapping[Place, tuple[int, int]]) -> None:
        """An exchange was answered. `left`: of the day, less what is used and kept free; and the minute's limit."""
        old: Mapping[Place, int] = self.record.parts if self.record else {}
        self._answers = self._answers + 1 if self._is_fresh(now) else 1
        parts = {place: self._part(*figures) for place, figures in left.items()}
        if self._answers < ANSWERS:  # the room kept for it may be the old one
            parts = {place: min(n, old.get(place, n)) for place, n in parts.items()}
        self.record = Record(now, parts)

    def may_take(self, now: float) -> bool:
        """Whether the store is to be asked."""
        return self._answers >= ANSWERS and self._is_fresh(now)

    def opens_at(self) -> float | None:
        """When the share begins; None for a worker that knows nothing, which has none."""
        return self.record.heard_at + WAITING if self.record else None

    def send(
        self, account: str, limits: Mapping[int, int], cap: int, recent: int, now: float
    ) -> bool:
        """Take one send from the share, on every date of `limits` (date → sends a day); whether there was one.

        `cap`: sends a minute that all workers together may make. `recent`: what this one sent in the last 61 s.
        """
        record = self.record
        if record is None or not WAITING <= now - record.heard_at <= GONE:
            return False
        left = {  # a date of which the last answer said nothing had not begun then
            (account, day): record.parts.get((account, day), self._part(limit, cap))
            for day, limit in limits.items()
        }
        if recent >= cap // self.slots or min(left.values()) <= 0:
            return False
        less = {place: n - 1 for place, n in left.items()}
        self.record = Record(record.heard_at, {**record.parts, **less})
        return True

    # --- inner -----------------------------------------------------------------------------------

    def _is_fresh(self, now: float) -> bool:
        return self.record is not None and now - self.record.heard_at <= TAKING

    def _part(self, left: int, cap: int) -> int:
        return max(0, (left - MINUTES * cap) // self.slots)
