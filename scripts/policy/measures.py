"""The figures of a policy, from what its runs left behind (routing rule B.3)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, nan

from keywheel.sim import Kind
from scripts.policy.audit import Sent
from scripts.policy.bench import Run
from scripts.policy.oracle import FAILURE, utility
from scripts.policy.scenarios import MODELS, Fault
from scripts.policy.workloads import Call

RANK = {model: rank for rank, model in enumerate(MODELS)}
CALM = 15.0  # seconds without an attempt from which on a fault counts as noticed: the shortest ladder step


@dataclass(slots=True)
class Sample:
    """One run in numbers that can be added up."""

    seed: int
    hours: float
    asks: int = 0
    answered: int = 0
    units: int = 0  # requests that counted against a quota
    wasted: int = 0  # attempts that led to no answer
    worth: float = 0.0
    totals: list[float] = field(default_factory=list[float])
    firsts: list[float] = field(default_factory=list[float])
    accounts: float = nan  # Jain's index
    clients: float = nan
    platform: Counter[str] = field(default_factory=Counter[str])
    over_limit: int = 0
    over_forgotten: int = 0
    on_closed: int = 0
    idle_lane: int = 0
    avoidable: int = 0
    late: float = 0.0
    queue: int = 0
    promises: list[float] = field(default_factory=list[float])
    healthy: int = 0
    disabled: int = 0
    cooling: int = 0
    noticed: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    lingering: list[float] = field(default_factory=list[float])
    recovered: list[float] = field(default_factory=list[float])
    wall: float = 0.0


def measure(run: Run) -> Sample:
    """One run."""
    audit, calls = run.audit, run.calls
    good = [call for call in calls if call.ok]
    attempts = sum(call.attempts for call in calls)
    sends = Counter(sent.account for sent in audit.sent)
    found = Sample(
        seed=run.seed,
        hours=run.hours,
        asks=len(calls),
        answered=len(good),
        units=len(audit.sent),
        wasted=attempts - len(good),
        worth=sum(map(worth, calls)),
        totals=[call.finish - call.arrival for call in good],
        firsts=[call.first for call in good if call.first < inf],
        accounts=jain([sends[name] / limit for name, limit in run.limits.items()]),
        clients=jain(_served(calls)),
        platform=audit.platform,
        over_limit=audit.over_minute + audit.over_day,
        over_forgotten=audit.over_forgotten,
        on_closed=audit.on_closed,
        idle_lane=audit.idle_lane,
        avoidable=audit.avoidable,
        late=audit.late,
        queue=audit.queue,
        promises=audit.promises,
        wall=run.wall,
    )
    if run.health:
        found.healthy, found.disabled = run.health.healthy, run.health.disabled
        found.cooling, found.lingering = run.health.cooling, run.health.lingering
    for fault in run.scenario.faults:
        begin, end = run.scenario.start + fault.begin, run.scenario.start + fault.end
        sent = [each for each in audit.sent if _concerns(fault, each)]
        during = [each.at for each in sent if begin <= each.at < end]
        if during:  # a scope that nobody wants is not missed either
            _notice(found, during, begin)
            _recover(found, sent, end)
    return found


def worth(call: Call) -> float:
    """The utility of one call: the answer's, less the price of every attempt in vain."""
    if not call.ok:
        return -FAILURE * max(1, call.attempts)
    in_vain = FAILURE * (call.attempts - 1)
    return utility(RANK[call.model], call.finish - call.arrival) - in_vain


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _served(calls: Iterable[Call]) -> list[float]:
    """The share of its requests that each client got answered."""
    asked: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for call in calls:
        name = call.client.partition("-")[0] if call.client.startswith("greedy") else call.client
        asked[name] += 1
        answered[name] += call.ok
    return [answered[name] / count for name, count in asked.items()]


def _concerns(fault: Fault, sent: Sent) -> bool:
    return sent.model in fault.models or sent.key == fault.key


