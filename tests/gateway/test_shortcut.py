"""The way past ASGI: the same bytes as through it, and the client's leave is told without a task that waits for it."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from keywheel.gateway import shortcut
from keywheel.gateway.intake import Intake
from keywheel.gateway.outlet import Outlet
from keywheel.gateway.shortcut import ONE_WRITE, Shortcut
from tests.gateway.test_intake import Wire

pytestmark = pytest.mark.anyio
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
HEADERS = ((b"content-type", b"text/plain"), (b"x-a", b"b"))
Answer = Callable[[Outlet], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A connection whose application answers by `answer`, through ASGI or past it."""

    def __init__(self, answer: Callable[[Any], Awaitable[None]], *, short: bool = True) -> None:
        self.answer, self.short = answer, short
        self.wire = Wire()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]
        self.seen: list[Shortcut] = []
        config = uvicorn.Config(
            self.application, interface="asgi3", http=Intake, ws="none", log_config=None
        )
        config.load()
        self.protocol = Intake(config, self.state, {})
        self.protocol.connection_made(self.wire)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        found = shortcut.take(scope)
        assert found
        self.seen.append(found)
        if not self.short:
            await receive()
        await self.answer(found if self.short else Outlet(send))

    async def ask(self, *lines: bytes) -> bytes:
        self.protocol.data_received(POST + b"".join(lines) + b"\r\nhello")
        await asyncio.gather(*self.state.tasks, return_exceptions=True)
        return self.wire.got


async def whole(outlet: Outlet) -> None:
    await outlet.respond(201, HEADERS, b"body")


async def large(outlet: Outlet) -> None:
    await outlet.respond(200, HEADERS, b"x" * ONE_WRITE)


async def piecewise(outlet: Outlet) -> None:
    await outlet.start(200, HEADERS)
    await outlet.write(b"one")
    await outlet.write(b"two")
    await outlet.finish(b"three")


async def empty_end(outlet: Outlet) -> None:
    await outlet.start(200, HEADERS)
    await outlet.finish()


@pytest.mark.parametrize("lines", [(), (b"connection: close\r\n",)], ids=["kept", "closed"])
@pytest.mark.parametrize("answer", [whole, large, piecewise, empty_end])
async def test_the_client_gets_what_asgi_would_have_sent(answer: Answer, lines: Any) -> None:
    usual, short = Server(answer, short=False), Server(answer)
    assert _by_header(await short.ask(*lines)) == _by_header(await usual.ask(*lines))
    assert short.wire.closed == usual.wire.closed == bool(lines)
    assert short.state.total_requests == usual.state.total_requests == 1


def _by_header(answer: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return sorted(head.split(b"\r\n")), body


async def test_one_request_follows_another_on_the_same_connection() -> None:
    server = Server(whole)
    first = await server.ask()
    assert await server.ask() == first * 2


async def test_a_pipelined_request_waits_for_its_turn() -> None:
    server = Server(whole)
    server.protocol.data_received((POST + b"\r\nhello") * 2)
    while len(server.seen) < 2 or server.state.tasks:
        await asyncio.gather(*server.state.tasks)
    assert server.wire.got.count(b"HTTP/1.1 201") == 2


async def test_a_body_that_is_here_is_taken_and_one_that_is_not_is_received() -> None:
    bodies: list[bytes | None] = []

    async def answer(outlet: Shortcut) -> None:
        bodies.append(outlet.take_body())
        await outlet.respond(200, (), b"")

    server = Server(answer)
    await server.ask()
    server.protocol.data_received(POST + b"\r\nhel")
    await asyncio.gather(*server.state.tasks)
    assert bodies == [b"hello", None]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_cannot_end_early(value: bytes) -> None:
    caught: list[BaseException] = []

    async def answer(outlet: Outlet) -> None:
        try:
            await outlet.respond(200, ((b"x-a", value),), b"body")
        except ValueError as error:
            caught.append(error)
        assert not outlet.started
        await outlet.respond(500, (), b"")

    answered = await Server(answer).ask()
    assert caught
    assert answered.startswith(b"HTTP/1.1 500 ")
    assert b"body" not in answered


async def test_the_task_is_cancelled_when_the_client_leaves_and_that_is_no_error() -> None:
    ended: list[str] = []

    async def answer(outlet: Shortcut) -> None:
        with outlet:
            server.protocol.connection_lost(None)
            await asyncio.sleep(60)
        ended.append("quietly")
        await outlet.respond(200, HEADERS, b"late")

    server = Server(answer)
    assert await server.ask() == b""
    assert ended == ["quietly"]
    assert server.seen[0].gone
    assert not server.seen[0].task.cancelled()


async def test_a_client_that_left_before_is_noticed_at_the_start() -> None:
    async def answer(outlet: Shortcut) -> None:
        server.protocol.connection_lost(None)  # outside: nobody watches yet
        with outlet:
            await asyncio.sleep(60)

    server = Server(answer)
    await server.ask()
    assert server.seen[0].task.exception() is None


async def test_being_cancelled_by_others_stays_an_error() -> None:
    caught: list[BaseException] = []

    async def answer(outlet: Shortcut) -> None:
        try:
            with outlet:
                outlet.task.cancel()
                await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            caught.append(error)
        await outlet.respond(200, (), b"")

    server = Server(answer)
    await server.ask()
    assert caught
    assert not server.seen[0].gone


async def test_a_slow_client_is_waited_for_until_it_leaves() -> None:
    steps: list[str] = []

    async def answer(outlet: Shortcut) -> None:
        server.protocol.pause_writing()
        await outlet.start(200, HEADERS)
        steps.append("room again")
        server.protocol.pause_writing()
        await outlet.write(b"lost")
        steps.append("gone")
        server.protocol.pause_writing()
        await outlet.finish()
        await outlet.respond(200, (), b"")

    server = Server(answer)
    server.protocol.data_received(POST + b"\r\nhello")
    await asyncio.sleep(0)
    assert server.wire.got == b""
    server.protocol.resume_writing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert steps == ["room again"]
    got = server.wire.got
    server.protocol.connection_lost(None)
    await asyncio.gather(*server.state.tasks)
    assert steps == ["room again", "gone"]
    assert server.wire.got == got


async def test_a_request_that_was_answered_is_gone_without_the_garbage_collector() -> None:
    server = Server(whole)
    gc.disable()
    try:
        await server.ask()
        first = weakref.ref(server.protocol.cycle)
        await server.ask()
        server.seen.clear()
        assert first() is None
    finally:
        gc.enable()


def test_another_server_offers_none() -> None:
    assert shortcut.take({"type": "http"}) is None
    assert shortcut.take({"type": "http", "extensions": {"tls": {}}}) is None
