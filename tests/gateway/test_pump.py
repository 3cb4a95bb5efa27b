"""Pieces of an answer that go to a sink the moment they arrive."""

import asyncio

import pytest

from keywheel.gateway.connection import Connection, Phase
from keywheel.gateway.sockets import PAUSE_ABOVE
from keywheel.gateway.upstream import Pool, Response, UpstreamError
from tests.gateway.test_intake import Wire

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Line(Wire):
    """The upstream's side of a connection."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Everything is taken at once."""

    def get_write_buffer_size(self) -> int:
        return 0


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def begun(monkeypatch: pytest.MonkeyPatch) -> tuple[Connection, Response, Pool]:
    """A response whose head has come."""
    monkeypatch.setattr("keywheel.gateway.connection.watch_readable", lambda _transport: None)
    connection, pool = Connection(), Pool(1, 60.0)
    connection.connection_made(Line())
    pool.reserve()
    pool.adopt(connection)
    connection._begin("POST")
    connection.data_received(HEAD)
    return connection, Response(pool, connection, 60.0), pool


async def test_pieces_come_without_the_reader_being_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, response, pool = await begun(monkeypatch)
    taken: list[bytes] = []

    def sink(piece: bytes) -> float:
        taken.append(piece)
        return 60.0

    connection.data_received(chunk(b"before"))
    pumping = asyncio.ensure_future(response.pump(sink, 60.0))
    await asyncio.sleep(0)
    assert taken == [b"before"]
    connection.data_received(chunk(b"one") + chunk(b"two"))
    connection.data_received(chunk(b"three"))
    assert taken == [b"before", b"onetwo", b"three"]
    connection.resume_writing()  # news that is none of the body's
    await asyncio.sleep(0)
    connection.data_received(chunk(b"last") + END)
    assert await pumping is False
    assert taken[-1] == b"last"
    assert pool.idle == [connection]


@pytest.mark.parametrize("early", [True, False], ids=["what was there", "what arrives"])
async def test_a_sink_that_wants_no_more_is_given_no_more(
    monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    connection, response, _ = await begun(monkeypatch)
    taken: list[bytes] = []

    def sink(piece: bytes) -> float:
        taken.append(piece)
        return 0.0

    if early:
        connection.data_received(chunk(b"one"))
    pumping = asyncio.ensure_future(response.pump(sink, 60.0))
    await asyncio.sleep(0)
    if not early:
        connection.data_received(chunk(b"one"))
    assert await pumping is True
    connection.data_received(chunk(b"two"))
    assert taken == [b"one"]
    assert await response.read() == b"two"
    response.close()


async def test_what_nobody_takes_is_held_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, response, _ = await begun(monkeypatch)
    connection.data_received(chunk(b"one"))
    assert await response.pump(lambda _: 0.0, 60.0) is True
    connection.data_received(chunk(b"x" * (PAUSE_ABOVE + 1)))
    assert connection.transport.paused  # pyright: ignore[reportAttributeAccessIssue]
    sizes: list[int] = []
    assert await response.pump(lambda piece: sizes.append(len(piece)) or 0.0, 60.0) is True
    assert sizes == [PAUSE_ABOVE + 1]
    assert not connection.transport.paused  # pyright: ignore[reportAttributeAccessIssue]
    response.close()


async def test_a_bug_of_the_sink_is_the_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, response, _ = await begun(monkeypatch)

    def sink(_piece: bytes) -> float:
        raise ZeroDivisionError

    pumping = asyncio.ensure_future(response.pump(sink, 60.0))
    await asyncio.sleep(0)
    connection.data_received(chunk(b"one"))
    assert connection.phase is Phase.BODY
    with pytest.raises(ZeroDivisionError):
        await pumping
    response.close()


async def test_a_reader_that_is_cancelled_gets_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection, response, _ = await begun(monkeypatch)
    taken: list[bytes] = []
    pumping = asyncio.ensure_future(response.pump(lambda piece: taken.append(piece) or 60.0, 60.0))
    await asyncio.sleep(0)
    pumping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pumping
    connection.data_received(chunk(b"late"))
    assert taken == []
    assert not connection.is_pouring
    response.close()


async def test_an_answer_that_breaks_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, response, _ = await begun(monkeypatch)
    pumping = asyncio.ensure_future(response.pump(lambda _: 60.0, 60.0))
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(UpstreamError, match="truncated"):
        await pumping


async def test_the_sink_says_how_long_the_next_piece_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection, response, _ = await begun(monkeypatch)
    pumping = asyncio.ensure_future(response.pump(lambda _: 0.001, 60.0))
    await asyncio.sleep(0)
    connection.data_received(chunk(b"one"))
    with pytest.raises(UpstreamError, match="timeout-silence"):
        await pumping


async def test_all_limits_together_end_at_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, response, _ = await begun(monkeypatch)
    connection._until = asyncio.get_running_loop().time()
    with pytest.raises(UpstreamError, match="timeout-silence"):
        await response.read()
