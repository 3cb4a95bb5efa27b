"""The ASGI application: one table of routes, each with its class of access. The hot routes go past the router."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keywheel import listing
from keywheel.core.packing import pack
from keywheel.engine import Engine
from keywheel.gateway.admin import ACTIONS, KINDS, Admin
from keywheel.gateway.figures import credits_body, key_body
from keywheel.gateway.guard import Access, Guard
from keywheel.gateway.history import Archives
from keywheel.gateway.inference import PLAIN, Inference
from keywheel.gateway.metrics import Metrics
from keywheel.gateway.outlet import Outlet, SendMessage, raw
from keywheel.gateway.page import Page
from keywheel.gateway.readings import EXPLAIN, EXPLAINED, PART, SESSIONS, Readings
from keywheel.gateway.upstream import Upstream
from keywheel.gateway.waiting import Receive
from keywheel.problems import Problem
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.replies import model_body

if TYPE_CHECKING:
    from keywheel.gateway.peers import Peers

Scope = Mapping[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]

PREFIXES = ("/v1", "/api/v1")  # OpenAI's habit and OpenRouter's


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table of routes."""

    method: str
    path: str
    endpoint: Endpoint
    access: Access


class Gateway:
    """Everything `keywheel serve` answers."""

    def __init__(self, engine: Engine, upstream: Upstream, admin: bytes | None = None) -> None:
        """`admin`: the hash of the admin token, where it is not configured."""
        self._engine = engine
        self.upstream = upstream
        self._guard = Guard(engine.config.gateway, admin)
        self.draining = False  # the process is ending: requests under way are finished …
        self.refusing = False  # … and no new ones are taken: nobody else would answer them
        self._hot = {
            path: Inference(engine, upstream, name, path)
            for name, dialect in DIALECTS.items()
            for path in (prefix + dialect.path for prefix in PREFIXES)
        }
        self._readings = Readings(engine)
        self.admin = Admin(engine, self._readings, self._guard, lambda: self.draining)
        self._answers: Mapping[str, Callable[[str], Any]] = {
            PART: lambda _: pack(engine.part()),
            EXPLAIN: engine.explain,
            EXPLAINED: lambda _: engine.explained(),
            SESSIONS: self._share_sessions,
        }
        self._lines = {(line.method, line.path): line for line in self._table()}
        self._cold = Starlette(
            routes=[
                Route(line.path, self._guarded(line), methods=[line.method])
                for line in self._lines.values()
            ],
            exception_handlers={HTTPException: self._http_error, Exception: self._own_error},
        )
        self._cold.router.redirect_slashes = False  # a redirect would be built from the Host header

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """The ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        elif b"%" in scope.get("raw_path", b"") and "/models/" not in scope["path"]:
            await self._respond(scope, send, _ENCODED)
        elif (hot := self._hot.get(scope["path"])) and scope["method"] == "POST":
            client = self._guard.admit(scope["headers"])
            if isinstance(client, Problem):
                await self._guard.hold(client, _peer(scope))
                await self._respond(scope, send, client, hot.dialect)
            else:
                await hot(scope, receive, send, client)
        else:
            await self._cold(scope, receive, send)  # pyright: ignore[reportArgumentType]

    @property
    def hot(self) -> Iterable[Inference]:
        """The routes that reach the upstream."""
        return self._hot.values()

    def join(self, peers: "Peers") -> None:
        """Be one of several workers, whose figures are told as one."""
        for told in peers.ask(SESSIONS):
            self._guard.sessions.adopt(told)
        self._readings.peers = peers

    def answer(self, question: str, about: str) -> Any:
        """What another worker asks or tells; None for what it does not know."""
        tell = self._answers.get(question)
        return tell(about) if tell else None

    def _share_sessions(self, news: str) -> str:
        self._guard.sessions.adopt(news)
        return self._guard.sessions.told()

    # --- the table -------------------------------------------------------------------------------

    def _table(self) -> list[Line]:
        page = Page()
        lines = [
            Line("GET", "/", page.get_page, Access.OPEN),
            Line("GET", "/assets/{name}", page.get_asset, Access.OPEN),
            Line("GET", "/healthz", self._healthz, Access.OPEN),
            Line("GET", "/livez", self._healthz, Access.OPEN),
            Line("GET", "/readyz", self._readyz, Access.OPEN),
            Line("GET", "/admin/state", self.admin.get_state, Access.READ),
            Line("GET", "/admin/stats", self.admin.get_stats, Access.READ),
            Line("GET", "/admin/events", self.admin.get_events, Access.READ),
            Line("GET", "/admin/explain", self.admin.get_explained, Access.READ),
            Line("GET", "/admin/explain/{request_id}", self.admin.get_explanation, Access.READ),
            Line("GET", "/admin/history", Archives(self._engine).get, Access.READ),
            Line("GET", "/metrics", Metrics(self._engine, self._readings.others).get, Access.READ),
            Line("POST", "/login", self.admin.log_in, Access.OPEN),
            Line("POST", "/logout", self.admin.log_out, Access.OPEN),
        ]
        lines += [
            Line(
                "POST",
                f"/admin/{kind}/{{name:path}}/{action}",
                self.admin.operate(kind, action),
                Access.OPERATOR,
            )
            for kind in KINDS
            for action in ACTIONS
        ]
        for prefix in PREFIXES:
            lines += [
                Line("GET", f"{prefix}/key", self._key, Access.CLIENT),
                Line("GET", f"{prefix}/credits", self._credits, Access.CLIENT),
                Line("GET", f"{prefix}/models/{{id:path}}", self._model, Access.CLIENT),
                *(
                    Line("GET", prefix + path, self._list(tell), Access.CLIENT)
                    for path, tell in listing.LISTS.items()
                ),
            ]
        return lines

    def _guarded(self, line: Line) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            problem = self._guard.check(request.scope["headers"], line.access)
            if problem is None:
                return await line.endpoint(request)
            await self._guard.hold(problem, _peer(request.scope))
            return _answer(request, problem)

        return endpoint

    # --- endpoints -------------------------------------------------------------------------------

    async def _healthz(self, _request: Request) -> Response:
        return _json({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        if self.draining:
            return _json({"status": "draining"}, 503)
        if self._engine.usable():
            return _json({"status": "ready"})
        return _json({"status": "no usable lane"}, 503)

    async def _key(self, _request: Request) -> Response:
        return _json(key_body(await self._readings.report()))

    async def _credits(self, _request: Request) -> Response:
        return _json(credits_body(await self._readings.report()))

    def _list(self, tell: listing.Tell) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            query = request.scope["query_string"].decode("latin-1")
            found = listing.answer(self._engine, tell, request.scope["path"], query)
            if isinstance(found, Problem):
                return _answer(request, found)
            return Response(found, media_type="application/json")

        return endpoint

    async def _model(self, request: Request) -> Response:
        found = listing.find(self._engine, request.path_params["id"])
        if isinstance(found, Problem):
            return _answer(request, found)
        return Response(model_body(found), media_type="application/json")

    # --- errors ----------------------------------------------------------------------------------

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        if problem := self._guard.check(request.scope["headers"], Access.OPEN):
            return _answer(request, problem)
        path = request.scope["path"]
        if error.status_code == 405 or path in self._hot:
            named = (error.headers or {}).get("Allow", "GET")  # "GET, HEAD", in any order
            allowed = "POST" if path in self._hot or "POST" in named else "GET"
            problem = Problem(
                405,
                "method_not_allowed",
                f"{request.method} is not served here; use {allowed}.",
                final=True,
            )
            return _answer(request, problem, {"allow": allowed})
        served = {path.replace(":path", "") for path in (*self._hot, *(p for _, p in self._lines))}
        api = ", ".join(sorted(each for each in served if each.startswith("/v1/")))
        message = f"{path} is not served. Served: {api}, the same under /api/v1, and a page at /."
        return _answer(request, Problem(404, "not_found", message, final=True))

    async def _own_error(self, request: Request, _error: Exception) -> Response:
        return _answer(request, _OWN_ERROR)

    async def _respond(
        self, scope: Scope, send: SendMessage, problem: Problem, dialect: str = "chat"
    ) -> None:
        headers = {**problem.headers(), **_challenge(problem)}
        body = problem.body(dialect, scope["path"])
        await Outlet(send).respond(problem.status, (*PLAIN, *raw(headers)), body)

    # --- life ------------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: SendMessage) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._engine.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.upstream.close()
                self._engine.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


_OWN_ERROR = Problem(500, "internal_error", "keywheel failed; its log says how.")
# A path is what it is, not what it decodes to.
_ENCODED = Problem(404, "not_found", "No path with percent signs is served here.", final=True)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _challenge(problem: Problem) -> dict[str, str]:
    return {"www-authenticate": "Bearer"} if problem.status == 401 else {}


def _answer(
    request: Request, problem: Problem, headers: Mapping[str, str] | None = None
) -> Response:
    all_headers = {**problem.headers(), **_challenge(problem), **(headers or {})}
    body = problem.body("chat", request.scope["path"])
    return Response(body, problem.status, all_headers, media_type="application/json")
