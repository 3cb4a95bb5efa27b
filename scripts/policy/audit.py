"""What is true: checked while the world runs, from what really happened at the upstream and not from what a policy believes.

* sends of an account in any 60 s and in any UTC date, against its true limits (invariants I1, I2);
* 429s of the platform, by who caused them: ourselves, others on the account, a restart that forgot;
* attempts on scopes that the policy itself had declared closed (I6);
* refusals while a lane was usable (promise P5), promises of `Retry-After` that do not hold (P6);
* lanes disabled although nothing was wrong with them.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from keywheel.core.attempts import Refused
from keywheel.core.types import Ask, Blocked, Event, Kind, Lease, Reopened, Scope
from keywheel.sim import Kind as Ruled
from keywheel.sim import Ruling

MINUTE, DAY = 60.0, 86_400.0
MEMORY = 61.0  # seconds after a restart in which a full minute may be the forgotten one's doing
PROMISES = 40  # promises of Retry-After that are looked into, each costs a copy of the pool
PLATFORM = {Ruled.MINUTE: "minute", Ruled.DAY: "day"}


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

    def usable(self, now: float) -> bool:
        """Whether a small ask would find a lane now."""
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
    on_closed: int = 0
    refusals: int = 0
    idle_lane: int = 0  # the policy itself knew a usable lane when it refused
    avoidable: int = 0  # the world would have answered when the policy refused
    late: float = 0.0  # seconds by which an answer passed its deadline
    promises: list[float] = field(default_factory=list[float])  # promised minus really usable, seconds
    queue: int = 0  # most asks waiting at once
    _waiting: deque[float] = field(default_factory=deque[float])
    _sends: dict[str, _Sends] = field(default_factory=dict[str, _Sends])
    _closed: dict[Scope, float] = field(default_factory=dict[Scope, float])
    _crash: float = -DAY

    # --- attempts --------------------------------------------------------------------------------

    def attempt(self, lease: Lease, ruling: Ruling, now: float, clock: float) -> bool:
        """An attempt reached the upstream; True when the answer is a 429 of the platform."""
        self.sent.append(Sent(now, lease.key, lease.account, lease.model, ruling.kind))
        self._count(lease.account, now)
        self._check_open(lease, clock)
        window = PLATFORM.get(ruling.kind)
        if window:
            self.platform[self._culprit(lease.account, window, now)] += 1
        return window is not None

    def _count(self, account: str, now: float) -> None:
        rules, sends = self.rules[account], self._sends.setdefault(account, _Sends())
        date = int(now // DAY)
        sends.recent.append(now)
        sends.dates[date] += 1
        while sends.recent[0] <= now - MINUTE:
            sends.recent.popleft()
        self.over_minute += len(sends.recent) > rules.minute
        self.over_day += sends.dates[date] > rules.day(now)

    def _culprit(self, account: str, window: str, now: float) -> str:
        if self.rules[account].shared:
            return "others"
        memory = MEMORY if window == "minute" else DAY
        return "restart" if now - self._crash < memory else "self"

    def crashed(self, now: float) -> None:
        """The process forgot everything."""
        self._crash = now
        self._closed.clear()
        self._waiting.clear()

    # --- what the policy says --------------------------------------------------------------------

    def hear(self, events: Iterable[Event]) -> None:
        """Remember what the policy declared closed."""
        for event in events:
            if isinstance(event, Blocked):
                self._closed[event.scope] = event.until
            elif isinstance(event, Reopened):
                self._closed.pop(event.scope, None)

    def _check_open(self, lease: Lease, clock: float) -> None:
        scopes = (
            Scope(Kind.KEY, lease.key),
            Scope(Kind.ACCOUNT, lease.account),
            Scope(Kind.MODEL, lease.model),
            Scope(Kind.LANE, f"{lease.key}+{lease.model}"),
        )
        self.on_closed += any(self._closed.get(scope, 0.0) > clock for scope in scopes)

    def wait(self, now: float, until: float) -> None:
        """An ask waits for a lane."""
        waiting = self._waiting
        while waiting and waiting[0] <= now:
            waiting.popleft()
        waiting.append(until)
        self.queue = max(self.queue, len(waiting))

    def refused(
        self, result: Refused, ask: Ask, policy: Chooser, now: float, clock: float
    ) -> None:
        """An ask ended without an answer."""
        self.refusals += 1
        self.avoidable += self.truth(now)
        if result.no_lane is None or result.tries:
            return
        self.idle_lane += policy.usable(clock)
        at = result.no_lane.at
        if at is not None and len(self.promises) < PROMISES and at - clock > 1.0:
            self.promises.append(at - first_usable(policy, clock, at))

    def ended(self, left: float) -> None:
        """An ask was answered or refused so many seconds before its deadline."""
        self.late = max(self.late, -left)


def first_usable(policy: Chooser, now: float, promised: float) -> float:
    """The first moment at which a copy of the policy would serve, if nothing else happens; to 0.1 s.

    The copy is asked from the promise backwards and forwards, for looking ahead forgets what lies behind.
    """
    early, late = now, promised
    while not deepcopy(policy).usable(late):
        if late > promised + 2 * DAY:
            return late
        early, late = late, promised + max(1.0, 2 * (late - promised))
    while late - early > 0.1:
        middle = (early + late) / 2
        if deepcopy(policy).usable(middle):
            late = middle
        else:
            early = middle
    return late
