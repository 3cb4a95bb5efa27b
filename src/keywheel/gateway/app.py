"""The ASGI application: one table of routes, each with its class of access. The hot routes go past the router."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keywheel.engine import Engine
from keywheel.gateway.figures import credits_body, key_body
from keywheel.gateway.guard import Access, Guard
from keywheel.gateway.inference import PLAIN, Inference, problem_body
from keywheel.gateway.outlet import Outlet, SendMessage, raw
from keywheel.gateway.upstream import Upstream
from keywheel.gateway.waiting import Receive
from keywheel.problems import Problem
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.menu import AUTO, PREFIX
from keywheel.wire.models import Entry
from keywheel.wire.replies import auto_entry, models_body

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

    def __init__(self, engine: Engine, upstream: Upstream) -> None:
        self._engine = engine
        self.upstream = upstream
        self._guard = Guard(engine.config.gateway)
        self.draining = (
            False  # the process is ending: requests under way are finished, no new ones wanted
        )
        self._hot = {
            prefix + dialect.path: Inference(engine, upstream, name)
            for name, dialect in DIALECTS.items()
            for prefix in PREFIXES
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
            await self._respond(
                send, "chat", _ENCODED
            )  # a path is what it is, not what it decodes to
        elif (hot := self._hot.get(scope["path"])) and scope["method"] == "POST":
            problem = self._guard.check(scope["headers"], Access.CLIENT)
            if problem:
                await self._respond(send, hot.dialect, problem)
            else:
                await hot(scope, receive, send)
        else:
            await self._cold(scope, receive, send)  # pyright: ignore[reportArgumentType]

    @property
    def hot(self) -> Iterable[Inference]:
        """The routes that reach the upstream."""
        return self._hot.values()

    # --- the table -------------------------------------------------------------------------------

    def _table(self) -> list[Line]:
        lines = [
            Line("GET", "/healthz", self._healthz, Access.OPEN),
            Line("GET", "/livez", self._healthz, Access.OPEN),
            Line("GET", "/readyz", self._readyz, Access.OPEN),
            Line("GET", "/admin/stats", self._stats, Access.READ),
        ]
        for prefix in PREFIXES:
            lines += [
                Line("GET", f"{prefix}/key", self._key, Access.CLIENT),
                Line("GET", f"{prefix}/credits", self._credits, Access.CLIENT),
                Line("GET", f"{prefix}/models", self._models, Access.CLIENT),
                Line("GET", f"{prefix}/models/{{id:path}}", self._model, Access.CLIENT),
            ]
        return lines

    def _guarded(self, line: Line) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            problem = self._guard.check(request.scope["headers"], line.access)
            return _answer(problem) if problem else await line.endpoint(request)

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

    async def _stats(self, _request: Request) -> Response:
        return _json(self._engine.report())

    async def _key(self, _request: Request) -> Response:
        return _json(key_body(self._engine.report()))

    async def _credits(self, _request: Request) -> Response:
        return _json(credits_body(self._engine.report()))

    async def _models(self, _request: Request) -> Response:
        return Response(models_body(self._entries()), media_type="application/json")

    async def _model(self, request: Request) -> Response:
        wanted = request.path_params["id"]
        for entry in self._entries():
            if _id(entry) == wanted:
                return _json({"data": entry})
        return _answer(
            Problem(404, "not_found", f"{wanted!r} is no free model that can be used now; see GET /v1/models.",
                    param="model", final=True)
        )  # fmt: skip

    def _entries(self) -> list[Any]:
        """`auto` and the pools can what any of their models can: a request goes to one that does."""
        models = self._engine.models()
        wheels = [(AUTO, "the best free model that fits", models)]
        for name, wheel in self._engine.menu.pools.items():
            members = [entry for entry in models if wheel.takes(entry)]
            if members:
                wheels.append((PREFIX + name, wheel.what, members))
        return [*(_wheel_entry(*wheel) for wheel in wheels), *(entry.raw for entry in models)]

    # --- errors ----------------------------------------------------------------------------------

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        if problem := self._guard.check(request.scope["headers"], Access.OPEN):
            return _answer(problem)
        path = request.scope["path"]
        if error.status_code == 405 or path in self._hot:
            allowed = "POST" if path in self._hot else "GET"
            problem = Problem(
                405,
                "method_not_allowed",
                f"{request.method} is not served here; use {allowed}.",
                final=True,
            )
            return _answer(problem, {"allow": allowed})
        served = sorted({*self._hot, *(path for _, path in self._lines)})
        return _answer(
            Problem(
                404, "not_found", f"{path} is not served. Served: {', '.join(served)}.", final=True
            )
        )

    async def _own_error(self, _request: Request, _error: Exception) -> Response:
        return _answer(Problem(500, "internal_error", "keywheel failed; its log says how."))

    async def _respond(self, send: SendMessage, dialect: str, problem: Problem) -> None:
        headers = {**problem.headers(), **_challenge(problem)}
        body = problem_body(dialect, problem)
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


_ENCODED = Problem(404, "not_found", "No path with percent signs is served here.", final=True)


def _id(entry: Any) -> str:
    return entry["id"] if isinstance(entry, dict) else msgspec.json.decode(entry, type=_Id).id  # pyright: ignore


def _wheel_entry(id: str, what: str, members: list[Entry]) -> dict[str, Any]:
    features = [msgspec.json.decode(entry.raw, type=_Features) for entry in members]
    return auto_entry(
        id,
        f"keywheel: {what}",
        max((entry.model.context for entry in members), default=0),
        inputs=_union(["text"], *(f.architecture.input_modalities for f in features)),
        parameters=_union(*(f.supported_parameters for f in features)),
    )


class _Id(msgspec.Struct):
    id: str


class _Architecture(msgspec.Struct):
    input_modalities: list[str] = []


class _Features(msgspec.Struct):
    architecture: _Architecture = msgspec.field(default_factory=_Architecture)
    supported_parameters: list[str] = []


def _union(*lists: list[str]) -> list[str]:
    """Every word once, in order of first appearance."""
    return list(dict.fromkeys(word for words in lists for word in words))


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _challenge(problem: Problem) -> dict[str, str]:
    return {"www-authenticate": "Bearer"} if problem.status == 401 else {}


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    all_headers = {**problem.headers(), **_challenge(problem), **(headers or {})}
    return Response(
        problem_body("chat", problem), problem.status, all_headers, media_type="application/json"
    )
