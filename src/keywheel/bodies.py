"""Committed streams as a program reads them. Whatever the program does with one, its lease is settled once."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import httpx2

from keywheel.axle import Axle, is_collecting
from keywheel.errand import Passage
from keywheel.wires import failure

LINGER = 0.05  # seconds that the end of a body may take behind its last wanted byte
_late = set["asyncio.Task[None]"]()  # an event loop itself keeps no reference


class Source(NamedTuple):
    """Where a committed stream comes from."""

    response: httpx2.Response
    pieces: Iterator[bytes]


class AsyncSource(NamedTuple):
    """The same for asyncio."""

    response: httpx2.Response
    pieces: AsyncIterator[bytes]


class Body(httpx2.SyncByteStream):
    """A committed stream as the program reads it. Closed early or dropped, it leaves an abandoned lease.

    It is its own iterator: a generator would run code wherever the collector finds it.
    """

    def __init__(self, axle: Axle, passage: Passage, allow: Callable[[float], None]) -> None:
        source: Source = passage.source
        self._axle = axle
        self._passage = passage
        self._source = source
        self._allow = allow
        self._left: float | None = None
        self._handed = 0.0  # when the program got what came last
        self._ended = False
        self._dropped = weakref.finalize(self, _drop, axle, passage, source.response)
        self._dropped.atexit = False

    def __iter__(self) -> "Body":
        return self

    def __next__(self) -> bytes:
        while not self._ended:
            if piece := self._step():
                return piece
        raise StopIteration

    def close(self) -> None:
        """Give it up, if it is not at its end."""
        if self._ended:
            return
        self._ended = True
        self._dropped.detach()
        self._passage.give_up()
        if is_collecting():
            self._axle.lose(self._source.response.close)
            return
        if self._passage.answered:
            self._drain()
        self._source.response.close()

    def _step(self) -> bytes:
        hearing, clock = self._passage.hearing, self._passage.errand.engine.clock
        if self._left:
            hearing.pardon(clock() - self._handed)
        if self._left is None:
            passed = bytes(hearing.held)
            self._left = hearing.resume(clock())
        elif self._left and (piece := self._read(self._left)):
            passed = hearing.scanner.feed(piece)
            self._left = hearing.heed(len(piece), clock())
        else:
            passed, self._left = b"", 0.0
        if self._left:
            self._handed = clock()
            return passed
        if self._passage.outcome:
            self.close()
            return b""
        return (
            passed + self._passage.finish()
        )  # before the last piece goes out: nobody need ask for more

    def _read(self, left: float) -> bytes:
        """The next piece; empty when there is none."""
        try:
            self._allow(left)
            return next(self._source.pieces, b"")
        except BaseException as error:
            lost = failure(error, headed=True)
            if lost is None:
                self.close()
                raise
            self._passage.lose(lost.kind)
            return b""

    def _drain(self) -> None:
        """Read what stands behind the end, so that the connection can be kept."""
        self._allow(LINGER)
        with suppress(Exception):
            for _ in self._source.pieces:
                pass


class AsyncBody(httpx2.AsyncByteStream):
    """The same for asyncio."""

    def __init__(self, axle: Axle, passage: Passage) -> None:
        source: AsyncSource = passage.source
        self._axle = axle
        self._passage = passage
        self._source = source
        self._left: float | None = None
        self._handed = 0.0  # when the program got what came last
        self._ended = False
        loop = asyncio.get_running_loop()
        self._dropped = weakref.finalize(self, _adrop, loop, axle, passage, source.response)
        self._dropped.atexit = False

    def __aiter__(self) -> "AsyncBody":
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            if piece := await self._step():
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give it up, if it is not at its end."""
        if self._ended:
            return
        self._ended = True
        self._dropped.detach()
        self._passage.give_up()
        if self._passage.answered:
            await self._drain()
        await self._source.response.aclose()

    async def _step(self) -> bytes:
        hearing, clock = self._passage.hearing, self._passage.errand.engine.clock
        if self._left:
            hearing.pardon(clock() - self._handed)
        if self._left is None:
            passed = bytes(hearing.held)
            self._left = hearing.resume(clock())
        elif self._left and (piece := await self._read(self._left)):
            passed = hearing.scanner.feed(piece)
            self._left = hearing.heed(len(piece), clock())
        else:
            passed, self._left = b"", 0.0
        if self._left:
            self._handed = clock()
            return passed
        if self._passage.outcome:
            await self.aclose()
            return b""
        return (
            passed + self._passage.finish()
        )  # before the last piece goes out: nobody need ask for more

    async def _read(self, left: float) -> bytes:
        """The next piece; empty when there is none."""
        try:
            async with asyncio.timeout(left):
                return await anext(self._source.pieces, b"")
        except BaseException as error:
            lost = failure(error, headed=True)
            if lost is None:
                await self.aclose()
                raise
            self._passage.lose(lost.kind)
            return b""

    async def _drain(self) -> None:
        """Read what stands behind the end, so that the connection can be kept."""
        with suppress(Exception):
            async with asyncio.timeout(LINGER):
                async for _ in self._source.pieces:
                    pass


# --- what nobody holds any more ----------------------------------------------------------------------


def _drop(axle: Axle, passage: Passage, response: httpx2.Response) -> None:
    """A body that nobody holds any more. This may run inside the collector, so nothing is done here."""
    axle.lose(passage.give_up)
    axle.lose(response.close)


def _adrop(
    loop: asyncio.AbstractEventLoop, axle: Axle, passage: Passage, response: httpx2.Response
) -> None:
    axle.lose(passage.give_up)
    with suppress(RuntimeError):  # the loop is closed, and its connections with it
        loop.call_soon_threadsafe(partial(_clear_away, loop, axle, response))


def _clear_away(loop: asyncio.AbstractEventLoop, axle: Axle, response: httpx2.Response) -> None:
    axle.tidy()
    task = loop.create_task(response.aclose())
    _late.add(task)
    task.add_done_callback(_late.discard)
