"""The proxy does what its weather says: what a test of the gateway relies on."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faultproxy import End, Weather, in_turn, proxied, relayed
from tests.gateway.rawserver import Peer, RawServer, serving

pytestmark = pytest.mark.anyio
TEXT = bytes(range(200))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def echo(peer: Peer) -> None:
    """Answer with what came, until the client ends."""
    while data := await peer.reader.read(65536):
        peer.send(data)


@asynccontextmanager
async def through(*weathers: Weather, seed: int = 0) -> AsyncIterator[RawServer]:
    """A proxy before the echo, with a weather for each of the first connections."""
    async with serving(echo) as behind:
        target = ("127.0.0.1", behind.port)
        scripts = [relayed(target, weather, seed=seed) for weather in weathers]
        async with serving(in_turn(*scripts, then=relayed(target))) as proxy:
            yield proxy


class Ear(asyncio.Protocol):
    """Every read of its own."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc:
            self.ended.set_exception(exc)
        else:
            self.ended.set_result(None)


async def heard(
    proxy: RawServer, text: bytes = TEXT, *, until_end: bool = False, patience: float = 10.0
) -> list[bytes]:
    """What comes back, read by read: all of it, or what comes before the end or within `patience`."""
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_connection(Ear, "127.0.0.1", proxy.port)
    transport.write(text)
    try:
        if until_end:
            await ear.ended
        else:
            async with asyncio.timeout(patience):
                while sum(map(len, ear.pieces)) < len(text):  # noqa: ASYNC110  every read counts
                    await asyncio.sleep(0)
    except TimeoutError:
        pass
    finally:
        transport.close()
    return ear.pieces


async def test_in_fair_weather_everything_passes() -> None:
    async with through() as proxy:
        assert b"".join(await heard(proxy, TEXT * 1000)) == TEXT * 1000


async def test_slices_are_pieces_of_their_own_and_the_rest_of_a_large_one_follows_whole() -> None:
    async with through(Weather(slice=1), Weather(slice=1)) as proxy:
        assert {len(piece) for piece in await heard(proxy)} == {1}
        pieces = await heard(proxy, TEXT * 50)
        assert b"".join(pieces) == TEXT * 50
        assert len(pieces[0]) == 1
        assert len(pieces) < 5000
    assert len(Weather(slice=1).cut(bytes(65536))) < 100
    assert len(Weather(slice=1, rate=1e9).cut(bytes(65536))) == 65536


async def test_latency_and_rate_take_their_time() -> None:
    began = time.monotonic()
    async with through(Weather(latency=0.02), Weather(slice=50, rate=20_000)) as proxy:
        await heard(proxy, TEXT * 2)
        assert time.monotonic() - began >= 0.02
        began = time.monotonic()
        await heard(proxy, TEXT * 2)
        assert time.monotonic() - began >= 0.015


async def test_jitter_depends_on_the_seed_alone() -> None:
    weather = Weather(jitter=0.001)
    one, same, other = (random.Random(f"{seed}/1") for seed in (1, 1, 2))
    assert weather.pause(5, one) == weather.pause(5, same) != weather.pause(5, other)


@pytest.mark.parametrize("after", [0, 50])
async def test_a_stall_sends_so_much_and_closes_nothing(after: int) -> None:
    async with through(Weather(after=after, end=End.STALL)) as proxy:
        assert b"".join(await heard(proxy, patience=0.05)) == TEXT[:after]


async def test_a_fin_ends_an_answer_and_a_reset_breaks_it() -> None:
    async with through(*[Weather(after=50, end=end) for end in (End.FIN, End.HALF_CLOSE)]) as proxy:
        for _ in range(2):
            assert b"".join(await heard(proxy, until_end=True)) == TEXT[:50]
    async with through(Weather(after=0, end=End.RESET)) as proxy:
        with pytest.raises(ConnectionResetError):
            await heard(proxy, until_end=True)


async def test_one_byte_is_corrupted_wherever_the_pieces_are_cut() -> None:
    for size in (0, 1, 7):
        async with through(Weather(corrupt=99, slice=size)) as proxy:
            text = b"".join(await heard(proxy))
            assert [at for at in range(200) if text[at] != TEXT[at]] == [99]


async def test_a_thread_of_its_own_serves_clients_that_block() -> None:
    async with serving(echo, strict=False) as behind:

        def ask() -> bytes:
            with (
                proxied(("127.0.0.1", behind.port), Weather(slice=1)) as address,
                socket.create_connection(address, timeout=5) as sock,
            ):
                sock.sendall(b"ab")
                return sock.recv(1) + sock.recv(1)

        assert await asyncio.to_thread(ask) == b"ab"
