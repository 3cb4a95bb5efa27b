"""Who is to blame for a failed attempt: what upstream answers mean (routing rule A.5).

`judge` reads an answer and asks the ordered `RULES` which row it is. It is pure and total: every status,
header and body has a verdict, in a time bounded by what is looked at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from keywheel.core.rows import ROWS
from keywheel.core.types import Charge, Length, Row, Verdict
from keywheel.wire import patterns
from keywheel.wire.answers import flaw_in, is_failed, is_regular
from keywheel.wire.envelope import Envelope, Form, clean, parse, parse_loosely, read, read_body
from keywheel.wire.evidence import Evidence
from keywheel.wire.moments import BUDGET, QUOTA, TRANSIENT, Bounds, day_end, said_until
from keywheel.wire.rules import GENERAL_TYPES, RULES, WORDS

_ERROR_STATUS = re.compile(r"[45]\d\d", re.ASCII)


class Phase(StrEnum):
    """When the answer is judged. HEADERS: a status other than 200, with its body. BODY: a complete 200 that was
    not streamed. STREAM_FIRST, STREAM_MID: the payload of an error event before or after content was passed on."""

    HEADERS = "headers"
    BODY = "body"
    STREAM_FIRST = "stream-first"
    STREAM_MID = "stream-mid"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came. Header names are in lower case; `body` is the body, or the data of one event."""

    phase: Phase
    status: int
    headers: Mapping[str, str]
    body: bytes


# Errors that are the client's own affair: it gets them as the upstream wrote them.
PASSED_ON = frozenset(
    [
        "context-too-long",
        "payload-too-large",
        "bad-request",
        "untyped-400",
        "content-refused",
        "cannot-afford-this",
        "capability",
        "other-4xx",
    ]
)
BOUNDS: Mapping[str, Bounds] = {
    "platform-minute": QUOTA,
    "platform-day": QUOTA,
    "model-capacity": QUOTA,
    "key-limit": BUDGET,
}
NO_SENTENCE: Mapping[Form, str] = {
    Form.JSON: "an error without a message",
    Form.CUT: "JSON that cannot be read",
    Form.HTML: "a page in HTML instead of an answer",
    Form.TEXT: "a text without words",
    Form.EMPTY: "no body",
}
FLAWS: Mapping[str, str] = {
    "malformed": "the answer is not of the kind that was asked for",
    "empty": "the answer has no text, tool call or refusal",
    "finish-error": "the answer ended in an error that it does not name",
    "budget-spent-on-reasoning": "the whole token budget went into reasoning",
    "context-too-long": "the prompt is longer than the model's context",
}
FAILURES: Mapping[str, tuple[str, str]] = {
    "unreachable": ("unreachable", "the upstream cannot be reached"),
    "tls": ("bad-certificate", "the upstream's certificate is not valid"),
    "tls-handshake": ("unreachable", "the TLS handshake failed"),
    "reset": ("unreachable", "the connection was reset before any answer"),
    "pool": ("own-limit", "no connection became free in time; raise upstream.connections"),
    "timeout-head": ("timeout", "no response headers in time"),
    "timeout-content": ("timeout", "no content in time"),
    "timeout-gap": ("timeout", "the content paused too long"),
    "timeout-silence": ("timeout", "the connection fell silent"),
    "timeout-total": ("timeout", "the answer was not complete in time"),
    "timeout-write": ("timeout", "the request could not be sent in time"),
    "truncated": ("malformed", "the answer was cut off"),
    "too-large": ("malformed", "the answer is over the size limit"),
    "protocol": ("malformed", "the answer is not valid HTTP"),
    **{name: (name, sentence) for name, sentence in FLAWS.items()},
}


def judge(
    reply: Reply, *, now: float, restricted: bool = False, dialect: str = "chat"
) -> Verdict | None:
    """What an answer means; None when it is good, or when 200 headers say nothing yet.

    `now` in UTC seconds. `restricted`: the ask itself sets `provider.data_collection` or `zdr`.
    """
    if reply.phase in (Phase.STREAM_FIRST, Phase.STREAM_MID):
        return _judge_event(reply, now, restricted)
    if reply.status != 200:
        return _judge_refusal(reply, now, restricted)
    return _judge_answer(reply, now, restricted, dialect) if reply.phase is Phase.BODY else None


def judge_failure(kind: str, *, committed: bool = False, detail: str = "") -> Verdict:
    """What the lack of a complete answer means. `kind` is one of FAILURES; `committed`: content had been passed on.

    A budget that went into reasoning stays what it is: reasoning may have been passed on before.
    """
    row, sentence = FAILURES[kind]
    if committed and row != "budget-spent-on-reasoning":
        row = "broken-after-content"
    message = f"{sentence}: {detail}" if detail else sentence
    return Verdict(ROWS[row], message=clean(message))


