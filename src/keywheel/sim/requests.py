"""A request as the simulated service reads it: bytes → what to decide, and what to answer.

Each dialect says its own body as a Wish; the rules that follow are the same for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from keywheel.sim.kinds import Kind
from keywheel.sim.rulings import Ask
from keywheel.sim.shapes import instance

MAX_MODELS = 3  # more are refused with 400
MAX_BODY = 64 << 20  # the real limit is not documented
BYTES_PER_TOKEN = 4  # the usual rule of thumb; JSON's own characters count too
ANY_OBJECT = {"answer": "simulated"}  # what `json_object` gets
ABSENT = frozenset({b"", b"[]", b"null"})

_B = TypeVar("_B", bound="Body")
Reader = Callable[[bytes], "Request"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the answer calls, with arguments as JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Vectors:
    """What an embeddings request wants: one vector for each input."""

    inputs: tuple[bytes, ...] = ()
    dimensions: int = 0
    base64: bool = False


NO_VECTORS = Vectors()


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what to decide about, and what the answer has to contain."""

    ask: Ask
    tool: str = ""  # the first tool's name, for refusals that quote one
    call: ToolCall | None = None
    json: str | None = None  # the JSON text that a response format wants
    dialect: str = "chat"
    vectors: Vectors = NO_VECTORS


class Function(msgspec.Struct):
    """A function that may be called."""

    name: str
    parameters: dict[str, Any] | None = None


class Reasoning(msgspec.Struct):
    """The `reasoning` of chat, completions and responses."""

    effort: str | None = None
    enabled: bool | None = None

    @property
    def off(self) -> bool:
        """Whether the request forbids reasoning."""
        return self.effort == "none" or self.enabled is False


class Provider(msgspec.Struct):
    """The routing preferences that change an answer."""

    require_parameters: bool | None = None
    data_collection: str | None = None
    zdr: bool | None = None

    @property
    def private(self) -> bool:
        """Whether free models, which may train on prompts, are out."""
        return self.data_collection == "deny" or bool(self.zdr)


class Body(msgspec.Struct):
    """What all dialects have in common; what no reader names is forwarded unread."""

    model: str | None = None
    models: list[str] | None = None
    stream: bool | None = None
    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a body asks for, in common words."""

    prompt: bytes  # the JSON that makes up the prompt
    said: bytes = b""  # the messages, of which the last one may wish for a tool
    models: Sequence[str] | None = None  # where the dialect has more than `models` and `model`
    max_tokens: int | None = None
    tools: bool = False
    functions: Sequence[Function] = ()
    demand: str | None = None  # the function that must be called; "" is any, None is at will
    images: bool = False
    form: str = "text"  # text | json_object | json_schema | another one, that nothing is known of
    schema: dict[str, Any] | None = None
    reasoning_off: bool = False
    vectors: Vectors | None = None
    flaw: Kind | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Said(msgspec.Struct):
    role: str = ""
    type: str = ""
    content: str | list[_Part] | None = None


_SAID = msgspec.json.Decoder(list[_Said])


def reader(dialect: str, body: type[_B], wish: Callable[[_B], Wish]) -> Reader:
    """The reader of a dialect. What cannot be served is named in `ask.flaw`; it raises nothing."""
    decoder = msgspec.json.Decoder(body)

    def read(data: bytes) -> Request:
        if len(data) > MAX_BODY:
            return Request(Ask(flaw=Kind.TOO_LARGE), dialect=dialect)
        try:
            said = decoder.decode(data)
        except msgspec.ValidationError:
            return Request(Ask(flaw=Kind.INVALID), dialect=dialect)
        except msgspec.DecodeError:
            return Request(Ask(flaw=Kind.NOT_JSON), dialect=dialect)
        return _request(dialect, said, wish(said))

    return read


def _request(dialect: str, body: Body, wish: Wish) -> Request:
    ask = _ask(body, wish)
    if not (wish.functions or wish.form != "text"):
        return Request(ask, dialect=dialect, vectors=wish.vectors or NO_VECTORS)
    first = wish.functions[0].name if wish.functions else ""
    return Request(ask, first, _call(wish), _json(wish), dialect)


def _ask(body: Body, wish: Wish) -> Ask:
    models = wish.models or body.models or ((body.model,) if body.model else ())
    provider = body.provider or Provider()
    many = len(body.models or ()) > MAX_MODELS
    return Ask(
        models=tuple(models),
        prompt_tokens=max(1, len(wish.prompt) // BYTES_PER_TOKEN),
        max_tokens=wish.max_tokens,
        stream=bool(body.stream) and wish.vectors is None,
        tools=wish.tools,
        images=wish.images,
        json=wish.form != "text",
        require_parameters=bool(provider.require_parameters),
        reasoning_off=wish.reasoning_off,
        deny_collection=provider.private,
        flaw=Kind.MANY_MODELS if many else wish.flaw,
        embeddings=wish.vectors is not None,
    )


# --- tools and JSON ------------------------------------------------------------------------------


def _call(wish: Wish) -> ToolCall | None:
    chosen = _function(wish)
    if chosen is None:
        return None
    arguments = instance(chosen.parameters or {"type": "object"})
    return ToolCall(chosen.name, msgspec.json.encode(arguments).decode())


def _function(wish: Wish) -> Function | None:
    """The simulator's rule: a tool is called when the request demands one, or when the last message
    is not a tool's result and contains the name of a function or the word "tool"."""
    if not (wish.tools and wish.functions):
        return None
    if wish.demand is not None:
        named = [each for each in wish.functions if each.name == wish.demand]
        return (named or wish.functions)[0]
    text = _wishing(wish.said)
    mentioned = [each for each in wish.functions if each.name.lower() in text]
    return (mentioned or wish.functions)[0] if mentioned or "tool" in text else None


def _wishing(messages: bytes) -> str:
    """The last message in lower case; nothing when it is a tool's result, or not to be read."""
    try:
        last = _SAID.decode(messages)[-1]
    except (msgspec.DecodeError, IndexError):
        return ""
    parts = [_Part(text=last.content)] if isinstance(last.content, str) else last.content or []
    kinds = {last.role, last.type, *(part.type for part in parts)}
    if kinds & {"tool", "tool_result", "function_call_output"}:
        return ""
    return " ".join(part.text or "" for part in parts).lower()


def _json(wish: Wish) -> str | None:
    if wish.form not in {"json_object", "json_schema"}:
        return None
    wanted = instance(wish.schema) if wish.form == "json_schema" and wish.schema else ANY_OBJECT
    return msgspec.json.encode(wanted).decode()
