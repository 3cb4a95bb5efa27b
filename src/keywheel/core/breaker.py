"""The health of one scope: blocks with provenance, the error window that trips, the half-open probe.

Theory, in one place:

* A scope is *closed for traffic* while any block lasts, while it is tripped, or while its one probe is under way.
  All of that is one number, `until`, so that looking costs one comparison.
* A **block** has a provenance. A later block never shortens an earlier one of the same provenance. A success clears
  heuristic blocks, and only if its attempt began after the block was set: a late 200 from before says nothing.
* The **ladder** of heuristic blocks grows with the streak. Failures of attempts that began before the last block ended
  do not advance it, so a hundred simultaneous 429s count once.
* The breaker **trips** at a recorded failure when at least `min_samples` outcomes are in the window and strictly more
  than half of them failed. Tripping raises the epoch: outcomes of an older epoch change nothing here.
* When the disable time is over the scope is **half-open**: one ordinary request is the probe. It answers: closed, with
  an empty window. It fails: open again for the full time. It says nothing (client gone): the place is given back. A
  probe that never reports loses its place when its lease expires, so a lost task cannot wedge the scope.

Order is by lease numbers, not by times: with a number there is no doubt which of two things at the same moment came
first.
"""

from collections.abc import Iterable
from typing import NamedTuple

from keywheel.core.policy import Health
from keywheel.core.spread import spread
from keywheel.core.types import Ladder, Lease, Provenance, Scope
from keywheel.core.window import Counts, Window

JITTER = 0.2  # ± share of a ladder step, so that several workers do not come back at one instant
STEPS = 32  # doublings after which every ladder has reached its cap


class Cause(NamedTuple):
    """What keeps a scope closed longest."""

    reason: str
    until: float
    provenance: Provenance


class Block(NamedTuple):
    """A scope closed until a moment. `at`: when it was set."""

    until: float
    reason: str
    at: float


class Pairs:
    """The lanes and accesses of one model in short. Any change of one of their breakers ends its validity."""

    __slots__ = ("closed", "odd", "until")

    def __init__(self) -> None:
        self.closed: dict[str, float] = {}  # keys whose way is closed, and until when
        self.odd = False  # some of them by a probe under way, or without end
        self.until = 0.0  # all this holds until then: the moment the first of them opens


