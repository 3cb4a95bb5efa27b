"""The rules of a shared store as plain data, without a clock: the model that Redis and SQLite are tested against.

Minute: a log of send stamps. Day: one absolute count per writer and date; the sum is what was used. Room: what is kept
free for a worker that has not heard from the store for a while, because it may go on by its share (rule A.11.3):

* A slot is *silent* when the last reply it is known to have received is more than `SILENT` seconds old.
* Its room on a date is fixed once, at the first exchange of any worker that finds it silent, before that exchange
  counts anything: 1/n of what is left. Of the minute it is 1/n of the limit. `take` refuses what would eat into it.
* An exchange that proves that the slot has heard from the store lately ends its rooms.

A worker takes only while its exchanges are answered, so no `take` is more than a moment behind the last look for
silent slots.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from keywheel.core.marks import Mark, fade
from keywheel.stores.contract import (
    GONE,
    KEPT,
    OTHERS,
    SILENT,
    Answer,
    Caller,
    Claim,
    Parcel,
    Receipt,
    Standing,
    StoreLost,
    Taken,
    Tally,
)
from keywheel.stores.rows import to_row

Place = tuple[str, int]  # account and UTC date


class Send(NamedTuple):
    """A row of the minute's log. `number`: of two rows with one lease the one with the larger number holds."""

    at: float
    number: int
    account: str
    lease: str


class Minute:
    """The sends of the last 61 s of all accounts. What a look or a note costs hardly grows with how many there are.

    Invariant: a lease in `_leases` has exactly one row in the queue that bears its number; the others were replaced.
    """

    def __init__(self) -> None:
        self._leases: dict[str, dict[str, int]] = {}  # account → lease → number of its row
        self._queue: list[Send] = []  # a heap: the oldest first
        self._latest = 0.0  # no stamp is later
        self.last = 0  # the largest number noted
        self.past = 0  # the largest number forgotten

    def of(self, account: str) -> Mapping[str, int]:
        """The number of each lease, as it changes; without those past 61 s after `age`."""
        return self._leases.setdefault(account, {})

    def stamps(self, account: str) -> list[float]:
        """When the account sent, in no order."""
        return [send.at for send in self._queue if send.account == account and self._holds(send)]

    def note(self, send: Send) -> None:
        """Add a row. Numbers rise from call to call."""
        self._leases.setdefault(send.account, {})[send.lease] = self.last = send.number
        heappush(self._queue, send)
        self._latest = max(self._latest, send.at)

    def age(self, now: float) -> int:
        """Forget what is past 61 s; how many rows that were."""
        queue, oldest, count = self._queue, now - KEPT, 0
        while queue and queue[0].at <= oldest:
            self._drop(heappop(queue))
            count += 1
        return count

    def take_later(self, limit: float) -> list[Send]:
        """Take out what is stamped later than this."""
        if self._latest <= limit:
            return []
        later = [send for send in self._queue if send.at > limit and self._holds(send)]
        self._queue = [send for send in self._queue if send.at <= limit]
        heapify(self._queue)
        self._latest = limit
        for send in later:
            self._drop(send)
        return later

    def _drop(self, send: Send) -> None:
        self.past = max(self.past, send.number)
        if self._holds(send):
            del self._leases[send.account][send.lease]

    def _holds(self, send: Send) -> bool:
        return self._leases[send.account].get(send.lease) == send.number


