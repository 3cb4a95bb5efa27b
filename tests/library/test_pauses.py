"""A program that takes its time with a stream: the upstream is not to blame for that."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from keywheel.bodies import AsyncBody, AsyncSource, Body, Source
from keywheel.wire.hearing import Hearing, Stage, Times
from tests.wire.streaming import CHAT, DONE, HELLO, STOP

pytestmark = pytest.mark.anyio
HEAD = ((b"content-type", b"text/event-stream"),)
PIECES = [HELLO[:40], HELLO[40:], STOP + DONE]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Passage:
    """A committed stream, as far as a body needs it."""

    def __init__(self, clock: Clock, source: Any) -> None:
        self.hearing = Hearing(
            CHAT, Times(clock.now, 8.0, clock.now + 900.0, 30.0, 90.0), stream=True
        )
        self.hearing.begin(200, HEAD)
        assert self.hearing.hear(HELLO, clock.now) is Stage.COMMITTED
        self.errand = SimpleNamespace(engine=SimpleNamespace(clock=clock))
        self.source, self.outcome, self.answered = source, None, False

    def finish(self) -> bytes:
        ending = self.hearing.conclude(self.errand.engine.clock())
        self.outcome = ending.outcome
        return ending.tail

    def give_up(self) -> None:
        """Nothing is kept."""


def axle() -> Any:
    return SimpleNamespace(lose=lambda _: None)


def test_a_pause_longer_than_the_upstream_may_make_ends_no_stream() -> None:
    clock, response = Clock(), SimpleNamespace(close=lambda: None)
    passage: Any = Passage(clock, Source(response, iter(PIECES)))  # pyright: ignore[reportArgumentType]
    heard = b""
    for piece in Body(axle(), passage, lambda _: None):
        heard += piece
        clock.now += 100.0
    assert heard == HELLO * 2 + STOP + DONE


async def test_the_same_for_asyncio() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    async def aclose() -> None:
        """Nothing is open."""

    clock, response = Clock(), SimpleNamespace(aclose=aclose)
    passage: Any = Passage(clock, AsyncSource(response, pieces()))  # pyright: ignore[reportArgumentType]
    heard = b""
    async for piece in AsyncBody(axle(), passage):
        heard += piece
        clock.now += 100.0
    assert heard == HELLO * 2 + STOP + DONE
