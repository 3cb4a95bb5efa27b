"""The gateway's driver: steps that are no request, and what it tells the log about answers it does not believe."""

import asyncio
import json
import threading
from typing import Any

import pytest

from keywheel.core.steps import Done, Report, Take, TurnedDown, Wait
from keywheel.flow import Flow
from keywheel.gateway import exchange
from tests.gateway.asgi import HELLO, HOST, JSON, App, FakeUpstream, Scripted, app
from tests.leading import NOWHERE, lead

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_moment_that_is_not_believed_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(
        exchange.log, "warning", lambda event, **fields: told.append({"event": event, **fields})
    )
    error = json.dumps(
        {"error": {"code": 503, "message": "Service temporarily unavailable"}}
    ).encode()
    replies = [Scripted(503, (JSON, (b"retry-after", b"-5")), error), Scripted()]
    it = app(upstream=FakeUpstream(lambda: replies.pop(0)))
    reply = await it.call("POST", "/v1/chat/completions", (HOST,), HELLO)
    assert reply.status == 200
    assert [entry["event"] for entry in told] == ["upstream moment"]
    assert "retry-after" in str(told[0]["extra"])
    assert "-5" in str(told[0]["extra"])


async def test_a_moment_that_is_believed_is_not_worth_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(exchange.log, "warning", lambda event, **_: told.append(event))
    error = json.dumps(
        {"error": {"code": 503, "message": "Service temporarily unavailable"}}
    ).encode()
    replies = [Scripted(503, (JSON, (b"retry-after", b"5")), error), Scripted()]
    it = app(upstream=FakeUpstream(lambda: replies.pop(0)))
    assert (await it.call("POST", "/v1/chat/completions", (HOST,), HELLO)).status == 200
    assert told == []


# --- steps that are no request -----------------------------------------------------------------------


async def ask(it: App) -> int:
    return (await it.call("POST", "/v1/chat/completions", (HOST,), HELLO)).status


async def test_a_reservation_far_away_is_made_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    it, threads = app(), list[Any]()

    def take(step: Take) -> Report:
        if step.lease is not NOWHERE:
            return Done(it.engine.clock())
        threads.append(threading.current_thread())
        return TurnedDown(1.0)

    reports = lead(it.engine, monkeypatch, Take(NOWHERE))
    monkeypatch.setattr(it.engine, "take", take)
    assert await ask(it) == 200
    assert threads != [threading.main_thread()]
    assert reports == [TurnedDown(1.0)]


async def test_a_reservation_that_is_interrupted_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it, settled = app(), list[Any]()
    monkeypatch.setattr(
        it.engine, "settle", lambda lease, outcome: settled.append((lease, outcome))
    )

    def take(_step: Take) -> Report:
        raise OSError("no store")

    monkeypatch.setattr(it.engine, "take", take)
    lead(it.engine, monkeypatch, Take(NOWHERE))
    assert await ask(it) == 500
    assert [lease for lease, _ in settled] == [NOWHERE]
    assert settled[0][1].unsent


async def test_a_wait_ends_at_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    it = app()
    reports = lead(it.engine, monkeypatch, Wait(it.engine.clock() + 0.01))
    assert await ask(it) == 200
    assert isinstance(reports[0], Done)


async def test_a_wait_ends_as_soon_as_there_is_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    it = app()
    flows = list[Flow]()
    opened = it.engine.open
    monkeypatch.setattr(it.engine, "open", lambda *a: flows.append(opened(*a)) or flows[-1])
    lead(it.engine, monkeypatch, Wait(it.engine.clock() + 60))
    asking = asyncio.create_task(ask(it))
    while not (flows and flows[0].wake):  # noqa: ASYNC110 - nothing tells when it falls asleep
        await asyncio.sleep(0.001)
    threading.Thread(target=flows[0].wake).start()
    assert await asyncio.wait_for(asking, 5) == 200
    assert flows[0].wake is None


async def test_who_was_woken_before_it_slept_does_not_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = app()
    opened = it.engine.open

    def woken(*arguments: Any) -> Flow:
        flow = opened(*arguments)
        flow.woken = True
        return flow

    monkeypatch.setattr(it.engine, "open", woken)
    lead(it.engine, monkeypatch, Wait(it.engine.clock() + 60))
    assert await asyncio.wait_for(ask(it), 5) == 200
