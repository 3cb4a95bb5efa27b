"""What a client may send before the application sees it: sizes, times, and nothing but HTTP/1.1."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from keywheel.gateway import intake, run
from keywheel.gateway.intake import (
    BODY_SECONDS,
    EARLY,
    HEAD_SECONDS,
    HEAD_SIZE,
    HEADERS,
    STALL_SECONDS,
    TARGET,
    Intake,
)

pytestmark = pytest.mark.anyio
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Wire(asyncio.Transport):
    """The client's side of a connection: what it got, and whether it was hung up on."""

    def __init__(self) -> None:
        super().__init__()
        self.got = b""
        self.closed = False
        self.paused = False
        self.waiting = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.got += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Client:
    """One connection to a server whose application answers 204 once the body is read."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.asked: list[str] = []
        self.state = ServerState()
        config = uvicorn.Config(
            self.application, interface="asgi3", http=Intake, ws="none", log_config=None
        )
        config.load()
        self.protocol = Intake(config, self.state, {})
        self.protocol.connection_made(self.wire)
        self.now = 1000.0

    async def application(self, scope: Any, receive: Callable[[], Any], send: Any) -> None:
        self.asked.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(self, *pieces: bytes) -> bytes:
        """Send pieces; what came back so far."""
        for piece in pieces:
            if not self.wire.closed:
                self.protocol.data_received(piece)
        await asyncio.gather(*self.state.tasks)
        return self.wire.got

    def after(self, seconds: float) -> bool:
        """Whether the connection is closed after so many further seconds, in which the server looked twice."""
        intake.expire(self.state.connections, self.now)
        self.now += seconds
        intake.expire(self.state.connections, self.now)
        return self.wire.closed

    async def refused(self, *pieces: bytes) -> tuple[int, str]:
        """Status and code of a refusal, after which the connection must be closed."""
        answer = await self.send(*pieces)
        assert self.wire.closed
        assert self.asked == []
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        return int(head.split()[1]), json.loads(body)["error"]["code"]


# --- sizes -----------------------------------------------------------------------------------------


async def test_a_usual_request_passes() -> None:
    client = Client()
    assert (await client.send(GET + b"\r\n")).startswith(b"HTTP/1.1 204 ")
    assert (await client.send(POST, b"12345", b"67890")).count(b"HTTP/1.1 204 ") == 2
    assert client.asked == ["/healthz", "/v1/chat/completions"]
    assert not client.wire.closed


async def test_the_largest_head_passes_and_one_more_does_not() -> None:
    size = HEAD_SIZE - len("/healthz") - len("hostlocalhost") - len("x")
    assert b" 204 " in await Client().send(GET + b"x: " + b"v" * size + b"\r\n\r\n")
    too_large = GET + b"x: " + b"v" * (size + 1) + b"\r\n\r\n"
    assert await Client().refused(too_large) == (431, "head_too_large")
    assert await Client().refused(*cut(too_large, 1000)) == (431, "head_too_large")


async def test_the_most_headers_pass_and_one_more_does_not() -> None:
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(HEADERS - 1))
    assert b" 204 " in await Client().send(GET + many + b"\r\n")
    assert await Client().refused(GET + many + b"y: 1\r\n\r\n") == (431, "head_too_large")


async def test_the_longest_path_passes_and_a_longer_one_does_not() -> None:
    def get(length: int) -> bytes:
        return b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"

    assert b" 204 " in await Client().send(get(TARGET))
    assert await Client().refused(get(TARGET + 1)) == (414, "target_too_long")


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 100_000,
        GET + b"x: " + b"v" * 100_000,
        GET + b"x" * 100_000,
        b"\r\n" * 50_000,
    ],
    ids=["target", "value", "name", "blank lines"],
)
async def test_a_head_without_end_is_refused_before_it_fills_the_memory(endless: bytes) -> None:
    client = Client()
    pieces = cut(endless, 1000)
    assert (await client.refused(*pieces))[0] in (400, 431)
    assert client.protocol._seen <= HEAD_SIZE + 1000


async def test_a_body_does_not_count_as_head() -> None:
    client = Client()
    head = POST.replace(b"10", b"%d" % (10 * HEAD_SIZE))
    answer = await client.send(head + b"x" * HEAD_SIZE, *cut(b"x" * 9 * HEAD_SIZE, 50_000))
    assert b" 204 " in answer


# --- nothing but HTTP/1.1 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://127.0.0.1:8787/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        POST.replace(b"content-length: 10", b"content-length: 10\r\ncontent-length: 11"),
        POST.replace(b"content-length: 10", b"content-length: 10\r\ntransfer-encoding: chunked"),
        POST.replace(b"content-length: 10", b"content-length: -1"),
        GET + b" folded: x\r\n\r\n",
        GET + b"x : y\r\n\r\n",
        GET + b"x: a\x00b\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
)
async def test_what_is_no_plain_request_is_refused_in_our_shape(request_: bytes) -> None:
    assert await Client().refused(request_) == (400, "invalid_request")


# --- times -----------------------------------------------------------------------------------------


async def test_a_client_that_says_nothing_is_hung_up_on() -> None:
    client = Client()
    assert not client.after(HEAD_SECONDS - 0.1)
    assert client.after(HEAD_SECONDS + 0.1)
    assert client.wire.got == b""


def assert_timed_out(client: Client) -> None:
    head, _, body = client.wire.got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def test_a_head_that_comes_slowly_does_not_get_more_time() -> None:
    client = Client()
    for start in range(0, 20, 5):
        await client.send(GET[start : start + 5])
        assert client.after(HEAD_SECONDS / 4 + 0.1) is (start == 15)
    assert_timed_out(client)


async def test_a_body_has_a_time_of_its_own() -> None:
    client = Client()
    client.protocol.data_received(POST + b"123")
    assert not client.after(BODY_SECONDS - 0.1)
    assert client.after(BODY_SECONDS + 0.1)
    assert_timed_out(client)
    client.protocol.connection_lost(None)
    await asyncio.gather(*client.state.tasks)


async def test_a_body_that_nobody_reads_any_more_ends_without_a_second_answer() -> None:
    client = Client()
    client.protocol.data_received(POST + b"123")
    assert client.protocol.cycle is not None
    client.protocol.cycle.response_complete = True  # such as a 413
    assert client.after(BODY_SECONDS + 0.1)
    assert client.wire.got == b""
    client.protocol.connection_lost(None)
    await asyncio.gather(*client.state.tasks)


async def test_an_answer_may_take_as_long_as_it_takes() -> None:
    client = Client()
    await client.send(POST + b"1234567890")
    assert not client.after(10_000)


async def test_a_further_request_has_its_time_from_its_first_byte() -> None:
    client = Client()
    await client.send(GET + b"\r\n", b"\r\n")
    assert client.after(HEAD_SECONDS + 1)


async def test_a_client_that_we_do_not_read_from_is_not_to_blame() -> None:
    client = Client()
    client.protocol.data_received(POST + b"123")
    client.protocol.flow.pause_reading()
    assert not client.after(10_000)
    client.protocol.flow.resume_reading()
    assert not client.after(BODY_SECONDS - 0.1)
    assert client.after(0.2)
    client.protocol.connection_lost(None)
    await asyncio.gather(*client.state.tasks)


def test_a_server_looks_after_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async def application(scope: Any, receive: Callable[[], Any], send: Any) -> None:
        while scope["type"] == "lifespan":
            await send({"type": (await receive())["type"] + ".complete"})

    monkeypatch.setattr(run, "SWEEP", 1)
    monkeypatch.setattr(Intake, "patience", 0.01)
    with (
        run.listen("127.0.0.1", 0) as bound,
        run.in_thread(application, bound),
        socket.create_connection(bound.getsockname(), timeout=5) as silent,
    ):
        assert silent.recv(1) == b""


async def test_other_protocols_are_left_alone() -> None:
    intake.expire([object()], 1e9)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_a_client_that_takes_nothing_of_its_answer_is_hung_up_on() -> None:
    client = Client()
    await client.send(POST + b"1234567890")
    client.wire.waiting = 1000
    assert not client.after(STALL_SECONDS - 1)
    client.wire.waiting = 900  # it took something
    assert not client.after(STALL_SECONDS - 1)
    assert client.after(STALL_SECONDS + 1)


OFFER = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"", b""),
        (b"content-length: 25\r\n", b"GET /smuggled HTTP/1.1\r\n\r"),
        (b"transfer-encoding: chunked\r\n", b"4\r\nGET \r\n0\r\n\r\n"),
    ],
)
async def test_an_offered_upgrade_is_ignored_and_its_body_stays_a_body(
    framing: bytes, body: bytes, size: int
) -> None:
    """Java's HttpClient offers h2c in every request (RFC 9110, 7.8: a server may ignore it)."""
    client = Client()
    first = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n" + OFFER + framing + b"\r\n" + body
    for data in (first, GET + b"\r\n"):
        for piece in cut(data, size):
            client.protocol.data_received(piece)
        await client.send()
    assert client.asked == ["/v1/messages", "/healthz"]
    assert client.wire.got.count(b"HTTP/1.1 204 ") == 2
    assert b" 101 " not in client.wire.got
    assert not client.wire.closed


