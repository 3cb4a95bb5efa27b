"""What the gateway's driver tells the log about answers it does not believe."""

import json

import pytest

from keywheel.gateway import exchange
from tests.gateway.asgi import HELLO, HOST, JSON, FakeUpstream, Scripted, app

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
    assert "retry-after" in str(told[0]["refused"])
    assert "-5" in str(told[0]["refused"])


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
