"""`POST /messages`, Anthropic's API: blocks of content, events with names, an envelope of its own."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from keywheel.sim.composing import (
    CALL_ID,
    Answer,
    cost,
    disconnected,
    fragments,
    upstream_error,
)
from keywheel.sim.dialects.dialect import Beat, Dialect, named_event
from keywheel.sim.kinds import UNROUTED, Kind
from keywheel.sim.refusals import Refusal, error_type
from keywheel.sim.replies import generation_id
from keywheel.sim.requests import (
    ABSENT,
    MAX_MODELS,
    Body,
    Function,
    Request,
    ToolCall,
    Wish,
    reader,
)
from keywheel.sim.rulings import Ruling

# How the finish of chat completions reads here. An error without a word has no counterpart.
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "error": None}
# The lossy `error.type` by status; everything else is an `api_error`.
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    524: "timeout_error",
    529: "overloaded_error",
}
SIGNATURE = (
    "c2ltdWxhdGVk"  # of thinking blocks: nobody checks one of a model that is not Anthropic's
)


class _Tool(msgspec.Struct):
    name: str
    input_schema: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    type: str = "auto"
    name: str | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    schema: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    format: _Format | None = None


class _Thinking(msgspec.Struct):
    type: str = ""


class _Fallback(msgspec.Struct):
    model: str


class _Body(Body):
    messages: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    fallbacks: list[_Fallback] | None = None


def _wish(body: _Body) -> Wish:
    raw, choice = bytes(body.messages), body.tool_choice or _Choice()
    form = (body.output_config or _Output()).format or _Format()
    return Wish(
        prompt=bytes(body.system) + raw,
        said=raw,
        models=_models(body),
        max_tokens=body.max_tokens,
        tools=bool(body.tools) and choice.type != "none",
        functions=[Function(each.name, each.input_schema) for each in body.tools or ()],
        demand={"any": "", "tool": choice.name}.get(choice.type),
        images=b'"image"' in raw,
        form=form.type,
        schema=form.schema,
        reasoning_off=(body.thinking or _Thinking()).type == "disabled",
        flaw=_flaw(body, raw),
    )


def _models(body: _Body) -> list[str] | None:
    if not body.fallbacks:
        return None
    return [*([body.model] if body.model else ()), *(each.model for each in body.fallbacks)]


def _flaw(body: _Body, messages: bytes) -> Kind | None:
    if messages in ABSENT:
        return Kind.NO_INPUT
    if body.models and body.fallbacks:
        return Kind.INVALID
    return Kind.MANY_MODELS if len(body.fallbacks or ()) > MAX_MODELS else None


# --- answers -------------------------------------------------------------------------------------


def _usage(ruling: Ruling, output: int, thinking: int) -> dict[str, Any]:
    return {
        "input_tokens": ruling.prompt_tokens,
        "cache_creation_input_tokens": None,
        "cache_read_input_tokens": None,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": thinking} if thinking else None,
        "server_tool_use": None,
    }


def _message(ruling: Ruling, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": generation_id(ruling.at, ruling.number),
        "type": "message",
        "role": "assistant",
        "model": ruling.served_as,
        "provider": ruling.provider,
        "container": None,
        "content": [],
        "stop_reason": None,
        "stop_details": None,
        "stop_sequence": None,
    }
    return found | fields


def _standard(used: dict[str, Any]) -> dict[str, Any]:
    """The usage of a message; the one of its delta has fewer fields."""
    return used | {"cache_creation": None, "inference_geo": None, "service_tier": "standard"}


def _whole(ruling: Ruling, _: Request, told: Answer) -> dict[str, Any]:
    if ruling.kind is Kind.BREAK:
        return _error(ruling, disconnected())  # a message has no place for half an answer
    total, prompt, completion = cost(ruling)
    used = _standard(_usage(ruling, ruling.completion_tokens, ruling.reasoning_tokens))
    used |= {
        "cost": total,
        "is_byok": False,
        "cost_details": {
            "upstream_inference_cost": total,
            "upstream_inference_prompt_cost": prompt,
            "upstream_inference_completions_cost": completion,
        },
    }
    return _message(
        ruling, content=_blocks(told), stop_reason=STOP_REASONS[told.finish], usage=used
    )


def _blocks(told: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if told.reasoning:
        found.append(_thinking(told.thoughts, SIGNATURE))
    if told.content:
        found.append(_text(told.text))
    if told.call:
        found.append(_tool_use(told.call, msgspec.Raw(told.call.arguments.encode())))
    return found


def _thinking(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _tool_use(call: ToolCall, arguments: Any) -> dict[str, Any]:
    found = {"type": "tool_use", "id": f"toolu_{CALL_ID}", "name": call.name, "input": arguments}
    return found | {"caller": {"type": "direct"}}


# --- errors --------------------------------------------------------------------------------------


def _error(ruling: Ruling, error: dict[str, Any]) -> dict[str, Any]:
    """A provider's error inside a 200."""
    identity = generation_id(ruling.at, ruling.number)
    kind = error["metadata"]["error_type"]
    return _enveloped(error, kind) | {"request_id": identity}


