"""Faults 20, 21 and 86-90: clients that are slow, leave, are many, or send what must not be believed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from keywheel.config import GatewaySettings
from keywheel.core.types import Attempted, Event, Finished
from keywheel.gateway import inference, intake, logs
from tests.faultproxy import End, Weather
from tests.faults.rig import HELLO, PATIENT, STREAM, Rig, rig
from tests.faults.speech import GOOD, chunk, json_reply, piece, says, sse
from tests.faults.speech import HELLO as WORD
from tests.gateway.rawserver import Peer, until

pytestmark = pytest.mark.anyio
SILENT = Weather(after=0, end=End.STALL)
ROUTE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
HELD = 256 * 1024  # bytes of one stream that the gateway may hold for a client that does not read


def request(body: object, *headers: bytes) -> bytes:
    data = json.dumps(body).encode()
    lines = b"".join(header + b"\r\n" for header in headers)
    return ROUTE + lines + b"content-length: %d\r\n\r\n" % len(data) + data


@asynccontextmanager
async def connected(
    it: Rig, data: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that has sent this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=4096)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def check_abandoned(it: Rig) -> None:
    """The upstream's work ends within a second; nobody is to blame, and nothing is left."""
    async with asyncio.timeout(1):
        await it.proxy.settle()
    await it.settle()
    await until(lambda: not it.server.server_state.tasks)
    assert it.rows == ["abandoned"] * len(it.rows)
    stats = await it.stats()
    assert stats["errors"] == []
    assert {key["state"] for key in stats["keys"]} == {"open"}
    assert stats["totals"]["abandoned"] == 1


# --- slow ---------------------------------------------------------------------------------------------


def held(it: Rig) -> int:
    """Bytes that wait in the gateway, on the way in and on the way out."""
    waiting = sum(c._size for c in it.upstream._pool._live)
    clients = it.server.server_state.connections
    return waiting + sum(c.transport.get_write_buffer_size() for c in clients)


