"""A take that the store refuses was no send, so it must not cost one of the day."""

from collections.abc import Callable

import pytest

from keywheel.errors import StoreError
from keywheel.stores import Claim, StoreLost, Taken
from keywheel.stores.ledger import Ledger, Need
from keywheel.stores.memory import MemoryStore
from tests.stores.build import CAP, TODAY
from tests.stores.conftest import Hand

NEED = Need("team", {TODAY: 50}, CAP)


class Full(MemoryStore):
    """A store that fails as it is told."""

    trouble: StoreError | None = None

    def take(self, claim: Claim) -> Taken:
        if self.trouble:
            raise self.trouble
        return super().take(claim)


def used_after(trouble: StoreError) -> int:
    """What counts as used after ten takes that failed."""
    clock = Hand()
    store = Full(clock=clock)
    ledger = Ledger(store, "a/0", 1, clock=clock)
    ledger.exchange([NEED])
    store.trouble = trouble
    for number in range(10):
        with pytest.raises(type(trouble)):
            ledger.take(f"lease/{number}", NEED)
    store.trouble = None
    ledger.exchange([NEED])
    return ledger.used("team", TODAY)


def test_takes_without_an_answer_stay_counted() -> None:
    assert used_after(StoreLost("no answer")) == 10


def test_takes_that_a_full_disk_refuses_cost_nothing() -> None:
    assert used_after(StoreError("the disk is full")) == 0


class Talkative(MemoryStore):
    """A store in which an exchange comes between the question and the answer of each take."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def take(self, claim: Claim) -> Taken:
        self.meanwhile()
        return super().take(claim)


def test_takes_refused_during_an_exchange_cost_nothing() -> None:
    clock = Hand()
    store = Talkative(clock=clock)
    ledger = Ledger(store, "a/0", 1, clock=clock)
    one_a_minute = Need("team", {TODAY: 50}, 1)
    ledger.exchange([one_a_minute])
    assert ledger.take("lease/first", one_a_minute).permitted
    for number in range(10):
        store.meanwhile = lambda: ledger.exchange([one_a_minute])
        assert not ledger.take(f"lease/{number}", one_a_minute).permitted
        ledger.exchange([one_a_minute])
    assert store.used("team", TODAY) == 1
