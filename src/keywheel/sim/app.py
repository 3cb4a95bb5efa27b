"""The simulated service over HTTP: a bare ASGI application, cheap enough for load tests.

Control routes for people and tests: `GET /_sim/state`, `POST /_sim/script`, `POST /_sim/reset`.

Two kinds of answer never end well. `silent` sends nothing, not even a status, until the client
leaves. `reset` and `reset-after-content` raise ConnectionResetError after the headers (and half of
the content): an ASGI server then closes the connection with the answer incomplete. Serve it without
the server's own `server` header, which would stand beside `cloudflare`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from math import inf
from time import time
from typing import Any

import msgspec

from keywheel.sim import bodies
from keywheel.sim.answers import Pace, answer
from keywheel.sim.kinds import COMMITTED
from keywheel.sim.replies import Ending, Headers, Reply, json_reply
from keywheel.sim.requests import read
from keywheel.sim.state import report
from keywheel.sim.world import World

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[Any]]

API = "/api/v1"
SHORTEST_SLEEP = 0.004  # seconds; shorter waits are saved up, timers are not finer
PRIVATE: Headers = [(b"cache-control", b"private, no-store")]


class ScriptOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_sim/script`."""

    kind: str
    key_index: int | None = None
    model: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, read."""

    key: str
    body: bytes
    now: float


def create_app(
    world: World, *, speed: float = 1.0, clock: Clock = time, sleep: Sleep = asyncio.sleep
) -> App:
    """The ASGI application of a world.

    `speed` divides every delay (infinite: none at all); it does not change the clock, so minutes
    and days keep their length.
    """
    pace = Pace(world.scenario.comment_after, world.scenario.comment_every)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            return None
        body = await _body(receive)
        if body is None:
            return None
        call = Call(_bearer(scope["headers"]), body, clock())
        reply = _dispatch(world, pace, scope["method"], scope["path"].rstrip("/"), call)
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


# --- routes --------------------------------------------------------------------------------------


def _dispatch(world: World, pace: Pace, method: str, path: str, call: Call) -> Reply:
    routes = ROUTES.get(path)
    if routes is None:
        return _error(404, "Not Found")
    route = routes.get(method)
    return route(world, pace, call) if route else _error(405, "Method Not Allowed")


def _error(status: int, text: str) -> Reply:
    return json_reply(status, {"error": {"message": text, "code": status}})


def _chat(world: World, pace: Pace, call: Call) -> Reply:
    request = read(call.body)
    ruling = world.attempt(call.key, request.ask, call.now)
    if ruling.kind in COMMITTED:
        return answer(ruling, request, pace)
    return bodies.refuse(ruling, request, limit_source=world.scenario.limit_source)


def _models(world: World, _: Pace, call: Call) -> Reply:
    return json_reply(200, bodies.model_list(world.models(call.now)))


def _models_user(world: World, _: Pace, call: Call) -> Reply:
    models = world.models_for(call.key, call.now)
    return _unauthorized(call) if models is None else json_reply(200, bodies.model_list(models))


def _key(world: World, _: Pace, call: Call) -> Reply:
    view = world.key(call.key, call.now)
    return json_reply(200, bodies.key(view), extra=PRIVATE) if view else _unauthorized(call)


def _credits(world: World, _: Pace, call: Call) -> Reply:
    view = world.key(call.key, call.now)
    return json_reply(200, bodies.account_credits(view)) if view else _unauthorized(call)


def _unauthorized(call: Call) -> Reply:
    return _error(401, "User not found." if call.key else "No cookie auth credentials found")


def _state(world: World, _: Pace, call: Call) -> Reply:
    return json_reply(200, report(world, call.now))


def _script(world: World, _: Pace, call: Call) -> Reply:
    try:
        order = msgspec.json.decode(call.body, type=ScriptOrder)
        world.script(order.kind, order.key_index, order.model, order.times)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        return _error(400, str(error))
    return json_reply(200, {"scripts": len(world.scripts)})


def _reset(world: World, _: Pace, call: Call) -> Reply:
    world.reset()
    return json_reply(200, report(world, call.now))


ROUTES: dict[str, dict[str, Callable[[World, Pace, Call], Reply]]] = {
    f"{API}/chat/completions": {"POST": _chat},
    f"{API}/models": {"GET": _models},
    f"{API}/models/user": {"GET": _models_user},
    f"{API}/key": {"GET": _key},
    f"{API}/auth/key": {"GET": _key},  # the old name
    f"{API}/credits": {"GET": _credits},
    "/_sim/state": {"GET": _state},
    "/_sim/script": {"POST": _script},
    "/_sim/reset": {"POST": _reset},
}