@pytest.mark.parametrize("text", ["word ", "word " * 3000], ids=["small events", "large events"])
async def test_fault_20_a_client_that_does_not_read_holds_the_upstream_back_and_is_dropped(
    text: str,
) -> None:
    event = chunk({"content": text})
    packet = piece(event) * (65536 // len(event) + 1)
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(sse(ended=False))
        for _ in range(400):  # 25 MB
            peer.send(packet)
            await peer.writer.drain()
            sent += 1

    async with rig(script) as it, connected(it, request(STREAM)):
        most = before = 0
        clients = it.server.server_state.connections
        while sent != before or not any(c.flow.write_paused for c in clients):
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
                most = max(most, held(it))
        assert 0 < sent < 400
        assert 0 < most <= HELD
        for now in (1.0, intake.STALL_SECONDS):
            intake.expire(clients, now)
        assert clients
        intake.expire(clients, intake.STALL_SECONDS + 2)
        await until(lambda: not clients)
        await it.settle()
        assert it.rows == ["abandoned"]


async def test_fault_20_a_slow_client_that_reads_gets_every_byte() -> None:
    events = [chunk({"content": f"{number} " * 500}) for number in range(1000)]
    script = says(sse(*events, chunk(finish="stop"), b"data: [DONE]\n\n"))
    async with (
        rig(script) as it,
        connected(it, request(STREAM, b"connection: close")) as (reader, _),
    ):
        heard = bytearray()
        while data := await reader.read(4096):
            heard += data
        assert heard.count(b"data: {") == 1001
        assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert it.rows == ["ok"]


@pytest.mark.parametrize(
    ("data", "limit"),
    [(ROUTE, intake.HEAD_SECONDS), (request(HELLO)[:-3], intake.BODY_SECONDS)],
    ids=["head", "body"],
)
async def test_fault_21_a_client_that_sends_slowly_is_hung_up_on(data: bytes, limit: float) -> None:
    async with rig() as it, connected(it, data) as (reader, _):
        clients = it.server.server_state.connections
        await until(lambda: [c.patience for c in clients if c._seen] == [limit])
        for now in (1.0, limit):
            intake.expire(clients, now)
        assert len(clients) == 1
        intake.expire(clients, limit + 2)
        told = await asyncio.wait_for(reader.read(), 2)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert told.count(b"HTTP/1.1") == 1
        await until(lambda: not it.server.server_state.tasks)
        assert it.journal == []


# --- leaving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [HELLO, STREAM], ids=["plain", "stream"])
async def test_fault_86_a_client_that_leaves_before_the_headers(body: object) -> None:
    async with rig(SILENT) as it:
        async with connected(it, request(body)):
            await until(lambda: it.proxy.open == 1)
        await check_abandoned(it)


async def test_the_log_of_a_client_that_left_tells_the_attempt_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[logs.Line] = []
    ended: list[Event] = []
    monkeypatch.setattr(inference, "tell_request", lines.append)
    async with rig(SILENT) as it:
        it.engine.listen(ended.append)
        async with connected(it, request(HELLO)):
            await until(lambda: it.proxy.open == 1)
        await check_abandoned(it)
    (attempt, finished) = ended
    assert isinstance(attempt, Attempted)
    assert isinstance(finished, Finished)
    told = (finished.attempts, finished.key, finished.account, finished.model)
    assert told == (1, attempt.key, attempt.account, attempt.model)
    assert lines[0].tries == [f"{attempt.key} {attempt.model} abandoned"]


async def test_fault_86_a_client_that_leaves_mid_stream() -> None:
    async with rig(says(sse(WORD, ended=False))) as it:
        async with connected(it, request(STREAM)) as (reader, _):
            assert b"Hello" in await reader.readuntil(b"Hello")
        await check_abandoned(it)


async def test_fault_86_a_client_that_leaves_within_its_body() -> None:
    async with rig() as it:
        async with connected(it, request(HELLO)[:-3]):
            await until(lambda: len(it.server.server_state.tasks) == 1)
        await check_abandoned(it)


async def test_fault_86_a_client_that_leaves_the_queue_gives_its_place_up_at_once() -> None:
    limits = replace(PATIENT, max_queue=10.0)
    async with rig(says(then="reset"), says(then="reset"), limits=limits) as it:
        assert (await it.ask()).status == 502  # and the provider is closed for a moment
        async with connected(it, request(HELLO)):
            await until(lambda: len(it.engine.pool.queue) == 1)
        await until(lambda: not len(it.engine.pool.queue))
        await until(lambda: not it.server.server_state.tasks)
        assert it.rows == ["1 unreachable"] * 2


async def test_fault_86_a_client_that_leaves_behind_a_further_request_of_its_own() -> None:
    async with rig(SILENT) as it:
        async with connected(it, request(HELLO) + request(HELLO)) as (_, writer):
            await until(lambda: it.proxy.open == 1)
            writer.write(request(HELLO))
        await check_abandoned(it)
        assert len(it.rows) == 1


# --- many -----------------------------------------------------------------------------------------------


async def test_fault_87_idle_connections_take_the_places_only_until_their_time_is_over() -> None:
    async with rig(settings=GatewaySettings(connections=50)) as it:
        idle = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(100)]
        clients = it.server.server_state.connections
        await until(lambda: len(clients) == 100)
        refused = await it.ask()
        assert (refused.status, refused.code) == (503, "too_many_connections")
        assert refused.headers["retry-after"] == "1"
        for now in (1.0, intake.HEAD_SECONDS + 2):
            intake.expire(clients, now)
        assert await asyncio.wait_for(idle[0][0].read(), 2) == b""
        await until(lambda: not clients)
        assert (await it.ask()).status == 200
        for _, writer in idle:
            writer.close()


# --- what must not be believed ---------------------------------------------------------------------------

