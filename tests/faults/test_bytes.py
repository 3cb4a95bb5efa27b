"""What reaches a client is what the upstream said, byte for byte, however it was cut on the way (issue: I27)."""

import asyncio
import json
from dataclasses import replace
from email.utils import formatdate

import pytest

from keywheel.gateway import inference, logs
from keywheel.wire import hearing
from tests.faultproxy import Weather, asked
from tests.faults.rig import HASTY, PATIENT, STREAM, rig
from tests.faults.speech import (
    DONE,
    END_OF_CHUNKS,
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
from tests.gateway.rawserver import Peer
from tests.wire.streaming import EOLS, NAMES, dialect, recorded, scan, with_eol

pytestmark = pytest.mark.anyio
PATHS = {"messages": "/v1/messages", "responses": "/v1/responses"}
BODIES = {
    "/v1/messages": {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"model": "auto", "input": "x"},
    "/v1/chat/completions": {"model": "auto", "messages": [{"role": "user", "content": "x"}]},
}  # fmt: skip
COMMITTED = [name for name in NAMES if scan(dialect(name), [recorded(name)])["committed"]]
BOM = b"\xef\xbb\xbf"
READ = 1 << 12


async def heard(name: str, raw: bytes, size: int) -> tuple[bytes, list[str]]:
    """What a client gets of a stream that arrives in pieces of `size` bytes, and what became of the attempts."""
    path = PATHS.get(name.partition("-")[0], "/v1/chat/completions")
    async with rig(says(sse(raw), size=size)) as it:
        reply = await it.http.post(path, json=BODIES[path] | {"stream": True})
        assert reply.status_code == 200
        await it.settle()
        return reply.content, it.rows


@pytest.mark.parametrize("eol", EOLS, ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize("name", COMMITTED)
async def test_a_stream_reads_the_same_in_one_piece_and_byte_by_byte(name: str, eol: bytes) -> None:
    raw = with_eol(recorded(name), eol)
    seen = scan(dialect(name), [raw])
    whole, rows = await heard(name, raw, 0)
    assert whole.startswith(seen["passed"])
    if seen["end"] == "done-missing":
        assert whole == seen["passed"] + seen["mend"]
    assert (b'"error"' in whole[len(seen["passed"]) :]) == (seen["end"] in ("error", "truncated"))
    assert await heard(name, raw, 1) == (whole, rows)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(COMMITTED)))
async def test_a_stream_that_is_no_answer_is_judged_the_same_byte_by_byte(name: str) -> None:
    raw = recorded(name)
    (first, *_), (single, *_) = [(await heard(name, raw, size))[1] for size in (0, 1)]
    assert first == single != "ok"


async def test_a_stream_may_be_cut_in_two_anywhere_in_its_head_its_framing_and_its_events() -> None:
    """With byte order mark, CR LF, a comment and data of several lines."""
    words = b': wait\n\ndata: {"choices":[\ndata: {"delta":{"content":"x"}}]}\n\n'
    raw = BOM + with_eol(words + STOP + DONE, b"\r\n")
    data = sse(*raw.splitlines(keepends=True))
    places = range(1, len(data), 1 if asked() is None else 29)

    cuts = iter(places)

    async def script(peer: Peer) -> None:
        while await peer.request():
            at = next(cuts)
            await peer.send_sliced(data[:at], at)
            await peer.send_sliced(data[at:], len(data))

    async with rig(*[script] * len(places)) as it:  # however long a connection lasts
        for at in places:
            it.clock.ahead += 3600  # so that no account has sent too much
            assert ((await it.ask(stream=True)).body, at) == (raw, at)
        assert set(it.rows) == {"ok"}


