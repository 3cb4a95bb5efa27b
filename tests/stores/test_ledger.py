"""One worker's side of a store: own counts, exchanges, and what it does when the store is silent or emptied."""

from typing import Any

import pytest

from keywheel.core.marks import Count
from keywheel.core.share import Share
from keywheel.stores import Answer, Claim, Parcel, Receipt, StoreLost, Taken
from keywheel.stores.diary import Diary
from keywheel.stores.ledger import Emptied, Ledger, Need
from keywheel.stores.memory import MemoryStore
from tests.stores.build import CAP, TODAY
from tests.stores.conftest import Hand

LIMIT = 100
NEED = Need("team", {TODAY: LIMIT}, CAP)
BOTH = Need("team", {TODAY: LIMIT, TODAY + 1: LIMIT}, CAP)


class Wire(MemoryStore):
    """A store whose answers can be cut off, or lost after they have happened."""

    cut = False
    deaf = False

    def take(self, claim: Claim) -> Taken:
        return self._carry(super().take, claim)

    def push(self, parcel: Parcel) -> Receipt:
        return self._carry(super().push, parcel)

    def _carry(self, call: Any, what: Any) -> Any:
        if self.cut:
            raise StoreLost("cut")
        answer = call(what)
        if self.deaf:
            raise StoreLost("deaf")
        return answer


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def wire(clock: Hand) -> Wire:
    return Wire(clock=clock)


def local(wire: Wire, clock: Hand, start: int = 1) -> Ledger:
    """On a store of this machine."""
    ledger = Ledger(wire, "a/0", start, clock=clock)
    ledger.exchange([BOTH])
    return ledger


def remote(wire: Wire, clock: Hand, diary: Diary | None = None, slot: str = "a/0") -> Ledger:
    """On a shared store, one of two workers, after two answered exchanges."""
    ledger = Ledger(wire, slot, 1, clock=clock, share=Share(2), diary=diary)
    exchange(ledger, clock, 2)
    return ledger


def exchange(ledger: Ledger, clock: Hand, times: int) -> None:
    for _ in range(times):
        clock.wait(0.5)
        ledger.exchange([BOTH])


def takes(ledger: Ledger, count: int, name: str = "x") -> int:
    """How many of so many takes were permitted."""
    return sum(ledger.take(f"{name}{n}", NEED).permitted for n in range(count))


def test_its_own_counts_go_with_every_take(wire: Wire, clock: Hand) -> None:
    ledger = local(wire, clock)
    assert takes(ledger, 3) == 3
    assert ledger.take("y", BOTH) == Taken(Answer.TAKEN, 4, (4, 1))
    assert (ledger.used("team", TODAY), ledger.used("team", TODAY + 1)) == (4, 1)


def test_a_refusal_and_a_repeat_count_nothing(wire: Wire, clock: Hand) -> None:
    ledger = local(wire, clock)
    assert takes(ledger, CAP + 3) == CAP
    assert ledger.take("x0", NEED).answer is Answer.AGAIN
    ledger.exchange([BOTH])
    assert ledger.used("team", TODAY) == CAP == wire.used("team", TODAY)


def test_its_own_sends_are_kept_for_a_share_only(wire: Wire, clock: Hand) -> None:
    alone, sharing = local(wire, clock), remote(Wire(clock=clock), clock)
    assert takes(alone, 5) == takes(sharing, 5) == 5
    assert (len(alone._sends), len(sharing._sends)) == (0, 5)


def test_without_an_answer_it_counts_as_taken_and_is_told_later(wire: Wire, clock: Hand) -> None:
    ledger = local(wire, clock)
    wire.cut = True
    with pytest.raises(StoreLost):
        ledger.take("x", NEED)
    wire.cut = False
    ledger.exchange([BOTH])
    assert wire.used("team", TODAY) == 1


def test_marks_go_and_come_with_an_exchange(wire: Wire, clock: Hand) -> None:
    ledger, mark = local(wire, clock), Count("x", 1, "a/0@1", 3)
    assert ledger.exchange([BOTH], [mark]) == (mark,)