SAID = b'{"role":"user","content":"x"}'
DEEP = b"[" * 10_000 + b"]" * 10_000
HUGE = {
    "88 100,000 messages": b'{"messages":[' + b",".join([SAID] * 100_000) + b"]}",
    "88 one message too many": b'{"messages":[' + b",".join([SAID] * 1001) + b"]}",
    "88 messages of depth 10,000": b'{"messages":' + DEEP + b"}",
    "88 a field of depth 10,000": b'{"messages":[' + SAID + b'],"x":' + DEEP + b"}",
    "88 a field of depth 65": b'{"messages":[' + SAID + b'],"x":' + b"[" * 65 + b"]" * 65 + b"}",
    "88 a number of 5,000 digits": b'{"messages":[' + SAID + b'],"max_tokens":' + b"9" * 5000 + b"}",
    "88 bytes that are no UTF-8": b'{"messages":[{"role":"user","content":"\xff"}]}',
    "88 over 10 MB": b"x" * ((10 << 20) + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
async def test_a_body_beyond_the_limits_is_refused_before_anything_is_sent(name: str) -> None:
    async with rig() as it:
        began = it.clock()
        reply = await it.http.post("/v1/chat/completions", content=HUGE[name])
        assert reply.status_code in (400, 413)
        assert reply.json()["error"]["message"]
        assert it.clock() - began < 2
        assert (it.journal, it.proxy.accepted) == ([], 0)


async def test_fault_88_a_body_without_a_length_is_counted_as_it_comes() -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b"x" * (1 << 20)

    async with rig() as it:
        reply = await it.http.post("/v1/chat/completions", content=long())
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "payload_too_large")
        assert (it.journal, it.proxy.accepted) == ([], 0)


LARGE = 64 << 20
LARGE_HEAD = ROUTE + b"content-length: %d\r\n" % LARGE


async def test_fault_88_a_declared_length_over_the_limit_is_refused_before_the_body_comes() -> None:
    async with rig() as it, connected(it, LARGE_HEAD + b"\r\n") as (reader, writer):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        # What is still sent is read and dropped, so that the client hears the answer.
        for _ in range(LARGE >> 20):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        assert b"payload_too_large" in await reader.readuntil(b"payload_too_large")
        writer.write(SMUGGLED)
        assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"200 OK")


async def test_fault_88_nobody_is_asked_to_send_what_is_too_large() -> None:
    async with (
        rig() as it,
        connected(it, LARGE_HEAD + b"expect: 100-continue\r\n\r\n") as (reader, _),
    ):
        # The connection is closed: where the body should be, nothing else may be read.
        told = await reader.read()
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in told


async def test_a_client_that_asks_first_is_asked_to_send_its_body() -> None:
    asking = request(HELLO, b"expect: 100-continue")
    head, _, body = asking.partition(b"\r\n\r\n")
    async with (
        rig(says(json_reply(GOOD))) as it,
        connected(it, head + b"\r\n\r\n") as (reader, writer),
    ):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in answer


async def test_fault_88_of_a_field_given_twice_the_upstream_gets_what_was_checked() -> None:
    paid = b'{"model":"openai/gpt-4o","messages":[' + SAID + b'],"model":"auto"}'
    async with rig(says(json_reply(GOOD))) as it:
        assert (await it.http.post("/v1/chat/completions", content=paid)).status_code == 200
        sent = it.proxy.requests[0].partition(b"\r\n\r\n")[2]
        assert sent.count(b'"model"') == 1
        assert b"gpt-4o" not in sent


BODY = b"0\r\n\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKS = b"transfer-encoding: chunked\r\n\r\n"
CORPUS = {
    "length and chunks": b"content-length: 5\r\n" + CHUNKS + BODY,
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n" + BODY,
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\n" + BODY,
    "two equal lengths": b"content-length: 5\r\ncontent-length: 5\r\n\r\n" + BODY,
    "a list of lengths": b"content-length: 5, 5\r\n\r\n" + BODY,
    "a signed length": b"content-length: +5\r\n\r\n" + BODY,
    "a length in hex": b"content-length: 0x5\r\n\r\n" + BODY,
    "chunked not last": b"transfer-encoding: chunked, gzip\r\n\r\n" + BODY,
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n\r\n" + BODY,
    "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n" + BODY,
    "a coding behind a tab": b"transfer-encoding:\tchunked\r\ncontent-length: 5\r\n\r\n" + BODY,
    "a folded header": b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "a folded coding": b"transfer-encoding:\r\n chunked\r\n\r\n" + BODY,
    "a bare LF": b"x: a\ncontent-length: 0\r\n\r\n",
    "a bare CR": b"x: a\rcontent-length: 0\r\n\r\n",
    "a NUL in a value": b"x: a\0b\r\n\r\n",
    "a NUL in a name": b"x\0: a\r\n\r\n",
    "a space before the colon": b"content-length : 5\r\n\r\n" + BODY,
    "a space before the name": b" content-length: 5\r\n\r\n" + BODY,
    "a name without colon": b"content-length\r\n\r\n",
    "a chunk size that is none": CHUNKS + b"zz\r\n\r\n",
    "a negative chunk size": CHUNKS + b"-1\r\n\r\n",
    "a chunk size in 0x": CHUNKS + b"0x0\r\n\r\n",
    "a chunk size too large": CHUNKS + b"f" * 17 + b"\r\n",
    "a chunk longer than it says": CHUNKS + b"1\r\nab\r\n" + BODY,
    "a chunk that ends in LF": CHUNKS + b"1\r\na\n" + BODY,
}