@pytest.mark.parametrize("size", [0, 1])
async def test_a_mark_and_data_of_several_lines_pass_unchanged(size: int) -> None:
    first = BOM + HELLO
    lines = b'data: {"choices":[\ndata: {"delta":{"content":"two lines"}}]}\nid: 7\nretry: 9\n\n'
    raw = first + b": comment\n\n" + lines + b"event: x\n" + STOP + DONE
    assert await heard("chat", raw, size) == (raw, ["ok"])
    raw = first + STOP + DONE  # behind the mark is all there is
    assert await heard("chat", raw, size) == (raw, ["ok"])


ODD = [
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\0",
    rb"\ud800",
    rb"\u0000",
    "\u2028".encode(),
    b"\xf0\x9f\x99",
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("size", [0, 1])
async def test_fault_37_bytes_that_are_no_text_pass_unchanged(odd: bytes, size: int) -> None:
    raw = HELLO + HELLO.replace(b"Hello", odd) + HELLO + STOP + DONE
    assert await heard("chat", raw, size) == (raw, ["ok"])


@pytest.mark.parametrize("field", ["content", "reasoning"])
async def test_fault_37_a_stream_may_begin_with_half_an_emoji(field: str) -> None:
    halves = [chunk({field: "Hello"}).replace(b"Hello", half) for half in (rb"\ud83d", rb"\ude00")]
    raw = b"".join([*halves, HELLO, STOP, DONE])
    assert await heard("chat", raw, 0) == (raw, ["ok"])


@pytest.mark.parametrize(
    "lines",
    [[b"content-length: 2"], [b"content-length: 2", b"transfer-encoding: chunked"]],
    ids=["two lengths", "length and chunks"],
)
async def test_fault_31_an_answer_hidden_in_another_reaches_nobody(lines: list[bytes]) -> None:
    hidden = json_reply(GOOD | {"id": "hidden"})
    length = [] if len(lines) > 1 else [b"content-length: %d" % (2 + len(hidden))]
    start = head(b"content-type: application/json", *lines, *length)
    async with rig(says(start + b"{}" + hidden)) as it:
        for _ in range(3):
            assert b"hidden" not in (await it.ask()).body
        assert it.rows == ["29 malformed", "ok", "ok", "ok"]
        assert it.proxy.accepted == 2  # the first connection was closed


async def test_fault_35_what_follows_the_end_marker_is_not_passed_on() -> None:
    raw = HELLO + STOP + DONE
    more = chunk({"content": "more"})
    for size in (0, 1):
        assert await heard("chat", raw + more, size) == (raw, ["ok"])


async def test_fault_42_the_answer_names_the_model_that_answered() -> None:
    other = json.dumps({**GOOD, "model": "someone/else"}).encode()
    async with rig(says(json_reply(other))) as it:
        assert (await it.ask()).body == other
    raw = chunk({"content": "x"}, model="someone/else") + STOP + DONE
    assert (await heard("chat", raw, 0))[0] == raw


async def test_fault_43_a_redirect_is_not_followed_and_the_key_stays_here() -> None:
    async with rig() as elsewhere:
        where = b"location: http://127.0.0.1:%d/api/v1" % elsewhere.proxy.port
        moved = head(where, b"content-length: 0", status=b"307 Temporary Redirect")
        async with rig(says(moved)) as it:
            assert (await it.ask()).status == 200
            assert it.rows == ["3 redirect", "ok"]
        assert elsewhere.proxy.accepted == 0


async def test_fault_45_trailers_and_headers_of_the_upstream_stay_behind() -> None:
    body = sse(HELLO, STOP, DONE).removesuffix(b"\r\n") + b"set-cookie: a=b\r\n\r\n"
    async with rig(says(body.replace(b"\r\n", b"\r\nset-cookie: c=d\r\nserver: x\r\n", 1))) as it:
        told = await it.ask(stream=True)
        assert it.rows == ["ok"]
        assert not {"set-cookie", "server", "trailer"} & set(told.headers)
        assert b"cookie" not in told.body


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -5, "completion_tokens": -1}, {"prompt_tokens": 10**30}, "many"],
    ids=["none", "empty", "negative", "huge", "a word"],
)  # fmt: skip
async def test_fault_41_figures_that_cannot_be_are_counted_as_nothing(usage: object) -> None:
    async with rig(says(json_reply({**GOOD, "usage": usage}))) as it:
        assert (await it.ask()).status == 200
        totals = (await it.stats())["totals"]
        assert (totals["tokens_in"], totals["tokens_out"]) == (0, 0)


