"""A large prompt or answer holds up nobody: how long the event loop stands still at most while one passes.

Counted in CPU time of this thread, since a busy machine must not decide it, and from turn to turn of the event loop, on
which the client and the upstream run too. The yardstick is one pass over the same JSON, which builds nothing of it.
"""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from keywheel import sim
from keywheel.sim import bodies
from keywheel.wire.models import read_models
from tests.faultproxy import asked
from tests.faults.rig import FIRST, HELLO, Rig, rig
from tests.faults.speech import DONE, GOOD, STOP, chunk, json_reply, sse
from tests.faults.speech import HELLO as WORD
from tests.gateway.rawserver import Peer, Script

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(asked() is not None, reason="the proxy of bad weather is on the same loop"),
]
READ = 64 * 1024  # bytes that the client and the upstream read and write in one turn
MEGABYTE = 10**6
LINE = 'Some words, a "quote", and a line end of a text that is long.\n'
MOST = 0.005  # seconds
TRIES = 8
_pass_over = msgspec.json.Decoder(msgspec.Raw).decode


def text(size: int) -> str:
    return LINE * (size // len(LINE))


def limit(passes: int, raw: bytes) -> float:
    """5 ms, or what so many passes over this JSON take where a machine is slower."""
    times = list[float]()
    for _ in range(TRIES):
        began = time.thread_time()
        _pass_over(raw)
        times.append(time.thread_time() - began)
    return max(MOST, passes * min(times))


class Heart:
    """Beats in every turn of the event loop. `longest`: seconds between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._next = asyncio.get_running_loop().call_soon(self._beat)

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._next = asyncio.get_running_loop().call_soon(self._beat)

    def stop(self) -> float:
        self._next.cancel()
        return self.longest


def answering(answer: bytes) -> Script:
    """An upstream that holds up nobody itself."""

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            left = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            while left:
                left -= len(await peer.reader.read(min(left, READ)))
            for at in range(0, len(answer), READ):
                peer.send(answer[at : at + READ])
                await peer.writer.drain()

    return script


async def ask(it: Rig, body: bytes) -> tuple[float, bytes]:
    """One request: for how long it held up others at most, and the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    heart = Heart()
    try:
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), READ):
            writer.write(body[at : at + READ])
            await writer.drain()
        heard = list[bytes]()
        while data := await reader.read(READ):
            heard.append(data)
        return heart.stop(), b"".join(heard)
    finally:
        heart.stop()
        writer.close()


async def held_up(body: dict[str, Any], answer: bytes) -> float:
    """Seconds that others are held up at most, the best of some tries."""
    times = list[float]()
    async with rig(answering(answer)) as it:
        it.engine.take_models(
            replace(entry, model=replace(entry.model, context=100 * MEGABYTE))
            for entry in read_models(bodies.model_list(sim.fixture_models()))
            if entry.id == FIRST
        )
        for _ in range(TRIES):
            it.clock.ahead += 61  # so that no account has sent too much in a minute
            seconds, heard = await ask(it, json.dumps(body).encode())
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            times.append(seconds)
        assert it.rows == ["ok"] * TRIES
    return min(times)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_of_2_mb_holds_up_nobody_for_more_than_5_ms(stream: bool) -> None:
    body = HELLO | {"stream": stream, "messages": [{"role": "user", "content": text(2 * MEGABYTE)}]}
    answer = sse(WORD, STOP, DONE) if stream else json_reply(GOOD)
    raw = json.dumps(body).encode()
    seconds = await held_up(body, answer)
    assert seconds < limit(4, raw)


async def test_a_plain_answer_of_8_mb_is_looked_at_no_more_than_needed() -> None:
    message = {"role": "assistant", "content": text(8 * MEGABYTE)}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    raw = json.dumps({**GOOD, "choices": [choice]}).encode()
    seconds = await held_up(HELLO, json_reply(raw))
    assert seconds < limit(3, raw)


async def test_a_stream_of_8_mb_holds_up_nobody_for_more_than_5_ms() -> None:
    event = chunk({"content": text(4000)})
    seconds = await held_up(HELLO | {"stream": True}, sse(*[event] * 2000, STOP, DONE))
    assert seconds < limit(1000, event[6:])
