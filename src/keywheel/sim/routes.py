"""What each path of the simulated service answers; the control routes stand beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from re import compile as pattern
from typing import Any
from urllib.parse import parse_qs

import msgspec

from keywheel.sim import bodies
from keywheel.sim.answers import Pace, answer
from keywheel.sim.catalogue import Model
from keywheel.sim.dialects import DIALECTS, Dialect
from keywheel.sim.kinds import COMMITTED
from keywheel.sim.replies import Headers, Reply, json_reply
from keywheel.sim.state import report
from keywheel.sim.world import World

API = "/api/v1"
PRIVATE: Headers = [(b"cache-control", b"private, no-store")]
EVERY_MODALITY = "all"


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
    query: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A world, and the pace of its streams."""

    world: World
    pace: Pace


Route = Callable[[Service, Call], Reply]
Telling = Callable[[World, str, float], dict[str, Any] | None]  # by a model's name, at a moment


def dispatch(service: Service, method: str, path: str, call: Call) -> Reply:
    """Answer a request. Paths come without a slash at their end."""
    routes = ROUTES.get(path) or _model_route(path)
    if routes is None:
        return _error(404, "Not Found")
    route = routes.get(method)
    return route(service, call) if route else _error(405, "Method Not Allowed")


def _error(status: int, text: str) -> Reply:
    return json_reply(status, {"error": {"message": text, "code": status}})


# --- inference -----------------------------------------------------------------------------------


def _inference(dialect: Dialect) -> Route:
    answered = COMMITTED | dialect.softened

    def route(service: Service, call: Call) -> Reply:
        request = dialect.read(call.body)
        ruling = service.world.attempt(call.key, request.ask, call.now)
        if ruling.kind in answered:
            return answer(ruling, request, service.pace)
        source = service.world.scenario.limit_source
        return bodies.refuse(ruling, request, limit_source=source)

    return route


# --- models --------------------------------------------------------------------------------------


def _models(service: Service, call: Call) -> Reply:
    """Text models, unless `output_modalities` says otherwise."""
    wanted = parse_qs(call.query).get("output_modalities", ["text"])[-1]
    return _list(service.world.models(call.now), wanted)


def _models_user(service: Service, call: Call) -> Reply:
    models = service.world.models_for(call.key, call.now)
    return _unauthorized(call) if models is None else _list(models, "text")


def _models_embeddings(service: Service, call: Call) -> Reply:
    return _list(service.world.models(call.now), "embeddings")


def _list(models: list[Model], modalities: str) -> Reply:
    wanted = set(modalities.split(","))
    chosen = (model for model in models if EVERY_MODALITY in wanted or wanted & _output(model))
    return json_reply(200, bodies.model_list(chosen))


def _output(model: Model) -> set[str]:
    return set(model.row["architecture"]["output_modalities"])


def _model(world: World, name: str, now: float) -> dict[str, Any] | None:
    """One entry of the list; an alias gives the model it stands for."""
    found = _named(world, name, now)
    target = _named(world, found.alias, now) if found and found.alias else None
    return bodies.model(target or found) if found else None


def _endpoints(world: World, name: str, now: float) -> dict[str, Any] | None:
    found = _named(world, name, now)
    return bodies.endpoints(found) if found else None


def _named(world: World, name: str, now: float) -> Model | None:
    """The model of that id or dated slug."""
    models = world.models(now)
    return next((each for each in models if name in {each.id, each.slug + each.suffix}), None)


def _model_route(path: str) -> dict[str, Route] | None:
    for shape, tell in MODEL_ROUTES:
        match = shape.fullmatch(path)
        if match:
            return {"GET": _about(match[1], tell)}
    return None


def _about(name: str, tell: Telling) -> Route:
    def route(service: Service, call: Call) -> Reply:
        body = tell(service.world, name, call.now)
        return json_reply(200, body) if body else _error(404, "Resource not found")

    return route


# --- keys ----------------------------------------------------------------------------------------


def _key(service: Service, call: Call) -> Reply:
    view = service.world.key(call.key, call.now)
    return json_reply(200, bodies.key(view), extra=PRIVATE) if view else _unauthorized(call)


def _credits(service: Service, call: Call) -> Reply:
    view = service.world.key(call.key, call.now)
    return json_reply(200, bodies.account_credits(view)) if view else _unauthorized(call)


def _unauthorized(call: Call) -> Reply:
    return _error(401, "User not found." if call.key else "No cookie auth credentials found")


# --- control -------------------------------------------------------------------------------------


def _state(service: Service, call: Call) -> Reply:
    return json_reply(200, report(service.world, call.now))


def _script(service: Service, call: Call) -> Reply:
    world = service.world
    try:
        order = msgspec.json.decode(call.body, type=ScriptOrder)
        world.script(order.kind, order.key_index, order.model, order.times)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        return _error(400, str(error))
    return json_reply(200, {"scripts": len(world.scripts)})


def _reset(service: Service, call: Call) -> Reply:
    service.world.reset()
    return json_reply(200, report(service.world, call.now))


# --- the table -----------------------------------------------------------------------------------

MODEL_ROUTES = (
    (pattern(f"{API}/models/([^/]+/[^/]+)/endpoints"), _endpoints),
    (pattern(f"{API}/model/([^/]+/[^/]+)"), _model),
)

ROUTES: dict[str, dict[str, Route]] = {
    **{API + each.path: {"POST": _inference(each)} for each in DIALECTS.values()},
    f"{API}/models": {"GET": _models},
    f"{API}/models/user": {"GET": _models_user},
    f"{API}/embeddings/models": {"GET": _models_embeddings},
    f"{API}/key": {"GET": _key},
    f"{API}/auth/key": {"GET": _key},  # the old name
    f"{API}/credits": {"GET": _credits},
    "/_sim/state": {"GET": _state},
    "/_sim/script": {"POST": _script},
    "/_sim/reset": {"POST": _reset},
}
