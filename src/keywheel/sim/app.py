"""The simulated service over HTTP: a bare ASGI application, cheap enough for load tests.

Control routes for people and tests: `GET /_sim/state`, `POST /_sim/script`, `POST /_sim/reset`.

Two kinds of answer never end well. `silent` sends nothing, not even a status, until the client
leaves. `reset` and `reset-after-content` raise ConnectionResetError after the headers (and half of
the content): an ASGI server then closes the connection with the answer incomplete. Serve it without
the server's own `server` header, which would stand beside `cloudflare`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from math import inf
from time import time
from typing import Any

from keywheel.sim.answers import Pace
from keywheel.sim.replies import Ending, Reply
from keywheel.sim.routes import Call, Service, dispatch
from keywheel.sim.world import World

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[Any]]

SHORTEST_SLEEP = 0.004  # seconds; shorter waits are saved up, timers are not finer


def create_app(
    world: World, *, speed: float = 1.0, clock: Clock = time, sleep: Sleep = asyncio.sleep
) -> App:
    """The ASGI application of a world.

    `speed` divides every delay (infinite: none at all); it does not change the clock, so minutes
    and days keep their length.
    """
    pace = Pace(world.scenario.comment_after, world.scenario.comment_every)
    service = Service(world, pace)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            return None
        body = await _body(receive)
        if body is None:
            return None
        query = scope.get("query_string", b"").decode("latin-1")
        call = Call(_bearer(scope["headers"]), body, clock(), query)
        reply = dispatch(service, scope["method"], scope["path"].rstrip("/"), call)
        performance = perform(reply, send, speed, sleep)
        if speed == inf and reply.ending is not Ending.HANGING and reply.delay < inf:
            return await performance
        return await _while_connected(receive, performance)

    return app


async def perform(reply: Reply, send: Send, speed: float, sleep: Sleep) -> None:
    """Send a reply in its own time. Raises ConnectionResetError where it is to be dropped."""
    if reply.delay == inf:
        await asyncio.Event().wait()
    owed = reply.delay / speed
    if owed >= SHORTEST_SLEEP:
        await sleep(owed)
        owed = 0.0
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    for wait, data in reply.pieces:
        owed += wait / speed
        if owed >= SHORTEST_SLEEP:
            await sleep(owed)
            owed = 0.0
        await send({"type": "http.response.body", "body": data, "more_body": not reply.whole})
    if not reply.whole:
        await _end(reply.ending, send)


async def _end(ending: Ending, send: Send) -> None:
    match ending:
        case Ending.CLEAN:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        case Ending.DROPPED:
            raise ConnectionResetError("the scenario drops this connection")
        case Ending.HANGING:
            await asyncio.Event().wait()


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but stop at once when the client goes away."""
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished = doing.done()
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)
    if finished:
        doing.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None when the client left first."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _bearer(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""