def _enveloped(error: dict[str, Any], kind: str) -> dict[str, Any]:
    told = {"type": ERRORS.get(error["code"], "api_error"), "message": error["message"]}
    return {"type": "error", "error": told | {"error_type": kind}}


def _envelope(ruling: Ruling, row: Refusal, error: dict[str, Any]) -> dict[str, Any]:
    """`request_id` is null before the router. The metadata stands beside the error, as captured."""
    found = _enveloped(error, error_type(ruling, row))
    metadata = dict(error.get("metadata", {}))
    metadata.pop("error_type", None)
    if metadata:
        found["metadata"] = metadata
    routed = ruling.kind not in UNROUTED
    return found | {"request_id": generation_id(ruling.at, ruling.number) if routed else None}


# --- streamed ------------------------------------------------------------------------------------


class _Stream:
    """See Stream."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling
        self._index = 0

    def opening(self) -> Iterable[Beat]:
        """See Stream."""
        message = _message(self._ruling, usage=_standard(_usage(self._ruling, 0, 0)))
        return (0, named_event("message_start", {"message": message})), (0, _PING)

    def tokens(self, told: Answer) -> Iterator[Beat]:
        """See Stream."""
        if told.reasoning:
            yield self._start(0, _thinking("", ""))
            for text in told.reasoning:
                yield self._delta(1, type="thinking_delta", thinking=text)
            yield self._delta(0, type="signature_delta", signature=SIGNATURE)
            yield self._stop()
        if told.content:
            yield self._start(0, _text(""))
            for text in told.content:
                yield self._delta(1, type="text_delta", text=text)
            yield self._stop()
        if told.call:
            yield self._start(1, _tool_use(told.call, {}))
            for fragment in fragments(told.call.arguments):
                yield self._delta(1, type="input_json_delta", partial_json=fragment)
            yield self._stop()

    def closing(self, told: Answer) -> Iterable[Beat]:
        """See Stream."""
        ruling = self._ruling
        delta = {"container": None, "stop_details": None, "stop_sequence": None}
        fields = {
            "delta": delta | {"stop_reason": STOP_REASONS[told.finish]},
            "usage": _usage(ruling, ruling.completion_tokens, ruling.reasoning_tokens),
        }
        return (1, named_event("message_delta", fields)), (0, _STOP)

    def fail(self, kind: Kind) -> Iterable[Beat]:
        """See Stream."""
        error = disconnected() if kind is Kind.BREAK else upstream_error(self._ruling)
        found = _enveloped(error, error["metadata"]["error_type"])
        event = named_event("error", {"error": found["error"]})
        before = self.opening() if kind is Kind.ERROR_FIRST else ()
        return *before, (1, event)

    def _start(self, weight: int, block: dict[str, Any]) -> Beat:
        fields = {"index": self._index, "content_block": block}
        return weight, named_event("content_block_start", fields)

    def _delta(self, weight: int, **delta: Any) -> Beat:
        fields = {"index": self._index, "delta": delta}
        return weight, named_event("content_block_delta", fields)

    def _stop(self) -> Beat:
        self._index += 1
        return 0, named_event("content_block_stop", {"index": self._index - 1})


_PING = named_event("ping", {})
_STOP = named_event("message_stop", {})

MESSAGES = Dialect(
    path="/messages",
    read=reader("messages", _Body, _wish),
    whole=_whole,
    failed=lambda ruling: _error(ruling, upstream_error(ruling)),
    envelope=_envelope,
    stream=_Stream,
    texts={Kind.NO_INPUT: "Invalid request: messages is required"},
)
