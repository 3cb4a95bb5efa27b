"""A small model of workers, one store and a bad network, in virtual time: who really sends, and when.

The store is the book of rules, the workers are real ledgers. Each worker's link to the store is up, or loses what goes
one way or both; what is lost on its way back has happened all the same, and some messages arrive very late.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from keywheel.core.share import Share
from keywheel.stores import Claim, Parcel, Receipt, StoreLost, Taken
from keywheel.stores.book import Book
from keywheel.stores.diary import Diary
from keywheel.stores.ledger import Ledger, Need
from keywheel.stores.memory import MemoryStore

STEP = 0.5  # seconds: the pace of exchanges
RPM, CAP, DAY = 20, 19, 86_400
ACCOUNT = "team"
UP, DEAF, CUT = "up", "deaf", "cut"


@dataclass
class World:
    """Everything at one moment."""

    random: Random
    now: float
    limit: int
    book: Book = field(default_factory=lambda: Book("birth"))
    sends: list[tuple[float, int]] = field(default_factory=list)  # when, and for which date
    late: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def dates(self) -> tuple[int, ...]:
        """The dates a send is charged to: both around midnight."""
        return tuple(sorted({int((self.now + by) // DAY) for by in (-30, 30)}))


class Link:
    """One worker's way to the store; a `Store` as far as a ledger needs one."""

    inline, remote = False, True

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = UP

    def take(self, claim: Claim) -> Taken:
        return self._carry(lambda: self.world.book.take(claim, self.world.now))

    def push(self, parcel: Parcel) -> Receipt:
        return self._carry(lambda: self.world.book.push(parcel, self.world.now))

    def pull(self) -> tuple[Any, ...]:
        return ()

    def close(self) -> None: ...

    def _carry(self, call: Callable[[], Any]) -> Any:
        if self.state == CUT:
            if self.world.random.random() < 0.05:
                self.world.late.append((self.world.now + self.world.random.uniform(0, 150), call))
            raise StoreLost("cut")
        answer = call()
        if self.state == DEAF:
            raise StoreLost("deaf")
        return answer


@dataclass
class Worker:
    """A process that sends as much as it may."""

    world: World
    slot: str
    slots: int
    eager: float
    starts: int = 0
    number: int = 0

    def __post_init__(self) -> None:
        self.link = Link(self.world)
        self._diary = Diary(MemoryStore(), self.slot)
        self.start()

    def start(self) -> None:
        """Begin, or begin anew with nothing but what was written down."""
        self.starts += 1
        share = Share(self.slots)
        clock, diary = self.world.clock, self._diary
        self.ledger = Ledger(
            self.link, self.slot, self.starts, clock=clock, share=share, diary=diary
        )

    def step(self) -> None:
        self._exchange()
        if self.world.random.random() < self.eager:
            self._send()

    def _exchange(self) -> None:
        day = int(self.world.now // DAY)
        needs = Need(ACCOUNT, {day: self.world.limit, day + 1: self.world.limit}, CAP)
        try:
            self.ledger.exchange([needs])
        except StoreLost:
            return

    def _send(self) -> None:
        self.number += 1
        need = Need(ACCOUNT, dict.fromkeys(self.world.dates(), self.world.limit), CAP)
        try:
            permitted = self.ledger.take(f"{self.slot}/{self.number}", need).permitted
        except StoreLost:
            return
        if permitted:
            self.world.sends.append((self.world.now, int(self.world.now // DAY)))


def run(seed: int, *, seconds: float = 500.0) -> World:
    """One random life of 2 to 7 workers."""
    random = Random(seed)
    begin = 20_000 * DAY + random.choice((40_000.0, DAY - 120.0))
    world = World(random, begin, random.choice((50, 60, 90, 150, 300)))
    slots = random.randint(2, 7)
    eager = (0.02, 0.1, 0.5, 1.0)
    workers = [
        Worker(world, f"host{number}/0", slots, random.choice(eager)) for number in range(slots)
    ]
    changes = _changes(random, workers, begin, seconds)
    while world.now < begin + seconds:
        world.now += STEP
        while changes and changes[-1][0] <= world.now:
            changes.pop()[1]()
        _arrive_late(world)
        for worker in random.sample(workers, len(workers)):
            worker.step()
    return world


def _changes(
    random: Random, workers: list[Worker], begin: float, seconds: float
) -> list[tuple[float, Callable[[], None]]]:
    """When links break and heal, the latest first; often several at one moment."""
    found: list[tuple[float, Callable[[], None]]] = []
    for _ in range(random.randint(1, 6)):
        at = begin + random.uniform(0, seconds * 0.7)
        length = random.choice((1.0, 3.0, 20.0, 100.0, 250.0)) * random.uniform(0.5, 1.5)
        for worker in random.sample(workers, random.randint(1, len(workers))):
            state = random.choice((DEAF, CUT))
            found.append((at, lambda link=worker.link, state=state: setattr(link, "state", state)))
            found.append((at + length, lambda link=worker.link: setattr(link, "state", UP)))
            if random.random() < 0.3:
                found.append((at + length * random.random(), worker.start))
            length += random.choice((0.0, 0.0, 0.5, 7.0))
    return sorted(found, key=lambda change: -change[0])


def _arrive_late(world: World) -> None:
    due = [call for at, call in world.late if at <= world.now]
    world.late = [(at, call) for at, call in world.late if at > world.now]
    for call in due:
        call()


def excess(world: World) -> list[str]:
    """Which limits the true sends broke."""
    times = [at for at, _ in world.sends]
    found = [
        f"{len(times[first:last])} sends in 60 s at {times[first]:.1f}"
        for first in range(len(times))
        for last in (first + RPM + 1,)
        if last <= len(times) and times[last - 1] - times[first] < 60.0
    ]
    dates = {date for _, date in world.sends}
    counts = {date: sum(d == date for _, d in world.sends) for date in dates}
    return found + [f"{n} sends on {date}" for date, n in counts.items() if n > world.limit]
