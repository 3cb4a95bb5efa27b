"""The health of one scope: blocks with provenance, the error window that trips, the half-open probe.

Theory, in one place:

* A scope is *closed for traffic* while any block lasts, while it is tripped, or while its one probe is under way.
* A **block** has a provenance. A later block never shortens an earlier one of the same provenance. A success clears
  heuristic blocks, and only if its attempt began after the block was set: a late 200 from before says nothing.
* The **ladder** of heuristic blocks grows with the streak. Failures of attempts that began before the last
  block ended do
  not advance it, so a hundred simultaneous 429s count once.
* The breaker **trips** at a recorded failure when at least `min_samples` outcomes are in the window and
  strictly more than half
  of them failed. Tripping raises the epoch: outcomes of an older epoch change nothing here.
* When the disable time is over the scope is **half-open**: one ordinary request is the probe. It answers:
  closed, with an
  empty window. It fails: open again for the full time. It says nothing (client gone): the place is given
  back. A probe that never
  reports loses its place at its deadline, so a lost task cannot wedge the scope.

Order is by lease numbers, not by times: with a number there is no doubt which of two things at the same
moment came first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from keywheel.core.policy import Health
from keywheel.core.spread import spread
from keywheel.core.types import Entry, Ladder, Lease, Provenance, Scope
from keywheel.core.window import Counts, Window

JITTER = (
    0.2  # ± share of a ladder step, so that several workers do not come back in the same instant
)


class Cause(NamedTuple):
    """What keeps a scope closed longest."""

    reason: str
    until: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Block:
    """A scope closed until a moment. `number`: the last lease handed out before it was set."""

    until: float
    reason: str
    at: float
    number: int


@dataclass(slots=True)
class Breaker:
    """Everything that decides whether one scope may be entered."""

    scope: Scope
    health: Health
    seed: str = ""
    blocks: dict[Provenance, Block] = field(default_factory=dict[Provenance, Block])
    streak: int = field(default=0, init=False)
    epoch: int = field(default=0, init=False)
    open_until: float | None = field(default=None, init=False)  # tripped; half-open from then on
    tripped_by: Counts | None = field(default=None, init=False)
    _until: float = field(default=0.0, init=False)
    _probe_until: float = field(default=0.0, init=False)
    _ladder_until: float = field(default=0.0, init=False)
    _failed_number: int = field(default=0, init=False)
    _window: Window = field(init=False)

    def __post_init__(self) -> None:
        self._window = Window(self.health.window)

    # --- reading ---------------------------------------------------------------------------------

    def closed_until(self, now: float) -> float:
        """The moment this scope may be entered, 0.0 when it may be entered now."""
        if self._until > now:
            return self._until
        if self._probe_until > now:
            return self._probe_until
        return 0.0

    def is_half_open(self, now: float) -> bool:
        """Whether the next to enter will be the probe."""
        return self.open_until is not None and self.open_until <= now

    def counts(self, now: float) -> Counts:
        """What the error window holds."""
        return self._window.counts(now)

    def cause(self, now: float) -> Cause | None:
        """Reason, end and provenance of what keeps the scope closed longest, None when it is open."""
        until = self.closed_until(now)
        if not until:
            return None
        for provenance, block in self.blocks.items():
            if block.until == until:
                return Cause(block.reason, until, provenance)
        reason = "probe under way"
        if self.open_until == until and self.tripped_by:
            reason = f"error rate {self.tripped_by.failed}/{self.tripped_by.total}"
        return Cause(reason, until, Provenance.HEURISTIC)

    # --- entering --------------------------------------------------------------------------------

    def enter(self, now: float, probe_deadline: float) -> Entry:
        """Go through. In the half-open state this takes the only probe place, until `probe_deadline` at the
        latest."""
        probe = self.is_half_open(now)
        if probe:
            self._probe_until = probe_deadline
        return Entry(self.scope, self.epoch, probe)

    def leave(self, entry: Entry) -> None:
        """Give a probe place back without a result."""
        if entry.probe and entry.epoch == self.epoch:
            self._probe_until = 0.0

    # --- results ---------------------------------------------------------------------------------

    def succeed(self, entry: Entry, lease: Lease, now: float) -> bool:
        """Record an answer. True when this opened something that was closed or tripped."""
        if entry.epoch != self.epoch:
            return False
        if self.open_until is not None:
            return self._close(entry)
        self._window.add(True, now)
        if lease.number <= self._failed_number:
            return False
        self.streak = 0
        self._ladder_until = 0.0
        return self._drop(Provenance.HEURISTIC)

    def fail(self, entry: Entry, now: float, source: str, *, spans: int) -> bool:
        """Record a failure of `source`. Trips when the window says so and failures come from at least
        `spans` sources.

        True when the scope is now open (tripped).
        """
        if entry.epoch != self.epoch:
            return False
        if self.open_until is not None:
            return entry.probe and self._open(now, self.tripped_by)
        self._window.add(False, now, source)
        counts = self._window.counts(now)
        if counts.total < self.health.min_samples or counts.failed * 2 <= counts.total:
            return False
        return counts.sources >= spans and self._open(now, counts)

    def climb(self, lease: Lease, ladder: Ladder, reason: str, now: float, number: int) -> float:
        """Advance the ladder for a failure of this lease; the end of the block, 0.0 when this failure sets none.

        `number`: the last lease handed out, as for `block`.
        """
        if lease.at < self._ladder_until:
            return 0.0  # begun before the last block ended: the same burst
        self.streak += 1
        self._failed_number = max(self._failed_number, number)
        step = self.streak - ladder.first
        if step < 0:
            return 0.0
        length = min(ladder.cap, ladder.base * 2.0 ** min(step, 32))
        length *= 1 + JITTER * (2 * spread(self.seed, self.scope, self.streak) - 1)
        self._ladder_until = now + min(length, ladder.cap)
        self.block(Provenance.HEURISTIC, self._ladder_until, reason, now, number)
        return self._ladder_until

    # --- blocks ----------------------------------------------------------------------------------

    def block(
        self, provenance: Provenance, until: float, reason: str, now: float, number: int
    ) -> bool:
        """Close until a moment. A shorter block than the one of the same provenance is ignored; True when
        it counts."""
        self._failed_number = max(self._failed_number, number)
        old = self.blocks.get(provenance)
        if until <= now or (old and old.until >= until):
            return False
        self.blocks[provenance] = Block(until, reason, now, number)
        self._refresh()
        return True

    def clear(self, *provenances: Provenance) -> bool:
        """Take back the blocks of these provenances; True when there was one."""
        dropped = [self._drop(p) for p in provenances]
        return any(dropped)

    def reset(self) -> None:
        """Operator's hand: forget blocks, window and streak; results under way no longer count."""
        self.blocks.clear()
        self._window.clear()
        self.streak = 0
        self.epoch += 1
        self.open_until = self.tripped_by = None
        self._probe_until = self._ladder_until = 0.0
        self._refresh()

    # --- inner -----------------------------------------------------------------------------------

    def _close(self, entry: Entry) -> bool:
        if not entry.probe:
            return False
        self.open_until = self.tripped_by = None
        self._probe_until = 0.0
        self._window.clear()
        self._refresh()
        return True

    def _open(self, now: float, counts: Counts | None) -> bool:
        self.open_until = now + self.health.disable
        self.tripped_by = counts
        self._probe_until = 0.0
        self._window.clear()
        self.epoch += 1
        self._refresh()
        return True

    def _drop(self, provenance: Provenance) -> bool:
        if self.blocks.pop(provenance, None) is None:
            return False
        self._refresh()
        return True

    def _refresh(self) -> None:
        ends = [block.until for block in self.blocks.values()]
        self._until = max(*ends, self.open_until or 0.0, 0.0) if ends else self.open_until or 0.0
