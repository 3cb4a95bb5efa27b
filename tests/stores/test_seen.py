"""What a store remembers between takes is what the file says: whoever wrote, whatever failed, however many sends."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from keywheel.stores import Answer, Caller, Claim, Parcel, Sent, Store, Taken, Tally, sqlite
from keywheel.stores.memory import MemoryStore
from keywheel.stores.sqlite import BULK, SqliteStore
from tests.stores.build import CAP, TODAY, claim, joined, taken, tally
from tests.stores.conftest import Hand

pytestmark = pytest.mark.usefixtures("quiet")

Open = Callable[[], SqliteStore]


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def sibling(path: Path, clock: Hand) -> Iterator[Open]:
    """Opens one more store of the same group on the same file."""
    stores: list[SqliteStore] = []

    def another() -> SqliteStore:
        stores.append(SqliteStore(path, group="g", clock=clock))
        return stores[-1]

    yield another
    for store in stores:
        store.close()


def sends_in(store: SqliteStore) -> int:
    with store._database.transaction() as db:
        return int(db.execute("SELECT count(*) FROM send").fetchone()[0])


@contextmanager
def failing(failure: type[BaseException]) -> Iterator[None]:
    """Takes fail after the send is written and the day is counted."""

    def broken(*_: object) -> None:
        raise failure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "_count", broken)
        yield


# --- what others write -----------------------------------------------------------------------------


class Model:
    """The rules in their simplest form: everything that was ever sent, in one list."""

    def __init__(self) -> None:
        self.sends: list[tuple[str, str, float]] = []  # account, lease, when
        self.days: dict[tuple[str, int], dict[str, int]] = {}

    def told(self, who: Caller, tallies: tuple[Tally, ...]) -> list[dict[str, int]]:
        days = [self.days.setdefault((t.account, t.date), {}) for t in tallies]
        for day, t in zip(days, tallies, strict=True):
            day[who.writer] = max(day.get(who.writer, 0), t.mine)
            day["others"] = max(day.get("others", 0), t.others)
        return days

    def recent(self, account: str, now: float) -> list[str]:
        return [lease for a, lease, at in self.sends if a == account and at > now - 61]

    def take(self, claim: Claim, now: float) -> Taken:
        days = self.told(claim.caller, claim.tallies)
        recent = self.recent(claim.account, now)
        spent = [sum(d.values()) >= t.limit for d, t in zip(days, claim.tallies, strict=True)]
        if claim.lease in recent:
            answer = Answer.AGAIN
        elif len(recent) >= claim.minute_limit:
            answer = Answer.MINUTE
        elif any(spent):
            answer = Answer.DAY
        else:
            answer = Answer.TAKEN
            self.sends.append((claim.account, claim.lease, now))
            for day in days:
                day[claim.caller.writer] += 1
        counted = len(recent) + (answer is Answer.TAKEN)
        return Taken(answer, counted, tuple(sum(day.values()) for day in days))


class Crew:
    """Three stores of one group and the model, which are told the same."""

    def __init__(self, sibling: Open, clock: Hand, random: Random) -> None:
        self.sibling, self.clock, self.random = sibling, clock, random
        self.model = Model()
        self.stores = [sibling() for _ in range(3)]
        self.callers = [joined(store, f"a/{n}") for n, store in enumerate(self.stores)]
        self.turn = 0

    def step(self) -> None:
        """Something happens to one of them."""
        self.turn = self.random.randrange(3)
        act = self.random.choice(
            [self.take] * 12
            + [self.push, self.wait] * 2
            + [self.undo, lambda: self.store.tend(self.clock.now), self.restart]
        )
        act()

    @property
    def store(self) -> SqliteStore:
        return self.stores[self.turn]

    @property
    def who(self) -> Caller:
        return self.callers[self.turn]

    def tallies(self, account: str) -> tuple[Tally, ...]:
        choose = self.random.choice
        mine, others, limit = choose((0, 0, 4)), choose((0, 0, 3)), choose((30, 90))
        dates = choose(((TODAY,), (TODAY, TODAY + 1)))
        return tuple(tally(account, d, mine=mine, others=others, limit=limit) for d in dates)

    def take(self) -> None:
        tallies = self.tallies(self.random.choice("xy"))
        asked = claim(self.who, self.random.randrange(200), *tallies, cap=9)
        assert self.store.take(asked) == self.model.take(asked, self.clock.now)

    def push(self) -> None:
        told, age = self.tallies("x"), self.random.choice((5.0, 40.0, 60.5))
        sent = Sent("x", f"late/{self.random.randrange(90)}", age)
        standings = self.store.push(Parcel(self.who, tallies=told, sends=(sent,))).standings
        days = self.model.told(self.who, told)
        assert [standing.used for standing in standings] == [sum(day.values()) for day in days]
        if sent.lease not in self.model.recent("x", self.clock.now):
            self.model.sends.append(("x", sent.lease, self.clock.now - age))

    def undo(self) -> None:
        asked = claim(self.who, "undone", tally("x", mine=10**6, limit=10**9), cap=10**9)
        with failing(RuntimeError), pytest.raises(RuntimeError):
            self.store.take(asked)

    def wait(self) -> None:
        self.clock.wait(self.random.choice((0.1, 3.0, 20.0, 62.0)))

    def restart(self) -> None:
        self.stores[self.turn] = self.sibling()


@pytest.mark.parametrize("seed", range(12))
def test_siblings_on_one_file_agree_at_every_moment(seed: int, sibling: Open, clock: Hand) -> None:
    crew = Crew(sibling, clock, Random(seed))
    for _ in range(150):
        crew.step()


def test_what_a_sibling_sent_after_all_rows_were_past_is_seen(sibling: Open, clock: Hand) -> None:
    one, two = sibling(), sibling()
    who = joined(one)
    taken(one, who, CAP)
    assert two.take(claim(who, "late")).answer is Answer.MINUTE
    clock.wait(100.0)
    one.tend(clock.now)
    assert one.take(claim(who, "new")) == Taken(Answer.TAKEN, 1, (CAP + 1,))
    assert two.take(claim(who, "newer")) == Taken(Answer.TAKEN, 2, (CAP + 2,))


def test_a_date_forgotten_by_a_sibling_or_by_oneself_is_counted_anew(
    sibling: Open, clock: Hand
) -> None:
    one, two = sibling(), sibling()
    who = joined(one)
    taken(one, who, 3)
    for tends in (one, two):
        tends.tend(clock.now + 9 * 86_400.0)
        used = one.take(claim(who, tends is one)).days[0]
        assert used == one.used("team", TODAY) == 1


def test_a_clock_put_back_fills_the_minute_of_siblings_for_a_minute_only(
    sibling: Open, clock: Hand
) -> None:
    one, two = sibling(), sibling()
    who = joined(one)
    taken(one, who, CAP)
    assert two.take(claim(who, "late")).minute == CAP
    clock.wait(-3_600.0)
    for store in (one, two, sibling()):
        assert store.take(claim(who, "late")) == Taken(Answer.MINUTE, CAP, (CAP,))
    assert sends_in(one) == CAP
    clock.wait(61.1)
    for count, store in enumerate((one, two, sibling()), 1):
        assert store.take(claim(who, f"late{count}")).minute == count


# --- what was undone -------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_take_that_was_undone_leaves_no_trace(
    failure: type[BaseException], path: Path, clock: Hand
) -> None:
    store = SqliteStore(path, clock=clock)
    who = joined(store)
    taken(store, who, 2)
    with failing(failure), pytest.raises(failure):
        store.take(claim(who, "undone"))
    assert len(store.stamps("team")) == store.used("team", TODAY) == 2
    assert store.take(claim(who, "undone")) == Taken(Answer.TAKEN, 3, (3,))
    assert len(store.stamps("team")) == store.used("team", TODAY) == 3
    store.close()


# --- many sends ------------------------------------------------------------------------------------


def cost(store: Store, who: Caller, leases: range) -> list[float]:
    spent: list[float] = []
    for lease in leases:
        asked = claim(who, lease, tally(limit=10**9), cap=10**9)
        began = time.perf_counter()
        store.take(asked)
        spent.append(time.perf_counter() - began)
    return spent


@pytest.mark.parametrize("kind", ["memory", "alone", "siblings"])
def test_ten_thousand_sends_in_the_last_minute_do_not_slow_a_take(
    kind: str, tmp_path: Path, clock: Hand
) -> None:
    def opened(name: str) -> list[Any]:
        if kind == "memory":
            return [MemoryStore(clock=clock)]
        count, group = (2, "g") if kind == "siblings" else (1, None)
        return [SqliteStore(tmp_path / name, group=group, clock=clock) for _ in range(count)]

    few, many = opened("few.db"), opened("many.db")
    new, busy = joined(few[0]), joined(many[0])
    crowd = tuple(Sent("team", f"earlier/{n}", 1.0) for n in range(10_000))
    many[0].push(Parcel(busy, sends=crowd))
    times: dict[str, list[float]] = {"few": [], "many": []}
    for at in range(0, 200, 4):  # in turn, so that a busy machine slows both
        for number in range(len(few)):
            leases = range(at + 2 * number, at + 2 * number + 2)
            times["few"] += cost(few[number], new, leases)
            times["many"] += cost(many[number], busy, leases)
    assert many[0].take(claim(busy, "last", cap=10**9)).minute > 10_000
    assert statistics.median(times["many"]) < 3 * statistics.median(times["few"])
    for store in few + many:
        store.close()


def test_rows_do_not_pile_up_between_two_tends(sibling: Open, clock: Hand) -> None:
    one, two = sibling(), sibling()
    who, rate = joined(one), 1_000  # sends a minute
    for number in range(3 * rate):
        clock.wait(60.0 / rate)
        store = (one, one, two)[number % 3]
        store.take(claim(who, number, tally(limit=10**9), cap=10**9))
    assert rate <= sends_in(one) <= rate * 61 / 60 + BULK + 1
