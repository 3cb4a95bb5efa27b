"""The keeper's rounds, driven by hand: a clock to move, a catalogue to script, a real pool."""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from keywheel.catalog import KeyCheck, Unavailable
from keywheel.core.policy import Policy
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import Account, Ask, Event, Key, Lease, Model
from keywheel.keeper import FIRST_RETRY, LAST_RETRY, Keeper, Pause
from keywheel.secret import Secret
from keywheel.wire.facts import KeyFacts
from keywheel.wire.models import Entry

START = 1_790_000_000.0
REFRESH = 900.0
GOOD = KeyCheck(True, KeyFacts(free_used=3, free_limit=1000), "hash1")
BAD = KeyCheck(False)


class FakeCatalog:
    """Answers what a test says; an exception is raised instead."""

    def __init__(self) -> None:
        self.list: Any = ["a model"]
        self.keys: dict[str, Any] = {}
        self.asked: list[str] = []
        self.views: dict[str, Any] = {}
        self.seen: list[str] = []
        self.hold: Callable[[], object] = lambda: None
        self.closed = False

    def models(self) -> Any:
        self.asked.append("models")
        return answer(self.list)

    def key(self, secret: Secret) -> KeyCheck:
        name = secret.reveal()
        self.asked.append(name)
        self.hold()
        return answer(self.keys.get(name, GOOD))

    def visible(self, secret: Secret) -> frozenset[str]:
        self.seen.append(secret.reveal())
        return answer(self.views.get(secret.reveal(), frozenset({"m"})))

    def close(self) -> None:
        self.closed = True


def answer(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


class Subject:
    """An engine as far as the keeper needs it, around a real pool."""

    def __init__(self, *labels: str) -> None:
        self.now = START
        self.secrets = {label: Secret(label) for label in labels}
        self.pool = Pool(Policy())
        self.pool.set_keys(
            [Account(f"of {label}", per_day=50) for label in labels],
            [Key(label, f"of {label}") for label in labels],
        )
        self.pool.set_models([Model("m", 8192)], self.now)
        self.lists: list[Iterable[Entry]] = []
        self.groups: dict[str, str | None] = {}
        self.events: list[Event] = []
        self.ready = threading.Event()
        self.tidied = 0
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now

    def note(self, change: Callable[[Pool, float], Iterable[Event] | None]) -> bool:
        with self._lock:
            events = change(self.pool, self.now)
            self.events.extend(events or ())
        return events is not None

    def take_models(self, entries: Iterable[Entry]) -> None:
        self.lists.append(entries)

    def take_visible(self, label: str, visible: frozenset[str]) -> None:
        self.note(lambda pool, now: pool.see_models(label, visible, now))

    def tidy(self) -> None:
        self.tidied += 1

    def take_group(self, label: str, account: str | None) -> None:
        self.groups[label] = account

    def set_ready(self) -> None:
        self.ready.set()

    def day(self, label: str) -> tuple[int, int]:
        """What the account of a key has used of how much."""
        quota = self.pool.roster.accounts[f"of {label}"].quota
        return quota.used(self.now), quota.limit

    def state(self, label: str) -> str | None:
        """Why a key is closed, None if it is open."""
        cause = self.pool.roster.keys[label].breaker.cause(self.now)
        return cause.reason if cause else None


class Kept:
    """A keeper with its surroundings."""

    def __init__(self, *labels: str) -> None:
        self.subject = Subject(*(labels or ("k1",)))
        self.catalog = FakeCatalog()
        self.keeper = Keeper(self.subject, self.catalog, REFRESH)  # pyright: ignore[reportArgumentType]

    def round(self, after: float = 0.0) -> list[str]:
        """What was asked in a round so many seconds later."""
        self.subject.now += after
        self.catalog.asked = []
        self.keeper.round()
        return sorted(self.catalog.asked)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "keywheel.keeper")
    return caplog


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# --- the model list --------------------------------------------------------------------------------


def test_the_list_is_taken_at_once_and_again_when_it_is_due() -> None:
    kept = Kept()
    assert "models" in kept.round()
    assert kept.subject.lists == [["a model"]]
    assert kept.round(REFRESH - 1) == []
    assert kept.round(1) == ["models"]


def test_a_failure_keeps_the_last_good_list_and_is_tried_again_with_growing_pauses() -> None:
    kept = Kept()
    kept.round()
    kept.catalog.list = Unavailable("GET /models answered 503")
    assert kept.round(REFRESH) == ["models"]
    pauses = []
    for _ in range(10):
        waited = FIRST_RETRY / 2
        while not kept.round(waited):
            waited *= 2
        pauses.append(waited)
    assert pauses == sorted(pauses)
    assert LAST_RETRY / 2 <= pauses[-1] <= LAST_RETRY
    assert len(kept.subject.lists) == 1


def test_after_a_success_the_pauses_are_short_again() -> None:
    kept = Kept()
    kept.catalog.list = Unavailable("no")
    for _ in range(5):
        kept.round(LAST_RETRY)
    kept.catalog.list = ["new"]
    kept.round(LAST_RETRY)
    kept.catalog.list = Unavailable("no")
    kept.round(REFRESH)
    assert kept.round(FIRST_RETRY) == ["models"]


