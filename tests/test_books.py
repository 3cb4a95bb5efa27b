"""What survives a restart, and what workers of one store tell each other."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keywheel.books import Books, books_of
from keywheel.config import Config
from keywheel.core.rows import ROWS
from keywheel.core.steps import Done, Ended, Refused, Send, Served, Wait
from keywheel.core.types import Answered, Failed, Kind, Scope, Verdict
from keywheel.engine import Engine
from keywheel.errors import StoreError
from keywheel.flow import Terms
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.stores import Claim, State, StoreLost, Taken
from keywheel.stores.memory import MemoryStore
from keywheel.stores.sqlite import SqliteStore
from keywheel.wire.ask import read
from keywheel.wire.models import read_models
from tests.gateway.asgi import served

NOON = 1_791_201_600.0  # 2026-10-05 12:00 UTC
SMALL, LARGE = "a/small-8b:free", "b/large-70b:free"
OK = Answered(0.1, 0.2, 10, 5)
LISTED = read_models(json.dumps({"data": [served(SMALL), served(LARGE)]}).encode())


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


class Worker:
    """An engine on a store, its exchanges driven by hand."""

    def __init__(self, state: State, clock: Clock, number: int = 0, *, listed: bool = True) -> None:
        keys = [KeyEntry(label(n), Secret(f"sk-or-v1-{n:064x}"), "test") for n in (1, 2)]
        self.engine = Engine(Config(), keys, clock=clock, state=state, worker=number)
        if listed:
            self.engine.take_models(LISTED)
        books = self.engine._books  # pyright: ignore[reportPrivateUsage]
        assert books is not None
        self.books: Books = books

    def exchange(self) -> None:
        self.books._exchange(self.engine)  # pyright: ignore[reportPrivateUsage]

    def ask(self, outcome: Answered | Failed = OK, **fields: Any) -> Served | Refused:
        body = {"messages": [{"role": "user", "content": "Hello"}]} | fields
        flow = self.engine.open(read(json.dumps(body).encode(), "chat"), Terms("r1"))
        step = self.engine.advance(flow)
        self.sent: list[str] = []
        while isinstance(step, Send):
            self.sent.append(step.lease.account)
            step = self.engine.advance(flow, Ended(self.engine.clock(), outcome))
        if isinstance(step, Wait):  # the minute is full
            self.engine.abandon(flow)
            return Refused(())
        assert isinstance(step, Served | Refused)
        return step

    def used(self, account: str) -> int:
        pool = self.engine.pool
        return pool.roster.accounts[account].quota.used(self.engine.clock())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def on_file(place: Path) -> State:
    store = SqliteStore(place, clock=lambda: NOON)
    return State(store, store)


@pytest.fixture
def shared(clock: Clock) -> Iterator[State]:
    store = MemoryStore(clock=clock)
    return State(store, store)


# --- restarts --------------------------------------------------------------------------------------


def test_what_was_sent_today_and_this_minute_is_known_after_a_restart(
    place: Path, clock: Clock
) -> None:
    first = Worker(on_file(place), clock)
    for _ in range(30):
        assert isinstance(first.ask(), Served)
    used = {name: first.used(name) for name in ("account1", "account2")}
    assert sum(used.values()) == 30
    first.books._state.close()  # pyright: ignore[reportPrivateUsage] - killed: nothing more was written
    second = Worker(on_file(place), clock)
    assert {name: second.used(name) for name in used} == used
    served_now = [isinstance(second.ask(), Served) for _ in range(12)]
    assert sum(served_now) == 8  # 19 a minute each, 30 of 38 were used


def test_blocks_and_the_operators_hand_survive(place: Path, clock: Clock) -> None:
    first = Worker(on_file(place), clock)
    first.engine.operate("disable", Scope(Kind.KEY, "primary"))
    first.ask(Failed(Verdict(ROWS["upstream-pool"], until=NOON + 200)), model=SMALL)
    first.exchange()
    first.engine.close()
    clock.now += 100
    second = Worker(on_file(place), clock)
    roster = second.engine.pool.roster
    cause = roster.keys["primary"].breaker.cause(clock.now)
    assert cause is not None
    assert cause.reason == "disabled by operator"
    assert roster.models[SMALL].breaker.closed_until(clock.now) == NOON + 200


def test_an_operator_who_enabled_again_is_obeyed_after_a_restart(place: Path, clock: Clock) -> None:
    first = Worker(on_file(place), clock)
    for action in ("disable", "enable"):
        clock.now += 1
        first.engine.operate(action, Scope(Kind.KEY, "primary"))
    first.engine.close()
    second = Worker(on_file(place), clock)
    assert second.engine.pool.roster.keys["primary"].breaker.cause(clock.now) is None


def test_the_last_good_list_serves_until_a_new_one_comes(place: Path, clock: Clock) -> None:
    Worker(on_file(place), clock).engine.close()
    second = Worker(on_file(place), clock, listed=False)
    assert list(second.engine.pool.roster.models) == [LARGE, SMALL]
    assert isinstance(second.ask(), Served)


def test_what_was_learnt_about_models_is_known_after_a_restart(place: Path, clock: Clock) -> None:
    first = Worker(on_file(place), clock)
    for _ in range(8):
        first.ask(Answered(20.0, 40.0, 10, 5), model=LARGE)
    best = first.engine.models()[0].id
    first.engine.close()
    second = Worker(on_file(place), clock, listed=False)
    assert second.engine.models()[0].id == best == SMALL


def test_keys_that_share_an_account_are_known_to_do_so(place: Path, clock: Clock) -> None:
    first = Worker(on_file(place), clock)
    for key in ("primary", "secondary"):
        first.engine.take_group(key, "hash of one account")
    first.engine.close()
    second = Worker(on_file(place), clock)
    assert list(second.engine.pool.roster.accounts) == ["account1"]


def test_a_record_that_cannot_be_read_is_said_and_costs_nothing_else(
    place: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = Worker(on_file(place), clock)
    first.ask()
    first.engine.close()
    state = on_file(place)
    state.archive.save("learnt", b"{not json")
    state.archive.save("models", b"nonsense")
    second = Worker(state, clock)
    assert second.used("account1") + second.used("account2") == 1
    assert "'learnt' cannot be read" in caplog.text


def test_no_key_prompt_or_conversation_is_written(place: Path, clock: Clock) -> None:
    worker = Worker(on_file(place), clock)
    worker.ask(session_id="canary-conversation", user="canary-user")
    worker.engine.close()
    written = b"".join(file.read_bytes() for file in place.parent.iterdir())
    assert b"keywheel" in written or written
    for canary in (b"sk-or-v1", b"canary", b"Hello"):
        assert canary not in written


# --- several workers -------------------------------------------------------------------------------


def test_workers_of_one_store_never_send_more_than_one_could(shared: State, clock: Clock) -> None:
    one, two = (Worker(shared, clock, number) for number in (0, 1))
    served_by = [isinstance(worker.ask(), Served) for _ in range(30) for worker in (one, two)]
    assert sum(served_by) == 38  # two accounts, 19 a minute each


def test_a_refusal_of_the_store_is_no_attempt_and_teaches_what_others_sent(
    shared: State, clock: Clock
) -> None:
    one, two = (Worker(shared, clock, number) for number in (0, 1))
    one.engine.operate("disable", Scope(Kind.KEY, "secondary"))
    for _ in range(19):
        one.ask()
    assert isinstance(two.ask(), Served)
    assert two.sent == ["account2"]
    assert two.used("account1") == 19


def test_what_one_worker_finds_closed_the_others_close(shared: State, clock: Clock) -> None:
    one, two = (Worker(shared, clock, number) for number in (0, 1))
    one.engine.operate("disable", Scope(Kind.MODEL, SMALL))
    one.exchange()
    two.exchange()
    assert two.engine.pool.roster.models[SMALL].breaker.cause(clock.now)
    clock.now += 1
    two.engine.operate("enable", Scope(Kind.MODEL, SMALL))
    two.exchange()
    one.exchange()
    assert one.engine.pool.roster.models[SMALL].breaker.cause(clock.now) is None


def test_an_answer_elsewhere_opens_what_was_only_guessed(shared: State, clock: Clock) -> None:
    one, two = (Worker(shared, clock, number) for number in (0, 1))
    one.ask(Failed(Verdict(ROWS["server-error"])), model=SMALL)
    one.exchange()
    two.exchange()
    breaker = two.engine.pool.roster.models[SMALL].breaker
    until = breaker.closed_until(clock.now)
    assert until
    clock.now = until + 1
    one.ask(model=SMALL)
    one.exchange()
    two.exchange()
    assert breaker.cause(clock.now) is None


def test_an_account_that_is_closed_is_told_at_once(shared: State, clock: Clock) -> None:
    worker = Worker(shared, clock)
    urgent = worker.books._urgent  # pyright: ignore[reportPrivateUsage]
    worker.engine.operate("disable", Scope(Kind.MODEL, SMALL))
    assert not urgent.is_set()
    worker.engine.operate("disable", Scope(Kind.ACCOUNT, "account1"))
    assert urgent.is_set()


def test_history_holds_what_is_not_written_yet(shared: State, clock: Clock) -> None:
    worker = Worker(shared, clock)
    for _ in range(3):
        worker.ask(model=SMALL)
    worker.ask(Failed(Verdict(ROWS["bad-request"])), model=SMALL)
    rows = worker.books.history(NOON - 3_600, NOON)
    assert sum(row.attempts for row in rows) == 4
    assert sum(row.succeeded for row in rows) == 3
    assert sum(row.failed for row in rows) == 1
    assert {row.model for row in rows} == {SMALL}
    worker.ask(model=SMALL)
    assert sum(row.attempts for row in worker.books.history(NOON, NOON)) == 5


# --- a store in trouble ----------------------------------------------------------------------------


class Broken(MemoryStore):
    """A store that fails as it is told."""

    trouble: StoreError | None = None

    def take(self, claim: Claim) -> Taken:
        if self.trouble:
            raise self.trouble
        return super().take(claim)


def test_without_a_store_nothing_metered_is_sent_and_it_is_said_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "keywheel.books")
    store = Broken(clock=clock)
    worker = Worker(State(store, store), clock)
    store.trouble = StoreError("the disk is full")
    for _ in range(3):
        assert isinstance(worker.ask(), Refused)
        assert worker.sent == []
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the state store is in trouble: the disk is full"]
    (found,) = [t for t in worker.engine.state()["troubles"] if t["code"] == "state-unusable"]
    assert "the disk is full" in found["cause"]
    assert found["since"] == NOON
    store.trouble = None
    assert isinstance(worker.ask(), Served)


def test_a_store_that_is_only_silent_is_a_warning(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken(clock=clock)
    worker = Worker(State(store, store), clock)
    store.trouble = StoreLost("no answer")
    worker.ask()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_engine_without_a_store_asks_none(clock: Clock) -> None:
    entries = [KeyEntry("primary", Secret(f"sk-or-v1-{1:064x}"), "test")]
    engine = Engine(Config(), entries, clock=clock)
    engine.take_models(LISTED)
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
    assert isinstance(engine.advance(engine.open(read(body, "chat"), Terms("r1"))), Send)


def test_the_books_thread_lives_and_ends(shared: State, clock: Clock) -> None:
    worker = Worker(shared, clock)
    worker.books.start(worker.engine)
    worker.engine.operate("disable", Scope(Kind.ACCOUNT, "account1"))
    thread = worker.books._thread  # pyright: ignore[reportPrivateUsage]
    assert thread is not None
    worker.engine.close()
    assert not thread.is_alive()
    assert any(mark.writer for mark in shared.store.pull())


def test_a_worker_is_named_by_host_and_number(shared: State, clock: Clock) -> None:
    found = books_of(shared, Config(), clock, 3)
    assert found._slot.endswith(":3")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(Done(0.0), Done)
