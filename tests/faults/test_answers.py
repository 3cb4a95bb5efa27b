"""Faults 6-11 and 15-45: what the upstream does with a request it has taken. One line of the table, one test.

The first attempt meets the fault, on the preferred model; whatever is tried after it finds an upstream in order.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from keywheel.core.policy import Limits
from tests.faultproxy import KNOWN, End, Weather
from tests.faults.rig import FIRST, HASTY, PATIENT, SECOND, Rig, Told, rig
from tests.faults.speech import (
    DONE,
    END_OF_CHUNKS,
    EVENTS,
    GOOD,
    HELLO,
    STOP,
    chunk,
    head,
    in_pieces,
    json_reply,
    piece,
    says,
    sse,
)
from tests.gateway.rawserver import Script

pytestmark = pytest.mark.anyio

PLAIN, STREAM = "plain", "stream"
BOTH = (PLAIN, STREAM)
# What a client gets: the fallback's whole answer; the first model's; its beginning, and an error in the stream.
FALLBACK, OWN, IN_BAND = "fallback", "own", "in-band"
UNREACHABLE, TIMEOUT, MALFORMED, BROKEN = (
    "1 unreachable", "16 timeout", "29 malformed", "31 broken-after-content",
)  # fmt: skip
JSON = b"content-type: application/json"
SHORT_GAP = replace(PATIENT, gap=0.15)
MEGABYTE = b"x" * (1 << 20)
NESTED = b'{"choices":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
CONTENT = [chunk({"content": "word "}) for _ in range(10)]
NINES = b"9" * (10 << 20)
WORKING = [piece(b": OPENROUTER PROCESSING\n\n")] * 300  # for 3 s, and then all is well
GOOD_JSON = json.dumps(GOOD).encode()
LIST = json.dumps(GOOD["choices"]).encode()
OPEN_EVENT = HELLO.partition(b"Hello")[0]


def good_with(text: bytes) -> bytes:
    """The plain answer with other bytes as its text."""
    return json.dumps(GOOD).encode().replace(b'"Hello"', text)


def usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}


@dataclass(frozen=True)
class Fault:
    """One line. `row`: as `/admin/stats` tells it, empty when it is nobody's fault; then `good` is what the answer is
    called. `scope`: the kind of the scope that is to blame."""

    number: str
    name: str
    inject: Script | Weather
    row: str = ""
    then: str = FALLBACK
    ways: Sequence[str] = BOTH
    limits: Limits = PATIENT
    scope: str = "model"
    good: str = "ok"

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def endless(start: bytes, end: bytes) -> Script:
    """17 MB more of the same if nobody says stop, and then a good end: only a limit finds fault with it."""
    return in_pieces(start, [*[piece(MEGABYTE)] * 17, piece(end) + END_OF_CHUNKS], 0)


INTERIM = head(status=b"100 Continue") + head(b"content-type: text/html", status=b"103 Early Hints")
# Good answers, but for how they are packed.
BOMB = json_reply(gzip.compress(GOOD_JSON + b" " * (10 << 20)), JSON, b"content-encoding: gzip")
TWO_LENGTHS = json_reply(GOOD, JSON, b"content-length: 2")
LENGTH_AND_CHUNKS = (
    head(JSON, b"content-length: 2", b"transfer-encoding: chunked")
    + piece(GOOD_JSON)
    + END_OF_CHUNKS
)
CHUNKS_IN_GZIP = head(JSON, b"transfer-encoding: gzip, chunked") + piece(GOOD_JSON) + END_OF_CHUNKS
LONG_EVENT = chunk({"content": "x" * (10 << 20)})
OPEN_STREAM = sse(HELLO, ended=False)
OPEN_FIRST = sse(OPEN_EVENT, ended=False)
OPEN_LATER = OPEN_STREAM + piece(OPEN_EVENT)
OPEN_JSON = head(JSON, b"transfer-encoding: chunked") + piece(GOOD_JSON[:-1] + b',"x":"')
GOOD_REST = piece(HELLO + STOP + DONE) + END_OF_CHUNKS
END = b'"}}]}\n\n' + STOP + DONE

FAULTS = [
    # --- connection: sent, and then the connection is in trouble
    Fault("6", "reset before headers", says(then="reset"), UNREACHABLE, scope="provider"),
    Fault("6", "end before headers", says(then="fin"), UNREACHABLE, scope="provider"),
    Fault("6", "reset within the headers", says(b"HTTP/1.1 200 O", then="reset"), MALFORMED),
    Fault("7", "reset within a plain body", says(json_reply(GOOD)[:-9], then="reset"), MALFORMED, ways=[PLAIN]),
    Fault("7", "reset before content", says(sse(ended=False), then="reset"), MALFORMED, ways=[STREAM]),
    Fault("7", "reset after content", says(OPEN_STREAM, then="reset"), BROKEN, IN_BAND, [STREAM]),
    Fault("8", "end within a plain body", says(json_reply(GOOD)[:-9], then="fin"), MALFORMED, ways=[PLAIN]),
    Fault("8", "end within the first chunk", says(sse(HELLO)[:-30], then="fin"), MALFORMED, ways=[STREAM]),
    Fault("8", "end within a later chunk", says(OPEN_STREAM + b"50\r\nda", then="fin"), BROKEN, IN_BAND, [STREAM]),
    Fault("8", "clean end without a finish", says(sse(HELLO)), BROKEN, IN_BAND, [STREAM]),
    Fault("11", "garbage", says(b"\x00\xff\x80garbage\r\n\r\n"), MALFORMED),
    # --- slow
    Fault("15", "a head in drops", in_pieces(b"HTTP/1.1 200 OK\r\nx: ", [b"a"] * 10_000, 0.005), TIMEOUT,
          ways=[STREAM], limits=HASTY),
    Fault("17", "headers, then silence", says(head(EVENTS.strip(), b"transfer-encoding: chunked")), TIMEOUT,
          ways=[STREAM], limits=HASTY),
    Fault("17", "no answer at all", Weather(after=0, end=End.STALL), TIMEOUT, ways=[STREAM], limits=HASTY),
    Fault("18", "comments for ever", in_pieces(sse(ended=False), [*WORKING, GOOD_REST], 0.01),
          TIMEOUT, ways=[STREAM], limits=HASTY),
    Fault("19", "stall after ten tokens", says(sse(*CONTENT, ended=False)), BROKEN, IN_BAND, [STREAM], SHORT_GAP),
    Fault("19", "comments after ten tokens",
          in_pieces(sse(*CONTENT, ended=False), [*WORKING, GOOD_REST], 0.01),
          BROKEN, IN_BAND, [STREAM], SHORT_GAP),
    Fault("22", "content that keeps coming, for longer than any pause may last",
          in_pieces(sse(ended=False), [*map(piece, CONTENT * 3), piece(STOP + DONE) + END_OF_CHUNKS], 0.01),
          then=OWN, ways=[STREAM], limits=replace(PATIENT, gap=0.2)),
    # --- content
    Fault("23", "an error in a 200", says(json_reply({"error": {"code": 502, "message": "Provider returned error"}})),
          "24 provider-down"),
    Fault("23", "an error beside an answer",
          says(json_reply({**GOOD, "error": {"code": 502, "message": "Provider returned error"}})),
          "24 provider-down", ways=[PLAIN]),
    Fault("23", "an error before content", says(sse(chunk(error={"code": 503, "message": "gone"}), DONE)),
          "24 provider-down", ways=[STREAM]),
    Fault("23", "an error after content", says(sse(HELLO, chunk(error={"code": 503, "message": "gone"}))),
          BROKEN, IN_BAND, [STREAM]),
    Fault("24", "a page", says(json_reply(b"<html>Hello</html>", b"content-type: text/html")), MALFORMED),
    Fault("25", "nothing", says(json_reply(b"")), MALFORMED),
    Fault("25", "an empty stream", says(sse()), MALFORMED, ways=[STREAM]),
    Fault("26", "half of the JSON", says(json_reply(json.dumps(GOOD).encode()[:-20])), MALFORMED),
    Fault("27", "JSON for a stream", says(json_reply(GOOD)), MALFORMED, ways=[STREAM]),
    Fault("27", "a stream for JSON", says(sse(HELLO, STOP, DONE)), MALFORMED, ways=[PLAIN]),
    Fault("27", "a good answer called a page", says(json_reply(GOOD, b"content-type: text/html")), MALFORMED),
    Fault("27", "no content-type for a stream", says(json_reply(GOOD, b"x: y")), MALFORMED, ways=[STREAM]),
    Fault("27", "no content-type, but good JSON", says(json_reply(GOOD, b"x: y")), then=OWN, ways=[PLAIN]),
    Fault("28", "a gzip bomb", says(BOMB), MALFORMED),
    Fault("28", "a label of gzip", says(json_reply(GOOD, JSON, b"content-encoding: gzip")), MALFORMED),
    Fault("29", "chained encodings", says(json_reply(GOOD, JSON, b"content-encoding: gzip, br")), MALFORMED),
    Fault("29", "chained transfer codings", says(CHUNKS_IN_GZIP), MALFORMED),
    Fault("30", "a header of 100 KB", says(json_reply(GOOD, JSON, b"x: " + b"a" * 100_000)), MALFORMED),
    Fault("30", "a thousand headers", says(json_reply(GOOD, JSON, *[b"x: 1"] * 1000)), MALFORMED),
    Fault("31", "two lengths", says(TWO_LENGTHS), MALFORMED),
    Fault("31", "length and chunks", says(LENGTH_AND_CHUNKS), MALFORMED),
    Fault("32", "no line end before content", endless(OPEN_FIRST, END), MALFORMED, ways=[STREAM]),
    Fault("32", "no line end after content", endless(OPEN_LATER, END), BROKEN, IN_BAND, [STREAM]),
    Fault("32", "a plain answer without end", endless(OPEN_JSON, b'"}'), MALFORMED, ways=[PLAIN]),
    Fault("33", "an event of 10 MB", says(sse(HELLO, LONG_EVENT, STOP, DONE)), BROKEN, IN_BAND, [STREAM]),
    Fault("34", "no [DONE]", says(sse(HELLO, STOP)), then=OWN, ways=[STREAM], good="32 done-missing"),
    Fault("35", "data after [DONE]", says(sse(HELLO, STOP, DONE, chunk({"content": "more"}))), then=OWN, ways=[STREAM]),
    Fault("36", "no choices, no delta, no id",
          says(sse(b'data: {"choices":[]}\n\n', b'data: {"choices":[{"delta":null}]}\n\n', b"data: null\n\n",
                   b"data: {}\n\n", HELLO, STOP, DONE)), then=OWN, ways=[STREAM]),
    Fault("36", "nothing but no choices", says(sse(*[b'data: {"choices":[]}\n\n'] * 3, DONE)), "28 empty",
          ways=[STREAM]),
    Fault("37", "surrogates and NUL", says(json_reply(good_with(rb'"\ud800 \u0000"'))), then=OWN, ways=[PLAIN]),
    Fault("38", "JSON of depth 10,000", says(json_reply(NESTED)), MALFORMED, ways=[PLAIN]),
    Fault("38", "an event of depth 10,000", says(sse(b"data: " + NESTED + b"\n\n", HELLO, STOP, DONE)), then=OWN,
          ways=[STREAM]),  # passed on as it is: nobody here reads so deep
    Fault("38", "a number of 10 MB in an event",
          says(sse(HELLO, b'data: {"choices":[],"usage":{"prompt_tokens":%b}}\n\n' % NINES, STOP, DONE)),
          BROKEN, IN_BAND, [STREAM]),
    Fault("38", "a number of 10 MB", says(json_reply(b'{"choices":%b,"usage":{"prompt_tokens":%b}}' % (LIST, NINES))),
          then=OWN, ways=[PLAIN]),  # below the limit of C17, and never turned into a number
    Fault("41", "no usage", says(json_reply({**GOOD, "usage": None})), then=OWN, ways=[PLAIN]),
    Fault("41", "a negative usage", says(json_reply({**GOOD, "usage": usage(-5, -1)})), then=OWN, ways=[PLAIN]),
    Fault("41", "a huge usage", says(json_reply({**GOOD, "usage": usage(10**30, 10**19)})), then=OWN, ways=[PLAIN]),
    Fault("43", "a redirect", says(head(b"location: http://127.0.0.1:9/", b"content-length: 0", status=b"302 Found")),
          "3 redirect", scope=""),
    Fault("44", "100 and 103, then an answer",
          says(INTERIM + json_reply(GOOD)),
          then=OWN, ways=[PLAIN]),
    Fault("44", "100 and 103, then a stream",
          says(INTERIM + sse(HELLO, STOP, DONE)),
          then=OWN, ways=[STREAM]),
    Fault("44", "204", says(head(status=b"204 No Content")), MALFORMED),
    Fault("44", "101", says(head(b"connection: upgrade", b"upgrade: h2c", status=b"101 Switching Protocols")),
          MALFORMED),
    Fault("45", "trailers", says(sse(HELLO, STOP, DONE)[:-2] + b"x-t: 1\r\nset-cookie: a\r\n\r\n"), then=OWN,
          ways=[STREAM]),
]  # fmt: skip
CASES = [pytest.param(fault, way, id=f"{fault}-{way}") for fault in FAULTS for way in fault.ways]


@pytest.mark.parametrize(("fault", "way"), CASES)
async def test_a_fault_is_told_apart_survived_and_leaves_nothing(fault: Fault, way: str) -> None:
    await check(fault, way)


# The whole suite runs so with KEYWHEEL_TEST_WEATHER=slices and =jitter.
IN_ANY_WEATHER = {"reset after content", "clean end without a finish", "an error before content", "chained encodings",
                  "length and chunks", "no [DONE]", "data after [DONE]", "204", "trailers"}  # fmt: skip


@pytest.mark.parametrize("weather", KNOWN)
async def test_a_fault_is_told_apart_in_any_weather(weather: str) -> None:
    faults = [fault for fault in FAULTS if fault.name in IN_ANY_WEATHER]
    assert len(faults) == len(IN_ANY_WEATHER)
    for fault in faults:
        await check(fault, fault.ways[-1], KNOWN[weather])


async def check(fault: Fault, way: str, weather: Weather | None = None) -> None:
    async with rig(fault.inject, limits=fault.limits, weather=weather) as it:
        told = await it.ask(stream=way == STREAM)
        await it.settle()
        check_told(told, fault, way)
        check_attempts(it, fault)
        await check_blame(it, fault)
        assert (await it.ask()).status == 200  # and life goes on


def check_told(told: Told, fault: Fault, way: str) -> None:
    assert told.status == 200
    assert told.headers["x-keywheel-attempts"] == ("2" if fault.then == FALLBACK else "1")
    if way == PLAIN:
        assert b'"content":' in told.body.replace(b": ", b":")
    elif fault.then == IN_BAND:
        assert told.events[-1] != "[DONE]"
        assert json.loads(told.events[-1])["choices"][0]["finish_reason"] == "error"
        assert json.loads(told.events[0])["choices"][0]["delta"]["content"]
        assert told.code
    else:
        assert told.events[-1] == "[DONE]"
        assert '"error"' not in "".join(told.events)


def check_attempts(it: Rig, fault: Fault) -> None:
    first, *rest = it.journal
    assert first.row == (fault.row or fault.good)
    assert first.ok is (fault.then == OWN)
    assert [event.row for event in rest] == (["ok"] if fault.then == FALLBACK else [])
    assert first.model == FIRST
    if fault.scope == "model" and rest:
        assert rest[0].model == SECOND  # the other model, since this one is to blame


async def check_blame(it: Rig, fault: Fault) -> None:
    stats = await it.stats()
    assert [error["row"] for error in stats["errors"]] == ([fault.row] if fault.row else [])
    assert {key["state"] for key in stats["keys"]} == {"open"}
    assert sum(account["day"]["used"] for account in stats["accounts"]) == len(it.journal)
    if fault.row and fault.scope:
        assert stats["errors"][0]["scope"].partition(":")[0] == fault.scope
