"""The proxy itself: two copies per connection, of which the way back to the client meets the faults."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.faultproxy.weather import End, Weather
from tests.gateway.rawserver import Peer, Script, a_read, serving

CLEAR = Weather()
Address = tuple[str, int]


def in_turn(*scripts: Script, then: Script) -> Script:
    """One script for each of the first connections, `then` for all later ones."""

    async def script(peer: Peer) -> None:
        chosen = scripts[peer.number - 1] if peer.number <= len(scripts) else then
        await chosen(peer)

    return script


def relayed(target: Address, weather: Weather = CLEAR, *, seed: int = 0) -> Script:
    """Pass a connection on to `target`. Chance depends on the seed and the number of the connection alone."""

    async def script(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection(*target)
        chance = random.Random(f"{seed}/{peer.number}")
        asking = asyncio.create_task(_ask(peer, writer, weather, chance))
        try:
            await _answer(peer, reader, weather, chance)
        except ConnectionResetError:
            if not peer.writer.transport.is_closing():
                peer.reset()
        else:
            if weather.ends_with(End.STALL, End.HALF_CLOSE):
                await asking  # until the client gives up
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    return script


async def _ask(
    peer: Peer, writer: asyncio.StreamWriter, weather: Weather, chance: random.Random
) -> None:
    """The way to the server knows slow pieces and no other fault."""
    try:
        while data := await peer.reader.read(65536):
            await _write(writer, data, weather, chance)
    finally:
        writer.close()


async def _answer(
    peer: Peer, reader: asyncio.StreamReader, weather: Weather, chance: random.Random
) -> None:
    passed = 0
    await asyncio.sleep(weather.latency)
    while weather.after is None or passed < weather.after:
        room = 65536 if weather.after is None else weather.after - passed
        data = await reader.read(room)
        if not data:
            return
        await _write(peer.writer, weather.corrupted(data, passed), weather, chance)
        passed += len(data)
    await _end(peer, weather.end)


async def _end(peer: Peer, end: End) -> None:
    match end:
        case End.RESET:
            peer.reset()
        case End.FIN:
            peer.writer.close()
        case End.HALF_CLOSE:
            peer.writer.write_eof()
        case End.STALL:
            pass


async def _write(
    writer: asyncio.StreamWriter, data: bytes, weather: Weather, chance: random.Random
) -> None:
    for piece in weather.cut(data):
        if writer.transport.is_closing():
            raise ConnectionAbortedError
        writer.write(piece)
        await asyncio.sleep(weather.pause(len(piece), chance))
        await a_read()
    await writer.drain()


@contextmanager
def proxied(target: Address, weather: Weather) -> Iterator[Address]:
    """The proxy in a thread of its own, for clients that block; its address."""
    ready, loop, end = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    port = 0

    async def serve() -> None:
        nonlocal port
        async with serving(relayed(target, weather), strict=False) as server:
            port = server.port
            ready.set()
            await end.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="fault proxy")
    thread.start()
    try:
        assert ready.wait(10)
        yield "127.0.0.1", port
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
