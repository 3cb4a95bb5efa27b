"""`GET /admin/events`: the state and what happens, as server-sent events, to any number of listeners.

A state is worked out at most once a second, for all listeners together, and only while something changes. Whoever reads
too slowly is let go and may come back: the first thing that a listener gets is a whole state.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import inf
from typing import Any

import msgspec

from keywheel.core.findings import row_label, until
from keywheel.core.overview import request_entry, try_entry
from keywheel.core.types import Attempted, Blocked, Event, Finished, Reopened

Json = dict[str, Any]
TICK = 1.0  # seconds between two states at least
KEEPALIVE = 10.0  # seconds of silence after which a comment is sent: proxies cut at 60
REFRESH = 30.0  # seconds after which a quiet state is sent anew: minutes pass, forecasts change
WAITING = 256  # frames that may wait for one listener …
LISTENERS = 128  # … and how many may listen
ENDING = "the gateway is shutting down"
COMMENT = b": still here\n\n"
RETRY = b"retry: 2000\n\n"  # milliseconds after which browsers come back


class Listener:
    """One reader's frames."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.over = False

    def put(self, frame: bytes) -> None:
        """Add a frame; a reader who is too slow loses them all and is let go."""
        if self.over:
            return
        if len(self.frames) >= WAITING:
            self.frames.clear()
            frame = ending("too slow")
            self.over = True
        self.frames.append(frame)
        self.news.set()

    def end(self, why: str) -> None:
        """Nothing more will come."""
        self.put(ending(why))
        self.over = True


class Live:
    """Hands out frames. `tell` may be called from any thread, everything else in the event loop."""

    def __init__(
        self,
        state: Callable[[], Awaitable[Json]],
        ends: Callable[[], bool],
        is_shared: Callable[[], bool],
    ) -> None:
        """`is_shared`: whether something may change that `tell` is not told of."""
        self._state = state
        self._ends = ends
        self._is_shared = is_shared
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._frame = b""  # the latest state …
        self._fresh_until = 0.0  # … and when it was to be looked at again, by the loop's clock
        self._changed = True

    def __len__(self) -> int:
        return len(self._listeners)

    def tell(self, event: Event) -> None:
        """A listener of the engine."""
        self._changed = True
        loop = self._loop
        if loop and self._listeners and not loop.is_closed():
            loop.call_soon_threadsafe(self._take, event)

    async def frames(self) -> AsyncGenerator[bytes]:
        """What one reader gets: a state, then what happens."""
        loop = self._loop = asyncio.get_running_loop()
        listener = Listener()
        if self._ends() or len(self._listeners) >= LISTENERS:
            yield ending(ENDING if self._ends() else "too many listeners")
            return
        if self._is_due(loop.time()):
            await self._look(loop.time())
        listener.put(RETRY + self._frame)
        self._listeners.add(listener)
        if self._ticking is None:
            self._ticking = loop.create_task(self._tick())
        try:
            while listener.frames or not listener.over:
                while listener.frames:
                    yield listener.frames.popleft()
                listener.news.clear()
                if not listener.over:
                    await listener.news.wait()
        finally:
            self._listeners.discard(listener)

    def _take(self, event: Event) -> None:
        self._put(frame_of(event))

    def _put(self, frame: bytes) -> None:
        for listener in self._listeners:
            listener.put(frame)

    async def _tick(self) -> None:
        """As long as somebody listens: a state when it is due, a comment when it is quiet."""
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        while self._listeners:
            await asyncio.sleep(TICK)
            now = loop.time()
            if self._ends():
                for listener in self._listeners:
                    listener.end(ENDING)
                break
            if self._is_due(now):
                await self._look(now)
                self._put(self._frame)
                quiet_since = now
            elif now - quiet_since >= KEEPALIVE:
                self._put(COMMENT)
                quiet_since = now
        self._ticking = None

    def _is_due(self, now: float) -> bool:
        return self._changed or now >= self._fresh_until or self._is_shared()

    async def _look(self, now: float) -> None:
        self._changed = False  # what happens from now on may be missing
        state = await self._state()
        changes_at = state["changes_at"]
        left = inf if changes_at is None else changes_at - state["now"]
        self._fresh_until = now + min(REFRESH, left)
        self._frame = frame("state", state)


def frame(name: str, told: Json) -> bytes:
    """One event of the stream."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(told))


def ending(why: str) -> bytes:
    """The last event of a stream."""
    return frame("end", {"why": why})


def frame_of(event: Event) -> bytes:
    """An event of the engine as one of the stream."""
    match event:
        case Blocked():
            return frame("blocked", _blocked(event))
        case Reopened():
            scope = event.scope
            told = {"at": event.at, "scope": scope.kind, "name": scope.name, "why": event.why}
            return frame("reopened", told)
        case Attempted():
            return frame("attempted", {"id": event.request_id, **try_entry(event)})
        case Finished():
            return frame("finished", request_entry(event))


def _blocked(event: Blocked) -> Json:
    return {
        "at": event.at,
        "scope": event.scope.kind,
        "name": event.scope.name,
        "until": until(event.until),
        "reason": event.reason,
        "row": row_label(event.reason),
        "provenance": event.provenance,
    }
