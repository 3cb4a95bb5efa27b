"""`/admin`: what the gateway knows about itself, and the operator's hand."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import keywheel
from keywheel.core.explain import MOST
from keywheel.core.types import Kind, Scope
from keywheel.engine import Engine
from keywheel.gateway.guard import Guard
from keywheel.gateway.live import Live
from keywheel.gateway.readings import SESSIONS, Readings
from keywheel.problems import Problem
from keywheel.secret import Secret

Json = dict[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]
KINDS = {"keys": Kind.KEY, "models": Kind.MODEL, "accounts": Kind.ACCOUNT}
ACTIONS = ("enable", "disable", "reset")
LOGIN = 4_096  # bytes of a login's body
KNOWN = 20  # names that a 404 lists
NEVER_KEPT = {"cache-control": "no-store"}
STREAMED = {**NEVER_KEPT, "x-accel-buffering": "no"}


class Admin:
    """The read model as JSON and as a stream, and what an operator may do.

    `mode`: `live`, or `simulator` when answers are invented; whoever starts the gateway knows.
    """

    def __init__(
        self, engine: Engine, readings: Readings, guard: Guard, is_draining: Callable[[], bool]
    ) -> None:
        self.mode = "live"
        self._engine = engine
        self._readings = readings
        self._guard = guard
        self._is_draining = is_draining
        self.live = Live(self.state, is_draining, lambda: readings.peers is not None)
        engine.listen(self.live.tell)

    async def state(self) -> Json:
        """All of `GET /admin/state`."""
        return self.headed(await self._readings.state())

    def headed(self, told: Json) -> Json:
        """What the engine tells, with what only the gateway knows."""
        head = {
            "schema_version": told["schema_version"],
            "version": keywheel.__version__,
            "mode": self.mode,
            "draining": self._is_draining(),
            "now": told["now"],
            "uptime": told["now"] - told["since"],
        }
        return head | told

    # --- endpoints -------------------------------------------------------------------------------

    async def get_state(self, _request: Request) -> Response:
        """Now."""
        return _json(await self.state())

    async def get_stats(self, _request: Request) -> Response:
        """Since the start."""
        return _json(await self._readings.report())

    async def get_events(self, _request: Request) -> Response:
        """As it happens."""
        return StreamingResponse(self.live.frames(), 200, STREAMED, "text/event-stream")

    async def get_explained(self, _request: Request) -> Response:
        """The latest requests in short."""
        remembered, latest = await self._readings.explained()
        head = {"schema_version": 1, "remembered": remembered, "most": MOST}
        return _json(head | {"requests": latest})

    async def get_explanation(self, request: Request) -> Response:
        """Why one request went where it went."""
        id = request.path_params["request_id"]
        told = await self._readings.explain(id)
        if told is not None:
            return _json({"schema_version": 1} | told)
        remembered, _ = await self._readings.explained()
        message = (
            f"No request {id[:200]!r} is remembered. The id is the x-request-id of the answer; "
            f"{remembered} requests are remembered now, the latest {MOST} at most, "
            "and GET /admin/explain lists the last ones."
        )
        return _refuse(Problem(404, "not_found", message, param="request_id", final=True))

    async def log_in(self, request: Request) -> Response:
        """`POST /login` with `{"token": …}`: a session for the page."""
        token = await _token(request)
        headers = request.scope["headers"]
        cookie = self._guard.log_in(headers, token) if token else None
        if cookie:
            await self._readings.tell(SESSIONS, self._guard.sessions.take_news())
            return Response(status_code=204, headers={**NEVER_KEPT, "set-cookie": cookie})
        peer = request.client.host if request.client else ""
        await self._guard.hold(_WRONG_TOKEN, peer)
        return _refuse(_WRONG_TOKEN)

    async def log_out(self, request: Request) -> Response:
        """`POST /logout`."""
        cookie = self._guard.log_out(request.scope["headers"])
        await self._readings.tell(SESSIONS, self._guard.sessions.take_news())
        return Response(status_code=204, headers={**NEVER_KEPT, "set-cookie": cookie})

    def operate(self, plural: str, action: str) -> Endpoint:
        """The endpoint of one action on keys, models or accounts."""
        return partial(self._operate, plural, action)

    async def _operate(self, plural: str, action: str, request: Request) -> Response:
        name = request.path_params["name"]
        if not self._engine.operate(action, Scope(KINDS[plural], name)):
            return self._unknown(plural, name)
        state = await self.state()
        told = next(entry for entry in state[plural] if _name(entry) == name)
        return _json({"schema_version": 1, "action": action, plural[:-1]: told})

    def _unknown(self, plural: str, name: str) -> Response:
        names = [_name(entry) for entry in self._engine.report()[plural]]
        more = f" and {len(names) - KNOWN} more" if len(names) > KNOWN else ""
        known = ", ".join(names[:KNOWN]) or "none"
        message = f"There is no {plural[:-1]} {name[:200]!r}. Known: {known}{more}."
        return _refuse(Problem(404, "not_found", message, param="name", final=True))


class _Login(msgspec.Struct):
    token: str


async def _token(request: Request) -> Secret | None:
    """The token that a login brings, None for a body that is none."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LOGIN:
            return None
    try:
        return Secret(msgspec.json.decode(body, type=_Login).token)
    except msgspec.DecodeError:
        return None


def _name(entry: Json) -> str:
    return entry.get("name") or entry["id"]


def _json(value: Json) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, 200, NEVER_KEPT, "application/json")


def _refuse(problem: Problem) -> Response:
    body = problem.body("chat")
    return Response(body, problem.status, problem.headers(), "application/json")


_WRONG_TOKEN = Problem(401, "unauthorized", "This is not the admin token.", final=True)
