"""The library's drivers: steps that are no request, time limits, and what the log is told."""

import asyncio
import threading
from typing import Any

import httpx2
import pytest

from keywheel.axle import Axle
from keywheel.core.steps import Done, Report, Take, TurnedDown, Wait
from keywheel.core.types import Abandoned
from keywheel.errand import begin
from keywheel.flow import Flow
from keywheel.testing import Simulator
from keywheel.transports import AsyncKeywheelTransport, KeywheelTransport
from keywheel.wheel import Keywheel
from tests.leading import NOWHERE, lead
from tests.library.probing import HELLO, ONCE, under_way

BODY = b'{"messages":[{"role":"user","content":"Hello"}]}'


def blocking(wheel: Keywheel, **fields: Any) -> int:
    """One request."""
    with httpx2.Client(transport=wheel.transport(), timeout=30.0) as http:
        return http.post(ONCE, json=HELLO | fields).status_code


def asynchronous(wheel: Keywheel, **fields: Any) -> int:
    """The same with asyncio."""

    async def run() -> int:
        async with httpx2.AsyncClient(transport=wheel.async_transport(), timeout=30.0) as http:
            return (await http.post(ONCE, json=HELLO | fields)).status_code

    return asyncio.run(run())


WAYS = pytest.mark.parametrize("ask", [blocking, asynchronous])


@WAYS
def test_a_reservation_that_is_turned_down_leads_to_another_lane(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    with sim.wheel() as wheel:
        engine = wheel.engine

        def take(step: Take) -> Report:
            return TurnedDown(1.0) if step.lease is NOWHERE else Done(engine.clock())

        monkeypatch.setattr(engine, "take", take)
        reports = lead(engine, monkeypatch, Take(NOWHERE))
        assert ask(wheel) == 200
    assert reports == [TurnedDown(1.0)]


@WAYS
def test_a_reservation_that_fails_is_given_back(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    settled = list[Any]()
    with sim.wheel() as wheel:

        def take(_step: Take) -> Report:
            raise OSError("no store")

        monkeypatch.setattr(wheel.engine, "settle", lambda *settling: settled.append(settling))
        monkeypatch.setattr(wheel.engine, "take", take)
        lead(wheel.engine, monkeypatch, Take(NOWHERE))
        with pytest.raises(OSError, match="no store"):
            ask(wheel)
    assert settled == [(NOWHERE, Abandoned("own bug", unsent=True))]


@WAYS
def test_a_wait_ends_at_its_moment_or_as_soon_as_there_is_a_lane(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    with sim.wheel() as wheel:
        reports = lead(wheel.engine, monkeypatch, Wait(wheel.engine.clock() + 0.01))
        assert ask(wheel) == 200
        assert isinstance(reports[0], Done)
        opened, flows = wheel.engine.open, list[Flow]()
        monkeypatch.setattr(wheel.engine, "open", lambda *a: flows.append(opened(*a)) or flows[-1])
        lead(wheel.engine, monkeypatch, Wait(wheel.engine.clock() + 60))
        waker = threading.Thread(target=_wake_first, args=(flows,))
        waker.start()
        assert ask(wheel) == 200
        waker.join()
        assert flows[0].wake is None


def _wake_first(flows: list[Flow]) -> None:
    while not (flows and flows[0].wake):
        threading.Event().wait(0.002)
    flows[0].wake()


@WAYS
def test_a_stream_that_stays_silent_is_left_for_another_in_time(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    with sim.wheel() as wheel:
        monkeypatch.setattr(wheel.engine.pool, "first_content", lambda _lease: 0.1)
        sim.fail("silent")
        assert ask(wheel, stream=True) == 200
        assert under_way(wheel.engine) == 0
    assert sim.attempts == ["silent", "ok"]


def test_a_moment_that_is_not_believed_is_logged(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [httpx2.Response(503, headers={"retry-after": "-5"}), httpx2.Response(400, text="{}")]
    inner = httpx2.MockTransport(lambda _request: answers.pop(0))
    axle = sim.axle()
    with httpx2.Client(transport=KeywheelTransport(axle, inner)) as http:
        http.post(ONCE, json=HELLO)
    axle.close()
    assert "-5" in caplog.text


def fail(_request: httpx2.Request) -> httpx2.Response:
    """A bug."""
    raise ZeroDivisionError


def serve(axle: Axle) -> None:
    """Over a transport that has one."""
    KeywheelTransport(axle, httpx2.MockTransport(fail)).serve(begin(axle, "chat", (), BODY))


def serve_async(axle: Axle) -> None:
    """The same with asyncio."""
    way = AsyncKeywheelTransport(axle, httpx2.MockTransport(fail))
    asyncio.run(way.serve(begin(axle, "chat", (), BODY)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("work", [serve, serve_async])
def test_an_error_of_our_own_settles_the_lease_and_is_raised(sim: Simulator, work: Any) -> None:
    axle = sim.axle()
    with pytest.raises(ZeroDivisionError):
        work(axle)
    assert under_way(axle.engine) == 0
    assert axle.engine.report()["totals"]["abandoned"] == 1
    axle.close()