def _notice(found: Sample, times: Sequence[float], begin: float) -> None:
    """How many attempts a fault took, and how long, until the first calm."""
    for number, (at, following) in enumerate(pairwise((*times, inf)), 1):
        if following - at > CALM:
            found.noticed.append((number, at - begin))
            return


def _recover(found: Sample, sent: Iterable[Sent], end: float) -> None:
    """How long after its end the first answer came from there, if anything did."""
    answers = (each.at for each in sent if each.at >= end and each.kind is Kind.OK)
    first = next(answers, None)
    if first is not None:
        found.recovered.append(first - end)


# --- several runs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """A policy in a scenario, over all seeds."""

    samples: tuple[Sample, ...]
    totals: tuple[float, ...]
    firsts: tuple[float, ...]

    def count(self, name: str) -> float:
        """A count over all seeds."""
        return sum(getattr(sample, name) for sample in self.samples)

    def most(self, name: str) -> float:
        """The greatest value of all seeds."""
        return max(getattr(sample, name) for sample in self.samples)

    @property
    def success(self) -> float:
        """Share of the requests that were answered in time and whole."""
        return self.count("answered") / self.count("asks")

    @property
    def goodput(self) -> float:
        """Answers an hour."""
        return self.count("answered") / self.count("hours")

    @property
    def efficiency(self) -> float:
        """Answers for one unit of quota."""
        return self.count("answered") / max(1.0, self.count("units"))

    @property
    def wasted(self) -> float:
        """Attempts in vain a request."""
        return self.count("wasted") / self.count("asks")

    @property
    def worth(self) -> float:
        """Mean utility of a request."""
        return self.count("worth") / self.count("asks")

    @property
    def accounts(self) -> float:
        """Jain's index over used/limit of the accounts, mean of the seeds."""
        return self.count("accounts") / len(self.samples)

    @property
    def clients(self) -> float:
        """Jain's index over the clients' share of answers, mean of the seeds."""
        return self.count("clients") / len(self.samples)

    @property
    def promise(self) -> float:
        """The worst promise of Retry-After, seconds it was off."""
        return max((abs(off) for sample in self.samples for off in sample.promises), default=0.0)

    @property
    def disabled(self) -> float:
        """Share of healthy lane-minutes in which the lane was disabled."""
        return self.count("disabled") / max(1.0, self.count("healthy"))

    @property
    def cooling(self) -> float:
        """Share of healthy lane-minutes in which the lane was cooling."""
        return self.count("cooling") / max(1.0, self.count("healthy"))

    @property
    def over_limit(self) -> int:
        """Sends beyond a limit that no killed process explains."""
        return sum(sample.over_limit for sample in self.samples)

    @property
    def noticed(self) -> tuple[int, float]:
        """Attempts into a fault, and seconds, until the first calm: the worst of each."""
        found = [each for sample in self.samples for each in sample.noticed]
        return max((n for n, _ in found), default=0), max((s for _, s in found), default=0.0)

    @property
    def slowly(self) -> int:
        """Faults that took more than three attempts and more than 30 s to be noticed."""
        found = (each for sample in self.samples for each in sample.noticed)
        return sum(attempts > 3 and seconds > 30 for attempts, seconds in found)

    @property
    def lingering(self) -> float:
        """Seconds for which a scope stayed closed after its fault, the worst."""
        return max((s for sample in self.samples for s in sample.lingering), default=0.0)

    @property
    def recovered(self) -> float:
        """Seconds from the end of a fault to the first answer from there, the worst."""
        return max((s for sample in self.samples for s in sample.recovered), default=0.0)

    def platform(self, cause: str) -> int:
        """429s of the platform by cause: self, others, restart."""
        return sum(sample.platform[cause] for sample in self.samples)


def combine(samples: Iterable[Sample]) -> Figures:
    """Several runs as one."""
    samples = tuple(samples)
    return Figures(
        samples,
        tuple(sorted(total for sample in samples for total in sample.totals)),
        tuple(sorted(first for sample in samples for first in sample.firsts)),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share stays below."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else nan
