"""A chat request as the simulated service reads it: bytes → what to decide, and what to answer."""

from dataclasses import dataclass
from typing import Any

import msgspec

from keywheel.sim.kinds import Kind
from keywheel.sim.rulings import Ask
from keywheel.sim.shapes import instance

MAX_MODELS = 3  # more are refused with 400
MAX_BODY = 64 << 20  # the real limit is not documented
BYTES_PER_TOKEN = 4  # the usual rule of thumb; JSON's own characters count too
ANY_OBJECT = {"answer": "simulated"}  # what `json_object` gets


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the answer calls, with arguments as JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what to decide about, and what the answer has to contain."""

    ask: Ask
    tool: str = ""  # the first tool's name, for refusals that quote one
    call: ToolCall | None = None
    json: str | None = None  # the JSON text that `response_format` wants


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Schema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    json_schema: _Schema | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    enabled: bool | None = None


class _Provider(msgspec.Struct):
    require_parameters: bool | None = None
    data_collection: str | None = None
    zdr: bool | None = None


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Body(msgspec.Struct):
    """The fields that matter; everything else is forwarded unread."""

    model: str | None = None
    models: list[str] | None = None
    messages: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    response_format: _Format | None = None
    reasoning: _Reasoning | None = None
    reasoning_effort: str | None = None
    provider: _Provider | None = None


_decoder = msgspec.json.Decoder(_Body)


def read(body: bytes) -> Request:
    """Read a chat request. What cannot be served is named in `ask.flaw`; nothing is raised."""
    if len(body) > MAX_BODY:
        return Request(Ask(flaw=Kind.TOO_LARGE))
    try:
        wanted = _decoder.decode(body)
    except msgspec.ValidationError:
        return Request(Ask(flaw=Kind.INVALID))
    except msgspec.DecodeError:
        return Request(Ask(flaw=Kind.NOT_JSON))
    if not (wanted.tools or wanted.response_format):
        return Request(_ask(wanted))
    functions = [tool.function for tool in wanted.tools or () if tool.function]
    first = functions[0].name if functions else ""
    return Request(_ask(wanted), first, _call(wanted, functions), _json(wanted.response_format))


def _ask(wanted: _Body) -> Ask:
    raw = bytes(wanted.messages)
    form = wanted.response_format or _Format()
    provider, reasoning = wanted.provider or _Provider(), wanted.reasoning or _Reasoning()
    efforts = {reasoning.effort, wanted.reasoning_effort}
    return Ask(
        models=tuple(wanted.models or ((wanted.model,) if wanted.model else ())),
        prompt_tokens=max(1, len(raw) // BYTES_PER_TOKEN),
        max_tokens=wanted.max_completion_tokens or wanted.max_tokens,
        stream=bool(wanted.stream),
        tools=bool(wanted.tools) and wanted.tool_choice != "none",
        images=b'"image_url"' in raw,
        json=form.type != "text",
        require_parameters=bool(provider.require_parameters),
        reasoning_off="none" in efforts or reasoning.enabled is False,
        deny_collection=provider.data_collection == "deny" or bool(provider.zdr),
        flaw=_flaw(wanted, raw),
    )


def _flaw(wanted: _Body, messages: bytes) -> Kind | None:
    if wanted.models and len(wanted.models) > MAX_MODELS:
        return Kind.MANY_MODELS
    return Kind.NO_INPUT if messages in {b"", b"[]", b"null"} else None


# --- tools and JSON ------------------------------------------------------------------------------


def _call(wanted: _Body, functions: list[_Function]) -> ToolCall | None:
    chosen = _function(wanted, functions)
    if chosen is None:
        return None
    arguments = instance(chosen.parameters or {"type": "object"})
    return ToolCall(chosen.name, msgspec.json.encode(arguments).decode())


def _function(wanted: _Body, functions: list[_Function]) -> _Function | None:
    """The simulator's rule: a tool is called when `tool_choice` demands one, or when the last message
    is not a tool's result and contains the name of a function or the word "tool"."""
    if not functions or wanted.tool_choice == "none":
        return None
    demanded = wanted.tool_choice
    if isinstance(demanded, _Tool) and demanded.function:
        named = [each for each in functions if each.name == demanded.function.name]
        return (named or functions)[0]
    if demanded == "required":
        return functions[0]
    role, text = _last_message(wanted.messages)
    mentioned = [each for each in functions if each.name.lower() in text]
    wished = role != "tool" and (mentioned or "tool" in text)
    return (mentioned or functions)[0] if wished else None


def _last_message(messages: msgspec.Raw) -> tuple[str, str]:
    try:
        last = msgspec.json.decode(messages, type=list[_Message])[-1]
    except (msgspec.ValidationError, IndexError):
        return "", ""
    parts = [_Part(last.content)] if isinstance(last.content, str) else last.content or []
    return last.role, " ".join(part.text or "" for part in parts).lower()


def _json(form: _Format | None) -> str | None:
    if form is None or form.type not in {"json_object", "json_schema"}:
        return None
    schema = form.json_schema.schema if form.json_schema else None
    wanted = instance(schema) if form.type == "json_schema" and schema else ANY_OBJECT
    return msgspec.json.encode(wanted).decode()
