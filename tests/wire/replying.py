"""Builds upstream answers for the tests of their classification."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from keywheel.core.types import Verdict
from keywheel.wire.faults import Phase, Reply, judge

RECORDED = Path(__file__).parent / "replies"
STREAMS = Path(__file__).parent / "streams"
NOON = datetime.fromisoformat("2026-10-05T12:00:00Z").timestamp()
JSON = {"content-type": "application/json"}


def reply(phase: Phase, status: int, body: Any, headers: dict[str, str] | None = None) -> Reply:
    """An answer; a body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(phase, status, JSON if headers is None else headers, data)


def envelope(status: int, message: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """An error as chat sends it; without metadata the member is missing."""
    return {
        "error": {"message": message, "code": status} | ({"metadata": metadata} if metadata else {})
    }


def refusal(
    status: int,
    message: str = "",
    metadata: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    **asked: Any,
) -> Verdict:
    """The verdict on a plain refusal."""
    body = envelope(status, message, metadata)
    return _some(judge(reply(Phase.HEADERS, status, body, headers), now=NOON, **asked))


def refused_by(status: int, body: Any, headers: dict[str, str] | None = None) -> Verdict:
    """The verdict on a refusal with this very body."""
    return _some(judge(reply(Phase.HEADERS, status, body, headers), now=NOON))


def wrapped(body: Any, dialect: str = "chat") -> Verdict:
    """The verdict on a 200 that is no success."""
    return _some(judge(reply(Phase.BODY, 200, body), now=NOON, dialect=dialect))


def answered(body: Any, dialect: str = "chat", headers: dict[str, str] | None = None) -> str:
    """The row of a complete 200; `ok` for a good answer."""
    verdict = judge(reply(Phase.BODY, 200, body, headers), now=NOON, dialect=dialect)
    return verdict.row.name if verdict else "ok"


def event(payload: Any, phase: Phase = Phase.STREAM_FIRST) -> Verdict | None:
    """The verdict on the payload of an event."""
    return judge(reply(phase, 200, payload, {"content-type": "text/event-stream"}), now=NOON)


def _some(verdict: Verdict | None) -> Verdict:
    assert verdict is not None
    return verdict
