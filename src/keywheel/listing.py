"""`GET /models` and `GET /embeddings/models` in OpenRouter's shape: what can be used now, best first."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from keywheel.engine import Engine
from keywheel.problems import Problem
from keywheel.wire.loose import to_mapping, to_strings
from keywheel.wire.menu import AUTO, PREFIX
from keywheel.wire.models import Entry
from keywheel.wire.replies import auto_entry, models_body


class _Id(msgspec.Struct):
    id: str


class _Features(msgspec.Struct):
    """May be missing or of another type."""

    architecture: Any = None
    supported_parameters: Any = None


_decode_id = msgspec.json.Decoder(_Id).decode
_decode_features = msgspec.json.Decoder(_Features).decode
encode = msgspec.json.encode
Listed = dict[str, Any] | msgspec.Raw


def entries(engine: Engine) -> list[Listed]:
    """What chats, behind `auto` and pools. They can what any of their models can: a request goes to one that does."""
    models = engine.models()
    wheels = [(AUTO, "the best free model that fits", models)]
    for name, wheel in engine.menu.pools.items():
        members = [entry for entry in models if wheel.takes(entry)]
        if members:
            wheels.append((PREFIX + name, wheel.what, members))
    return [*(_wheel(*wheel) for wheel in wheels), *(msgspec.Raw(entry.raw) for entry in models)]


def vectors(engine: Engine) -> list[Listed]:
    """What embeds. Nothing stands for several of them: their vectors cannot be compared."""
    return [msgspec.Raw(entry.raw) for entry in engine.models(embeds=True)]


Tell = Callable[[Engine], Sequence[Listed]]
# By path, the longer one first.
LISTS: Mapping[str, Tell] = {
    "/embeddings/models": vectors,
    "/models": entries,
}


# The least, the most, and what counts when only the other one is given.
BOUNDS = {"offset": (0, 999_999_999, 0), "limit": (1, 1000, 500)}
_figure = re.compile(r"[0-9]{1,9}").fullmatch


def answer(engine: Engine, tell: Tell, path: str, query: str) -> bytes | Problem:
    """The body of a list: all of it, or the page that `offset` or `limit` in the query ask for."""
    listed = tell(engine)
    asked = {name: value for name, value in parse_qsl(query) if name in BOUNDS}
    if not asked:
        return models_body(listed, len(listed))
    for name, value in asked.items():
        least, most, _ = BOUNDS[name]
        if not (_figure(value) and least <= int(value) <= most):
            return Problem(
                400, "invalid_request", f"{name} must be a whole number from {least} to {most}.",
                param=name, final=True,
            )  # fmt: skip
    offset, limit = (int(asked.get(name, usual)) for name, (_, _, usual) in BOUNDS.items())
    end = offset + limit
    following = f"{path}?offset={end}&limit={limit}" if end < len(listed) else None
    return models_body(listed[offset:end], len(listed), following)


def find(engine: Engine, id: str) -> Listed | Problem:
    """The entry of one model."""
    for entry in (*entries(engine), *vectors(engine)):
        if (entry["id"] if isinstance(entry, dict) else _decode_id(entry).id) == id:
            return entry
    return Problem(
        404, "not_found", f"{id!r} is no free model that can be used now; see GET /v1/models.",
        param="model", final=True,
    )  # fmt: skip


def _wheel(id: str, what: str, members: list[Entry]) -> dict[str, Any]:
    features = [_decode_features(entry.raw) for entry in members]
    return auto_entry(
        id,
        f"keywheel: {what}",
        max((entry.model.context for entry in members), default=0),
        inputs=_union(
            ["text"],
            *(to_strings(to_mapping(f.architecture).get("input_modalities")) for f in features),
        ),
        parameters=_union(*(to_strings(f.supported_parameters) for f in features)),
    )


def _union(*lists: list[str]) -> list[str]:
    """Every word once, in order of first appearance."""
    return list(dict.fromkeys(word for words in lists for word in words))
