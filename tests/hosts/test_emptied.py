"""A shared store that comes back empty is not trusted before everybody has told again what was sent."""

import json

import pytest

from keywheel.config import Config, StateSettings
from keywheel.core.quota import Reading
from keywheel.core.steps import Ended, Refused, Send, Served, Take
from keywheel.engine import Engine
from keywheel.errors import StoreError
from keywheel.flow import Terms
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.stores import State
from keywheel.stores.book import Book
from keywheel.stores.contract import KEPT, SILENT
from keywheel.stores.memory import MemoryStore
from keywheel.wire.ask import read
from tests.test_books import LISTED, OK, Clock

STEP = 0.5  # seconds between two exchanges
BOTH = ("primary", "secondary")  # keys, each with an account of its own
CAP = 19
BODY = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()


class Far(MemoryStore):
    """A store that is not on this machine, and can lose everything."""

    inline, remote = False, True

    def empty(self) -> None:
        self._book = Book("another birth")


class Worker:
    """An engine on a shared store, its exchanges driven by hand."""

    def __init__(self, store: Far, clock: Clock, number: int) -> None:
        keys = [KeyEntry(label(n), Secret(f"sk-or-v1-{n:064x}"), "test") for n in (1, 2)]
        state = State(store, MemoryStore(clock=clock))
        config = Config(state=StateSettings(slots=3))
        self.engine = Engine(config, keys, clock=clock, state=state, worker=number)
        self.engine.take_models(LISTED)
        self.sent = 0

    def exchange(self) -> None:
        books = self.engine._books
        assert books is not None
        try:
            books._exchange(self.engine)
        except StoreError:
            return

    def ask(self) -> bool:
        """One request; whether it was sent."""
        flow = self.engine.open(read(BODY, "chat"), Terms("r1"))
        step, sent = self.engine.advance(flow), self.sent
        while not isinstance(step, Served | Refused):
            if isinstance(step, Take):
                step = self.engine.advance(flow, self.engine.take(step))
            elif isinstance(step, Send):
                self.sent += 1
                step = self.engine.advance(flow, Ended(self.engine.clock(), OK))
            else:
                self.engine.abandon(flow)
                break
        return self.sent > sent

    def read_key(self, key: str, used: int | None) -> None:
        """`GET /key` has answered."""
        reading = Reading(used, None)
        self.engine.note(lambda pool, now: pool.key_is_good(key, reading, now))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Far:
    return Far(clock=clock)


@pytest.fixture
def pair(store: Far, clock: Clock) -> list[Worker]:
    """Two workers that may take."""
    found = [Worker(store, clock, number) for number in (0, 1)]
    pass_time(found, clock, 2 * STEP)
    return found


def pass_time(pair: list[Worker], clock: Clock, seconds: float, step: float = STEP) -> None:
    for _ in range(round(seconds / step)):
        clock.now += step
        for worker in pair:
            worker.exchange()


def seconds_until_sent(worker: Worker, pair: list[Worker], clock: Clock, longest: float) -> float:
    began = clock.now
    while clock.now - began <= longest:
        pass_time(pair, clock, STEP)
        if worker.ask():
            return clock.now - began
    return longest


def test_the_minute_holds_although_its_log_was_lost_and_exchanges_follow_quickly(
    store: Far, pair: list[Worker], clock: Clock
) -> None:
    """Blocks of accounts are told at once, so there may be many exchanges in a second."""
    for _ in range(12):
        for worker in pair:
            worker.ask()
    assert sum(worker.sent for worker in pair) == 24
    store.empty()
    for _ in range(200):
        pass_time(pair, clock, 0.1, 0.1)
        for worker in pair:
            for key in BOTH:
                worker.read_key(key, 12)
            worker.ask()
    assert sum(worker.sent for worker in pair) == 2 * CAP


def test_it_is_trusted_again_when_all_were_heard_and_every_key_was_read(
    store: Far, pair: list[Worker], clock: Clock
) -> None:
    first = pair[0]
    store.empty()
    pass_time(pair, clock, 2 * SILENT)
    assert not first.ask()
    first.read_key("primary", 3)
    pass_time(pair, clock, STEP)
    assert not first.ask(), "one account is not known yet"
    first.read_key("secondary", 3)
    assert seconds_until_sent(first, pair, clock, 10.0) <= 3 * STEP


def test_a_key_that_is_not_accepted_holds_up_nobody(
    store: Far, pair: list[Worker], clock: Clock
) -> None:
    first = pair[0]
    first.engine.note(lambda pool, now: pool.key_is_bad("secondary", "bad-key", now))
    store.empty()
    pass_time(pair, clock, STEP)
    first.read_key("primary", 3)
    assert seconds_until_sent(first, pair, clock, 60.0) <= SILENT + 3 * STEP


def test_an_upstream_that_shows_no_counter_is_not_waited_for_for_ever(
    store: Far, pair: list[Worker], clock: Clock
) -> None:
    first = pair[0]
    store.empty()
    waited = seconds_until_sent(first, pair, clock, 3 * KEPT)
    assert KEPT <= waited <= KEPT + 3 * STEP