class Book:
    """Counters, rooms and marks. Every method takes the store's time."""

    def __init__(self, birth: str) -> None:
        self.birth = birth
        self._minute = Minute()
        self._days: dict[Place, dict[str, int]] = {}  # → writer → count
        self._rooms: dict[Place, dict[str, int]] = {}  # → slot → sends kept free
        self._heard: dict[str, float] = {}  # slot → time of the last reply it received
        self._marks: dict[str, tuple[float, Mark]] = {}

    def take(self, claim: Claim, now: float) -> Taken:
        """Permit one send or refuse it."""
        caller = claim.caller
        if caller.birth != self.birth:
            raise StoreLost("the store has lost what was in it")
        for tally in claim.tallies:
            self._raise(tally, caller.writer)
        self._minute.age(now)
        sends = self._minute.of(claim.account)
        answer = self._judge(claim, sends)
        if answer is Answer.TAKEN:
            self._log(claim.account, claim.lease, now)
            for tally in claim.tallies:
                self._days[tally.account, tally.date][caller.writer] += 1
        used = tuple(self.used(tally.account, tally.date) for tally in claim.tallies)
        return Taken(answer, len(sends), used)

    def push(self, parcel: Parcel, now: float) -> Receipt:
        """Take in what a worker tells."""
        caller = parcel.caller
        self._hear(caller, now)
        rooms = [self._fix_rooms(tally, caller.slots, now) for tally in parcel.tallies]
        for tally in parcel.tallies:
            self._raise(tally, caller.writer)
        self._minute.age(now)
        for sent in parcel.sends:
            if sent.lease not in self._minute.of(sent.account):
                self._log(sent.account, sent.lease, now - sent.age)
        for mark in parcel.marks:
            self._note(mark)
        if parcel.leaving:
            del self._heard[caller.slot]
        standings = zip(parcel.tallies, rooms, strict=True)
        told = tuple(self._standing(tally, room, caller.writer) for tally, room in standings)
        return Receipt(now, self.birth, told)

    def pull(self, now: float) -> tuple[Mark, ...]:
        """All marks that can still matter."""
        kept = fade((mark for _, mark in self._marks.values()), now)
        self._marks = {row.key: (row.weight, mark) for mark in kept for row in (to_row(mark),)}
        return kept

    def used(self, account: str, date: int) -> int:
        """Sends of all writers."""
        return sum(self._days.get((account, date), {}).values())

    def stamps(self, account: str, now: float) -> tuple[float, ...]:
        """When the account sent in the last 61 s."""
        self._minute.age(now)
        return tuple(sorted(self._minute.stamps(account)))

    def forget(self, before: int) -> None:
        """Drop the dates before this one."""
        for places in (self._days, self._rooms):
            for place in [place for place in places if place[1] < before]:
                del places[place]

    # --- inner -----------------------------------------------------------------------------------

    def _hear(self, caller: Caller, now: float) -> None:
        """A slot that is new here is about to receive its first reply."""
        known = self._heard.get(caller.slot)
        self._heard[caller.slot] = now if known is None else max(known, caller.heard)

    def _fix_rooms(self, tally: Tally, slots: int, now: float) -> int:
        """The sends kept free for silent slots."""
        rooms = self._rooms.setdefault((tally.account, tally.date), {})
        left = max(0, tally.limit - self.used(tally.account, tally.date))
        silent = self._silent(now)
        for slot in rooms.keys() - set(silent):
            del rooms[slot]
        for slot in silent:
            rooms.setdefault(slot, left // slots)
        return sum(rooms.values())

    def _silent(self, now: float) -> list[str]:
        ages = {slot: now - heard for slot, heard in self._heard.items()}
        return [slot for slot, age in ages.items() if SILENT < age <= GONE]

    def _raise(self, tally: Tally, writer: str) -> None:
        day = self._days.setdefault((tally.account, tally.date), {})
        for name, count in ((writer, tally.mine), (OTHERS, tally.others)):
            day[name] = max(count, day.get(name, 0))

    def _judge(self, claim: Claim, sends: Mapping[str, int]) -> Answer:
        limit = claim.minute_limit
        if claim.lease in sends:
            return Answer.AGAIN
        places = [(tally.account, tally.date) for tally in claim.tallies]
        rooms = [self._rooms.get(place, {}) for place in places]
        if len(sends) + max(map(len, rooms)) * (limit // claim.caller.slots) >= limit:
            return Answer.MINUTE
        for tally, kept in zip(claim.tallies, rooms, strict=True):
            if self.used(tally.account, tally.date) + sum(kept.values()) >= tally.limit:
                return Answer.DAY
        return Answer.TAKEN

    def _log(self, account: str, lease: str, at: float) -> None:
        self._minute.note(Send(at, self._minute.last + 1, account, lease))

    def _note(self, mark: Mark) -> None:
        row = to_row(mark)
        if row.weight >= self._marks.get(row.key, (row.weight, mark))[0]:
            self._marks[row.key] = (row.weight, mark)

    def _standing(self, tally: Tally, rooms: int, writer: str) -> Standing:
        mine = self._days[tally.account, tally.date].get(writer, 0)
        return Standing(self.used(tally.account, tally.date), rooms, mine)
