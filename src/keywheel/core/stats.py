"""What happened, counted: per key, per model and in all. Fed with the pool's events; read by `report`."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from math import exp, floor, log

from keywheel.core.history import History
from keywheel.core.totals import Totals
from keywheel.core.types import Attempted, Event, Finished

STEP = log(1.1)  # neighbouring buckets differ by a tenth: percentiles are exact to 5 %
LOWEST = 0.001  # seconds
LOWEST_OVERHEAD = 0.00001  # seconds: what the gateway adds is a fraction of a millisecond
PENDING = 1_024  # requests whose first failure is remembered until they end


class Distribution:
    """Durations in buckets that grow by a tenth, for percentiles in bounded memory. Shorter than `lowest`: as long."""

    __slots__ = ("_buckets", "_lowest", "count", "total")

    def __init__(self, lowest: float = LOWEST) -> None:
        self._buckets: dict[int, int] = {}
        self._lowest = lowest
        self.count = 0
        self.total = 0.0  # seconds

    def add(self, seconds: float) -> None:
        """Take one duration."""
        lowest = self._lowest
        index = round(log(seconds / lowest) / STEP) if seconds > lowest else 0
        self._buckets[index] = self._buckets.get(index, 0) + 1
        self.count += 1
        self.total += seconds

    def merge(self, more: "Distribution") -> None:
        """Take the durations of another one with the same buckets."""
        for index, count in more._buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + count
        self.count += more.count
        self.total += more.total

    def pack(self) -> tuple[float, float, list[tuple[int, int]]]:
        """All of it as plain values, for `unpack`."""
        return self._lowest, self.total, list(self._buckets.items())

    @classmethod
    def unpack(cls, told: tuple[float, float, list[tuple[int, int]]]) -> "Distribution":
        """What `pack` gave."""
        lowest, total, buckets = told
        found = cls(lowest)
        found._buckets = dict(buckets)
        found.count, found.total = sum(count for _, count in buckets), total
        return found

    def up_to(self, bounds: Iterable[float]) -> list[int]:
        """How many durations were at most each bound, in seconds, smallest first; a tenth apart they are one."""
        last = [floor(log(bound / self._lowest) / STEP) for bound in bounds]
        indexes = sorted(self._buckets)
        seen = [0, *accumulate(self._buckets[index] for index in indexes)]
        return [seen[bisect_right(indexes, index)] for index in last]

    def percentile(self, share: float) -> float | None:
        """The duration that this share of all stays below, in seconds; None without any."""
        if not self.count:
            return None
        indexes = sorted(self._buckets)
        seen = list(accumulate(self._buckets[index] for index in indexes))
        return self._lowest * exp(indexes[bisect_left(seen, share * self.count)] * STEP)

    def milliseconds(self) -> dict[str, float | None]:
        """The three usual percentiles in milliseconds."""
        values = {name: self.percentile(share) for name, share in _PERCENTILES.items()}
        return {name: None if v is None else round(v * 1e3, 1) for name, v in values.items()}


_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(slots=True)
class Tally:
    """Attempts of one key or model. Abandoned attempts are counted as attempts and as nothing else."""

    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_timed: int = 0  # those of tokens_out that came one after another …
    seconds_out: float = 0.0  # … and the time in which they did
    last_used: float | None = None
    last_error: str | None = None
    failed_at: float | None = None
    latency: Distribution = field(default_factory=Distribution)
    ttft: Distribution = field(default_factory=Distribution)

    def add(self, event: Attempted) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.last_used = event.at
        if event.row == "abandoned":
            return
        self.latency.add(event.total)
        if not event.ok:
            self.failed += 1
            self.last_error = event.row
            self.failed_at = event.at
            return
        self.succeeded += 1
        self.tokens_in += event.tokens_in
        self.tokens_out += event.tokens_out
        if event.ttft is None:
            return
        self.ttft.add(event.ttft)
        if event.total > event.ttft:  # an answer in one piece says nothing about speed
            self.seconds_out += event.total - event.ttft
            self.tokens_timed += event.tokens_out

    def merge(self, more: "Tally") -> None:
        """Count what another worker counted."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.last_used = max(filter(None, (self.last_used, more.last_used)), default=None)
        if (more.failed_at or 0.0) >= (self.failed_at or 0.0):
            self.failed_at, self.last_error = more.failed_at, more.last_error
        self.latency.merge(more.latency)
        self.ttft.merge(more.ttft)

    def success_rate(self) -> float | None:
        """Share of answers among the attempts that ended in an answer or a failure; None without any."""
        judged = self.succeeded + self.failed
        return self.succeeded / judged if judged else None

    def tokens_per_second(self) -> float | None:
        """Mean speed after the first token; None without any."""
        return self.tokens_timed / self.seconds_out if self.seconds_out > 0 else None