def test_an_outage_of_days_overflows_nothing() -> None:
    pause = Pause()
    for _ in range(5000):
        pause.failed(0.0)
    assert pause.until == LAST_RETRY


@pytest.mark.parametrize("trouble", [ValueError("odd"), KeyError("id"), MemoryError()])
def test_a_list_that_cannot_be_taken_is_not_asked_for_at_once_again(
    trouble: Exception, told: pytest.LogCaptureFixture
) -> None:
    kept = Kept()
    kept.catalog.list = trouble
    kept.round()
    assert kept.round(0.5) == []
    assert "models" in kept.round(FIRST_RETRY)
    assert any(record.exc_info for record in told.records)


def test_only_the_first_failure_in_a_row_is_loud(told: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    kept.catalog.list = Unavailable("GET /models: ConnectError")
    for _ in range(4):
        kept.round(LAST_RETRY)
    assert warnings(told) == [
        "the model list could not be looked at, what is known stays: GET /models: ConnectError"
    ]


# --- keys ------------------------------------------------------------------------------------------


def test_every_key_is_checked_at_the_start_and_then_left_alone() -> None:
    kept = Kept("k1", "k2", "k3")
    assert kept.round() == ["k1", "k2", "k3", "models"]
    assert kept.round(1) == []


def test_a_good_key_brings_its_accounts_figures() -> None:
    kept = Kept()
    kept.round()
    assert kept.subject.day("k1") == (3, 1000)
    assert kept.subject.groups == {"k1": "hash1"}


def test_a_refused_key_is_closed_and_opens_when_it_passes_again(
    told: pytest.LogCaptureFixture,
) -> None:
    kept = Kept("k1", "k2")
    kept.catalog.keys["k1"] = BAD
    kept.round()
    assert (kept.subject.state("k1"), kept.subject.state("k2")) == ("bad-key", None)
    assert warnings(told) == ["key k1 is not valid: GET /key refuses it"]
    assert kept.round(299) == []
    kept.catalog.keys["k1"] = GOOD
    assert kept.round(2) == ["k1"]
    assert kept.subject.state("k1") is None


def test_a_good_key_without_facts_changes_no_figure() -> None:
    kept = Kept()
    kept.catalog.keys["k1"] = KeyCheck(True)
    kept.round()
    assert kept.subject.day("k1") == (0, 50)
    assert kept.subject.state("k1") is None


def test_a_key_that_could_not_be_checked_stays_as_it_is_and_is_asked_again() -> None:
    kept = Kept("k1", "k2")
    kept.catalog.keys["k1"] = Unavailable("GET /key: ReadTimeout")
    assert kept.round() == ["k1", "k2", "models"]
    assert kept.subject.state("k1") is None
    assert kept.round(FIRST_RETRY / 2) == []
    assert kept.round(FIRST_RETRY / 2) == ["k1"]
    kept.catalog.keys["k1"] = BAD
    assert kept.round(2 * FIRST_RETRY) == ["k1"]
    assert kept.subject.state("k1") == "bad-key"


@pytest.mark.parametrize("trouble", [ValueError("odd"), RuntimeError("client has been closed")])
def test_one_key_in_trouble_keeps_no_other_from_its_check(trouble: Exception) -> None:
    kept = Kept(*(f"k{n}" for n in range(20)))
    kept.catalog.keys["k0"] = trouble
    kept.round()
    assert len(kept.subject.groups) == 19
    assert kept.round(0.5) == []
    assert kept.round(FIRST_RETRY) == ["k0"]


def test_keys_are_checked_eight_at_a_time() -> None:
    kept = Kept(*(f"k{n}" for n in range(20)))
    together = threading.Barrier(8, timeout=5)
    arrived = iter(range(20))
    lock = threading.Lock()

    def meet() -> None:
        with lock:
            number = next(arrived)
        if number < 16:  # two full teams; the last four are no team
            together.wait()

    kept.catalog.hold = meet
    kept.round()
    assert len(kept.subject.groups) == 20


@pytest.mark.parametrize(
    ("facts", "open_"),
    [
        (KeyFacts(limit=1.0, limit_remaining=0.5), True),
        (KeyFacts(limit=1.0, limit_remaining=0.0), False),
        (KeyFacts(limit=1.0, limit_remaining=-0.1), False),
        (KeyFacts(limit=1.0, limit_remaining=0.5, spent_until=START + 9e9), False),
        (KeyFacts(spent_until=START + 9e9), False),
        (KeyFacts(limit=1.0), False),
        (KeyFacts(), True),
    ],
)
def test_a_spending_limit_opens_when_there_is_room_again(facts: KeyFacts, open_: bool) -> None:
    kept = Kept()
    kept.round()
    kept.subject.note(lambda pool, now: pool.key_is_bad("k1", "key-limit", now))
    kept.catalog.keys["k1"] = replace(GOOD, facts=facts)
    assert kept.round(3601) == ["k1", "models"]
    assert (kept.subject.state("k1") is None) is open_


# --- lost leases -----------------------------------------------------------------------------------


def test_a_lease_that_was_lost_gives_its_place_back() -> None:
    kept = Kept()
    kept.round()
    lease = kept.subject.pool.select(Ask(deadline=START + 120), Tried(), START)
    assert isinstance(lease, Lease)
    kept.round(60)
    assert kept.subject.pool.open_leases == 1
    kept.round(70)
    assert kept.subject.pool.open_leases == 0


# --- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "noted"), [(0.0, 0.0), (1.9, 0.0), (2.1, 2.1), (-3.0, -3.0), (7200.0, 7200.0)]
)
def test_the_upstreams_clock_decides_the_day(ahead: float, noted: float) -> None:
    kept = Kept()
    kept.catalog.keys["k1"] = replace(GOOD, date=START + ahead - 0.5)
    kept.subject.pool.set_skew(99.0)
    kept.round()
    assert kept.subject.pool.roster.accounts["of k1"].quota.skew == pytest.approx(noted)