def _judge_refusal(reply: Reply, now: float, restricted: bool) -> Verdict:
    envelope = read_body(reply.body)
    stands_for = GENERAL_TYPES.get(envelope.type, reply.status)
    seen = Evidence(stands_for, envelope, reply.headers, restricted=restricted)
    return replace(_decide(seen, now), status=reply.status)


def _judge_answer(reply: Reply, now: float, restricted: bool, dialect: str) -> Verdict | None:
    try:
        value = parse(reply.body)
    except ValueError:
        return _flawed("malformed", f"no valid JSON ({read_body(reply.body).form})")
    envelope = read(value)
    if envelope.found:
        return _judge_wrapped(reply, envelope, now, restricted, "error-in-200")
    flaw = flaw_in(value, dialect, reply.headers)
    return _flawed(flaw) if flaw else None


def _judge_event(reply: Reply, now: float, restricted: bool) -> Verdict | None:
    verdict = _judge_payload(reply, now, restricted)
    if verdict is None or reply.phase is Phase.STREAM_FIRST:
        return verdict
    return Verdict(
        ROWS["broken-after-content"],
        status=verdict.status,
        message=verdict.message,
        upstream_code=verdict.upstream_code,
        upstream_type=verdict.upstream_type,
    )


def _judge_payload(reply: Reply, now: float, restricted: bool) -> Verdict | None:
    try:
        value = parse_loosely(reply.body)
    except ValueError:
        return _flawed("malformed", "an event that is not JSON")
    envelope = read(value)
    if envelope.found or envelope.message:
        return _judge_wrapped(reply, envelope, now, restricted, "error-first")
    if is_failed(value):
        return _flawed("finish-error")
    return None if is_regular(value) else _flawed("malformed")


def _flawed(flaw: str, detail: str = "") -> Verdict:
    return replace(judge_failure(flaw, detail=detail), status=200)


def _judge_wrapped(
    reply: Reply, envelope: Envelope, now: float, restricted: bool, via: str
) -> Verdict:
    seen = Evidence(
        _inner_status(envelope), envelope, reply.headers, wrapped=True, restricted=restricted
    )
    return replace(_decide(seen, now), via=via)


def _inner_status(envelope: Envelope) -> int:
    """The status that an error inside a 200 stands for: its type's, its code, or the status of its words."""
    if envelope.type in GENERAL_TYPES:
        return GENERAL_TYPES[envelope.type]
    if _ERROR_STATUS.fullmatch(envelope.code):
        return int(envelope.code)
    words = (envelope.type, envelope.code, envelope.kind)
    return next((WORDS[word] for word in words if word in WORDS), 500)


def _decide(seen: Evidence, now: float) -> Verdict:
    rule = next(rule for rule in RULES if all(holds(seen) for holds in rule.conditions))
    row, said = rule.row, seen.envelope
    return Verdict(
        row,
        until=_until(row, seen, now),
        status=seen.status,
        message=clean(said.message, said.said("flagged_input")) or NO_SENTENCE[said.form],
        upstream_code=clean(said.code or said.kind, limit=64),
        upstream_type=clean(said.type, limit=64),
        context_limit=_context_limit(said) if row.name == "context-too-long" else None,
        lacks=rule.lacks,
        day_limit=_day_limit(seen) if row.charge is Charge.DAY else None,
        passthrough=row.name in PASSED_ON and (said.found or row.name != "other-4xx"),
    )


def _until(row: Row, seen: Evidence, now: float) -> float | None:
    """The moment the answer names, where the row has a use for it."""
    if row.charge is Charge.DAY:
        return day_end(seen.headers, seen.envelope, now)
    if row.length is Length.SAID or row.name == "unclear-429":
        bounds = BOUNDS.get(row.name, TRANSIENT)
        return said_until(seen.headers, seen.envelope, now, bounds)
    return None


def _context_limit(said: Envelope) -> int | None:
    """The number of tokens that the model takes, out of the sentence or the provider's words."""
    for words in (said.message, said.raw):
        for pattern in patterns.CONTEXT_LIMITS:
            if match := pattern.search(words):
                return int(match[1].replace(",", "")) or None
    return None


def _day_limit(seen: Evidence) -> int | None:
    """How many free requests the account has a day, as the answer says or its tier's sentence implies."""
    if limit := seen.rate_limit("limit"):
        return limit
    if patterns.TIER_1000.search(seen.envelope.message):
        return 1000
    return 50 if patterns.TIER_50.search(seen.envelope.message) else None