_SUMS = ("attempts", "succeeded", "failed", "tokens_in", "tokens_out", "tokens_timed", "seconds_out")  # fmt: skip


@dataclass(slots=True)
class ErrorCount:
    """How often one row of the classification table fired."""

    row: str
    scope: str
    count: int = 0
    last_at: float = 0.0


class Stats:
    """Counters since a moment.

    `requests` by (dialect, outcome); `attempts` by (key, model, row); `fallbacks` by the row of the first failure.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.totals = Totals()
        self.keys: defaultdict[str, Tally] = defaultdict(Tally)
        self.models: defaultdict[str, Tally] = defaultdict(Tally)
        self.errors: dict[str, ErrorCount] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.durations: defaultdict[str, Distribution] = defaultdict(Distribution)
        self.overhead = Distribution(LOWEST_OVERHEAD)
        self.history = History(since)
        self._failures: dict[str, str] = {}  # request → row of its first failure, until it ends

    def record(self, event: Event) -> None:
        """Count one event; blocks and reopenings are state, not statistics."""
        if isinstance(event, Attempted):
            self._attempted(event)
        elif isinstance(event, Finished):
            self._finished(event)

    def merge(self, more: "Stats") -> None:
        """Count what another worker counted."""
        self.since = min(self.since, more.since)
        self.totals.merge(more.totals)
        for mine, theirs in ((self.keys, more.keys), (self.models, more.models)):
            for name, tally in theirs.items():
                mine[name].merge(tally)
        for row, error in more.errors.items():
            known = self.errors.setdefault(row, ErrorCount(row, error.scope))
            known.count += error.count
            known.last_at = max(known.last_at, error.last_at)
        self.requests.update(more.requests)
        self.attempts.update(more.attempts)
        self.fallbacks.update(more.fallbacks)
        for dialect, durations in more.durations.items():
            self.durations[dialect].merge(durations)
        self.overhead.merge(more.overhead)
        self.history.merge(more.history)

    def _attempted(self, event: Attempted) -> None:
        self.totals.attempted(event)
        self.history.attempted(event)
        self.keys[event.key].add(event)
        self.models[event.model].add(event)
        self.attempts[event.key, event.model, event.row] += 1
        if event.ok or event.row == "abandoned":
            return
        self._remember(event)
        error = self.errors.setdefault(event.row, ErrorCount(event.row, event.scope))
        error.count += 1
        error.last_at = event.at

    def _remember(self, event: Attempted) -> None:
        """A request that never ends must not stay for ever."""
        self._failures.setdefault(event.request_id, event.row)
        if len(self._failures) > PENDING:
            del self._failures[next(iter(self._failures))]

    def _finished(self, event: Finished) -> None:
        self.totals.finished(event)
        self.history.finished(event)
        self.requests[event.dialect, event.outcome] += 1
        self.durations[event.dialect].add(event.total)
        if event.overhead:
            self.overhead.add(event.overhead)
        reason = self._failures.pop(event.request_id, "none") if self._failures else "none"
        if event.attempts > 1:
            self.fallbacks[reason] += 1
