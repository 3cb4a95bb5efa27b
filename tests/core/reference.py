"""The pool's rules once more, naively: lists of everything that happened, looked through whenever something is asked.

No buckets that expire, no summaries, no caches. The property tests run it in lock-step with the real pool.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from keywheel.core.spread import spread
from keywheel.core.types import (
    FOREVER,
    WINDOW_SCOPES,
    Account,
    Charge,
    Kind,
    Lease,
    Length,
    Provenance,
    Row,
    Scope,
    Verdict,
)

DAY = 86_400.0
AUTHORITATIVE, HEURISTIC = Provenance.AUTHORITATIVE, Provenance.HEURISTIC
Closure = tuple[float, str]  # until when, and why


@dataclass
class Health:
    """One scope: every block and every result it ever got."""

    blocks: list[tuple[Provenance, float]] = field(default_factory=list[tuple[Provenance, float]])
    results: list[tuple[float, bool, str]] = field(default_factory=list[tuple[float, bool, str]])
    epoch: int = 0
    open_until: float | None = None
    probe: int = 0
    probe_until: float = 0.0
    streak: int = 0
    ladder_until: float = 0.0
    culprits: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    said_nothing_before: int = 0  # answers of leases up to this one clear nothing

    def blocked(self, now: float) -> float:
        ends = [end for _, end in self.blocks] + [self.open_until or 0.0]
        return max(end if end > now else 0.0 for end in ends)

    def closed(self, now: float) -> float:
        return max(self.blocked(now), self.probe_until if self.probe_until > now else 0.0)

    def drop(self, provenance: Provenance) -> None:
        self.blocks = [(p, end) for p, end in self.blocks if p is not provenance]

    def forget(self) -> None:
        self.results, self.open_until, self.probe, self.probe_until = [], None, 0, 0.0

    def reset(self) -> None:
        self.forget()
        self.blocks, self.streak, self.ladder_until, self.culprits = [], 0, 0.0, set()
        self.epoch += 1

    def answer(self, number: int, epoch: int, now: float) -> None:
        if epoch != self.epoch:
            return
        if self.open_until is None:
            self.results.append((now, True, ""))
        elif number == self.probe:
            self.forget()
        if number > self.said_nothing_before:
            self.streak, self.ladder_until, self.culprits = 0, 0.0, set()
            self.drop(HEURISTIC)

    def fail(self, number: int, epoch: int, now: float, source: str, spans: int) -> None:
        if epoch != self.epoch or (self.open_until is not None and number != self.probe):
            return
        self.results.append((now, False, source))
        first = (now // 30 - 9) * 30  # ten buckets of 30 s
        recent = [(ok, who) for at, ok, who in self.results if at >= first]
        bad = [who for ok, who in recent if not ok]
        trips = len(recent) >= 5 and 2 * len(bad) > len(recent) and len(set(bad)) >= spans
        if self.open_until is not None or trips:
            self.forget()
            self.open_until, self.epoch = now + 300.0, self.epoch + 1

    def block(self, provenance: Provenance, until: float, now: float, number: int) -> None:
        self.said_nothing_before = max(self.said_nothing_before, number)
        if until > now:
            self.blocks.append((provenance, until))

    def climb(
        self, scope: Scope, lease: Lease, row: Row, now: float, number: int, spans: int
    ) -> None:
        assert row.ladder is not None
        if lease.at < self.ladder_until:
            return
        self.said_nothing_before = max(self.said_nothing_before, number)
        self.culprits.add((lease.key, lease.model))
        self.streak += 1
        if len(self.culprits) < spans:
            self.streak = min(self.streak, row.ladder.first - 1)
        if self.streak >= row.ladder.first:
            length = row.ladder.base * 2.0 ** (self.streak - row.ladder.first)
            length *= 0.8 + 0.4 * spread("seed", scope, self.streak)
            self.ladder_until = now + min(length, row.ladder.cap)
            self.block(HEURISTIC, self.ladder_until, now, number)


@dataclass
class Counter:
    """One account: every send, every charge, every reading."""

    account: Account
    limit: int
    skew: float = 0.0
    used: defaultdict[int, int] = field(default_factory=lambda: defaultdict[int, int](int))
    sends: list[float] = field(default_factory=list[float])
    log: list[tuple[float, int, int] | None] = field(
        default_factory=list[tuple[float, int, int] | None]
    )
    open: int = 0
    full_until: float = 0.0

    def date(self, now: float) -> int:
        return int((now + self.skew) // DAY)

    def opens_on(self, day: int) -> float:
        return day * DAY - self.skew + 5.0 + 25.0 * spread(self.account.name, day)

    def recent(self, now: float) -> list[float]:
        return sorted(at for at in self.sends if at + 61 > now)

    def closures(self, now: float, free: bool) -> list[Closure]:
        found: list[Closure] = []
        if self.account.concurrency is not None and self.open >= self.account.concurrency:
            found.append((now + 0.25, "busy"))
        if not free or self.account.per_day is None:
            return found
        today = self.date(now)
        if self.used[today] >= self.limit:
            found.append((self.opens_on(today + 1), "day"))
        elif self.used[today - 1] >= self.limit:
            found.append((self.opens_on(today), "day"))
        cap = max(1, int(self.account.per_minute * 0.95))
        recent = self.recent(now)
        if len(recent) >= cap:
            found.append((recent[len(recent) - cap] + 61, "minute"))
        found.append((self.full_until, "minute"))
        return [(end, why) for end, why in found if end > now]

    def send(self, now: float, free: bool) -> None:
        self.open += 1
        if free and self.account.per_day is not None:
            for day in {self.date(now - 30), self.date(now + 30)}:
                self.used[day] += 1
            self.sends.append(now)
            self.log.append(None)

    def refund(self, lease: Lease) -> None:
        for day in lease.days:
            self.used[day] = max(0, self.used[day] - 1)
        if lease.days and lease.at in self.sends:
            self.sends.remove(lease.at)

    def read(self, used: int | None, limit: int | None, now: float) -> None:
        if limit is not None and self.account.per_day is not None:
            self.limit = limit
        if used is None:
            return
        today = self.date(now)
        if used + self.open >= self.used[today] or self.open:
            self.used[today] = max(self.used[today], used + self.open)
            self.log.append(None)
            return
        agreeing = [now]
        for entry in reversed(self.log):
            if entry is None or entry[1:] != (today, used):
                break
            agreeing.append(entry[0])
        self.log.append((now, today, used))
        if now - agreeing[-1] >= 60:
            self.used[today] = used
            self.log.append(None)


def blames(row: Row) -> set[Kind]:
    """The scopes whose error windows a failure enters."""
    return set(WINDOW_SCOPES[row.window])


def said_until(verdict: Verdict, counter: Counter, now: float) -> float:
    """The end of the block a row files by itself; what it says about quota is counted."""
    row = verdict.row
    today = counter.date(now)
    if row.charge is Charge.DAY:
        counter.used[today] = max(counter.used[today], counter.limit)
        return counter.opens_on(today + 1)
    if row.charge is Charge.MINUTE:
        oldest = min(counter.recent(now), default=now - 1)
        counter.full_until = max(counter.full_until, verdict.until or oldest + 61)
        return counter.full_until
    if row.length is Length.CHECKED:
        return FOREVER
    if row.length is Length.MIDNIGHT:
        return counter.opens_on(today + 1)
    fixed = now + row.seconds if row.seconds is not None else 0.0
    said = verdict.until if row.length is Length.SAID and verdict.until is not None else fixed
    return max(said, now + row.least)