def test_a_clock_far_off_is_warned_about_once(told: pytest.LogCaptureFixture) -> None:
    kept = Kept(*(f"k{n}" for n in range(9)))
    for label in kept.subject.secrets:
        kept.catalog.keys[label] = replace(GOOD, date=START - 3600)
    kept.round()
    kept.subject.note(lambda pool, now: pool.key_is_bad("k0", "bad-key", now))
    kept.round(400)
    said = [text for text in warnings(told) if "clock" in text]
    assert said == ["this machine's clock is -3600 s off the upstream's; its UTC day is used"]


def test_an_answer_without_a_date_says_nothing_about_clocks() -> None:
    kept = Kept()
    kept.subject.pool.set_skew(9.0)
    kept.round()
    assert kept.subject.pool.roster.skew == 9.0


# --- the thread ------------------------------------------------------------------------------------


def test_the_subject_is_ready_after_the_first_round_even_if_nothing_worked() -> None:
    Kept().keeper.stop()  # what never started only closes
    kept = Kept()
    kept.catalog.list = kept.catalog.keys["k1"] = Unavailable("no")
    kept.keeper.start()
    assert kept.subject.ready.wait(5)
    kept.keeper.stop()
    assert kept.catalog.closed


def test_a_round_that_fails_as_a_whole_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    kept = Kept()
    monkeypatch.setattr("keywheel.keeper.TICK", 0.001)
    failures = iter([RuntimeError("a bug"), RuntimeError("again")])
    note, twice = kept.subject.note, threading.Event()

    def fail_twice(change: Any) -> bool:
        if error := next(failures, None):
            raise error
        twice.set()
        return note(change)

    monkeypatch.setattr(kept.subject, "note", fail_twice)
    kept.keeper.start()
    assert twice.wait(5)
    kept.keeper.stop()
    assert [text for text in warnings(told) if "a round of the keeper failed" in text]


def test_stopping_waits_for_nobody_who_hangs(
    monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    """The threads are daemons, so that the process ends; what fails behind their back is not told."""
    monkeypatch.setattr("keywheel.keeper.STOP_PATIENCE", 0.01)
    kept = Kept("k1", "k2")
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(5)
        raise RuntimeError("Cannot send a request, as the client has been closed.")

    kept.catalog.hold = hang
    kept.keeper.start()
    assert entered.wait(5)
    kept.keeper.stop()
    assert kept.catalog.closed
    workers = [t for t in threading.enumerate() if "_work_off" in t.name]
    assert all(worker.daemon for worker in workers)
    leave.set()
    for worker in workers:
        worker.join(5)
    assert warnings(told) == []


# --- what each account may use ---------------------------------------------------------------------


def test_each_account_is_asked_as_often_as_the_list_which_models_its_settings_allow() -> None:
    kept = Kept("k1", "k2", "k3")
    kept.catalog.keys = {"k1": GOOD, "k2": GOOD, "k3": replace(GOOD, account="hash2")}
    kept.round()
    assert len(kept.catalog.seen) == 2
    kept.round(60)
    assert len(kept.catalog.seen) == 2
    kept.round(REFRESH)
    assert len(kept.catalog.seen) == 4


def test_a_model_that_an_accounts_settings_hide_is_closed_for_it_until_they_show_it() -> None:
    kept = Kept("k1")
    kept.catalog.views = {"k1": frozenset({"other"})}
    kept.round()
    pool = kept.subject.pool
    assert not pool.usable(kept.subject.now)
    kept.catalog.views = {}
    kept.round(REFRESH)
    assert pool.usable(kept.subject.now)


def test_a_view_that_cannot_be_had_closes_nothing_and_keeps_the_key() -> None:
    kept = Kept("k1")
    kept.catalog.views = {"k1": Unavailable("GET /models/user answered 404")}
    kept.round()
    assert kept.subject.pool.usable(kept.subject.now)
    assert kept.subject.state("k1") is None


def test_models_whose_last_day_has_come_are_looked_for_in_every_round() -> None:
    kept = Kept()
    kept.round()
    kept.round(1)
    assert kept.subject.tidied == 2