class Breaker:
    """Everything that decides whether one scope may be entered.

    `window` False: a scope that no error rate can trip (provider, account, access).
    """

    __slots__ = (
        "_blocked_until",
        "_culprits",
        "_failed_number",
        "_health",
        "_ladder_until",
        "_pairs",
        "_probe",
        "_probe_until",
        "_seed",
        "_window",
        "blocks",
        "calm",
        "epoch",
        "open_until",
        "scope",
        "streak",
        "tripped_by",
        "until",
    )

    def __init__(
        self,
        scope: Scope,
        health: Health,
        seed: str = "",
        *,
        window: bool = True,
        pairs: Pairs | None = None,
    ) -> None:
        self.scope = scope
        self.blocks: dict[Provenance, Block] = {}
        self.streak = 0  # failures in a row as the ladder counts them
        self.epoch = 0
        self.open_until: float | None = None  # tripped; half-open from then on
        self.tripped_by = Counts(0, 0, 0)
        self.until = 0.0  # no traffic before this moment
        self.calm = True  # nothing here that a success could change, but for the window
        self._health = health
        self._seed = seed
        self._window = Window(health.window) if window else None
        self._pairs = pairs
        self._blocked_until = 0.0
        self._probe = 0  # lease that holds the probe place
        self._probe_until = 0.0
        self._ladder_until = 0.0
        self._culprits: set[str] = set()  # lanes whose failures the ladder has seen in a row
        self._failed_number = 0  # successes of leases up to this one say nothing

    # --- reading ---------------------------------------------------------------------------------

    def closed_until(self, now: float) -> float:
        """The moment this scope may be entered, 0.0 when it may be entered now."""
        return self.until if self.until > now else 0.0

    def blocked_until(self, now: float) -> float:
        """As `closed_until`, but a probe under way does not count: it may end at any moment."""
        return self._blocked_until if self._blocked_until > now else 0.0

    def is_half_open(self, now: float) -> bool:
        """Whether the next to enter will be the probe."""
        return self.open_until is not None and self.open_until <= now

    def is_guess(self, now: float) -> bool:
        """Whether it is open, or closed by nothing but our own guesses: ladder, error rate, probe."""
        lasting = [p for p, block in self.blocks.items() if block.until > now]
        return all(p is Provenance.HEURISTIC for p in lasting)

    def counts(self, now: float) -> Counts:
        """What the error window holds."""
        return self._window.counts(now) if self._window else Counts(0, 0, 0)

    def cause(self, now: float) -> Cause | None:
        """Reason, end and provenance of what keeps the scope closed longest, None when it is open."""
        until = self.closed_until(now)
        if not until:
            return None
        for provenance, block in self.blocks.items():
            if block.until == until:
                return Cause(block.reason, until, provenance)
        if self.open_until == until:
            rate = f"error rate {self.tripped_by.failed}/{self.tripped_by.total}"
            return Cause(rate, until, Provenance.HEURISTIC)
        return Cause("probe under way", until, Provenance.HEURISTIC)

    # --- entering --------------------------------------------------------------------------------

    def enter(self, number: int, now: float, until: float) -> bool:
        """Go through with a lease. In the half-open state this takes the only probe place, until `until` at the
        latest; True when it did."""
        if self.open_until is None or self.open_until > now or self._probe_until > now:
            return False
        self._probe, self._probe_until = number, until
        self._refresh()
        return True

    def leave(self, number: int) -> None:
        """Give a probe place back without a result."""
        if number == self._probe:
            self._vacate()
            self._refresh()

    # --- results ---------------------------------------------------------------------------------

    def succeed(self, number: int, epoch: int, now: float) -> bool:
        """Record an answer. True when this opened something that was closed or tripped."""
        if epoch != self.epoch:
            return False
        window = self._window
        if window is not None and self.open_until is None:
            window.add(True, now)
        return False if self.calm else self._recover(number, now)

    def fail(self, number: int, epoch: int, now: float, source: str, spans: int) -> bool:
        """Record a failure of `source`. Trips when the window says so and failures come from at least
        `spans` sources; True when it tripped, or opened again because the probe failed."""
        if epoch != self.epoch or self._window is None:
            return False
        if self.open_until is not None:
            return number == self._probe and self._trip(now, self.tripped_by)
        self._window.add(False, now, source)
        counts = self._window.counts(now)
        if counts.total < self._health.min_samples or counts.failed * 2 <= counts.total:
            return False
        return counts.sources >= spans and self._trip(now, counts)

    def climb(
        self, lease: Lease, ladder: Ladder, reason: str, now: float, number: int, spans: int = 1
    ) -> bool:
        """Advance the ladder for a failure of this lease; True when it set a block.

        `number`: the last lease handed out. `spans`: from how many lanes the failures in a row must come.
        """
        if lease.at < self._ladder_until:
            return False  # begun before the last block ended: the same burst
        self._failed_number = max(self._failed_number, number)
        self._culprits.add(f"{lease.key}+{lease.model}")
        self.streak += 1
        if len(self._culprits) < spans:
            self.streak = min(self.streak, ladder.first - 1)
        if self.streak < ladder.first:
            self._refresh()
            return False
        length = ladder.base * 2.0 ** min(self.streak - ladder.first, STEPS)
        length *= 1 + JITTER * (2 * spread(self._seed, self.scope, self.streak) - 1)
        self._ladder_until = now + min(length, ladder.cap)
        return self.block(Provenance.HEURISTIC, self._ladder_until, reason, now, number)

    # --- blocks ----------------------------------------------------------------------------------

    def block(
        self,
        provenance: Provenance,
        until: float,
        reason: str,
        now: float,
        number: int,
        at: float | None = None,
    ) -> bool:
        """Close until a moment. A shorter block than the one of the same provenance is ignored; True when
        it counts. `number`: the last lease handed out before. `at`: when it was decided, if not now."""
        self._failed_number = max(self._failed_number, number)
        old = self.blocks.get(provenance)
        if until <= now or (old and old.until >= until):
            return False
        self.blocks[provenance] = Block(until, reason, now if at is None else at)
        self._refresh()
        return True

    def clear(self, provenance: Provenance, now: float) -> bool:
        """Take back the block of a provenance; True when it still lasted."""
        block = self.blocks.pop(provenance, None)
        self._refresh()
        return block is not None and block.until > now

    def forget(self, provenances: Iterable[Provenance], before: float, now: float) -> None:
        """Another worker found the scope open: take back what was decided before that."""
        for provenance in provenances:
            block = self.blocks.get(provenance)
            if block and block.at <= before:
                self.clear(provenance, now)

    def reset(self) -> None:
        """Operator's hand: forget blocks, window and streak; results under way no longer count."""
        self.blocks.clear()
        self._close()
        self._calm_down()
        self.epoch += 1
        self._refresh()

    # --- inner -----------------------------------------------------------------------------------

    def _recover(self, number: int, now: float) -> bool:
        """An answer came through a scope that was in trouble."""
        opened = number == self._probe and self.open_until is not None
        if opened:
            self._close()
        if number > self._failed_number:
            self._calm_down()
            opened |= self.clear(Provenance.HEURISTIC, now)
        self.blocks = {p: block for p, block in self.blocks.items() if block.until > now}
        self._refresh()
        return opened

    def _trip(self, now: float, counts: Counts) -> bool:
        self._close()
        self.open_until = now + self._health.disable
        self.tripped_by = counts
        self.epoch += 1
        self._refresh()
        return True

    def _close(self) -> None:
        self.open_until = None
        self._vacate()
        if self._window is not None:
            self._window.clear()

    def _vacate(self) -> None:
        self._probe, self._probe_until = 0, 0.0

    def _calm_down(self) -> None:
        self.streak = 0
        self._ladder_until = 0.0
        self._culprits.clear()

    def _refresh(self) -> None:
        """Bring the summaries up to date after any change."""
        ends = [block.until for block in self.blocks.values()]
        self._blocked_until = max(*ends, self.open_until or 0.0, 0.0)
        self.until = max(self._blocked_until, self._probe_until)
        self.calm = not (self.blocks or self.streak or self.open_until is not None)
        if self._pairs:
            self._pairs.until = 0.0
