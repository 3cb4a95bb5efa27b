"""What is true: checked while the world runs, from what happened at the upstream and not from what a policy believes.

* sends of an account in any 60 s and in any UTC date, against its true limits (invariants I1, I2);
* 429s of the platform, by who caused them: ourselves, others on the account, a restart that forgot;
* attempts on scopes that the policy itself had declared closed (I6);
* refusals while a lane was usable (promise P5), promises of `Retry-After` that do not hold (P6);
* lanes disabled although nothing was wrong with them.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from keywheel.core.steps import Refused
from keywheel.core.types import Ask, Blocked, Event, Kind, Lease, Reopened, Retry, Scope
from keywheel.sim import Kind as Ruled
from keywheel.sim import Ruling

MINUTE, DAY = 60.0, 86_400.0
MEMORY = (
    61.0  # seconds after a restart in which a full minute may be the forgotten one's doing, as the
)
# lagging counter of `GET /key` may be a full day's
PROMISES = 12  # promises of Retry-After that are looked into: each costs some copies of the pool …
FEW = 2  # attempts that an ask has in any case, however scarce the day (rule A.7)
APART = 60.0  # … and seconds between two of them
PLATFORM = {Ruled.MINUTE, Ruled.DAY}


class Sent(NamedTuple):
    """One attempt that reached the upstream."""

    at: float
    key: str
    account: str
    model: str
    kind: Ruled


class Rules(NamedTuple):
    """An account's true limits, and whether others use it, too."""

    minute: int
    day: Callable[[float], int]
    shared: bool


class Chooser(Protocol):
    """A policy, as far as its promises are looked into."""

    def usable(self, now: float, tried: frozenset[str] = frozenset()) -> bool:
        """Whether a small ask would find a lane now, on another model than those tried."""
        ...

    def opens(self, now: float, promised: float) -> float | None:
        """When a small ask would find a lane if nothing else happened; None: it makes no promises."""
        ...


@dataclass(slots=True)
class _Sends:
    recent: deque[float] = field(default_factory=deque[float])
    dates: Counter[int] = field(default_factory=Counter[int])


@dataclass(slots=True)
class Audit:
    """The book of one run. `truth(now)`: whether the world would answer a small ask on some lane now."""

    rules: dict[str, Rules]  # by the account's label
    truth: Callable[[float], bool]
    sent: list[Sent] = field(default_factory=list[Sent])
    platform: Counter[str] = field(default_factory=Counter[str])  # self, others, restart → 429s
    over_minute: int = 0
    over_day: int = 0
    over_forgotten: int = (
        0  # beyond the minute, because a killed process had forgotten what it sent
    )
    on_closed: int = 0
    idle_lane: int = 0  # it knew a usable lane when it gave up after one attempt or none
    avoidable: int = 0  # the world would have answered when the policy refused
    late: float = 0.0  # seconds by which an answer passed its deadline
    promises: list[float] = field(
        default_factory=list[float]
    )  # promised minus really usable, seconds
    queue: int = 0  # most asks waiting at once
    _waiting: int = 0
    _sends: dict[str, _Sends] = field(default_factory=dict[str, _Sends])
    closed: dict[Scope, float] = field(default_factory=dict[Scope, float])
    _crash: float = -DAY
    _promised: float = 0.0

    # --- attempts --------------------------------------------------------------------------------

    def attempt(self, lease: Lease, ruling: Ruling, now: float, clock: float) -> bool:
        """An attempt reached the upstream; True when the answer is a 429 of the platform."""
        self.sent.append(Sent(now, lease.key, lease.account, lease.model, ruling.kind))
        self._count(lease.account, now)
        self._check_open(lease, clock)
        window = ruling.kind in PLATFORM
        if window:
            self.platform[self._culprit(lease.account, now)] += 1
        return window

    def _count(self, account: str, now: float) -> None:
        rules, sends = self.rules[account], self._sends.setdefault(account, _Sends())
        date = int(now // DAY)
        sends.recent.append(now)
        sends.dates[date] += 1
        while sends.recent[0] <= now - MINUTE:
            sends.recent.popleft()
        forgot = now - self._crash < MEMORY
        self.over_minute += len(sends.recent) > rules.minute and not forgot
        self.over_day += sends.dates[date] > rules.day(now) and not forgot
        self.over_forgotten += len(sends.recent) > rules.minute and forgot

    def _culprit(self, account: str, now: float) -> str:
        if self.rules[account].shared:
            return "others"
        return "restart" if now - self._crash < MEMORY else "self"

    def crashed(self, now: float) -> None:
        """The process forgot everything."""
        self._crash = now
        self.closed.clear()
        self._waiting = 0

    # --- what the policy says --------------------------------------------------------------------

    def hear(self, events: Iterable[Event]) -> None:
        """Remember what the policy declared closed."""
        for event in events:
            if isinstance(event, Blocked):
                self.closed[event.scope] = event.until
            elif isinstance(event, Reopened):
                self.closed.pop(event.scope, None)

    def _check_open(self, lease: Lease, clock: float) -> None:
        scopes = (
            Scope(Kind.KEY, lease.key),
            Scope(Kind.ACCOUNT, lease.account),
            Scope(Kind.MODEL, lease.model),
            Scope(Kind.LANE, f"{lease.key}+{lease.model}"),
        )
        self.on_closed += any(self.closed.get(scope, 0.0) > clock for scope in scopes)

    def waits(self, change: int) -> None:
        """An ask begins (1) or ends (-1) to wait for a lane."""
        self._waiting += change
        self.queue = max(self.queue, self._waiting)

    def refused(self, result: Refused, ask: Ask, policy: Chooser, now: float, clock: float) -> None:
        """An ask ended without an answer."""
        self.avoidable += self.truth(now)
        final = result.verdict and result.verdict.row.retry is Retry.RETURN
        if len(result.tries) < FEW and not result.expired and not final:
            self.idle_lane += policy.usable(clock, frozenset(each.model for each in result.tries))
        if result.no_lane is None or result.tries:
            return
        at = result.no_lane.at
        if at is None or len(self.promises) >= PROMISES or now - self._promised < APART:
            return
        opens = policy.opens(clock, at)
        if opens is not None:
            self._promised = now
            self.promises.append(at - opens)

    def ended(self, left: float) -> None:
        """An ask was answered or refused so many seconds before its deadline."""
        self.late = max(self.late, -left)
