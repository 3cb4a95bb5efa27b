"""One worker's side of a store: its own counts, its takes and exchanges, and its share when the store is silent.

It has no thread: whoever drives it calls `exchange` every half second, and `take` before a send.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import NamedTuple

from keywheel.core.marks import Mark
from keywheel.core.share import Place, Share
from keywheel.errors import StoreError
from keywheel.stores.contract import (
    KEPT,
    Answer,
    Caller,
    Claim,
    Parcel,
    Receipt,
    Sent,
    Store,
    StoreLost,
    Taken,
    Tally,
)
from keywheel.stores.diary import Diary, Own, Page


class Need(NamedTuple):
    """What an account may send: its limit a day by UTC date, and its limit a minute."""

    account: str
    limits: Mapping[int, int]
    cap: int


class Emptied(StoreLost):
    """The store came back without what was in it. Own rows were told to it just now; once `GET /key` of every metered
    account was read, `Ledger.accept` trusts it again."""


class Ledger:
    """Safe to use from several threads. `share` None: the store is on this machine; without it nothing is sent.

    `slot`: host label and worker number. `start`: another one for every start, for example the time.
    """

    def __init__(
        self,
        store: Store,
        slot: str,
        start: int,
        *,
        clock: Callable[[], float],
        share: Share | None = None,
        diary: Diary | None = None,
    ) -> None:
        self.share = share
        self._store = store
        self._clock = clock
        self._caller = Caller(slot, start, slots=share.slots if share else 1)
        self._lock = Lock()
        self._mine: dict[Place, int] = {}
        self._asked: dict[
            Place, int
        ] = {}  # of these, takes that have no answer yet: the store counts them itself
        self._others: dict[Place, int] = {}
        self._used: dict[Place, int] = {}
        self._sends: deque[Own] = deque()
        self._offered = ""  # birth of the store as it is now
        self._diary = diary
        if diary and (page := diary.read()):
            self._resume(page)

    def take(self, lease: str, need: Need) -> Taken:
        """Permission for one send on every date of the need, or a refusal. `need.limits`: one date, or two around
        midnight. Raises `StoreLost` when nobody can permit it now, `StoreError` when the store is broken."""
        now = self._clock()
        if self.share and not self.share.may_take(now):
            return self._take_of_share(lease, need, now, self.share)
        claim = self._claim(lease, need)
        try:
            taken = self._store.take(claim)
        except BaseException as error:
            broken = isinstance(error, StoreError) and not isinstance(error, StoreLost)
            with self._lock:
                self._settle(need, counts=not broken)  # without an answer it may have happened
            raise
        with self._lock:
            self._settle(need, counts=taken.answer is Answer.TAKEN)
            if self.share and taken.answer is Answer.TAKEN:  # without a share nobody asks for them
                self._sends.append(Own(need.account, lease, now))
            self._used |= zip(_places(need), taken.days, strict=True)
        return taken

    def exchange(self, needs: Iterable[Need], marks: Iterable[Mark] = ()) -> tuple[Mark, ...]:
        """Tell own counts and marks; the marks of all. `needs`: every metered account, with today and tomorrow.

        Raises `Emptied`, or `StoreError` as the store does; repeat it half a second later.
        """
        needs = tuple(needs)
        parcel = self._parcel(needs, tuple(marks))
        receipt = self._store.push(parcel)
        self._learn(needs, receipt)
        return self._store.pull()

    def accept(self) -> None:
        """Trust the store as it is now."""
        with self._lock:
            self._caller = self._caller._replace(birth=self._offered)

    def observe(self, account: str, day: int, used: int) -> None:
        """`GET /key` says how many sends the account made on a date. What none of ours explains was sent by others."""
        with self._lock:
            place = (account, day)
            others = self._others.get(place, 0)
            ours = max(self._used.get(place, 0) - others, self._mine.get(place, 0))
            self._others[place] = max(others, used - ours)

    def used(self, account: str, day: int) -> int:
        """Sends of all on a date, as far as this worker knows."""
        with self._lock:
            own = self._mine.get((account, day), 0) + self._others.get((account, day), 0)
            return max(own, self._used.get((account, day), 0))

    def leave(self) -> None:
        """A clean stop: nobody has to leave room for this worker any more. Raises `StoreError`."""
        self._store.push(self._parcel((), (), leaving=True))

    # --- inner -----------------------------------------------------------------------------------

    def _take_of_share(self, lease: str, need: Need, now: float, share: Share) -> Taken:
        with self._lock:
            recent = self._recent(need.account, now)
            if not share.send(need.account, need.limits, need.cap, recent, now):
                raise StoreLost(
                    f"the shared store is silent, and {need.account} has no share of its own now"
                )
            _add(self._mine, need, 1)
            self._sends.append(Own(need.account, lease, now))
            self._write()
            days = tuple(self._mine[place] for place in _places(need))
            return Taken(Answer.TAKEN, recent + 1, days)

    def _claim(self, lease: str, need: Need) -> Claim:
        with self._lock:
            claim = Claim(self._caller, lease, self._tallies(need), need.cap)
            _add(self._mine, need, 1)
            _add(self._asked, need, 1)
        return claim

    def _settle(self, need: Need, *, counts: bool) -> None:
        """A take has its answer, or will never have one."""
        _add(self._asked, need, -1)
        if not counts:
            _add(self._mine, need, -1)

    def _parcel(
        self, needs: tuple[Need, ...], marks: tuple[Mark, ...], *, leaving: bool = False
    ) -> Parcel:
        now = self._clock()
        with self._lock:
            tallies = tuple(tally for need in needs for tally in self._tallies(need))
            while self._sends and self._sends[0].at <= now - KEPT:
                self._sends.popleft()
            in_doubt = self.share is not None and not self.share.may_take(now)
            sends = tuple(Sent(own.account, own.lease, now - own.at) for own in self._sends)
            return Parcel(self._caller, marks, tallies, sends if in_doubt else (), leaving)

    def _learn(self, needs: tuple[Need, ...], receipt: Receipt) -> None:
        places = [place for need in needs for place in _places(need)]
        limits = [(n, need.cap) for need in needs for n in need.limits.values()]
        with self._lock:
            self._offered = receipt.birth
            if self._caller.birth not in ("", receipt.birth):
                raise Emptied("the shared store has lost what was in it; it was told again")
            self._caller = self._caller._replace(birth=receipt.birth, heard=receipt.now)
            for place, standing in zip(places, receipt.standings, strict=True):
                self._used[place] = standing.used
                self._mine[place] = max(standing.mine, self._mine.get(place, 0))
            if self.share:
                rows = zip(places, limits, receipt.standings, strict=True)
                left = {p: (limit - s.used - s.rooms, cap) for p, (limit, cap), s in rows}
                self.share.answered(self._clock(), left)
                self._write()

    def _write(self) -> None:
        """Before a send by share leaves, and at every answer: a restart must know no less."""
        if self._diary and self.share and self.share.record:
            page = Page(self._caller, self.share.record, self._mine, tuple(self._sends))
            self._diary.write(page)

    def _resume(self, page: Page) -> None:
        """Go on as the writer that wrote it: its counts are absolute, so nothing is told twice."""
        self._caller = page.caller._replace(slots=self._caller.slots)
        self._mine = dict(page.mine)
        self._sends = deque(page.sends)
        if self.share:
            self.share.restore(page.record)

    def _tallies(self, need: Need) -> tuple[Tally, ...]:
        rows = zip(_places(need), need.limits.values(), strict=True)
        others = self._others
        return tuple(Tally(*p, self._told(p), others.get(p, 0), limit) for p, limit in rows)

    def _told(self, place: Place) -> int:
        """Own sends as they are told: one that is refused in a moment must not stay counted in the store."""
        return self._mine.get(place, 0) - self._asked.get(place, 0)

    def _recent(self, account: str, now: float) -> int:
        return sum(own.account == account and own.at > now - KEPT for own in self._sends)


def _places(need: Need) -> list[Place]:
    return [(need.account, day) for day in need.limits]


def _add(counts: dict[Place, int], need: Need, n: int) -> None:
    for place in _places(need):
        counts[place] = counts.get(place, 0) + n
