"""While an answer is awaited: the client may leave, and must not believe that we are dead."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from keywheel.gateway.outlet import Outlet
from keywheel.wire.replies import keepalive

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class KeepAlive:
    """Comments for a client that has waited long: status 200 goes out, errors then travel in the stream."""

    def __init__(
        self, outlet: Outlet, headers: Iterable[tuple[bytes, bytes]], seconds: float
    ) -> None:
        self._outlet = outlet
        self._headers = headers
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> "KeepAlive":
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._task:
            self._task.cancel()

    async def end(self) -> None:
        """No more comments: the answer is there. Waits until the last one is out."""
        self.__exit__()
        if self._task:
            await asyncio.wait((self._task,))  # awaiting it would swallow our own cancellation

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._comment())

    async def _comment(self) -> None:
        await self._outlet.start(200, self._headers)
        while True:
            await self._outlet.write(keepalive())
            await asyncio.sleep(self._seconds)


class Watch:
    """Cancels what happens inside as soon as the client leaves; that is then no error."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive

    def __enter__(self) -> "Watch":
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - ASGI applications run in a task
        self._task = task
        self._watcher = asyncio.get_running_loop().create_task(self._wait())
        return self

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> bool:
        self._watcher.cancel()
        if not self.gone or not isinstance(error, asyncio.CancelledError):
            return False
        self._task.uncancel()
        return True

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