DOWN = {"error": {"code": 503, "message": "gone"}}
MOMENTS = {  # header → seconds that the model is closed at least, less what the request took, and at most
    "39 NaN": (b"retry-after: NaN", 0, 20),
    "39 negative": (b"retry-after: -5", 0, 20),
    "39 beyond all numbers": (b"retry-after: 1e999", 0, 20),
    "39 in the past": (b"retry-after: Mon, 01 Jan 2001 00:00:00 GMT", 0, 20),
    "39 seconds": (b"retry-after: 40", 40, 50),
    "39 a date": (b"retry-after: {date}", 39, 50),
    "39 more than a failure may say": (b"retry-after: 100000", 0, 301),
    "40 reset in seconds": (b"x-ratelimit-reset: {now:.0f}", 39, 50),
    "40 reset in milliseconds": (b"x-ratelimit-reset: {ms:.0f}", 39, 50),
}


@pytest.mark.parametrize("name", MOMENTS)
async def test_a_moment_is_believed_within_its_bounds(name: str) -> None:
    line, least, most = MOMENTS[name]
    async with rig() as it:
        began = it.clock()
    then = began + 40
    date = formatdate(then, usegmt=True)
    text = line.decode().format(now=then, ms=then * 1000, date=date).encode()
    refused = json_reply(DOWN, b"content-type: application/json", text, status=b"503 Down")
    async with rig(says(refused)) as it:
        assert (await it.ask()).status == 200
        closed = [m for m in (await it.stats())["models"] if m["state"] != "open"]
        left = closed[0]["until"] - it.clock() if closed else 0
        assert least - (it.clock() - began) <= left <= most, left


QUOTA_MOMENTS = {  # header → seconds that the account is closed; 61 are its own, when nothing is believed
    "39 a quota, NaN": (b"retry-after: NaN", 61),
    "39 a quota, negative": (b"retry-after: -5", 61),
    "39 a quota, beyond all numbers": (b"retry-after: 1e999", 61),
    "39 a quota, in the past": (b"retry-after: Mon, 01 Jan 2001 00:00:00 GMT", 61),
    "39 a quota, more than a day": (b"retry-after: 90000", 86_400),
    "39 a quota, absurd": (b"retry-after: 900000", 61),
    "40 a quota in seconds": (b"x-ratelimit-reset: {now:.0f}", 40),
    "40 a quota in milliseconds": (b"x-ratelimit-reset: {ms:.0f}", 40),
}