@pytest.mark.parametrize("wrong", [b"content-length: 1\r\ncontent-length: 2\r\n", b"a : b\r\n"])
async def test_an_offered_upgrade_excuses_nothing(wrong: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\n" + OFFER + wrong + b"\r\n"
    assert await Client().refused(head) == (400, "invalid_request")


async def test_a_refusal_has_the_shape_of_the_path() -> None:
    """OpenRouter's SDKs take nothing but a number for `code`."""
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(HEADERS))
    for path, code in (
        (b"/v1/models", b'"code":"head_too_large"'),
        (b"/api/v1/models", b'"code":431'),
    ):
        got = await Client().send(
            b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\n" + many + b"\r\n"
        )
        assert code in got


async def test_a_tunnel_is_refused() -> None:
    for target in (b"example:443", b"/"):
        head = b"CONNECT " + target + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert await Client().refused(head) == (400, "invalid_request")


async def test_another_version_in_the_request_line_is_refused() -> None:
    for version in (b"2.0", b"0.9", b"1.2"):
        head = b"GET /healthz HTTP/" + version + b"\r\nhost: localhost\r\n\r\n"
        assert await Client().refused(head) == (400, "invalid_request")


# --- requests that come early ------------------------------------------------------------------------


class Slow(Client):
    """Its application answers when it is told to, and notices when its client leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.left: list[str] = []

    async def application(self, scope: Any, receive: Callable[[], Any], send: Any) -> None:
        self.asked.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        going = asyncio.create_task(self.go.wait())
        leaving = asyncio.create_task(receive())
        await asyncio.wait({going, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            self.left.append(scope["path"])
        leaving.cancel()
        going.cancel()
        await asyncio.gather(leaving, going, return_exceptions=True)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def finish(self) -> None:
        self.go.set()
        while self.state.tasks:
            await asyncio.gather(*self.state.tasks)
            await asyncio.sleep(0)


TWO = [GET + b"\r\n", POST + b"1234567890"]


@pytest.mark.parametrize("pieces", [TWO, [b"".join(TWO)], [TWO[0] + TWO[1][:60], TWO[1][60:]]])
async def test_requests_that_come_early_are_answered_one_after_another(pieces: list[bytes]) -> None:
    client = Slow()
    for piece in pieces:
        client.protocol.data_received(piece)
    await asyncio.sleep(0)
    assert client.asked == ["/healthz"]
    await client.finish()
    assert client.asked == ["/healthz", "/v1/chat/completions"]
    assert client.wire.got.count(b"HTTP/1.1 204 ") == 2


@pytest.mark.parametrize("pieces", [TWO, [b"".join(TWO)]])
async def test_a_client_that_asks_early_and_leaves_is_missed_at_once(pieces: list[bytes]) -> None:
    client = Slow()
    for piece in pieces:
        client.protocol.data_received(piece)
    await asyncio.sleep(0)
    assert not client.wire.paused  # or its leave would not be read
    client.protocol.connection_lost(None)
    await asyncio.gather(*client.state.tasks)
    assert (client.asked, client.left) == (["/healthz"], ["/healthz"])


async def test_a_head_that_comes_early_does_not_cut_the_answer_short() -> None:
    client = Slow()
    client.protocol.data_received(GET + b"\r\n")
    client.protocol.data_received(GET)
    await asyncio.sleep(0)
    assert not client.after(HEAD_SECONDS + 1)
    await client.finish()
    assert client.after(HEAD_SECONDS + 1)


async def test_only_so_much_is_kept_of_what_comes_early() -> None:
    client = Slow()
    client.protocol.data_received(GET + b"\r\n")
    await asyncio.sleep(0)
    client.protocol.data_received(b"x" * EARLY)
    assert not client.wire.paused
    client.protocol.data_received(b"x")
    assert client.wire.paused
    await client.finish()
    assert b" 400 " in client.wire.got


# --- HTTP/1.0 and the limit of connections -------------------------------------------------------------


async def test_an_answer_to_http_1_0_ends_with_the_connection_and_has_no_chunks() -> None:
    class Streaming(Client):
        async def application(self, scope: Any, receive: Callable[[], Any], send: Any) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            for data in (b"one", b"two"):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    client = Streaming()
    head, _, body = (await client.send(GET.replace(b"1.1", b"1.0") + b"\r\n")).partition(
        b"\r\n\r\n"
    )
    assert body == b"onetwo"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert client.wire.closed


async def test_an_answer_of_known_length_keeps_it_for_http_1_0() -> None:
    class Complete(Client):
        async def application(self, scope: Any, receive: Callable[[], Any], send: Any) -> None:
            length = [(b"content-length", b"3")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"one"})

    answer = await Complete().send(GET.replace(b"1.1", b"1.0") + b"\r\n")
    assert b"content-length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\none")


async def test_one_connection_too_many_is_refused_in_our_shape_with_a_time_to_come_back() -> None:
    client = Client()
    client.protocol.limit_concurrency = 1
    assert await client.refused(GET + b"\r\n") == (503, "too_many_connections")
    assert b"\r\nretry-after: 1\r\n" in client.wire.got


async def test_nothing_of_ours_stands_inside_an_answer_that_is_on_its_way() -> None:
    client = Client()
    client.protocol.data_received(POST + b"123")  # the application waits for the rest
    client.protocol.cycle.response_started = True
    client.protocol.send_400_response("")
    assert client.wire.closed
    assert client.wire.got == b""
    client.protocol.connection_lost(None)
    await asyncio.gather(*client.state.tasks)
