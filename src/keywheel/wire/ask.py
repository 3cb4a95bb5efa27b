"""A client's request body: read into what routing needs, and written back for one model.

Only `model` and what could cost money or lead elsewhere (`keywheel.wire.toll`) are touched; every other member
goes upstream byte for byte and in the order sent. A dialect is one row of a table.
"""

from collections.abc import Callable, Generator, Mapping
from math import ceil
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from keywheel.errors import InvalidRequest
from keywheel.wire import prompt as prompts
from keywheel.wire.fields import DOCUMENTED
from keywheel.wire.members import Fields, check_depth, members, value
from keywheel.wire.prompt import Prompt
from keywheel.wire.toll import pay_no, reads_files

OPENING = 2  # messages with which a conversation begins: the system's and the user's
MAX_ID = 256  # characters of a conversation's id; longer ones are ignored (routing rule A.3)


class Speech(NamedTuple):
    """Where a dialect keeps what routing needs: the prompt, the bound of the answer, the wanted shape.

    `foreign`: members of other dialects. They are not sent, since the upstream would not do as they say.
    """

    gather: Callable[[Fields, Prompt], None]
    reply: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()
    reasoning: str = "reasoning"
    needs: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


SPEECHES: Mapping[str, Speech] = {
    "chat": Speech(
        prompts.read_chat, ("max_completion_tokens", "max_tokens"), ("response_format",)
    ),
    "completions": Speech(prompts.read_completion, ("max_tokens",), ("response_format",)),
    "responses": Speech(prompts.read_responses, ("max_output_tokens",), ("text", "format")),
    "messages": Speech(
        prompts.read_anthropic, ("max_tokens",), ("output_config", "format"), "thinking"
    ),
    "embeddings": Speech(
        prompts.read_embeddings,
        needs=frozenset({"embeddings"}),
        foreign=frozenset({"stream", "stream_options"}),
    ),
}

# Wanted shapes; `grammar` and `python` are other values of the same parameter.
SHAPES = {
    "json_object": "json_object",
    "json_schema": "json_schema",
    "grammar": "json_object",
    "python": "json_object",
}
OUTPUTS = {"image": "image_output", "audio": "audio_output"}


# Members that may say what a model must be able to do; most requests have none of them.
_TELLING = frozenset(
    {"tools", "functions", "modalities", "reasoning_effort", "reasoning", "thinking"}
    | {speech.shape[0] for speech in SPEECHES.values() if speech.shape}
)


class _Shape(Struct):
    type: str | None = None
    format: "_Shape | None" = None


class _Reasoning(Struct):
    """`reasoning` of chat and Responses, `thinking` of Anthropic."""

    effort: str | None = None
    enabled: bool | None = None
    max_tokens: int | None = None
    type: str | None = None

    @property
    def off(self) -> bool:
        return self.effort == "none" or self.enabled is False or self.type == "disabled"

    @property
    def on(self) -> bool:
        return bool(self.effort or self.enabled or self.max_tokens or self.type)


class _Provider(Struct):
    data_collection: str | None = None
    zdr: bool | None = None


class _Fallback(Struct):
    model: str


_STR = Decoder(str | None)
_INT = Decoder(int | None)
_BOOL = Decoder(bool | None)
_STRS = Decoder(list[str] | None)
_ANY = Decoder(list[Any] | None)
_RAWS = Decoder(list[Raw] | None)
_SHAPE = Decoder(_Shape | None)
_REASONING = Decoder(_Reasoning | None)
_PROVIDER = Decoder(_Provider | None)
_FALLBACKS = Decoder(list[_Fallback] | None)


class Request(Struct, frozen=True):
    """One request as routing sees it.

    `models`: exactly these were asked for, in this order. `tokens`: estimated, of the prompt and the tool
    schemas; media are not counted. `reply_tokens`: 0 when the client set no bound. `restricted`: the client
    itself limits which providers may see its data, so a privacy refusal is not the account's fault.
    `follow_up`: not the first request of its conversation, so a prompt cache may know it; true when the client
    named the conversation. `sent`: the members for the upstream, in the order they came in. `dropped`: what will
    not be sent on.
    """

    dialect: str
    stream: bool
    model: str | None
    models: tuple[str, ...]
    tokens: int
    reply_tokens: int
    needs: frozenset[str]
    restricted: bool
    dropped: tuple[str, ...]
    conversation: str | None
    follow_up: bool
    sent: Fields

    def __repr__(self) -> str:
        return f"Request({self.dialect!r}, model={self.model!r}, tokens={self.tokens})"

    def without_body(self) -> "Request":
        """The same request without the bytes that no further attempt needs."""
        return msgspec.structs.replace(self, sent={})

    def with_model(self, model_id: str) -> bytes:
        """The body for the upstream, asking for this model. One that was left out comes first."""
        sent = self.sent if "model" in self.sent else {"model": None, **self.sent}
        return msgspec.json.encode({**sent, "model": model_id})


