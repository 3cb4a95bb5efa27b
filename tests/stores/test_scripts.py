"""The scripts that Redis runs do what the book of rules does, call by call."""

from random import Random
from typing import Any

import pytest

from keywheel.secret import Secret
from keywheel.stores import Caller, Claim, Parcel, Sent, StoreLost, Tally
from keywheel.stores.book import Book
from keywheel.stores.redis import RedisStore
from keywheel.stores.scripts import TAKE
from keywheel.stores.urls import InRedis, read_url
from tests.stores.build import NOW, TODAY
from tests.stores.conftest import pass_time
from tests.stores.server import Server

SLOTS = ("a/0", "a/1", "b/0")
WAITS = (0.3, 4.2, 7.0, 30.0, 62.0, 200_000.0)


class Pair:
    """A book and a server that are told the same. Each worker knows the time of the one and of the other."""

    def __init__(self, server: Server, store: RedisStore, random: Random) -> None:
        self.server, self.store, self.random = server, store, random
        self.book, self.now = Book("birth"), NOW
        self.heard = dict.fromkeys(SLOTS, (0.0, 0.0))
        self.birth = ""
        self.leases = 0

    def callers(self) -> tuple[Caller, Caller]:
        slot = self.random.choice(SLOTS)
        mine, theirs = self.heard[slot]
        return (
            Caller(slot, 1, mine, self.book.birth, len(SLOTS)),
            Caller(slot, 1, theirs, self.birth, len(SLOTS)),
        )

    def tallies(self, account: str) -> tuple[Tally, ...]:
        dates = self.random.choice(((TODAY,), (TODAY, TODAY + 1)))
        limit = self.random.choice((12, 40))
        mine, others = self.random.randint(0, 12), self.random.choice((0, 0, 3))
        return tuple(Tally(account, date, mine, others, limit) for date in dates)

    def take(self) -> None:
        mine, theirs = self.callers()
        self.leases += self.random.choice((0, 1, 1, 1))
        told = (f"lease/{self.leases}", self.tallies(self.random.choice("xy")), 9)
        assert self.store.take(Claim(theirs, *told)) == self.book.take(Claim(mine, *told), self.now)

    def push(self) -> None:
        mine, theirs = self.callers()
        tallies = self.tallies("x") + self.tallies("y")
        sends = tuple(Sent("x", f"own/{n}", 10.0 * n) for n in range(self.random.randint(0, 3)))
        leaving = self.random.random() < 0.1
        ours = self.book.push(Parcel(mine, (), tallies, sends, leaving), self.now)
        receipt = self.store.push(Parcel(theirs, (), tallies, sends, leaving))
        self.birth = receipt.birth
        assert receipt.standings == ours.standings
        if self.random.random() < 0.6:  # otherwise the answer got lost
            self.heard[mine.slot] = (ours.now, receipt.now)

    def wait(self) -> None:
        seconds = self.random.choice(WAITS)
        self.now += seconds
        pass_time(self.server, seconds)
        self.heard = {slot: (a, b and b - seconds) for slot, (a, b) in self.heard.items()}


@pytest.mark.parametrize("seed", range(25))
def test_redis_answers_as_the_book_does(seed: int, server: Server) -> None:
    place = read_url(Secret(server.url))
    assert isinstance(place, InRedis)
    random, store = Random(seed), RedisStore(place)
    try:
        pair = Pair(server, store, random)
        pair.push()
        steps: list[Any] = [pair.take] * 6 + [pair.push] * 3 + [pair.wait]
        for _ in range(80):
            random.choice(steps)()
    finally:
        store.close()
        with server.client() as client:
            client.flushall()


def test_the_script_for_a_take_stays_small() -> None:
    assert len(TAKE.strip().splitlines()) <= 26


def test_an_emptied_book_permits_nothing() -> None:
    with pytest.raises(StoreLost):
        Book("b").take(Claim(Caller("a/0", 1), "x", (Tally("x", 1, 0, 0, 9),), 9), NOW)
