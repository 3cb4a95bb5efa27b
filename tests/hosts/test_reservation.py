"""A store far away that is slow: what it costs those who wait for it, and that nobody else waits with them."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from keywheel import awaiting
from keywheel.books import TAKERS
from keywheel.core.steps import Done, Report, Take, TurnedDown
from keywheel.core.types import Abandoned
from tests.leading import NOWHERE

pytestmark = pytest.mark.anyio
CROWD = 3 * TAKERS  # more than there are threads
PATIENT = 2.0  # seconds that no request waits for a store (fault 82)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow:
    """As much of an engine as a reservation needs; its store answers when it is let."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self.settled: list[Any] = []
        self.takers = ThreadPoolExecutor(TAKERS)

    def clock(self) -> float:
        return 7.0

    def take(self, _step: Take) -> Report:
        self.asked += 1
        self.answers.wait(20)
        return Done(8.0)

    def settle(self, lease: object, outcome: object) -> None:
        self.settled.append((lease, outcome))


@pytest.fixture
def slow() -> Iterator[Any]:
    engine = Slow()
    yield engine
    engine.answers.set()
    engine.takers.shutdown()


async def timed(what: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return await what(), time.monotonic() - began


async def test_a_reservation_that_takes_too_long_is_as_good_as_refused(slow: Any) -> None:
    report, seconds = await timed(lambda: awaiting.reservation(slow, Take(NOWHERE)))
    assert report == TurnedDown(7.0)
    assert awaiting.TAKEN_BY - 0.05 < seconds < PATIENT
    assert slow.settled == []  # the flow gives the lease back itself


async def test_a_crowd_that_waits_for_the_store_holds_up_nobody_else(slow: Any) -> None:
    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(awaiting.reservation(slow, Take(NOWHERE))) for _ in range(CROWD)]
        await asyncio.sleep(0.05)
        _, seconds = await timed(lambda: asyncio.to_thread(lambda: None))
        assert not any(task.done() for task in crowd), "the machine is too slow to tell"
    assert seconds < awaiting.TAKEN_BY
    assert {task.result() for task in crowd} == {TurnedDown(7.0)}
    assert slow.asked <= TAKERS


async def test_who_was_given_up_while_in_the_line_never_reaches_the_store(slow: Any) -> None:
    crowd = [asyncio.create_task(awaiting.reservation(slow, Take(NOWHERE))) for _ in range(CROWD)]
    await asyncio.wait(crowd)
    slow.answers.set()
    assert await awaiting.reservation(slow, Take(NOWHERE)) == Done(8.0)
    assert slow.asked <= TAKERS + 1


async def test_a_client_that_leaves_gives_its_lease_back_at_once(slow: Any) -> None:
    task = asyncio.create_task(awaiting.reservation(slow, Take(NOWHERE)))
    while not slow.asked:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert slow.settled == [(NOWHERE, Abandoned("client gone", unsent=True))]