@pytest.mark.parametrize("name", QUOTA_MOMENTS)
async def test_a_moment_of_a_quota_closes_the_account_and_no_model(name: str) -> None:
    line, seconds = QUOTA_MOMENTS[name]
    spent = {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min."}}
    async with rig() as it:
        began = it.clock()
    text = line.decode().format(now=began + 40, ms=(began + 40) * 1000).encode()
    refused = json_reply(spent, b"content-type: application/json", text, status=b"429 Too Many")
    async with rig(says(refused)) as it:
        assert (await it.ask()).status == 200
        assert it.rows == ["18 platform-minute", "ok"]
        stats = await it.stats()
        closed = {k["name"]: k["until"] for k in stats["keys"] if k["state"] != "open"}
        assert list(closed) == [it.journal[0].key]
        took = it.clock() - began
        assert -1 <= closed[it.journal[0].key] - began - seconds <= took + 1
        assert {model["state"] for model in stats["models"]} == {"open"}


# --- slow, and within the limits --------------------------------------------------------------------


async def test_fault_16_content_in_drops_is_ended_by_the_deadline_and_blames_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = list[logs.Line]()
    monkeypatch.setattr(inference, "tell_request", lines.append)
    limits = replace(PATIENT, gap=5.0)
    drops = [piece(chunk({"content": "x"}))] * 300 + [piece(STOP + DONE) + END_OF_CHUNKS]
    async with rig(in_pieces(sse(ended=False), drops, 0.02), limits=limits) as it:
        told = await it.ask(stream=True, headers={"x-request-timeout": "1"})
        assert told.code == "deadline_exceeded"
        assert len(told.events) > 3
        assert it.rows == ["abandoned"]
        assert [tries.rpartition(" ")[2] for tries in lines[0].tries] == it.rows
        assert (await it.stats())["errors"] == []


async def test_fault_16_a_plain_answer_in_drops_is_ended_by_the_deadline_and_blames_nobody() -> (
    None
):
    async with rig(Weather(rate=1000.0, slice=10)) as it:
        told = await it.ask(headers={"x-request-timeout": "0.2"})
        assert (told.status, told.code) == (504, "deadline_exceeded")
        assert it.rows == ["abandoned"]


@pytest.mark.parametrize(
    ("status", "stream", "row"),
    [
        (b"200 OK", False, "16 timeout"),
        (b"200 OK", True, "16 timeout"),
        (b"502 Bad Gateway", False, "24 provider-down"),
        (b"502 Bad Gateway", True, "24 provider-down"),
    ],
)
async def test_fault_15_blanks_are_no_answer_and_another_model_is_asked_in_time(
    status: bytes, stream: bool, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "REFUSAL", 0.2)
    start = head(b"content-type: application/json", b"transfer-encoding: chunked", status=status)
    limits = replace(HASTY, deadline=4.4)  # half of it for the first answer
    async with rig(in_pieces(start, [piece(b" ")] * 500, 0.02), limits=limits) as it:
        told = await it.ask(stream)
        assert told.status == 200
        assert it.rows == [row, "ok"]


async def test_fault_20_a_client_that_pauses_longer_than_the_upstream_may_gets_its_stream() -> None:
    limits = replace(PATIENT, gap=0.3)
    flood = [piece(chunk({"content": "x" * 100_000}))] * 150
    script = in_pieces(sse(ended=False), [*flood, piece(STOP + DONE) + END_OF_CHUNKS], 0.0)
    async with rig(script, limits=limits) as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=READ)
        body = json.dumps(STREAM).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await asyncio.sleep(1.0)  # real: it is the kernel's buffers that fill up
        heard = b""
        while data := await reader.read(1 << 20):
            heard = heard[-READ:] + data
        writer.close()
        assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        await it.settle()
        assert it.rows == ["ok"]


async def test_fault_22_a_thin_line_is_no_silence() -> None:
    limits = replace(PATIENT, gap=0.5)
    async with rig(Weather(rate=12_000.0, slice=100), limits=limits) as it:
        began = it.clock()
        told = await it.ask(stream=True)
        assert it.clock() - began > limits.gap
        assert told.events[-1] == "[DONE]"
        assert it.rows == ["ok"]


@pytest.mark.parametrize(
    "weather", [Weather(slice=1), Weather(jitter=0.01)], ids=["1 byte", "jitter"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_survive_bad_weather(weather: Weather, stream: bool) -> None:
    async with rig(weather) as it:
        told = await it.ask(stream)
        assert (told.status, it.rows) == (200, ["ok"])
        if stream:
            assert told.events[-1] == "[DONE]"


async def test_a_corrupted_byte_is_survived_wherever_it_falls() -> None:
    """In the head, in a length, in the framing of chunks, in the JSON: an answer or a fallback, never a hang."""
    for at in range(0, 700, 13):
        async with rig(Weather(corrupt=at)) as it:
            told = await it.ask()
            assert told.status == 200
            assert it.rows[-1] == "ok"
            assert {key["state"] for key in (await it.stats())["keys"]} == {"open"}