def read(
    body: bytes, dialect: str, session: str | None = None, *, passthrough: bool = True
) -> Request:
    """As `reading`, at once."""
    steps = reading(body, dialect, session, passthrough=passthrough)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def reading(
    body: bytes, dialect: str, session: str | None = None, *, passthrough: bool = True
) -> Generator[None, None, Request]:
    """Read a body of one of the SPEECHES; `session` is the request's `x-session-id` header.

    In steps, so that a large body holds up nobody: each takes at most 2 ms for a megabyte, and none can be cut by
    a thread, since it is one call that keeps the interpreter's lock.
    Without `passthrough` only documented members are sent on (requirement C21). Raises InvalidRequest.
    """
    fields = members(body)
    yield
    check_depth(body, fields)
    yield
    speech = SPEECHES[dialect]
    _check_count(fields)
    sent, dropped = pay_no(fields)
    if not speech.foreign.isdisjoint(sent):
        dropped += tuple(name for name in sent if name in speech.foreign)
        sent = {name: raw for name, raw in sent.items() if name not in speech.foreign}
    if not passthrough:
        sent, undocumented = _documented(sent, dialect)
        dropped += undocumented
    prompt = Prompt()
    speech.gather(fields, prompt)
    if tools := value(sent, "tools", _ANY):
        prompt.add_json(tools)
    yield
    tokens = ceil(prompt.tokens)
    model = value(fields, "model", _STR) or None
    named = _conversation(fields, session)
    return Request(
        dialect=dialect,
        stream=bool(value(sent, "stream", _BOOL)),
        model=model,
        models=_models(fields, model),
        tokens=tokens,
        reply_tokens=_reply_tokens(fields, speech.reply),
        needs=_needs(sent, prompt, speech),
        restricted=_is_restricted(fields),
        dropped=dropped,
        conversation=named or prompt.conversation,
        follow_up=named is not None or prompt.messages > OPENING,
        sent=sent,
    )


def _check_count(fields: Fields) -> None:
    count = value(fields, "n", _INT)
    if count not in (None, 1):
        raise InvalidRequest(
            f"`n` is {count}. Send 1, or leave it out: each further answer costs a request.",
            param="n",
        )


def _documented(fields: Fields, dialect: str) -> tuple[Fields, tuple[str, ...]]:
    known = DOCUMENTED[dialect]
    kept = {name: raw for name, raw in fields.items() if name in known}
    return kept, tuple(name for name in fields if name not in known)


def _models(fields: Fields, model: str | None) -> tuple[str, ...]:
    """`models` as it is; Anthropic's `fallbacks` come after `model`. An empty list asks for nothing."""
    models = value(fields, "models", _STRS)
    fallbacks = value(fields, "fallbacks", _FALLBACKS)
    if models and fallbacks:
        raise InvalidRequest(
            "`models` and `fallbacks` are both set. Send one of them.", param="models"
        )
    if fallbacks:
        return (*((model,) if model else ()), *(entry.model for entry in fallbacks))
    return tuple(models or ())


def _reply_tokens(fields: Fields, names: tuple[str, ...]) -> int:
    for name in names:
        bound = value(fields, name, _INT)
        if bound is None:
            continue
        if bound < 0:
            raise InvalidRequest(f"`{name}` is {bound}. Send a positive number.", param=name)
        return bound
    return 0


def _needs(fields: Fields, prompt: Prompt, speech: Speech) -> frozenset[str]:
    """Capabilities the model must have, by the names that `keywheel.wire.models` gives them."""
    if not prompt.media and _TELLING.isdisjoint(fields):
        return speech.needs
    needs = {*speech.needs, *prompt.media}
    if "file" in needs and reads_files(fields):
        needs.remove("file")
    if value(fields, "tools", _RAWS) or value(fields, "functions", _RAWS):
        needs.add("tools")
    outputs: list[str] = value(fields, "modalities", _STRS) or []
    needs.update(OUTPUTS[output] for output in outputs if output in OUTPUTS)
    shape = _wanted_shape(fields, speech.shape)
    return frozenset(needs) | shape | _wanted_reasoning(fields, speech.reasoning)


def _wanted_shape(fields: Fields, path: tuple[str, ...]) -> frozenset[str]:
    if not path:
        return frozenset()
    found = value(fields, path[0], _SHAPE)
    if found and path[1:]:
        found = found.format
    kind = found.type if found else None
    return frozenset({SHAPES[kind]}) if kind in SHAPES else frozenset()


def _wanted_reasoning(fields: Fields, name: str) -> frozenset[str]:
    """`reasoning` when asked for; `reasoning_off` when asked not to, which models that must reason refuse."""
    asked = (
        value(fields, name, _REASONING) or _Reasoning(),
        _Reasoning(effort=value(fields, "reasoning_effort", _STR)),
    )
    if any(one.off for one in asked):
        return frozenset({"reasoning_off"})
    return frozenset({"reasoning"}) if any(one.on for one in asked) else frozenset()


def _is_restricted(fields: Fields) -> bool:
    provider = value(fields, "provider", _PROVIDER)
    return bool(provider and (provider.data_collection == "deny" or provider.zdr))


def _conversation(fields: Fields, session: str | None) -> str | None:
    """The first name that is there: `session_id`, the header, `prompt_cache_key`."""
    for name in (
        value(fields, "session_id", _STR),
        session,
        value(fields, "prompt_cache_key", _STR),
    ):
        if name and len(name) <= MAX_ID:
            return name
    return None