def test_what_get_key_shows_beyond_all_workers_was_sent_by_others(wire: Wire, clock: Hand) -> None:
    ledger = local(wire, clock)
    takes(ledger, 3)
    ledger.observe("team", TODAY, 10)
    ledger.observe("team", TODAY, 4)  # it lags behind
    ledger.exchange([BOTH])
    assert ledger.used("team", TODAY) == wire.used("team", TODAY) == 10
    ledger.observe("team", TODAY, 10)
    ledger.exchange([BOTH])
    assert wire.used("team", TODAY) == 10


def test_a_shared_store_is_asked_after_two_answered_exchanges(wire: Wire, clock: Hand) -> None:
    ledger = Ledger(wire, "a/0", 1, clock=clock, share=Share(2))
    with pytest.raises(StoreLost):
        ledger.take("x", NEED)
    exchange(ledger, clock, 1)
    with pytest.raises(StoreLost):
        ledger.take("x", NEED)
    exchange(ledger, clock, 1)
    assert ledger.take("x", NEED).permitted


def test_when_the_store_is_silent_the_share_comes_after_70_seconds(wire: Wire, clock: Hand) -> None:
    ledger = remote(wire, clock)
    takes(ledger, 2)
    wire.cut = True
    clock.wait(69.0)
    with pytest.raises(StoreLost):
        ledger.take("y", NEED)
    clock.wait(1.0)
    assert takes(ledger, 9, "z") == 9
    with pytest.raises(StoreLost, match="no share"):
        ledger.take("late", NEED)


def test_coming_back_it_tells_its_sends_and_takes_again(wire: Wire, clock: Hand) -> None:
    ledger = remote(wire, clock)
    wire.cut = True
    clock.wait(80.0)
    assert takes(ledger, 5) == 5
    wire.cut = False
    exchange(ledger, clock, 2)
    assert ledger.take("y", NEED) == Taken(Answer.TAKEN, 6, (6,))


def test_a_restart_goes_on_with_the_share_and_the_counts(wire: Wire, clock: Hand) -> None:
    diary = Diary(MemoryStore(), "a/0")
    ledger = remote(wire, clock, diary)
    wire.cut = True
    clock.wait(80.0)
    assert takes(ledger, 5) == 5
    again = Ledger(wire, "a/0", 2, clock=clock, share=Share(2), diary=diary)
    assert takes(again, 4, "again") == 4
    with pytest.raises(StoreLost):
        again.take("late", NEED)
    wire.cut = False
    exchange(again, clock, 2)
    assert again.take("y", NEED) == Taken(Answer.TAKEN, 10, (10,))


def test_a_restart_without_a_record_has_no_share(wire: Wire, clock: Hand) -> None:
    archive = MemoryStore()
    archive.save("ledger:a/0", b"torn")
    ledger = Ledger(wire, "a/0", 1, clock=clock, share=Share(2), diary=Diary(archive, "a/0"))
    clock.wait(10**5)
    with pytest.raises(StoreLost):
        ledger.take("x", NEED)


def test_an_emptied_store_is_told_everything_and_trusted_when_accepted(
    wire: Wire, clock: Hand
) -> None:
    ledger = remote(wire, clock)
    takes(ledger, 4)
    fresh = Wire(clock=clock)
    ledger._store = fresh
    with pytest.raises(StoreLost):
        ledger.take("y", NEED)
    clock.wait(1.5)
    with pytest.raises(Emptied):
        ledger.exchange([BOTH])
    assert fresh.used("team", TODAY) == 5  # the one without an answer counts
    assert len(fresh.stamps("team")) == 4
    ledger.accept()
    exchange(ledger, clock, 2)
    assert ledger.take("z", NEED).days == (6,)


def test_a_clean_stop_leaves_no_room(wire: Wire, clock: Hand) -> None:
    leaving, staying = remote(wire, clock, slot="b/0"), remote(wire, clock)
    leaving.leave()
    clock.wait(7.0)
    exchange(staying, clock, 2)
    assert takes(staying, CAP) == CAP


def test_an_answer_lost_on_its_way_back_has_happened(wire: Wire, clock: Hand) -> None:
    ledger = remote(wire, clock)
    wire.deaf = True
    with pytest.raises(StoreLost):
        ledger.take("x", NEED)
    wire.deaf = False
    assert ledger.take("x", NEED).answer is Answer.AGAIN
    assert wire.used("team", TODAY) == 1