@pytest.mark.parametrize("name", CORPUS)
async def test_fault_89_what_could_smuggle_is_refused_and_the_connection_closed(name: str) -> None:
    async with rig() as it, connected(it, ROUTE + CORPUS[name] + SMUGGLED) as (reader, _):
        heard = await asyncio.wait_for(reader.read(65536), 2)
        heard += await asyncio.wait_for(reader.read(), 2)
        assert heard.startswith(b"HTTP/1.1 400 ")
        assert heard.count(b"\r\n\r\n") == 1  # one answer
        assert (it.journal, it.proxy.accepted) == ([], 0)


async def test_fault_89_trailers_are_dropped() -> None:
    body = json.dumps(HELLO).encode()
    trailed = piece(body) + b"0\r\nauthorization: Bearer x\r\nhost: evil\r\n\r\n"
    async with rig(says(json_reply(GOOD))) as it:
        async with connected(it, ROUTE + b"connection: close\r\n" + CHUNKS + trailed) as (
            reader,
            _,
        ):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        assert b"evil" not in it.proxy.requests[0]
        assert b"Bearer x" not in it.proxy.requests[0]


async def test_fault_89_pipelined_requests_are_answered_in_their_order() -> None:
    asked = request(HELLO) + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with (
        rig() as it,
        connected(it, asked + request(HELLO, b"connection: close")) as (reader, _),
    ):
        heard = await reader.read(65536)
        while data := await reader.read(65536):
            heard += data
        assert heard.count(b"HTTP/1.1 200 ") == 3
        order = [
            heard.find(b"chat.completion"),
            heard.find(b'"ok"'),
            heard.rfind(b"chat.completion"),
        ]
        assert order == sorted(order)
        assert it.rows == ["ok", "ok"]


async def test_fault_89_a_request_that_comes_during_an_answer_has_its_turn_behind_it() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        peer.send(json_reply(GOOD))

    health = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    async with rig(script) as it, connected(it, request(HELLO)) as (reader, writer):
        await until(lambda: len(it.proxy.requests) == 1)
        writer.write(health)
        await until(lambda: any(c._early for c in it.server.server_state.connections))
        go.set()
        heard = await asyncio.wait_for(reader.read(-1), 2)
        assert heard.count(b"HTTP/1.1 200 ") == 2
        assert 0 < heard.find(b"chat.completion") < heard.find(b'"ok"')


async def test_fault_90_the_same_idempotency_key_twice_is_two_requests() -> None:
    async with rig() as it:
        same = {"idempotency-key": "one"}
        replies = await asyncio.gather(it.ask(headers=same), it.ask(headers=same))
        assert [reply.status for reply in replies] == [200, 200]
        assert replies[0].json["id"] != replies[1].json["id"]
        assert it.rows == ["ok", "ok"]
        assert (await it.stats())["totals"]["requests"] == 2


async def test_a_stream_for_an_http_1_0_client_ends_with_the_connection() -> None:
    asked = request(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with rig(says(sse(WORD, chunk(finish="stop"), b"data: [DONE]\n\n"))) as it:
        async with connected(it, asked) as (reader, _):
            head, _, body = (await reader.read(65536) + await reader.read()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert body.startswith(WORD)
        assert body.endswith(b"data: [DONE]\n\n")


async def test_javas_offer_of_h2c_is_answered_in_http_1_1() -> None:
    offer = (
        b"connection: Upgrade, HTTP2-Settings",
        b"upgrade: h2c",
        b"http2-settings: AAEAAEAAAAIAAAAB",
    )
    async with rig() as it, connected(it, request(HELLO, *offer)) as (reader, _):
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        await it.settle()
        assert it.rows == ["ok"]
