"""`POST /chat/completions`.

Framing as recorded: LF only, `role` in every delta, the finish reason twice, usage before `[DONE]`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from keywheel.sim.composing import (
    CALL_ID,
    Answer,
    cost,
    disconnected,
    disconnected_choice,
    fragments,
    upstream_error,
)
from keywheel.sim.dialects.dialect import DONE, Beat, Dialect, plain_envelope
from keywheel.sim.kinds import Kind
from keywheel.sim.replies import encode, generation_id
from keywheel.sim.requests import (
    ABSENT,
    Body,
    Function,
    Reasoning,
    Request,
    ToolCall,
    Wish,
    reader,
)
from keywheel.sim.rulings import Ruling

NATIVE = {"error": "MALFORMED_FUNCTION_CALL"}  # native_finish_reason where it differs


class Tool(msgspec.Struct):
    """A tool as chat completions describe it."""

    function: Function | None = None


class Schema(msgspec.Struct):
    """The named schema of a response format."""

    schema: dict[str, Any] | None = None


class Format(msgspec.Struct):
    """The `response_format` of chat and legacy completions."""

    type: str = "text"
    json_schema: Schema | None = None


class ChatBody(Body):
    """A chat request."""

    messages: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None
    response_format: Format | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str | None = None


def _wish(body: ChatBody) -> Wish:
    raw, form = bytes(body.messages), body.response_format or Format()
    return Wish(
        prompt=raw,
        said=raw,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        tools=bool(body.tools) and body.tool_choice != "none",
        functions=[each.function for each in body.tools or () if each.function],
        demand=_demand(body.tool_choice),
        images=b'"image_url"' in raw,
        form=form.type,
        schema=form.json_schema.schema if form.json_schema else None,
        reasoning_off=body.reasoning_effort == "none" or (body.reasoning or Reasoning()).off,
        flaw=Kind.NO_INPUT if raw in ABSENT else None,
    )


def _demand(choice: str | Tool | None) -> str | None:
    if isinstance(choice, Tool):
        return choice.function.name if choice.function else None
    return "" if choice == "required" else None


# --- not streamed --------------------------------------------------------------------------------


def usage(ruling: Ruling) -> dict[str, Any]:
    """The usage block of chat and legacy completions."""
    total, prompt, completion = cost(ruling)
    return {
        "prompt_tokens": ruling.prompt_tokens,
        "completion_tokens": ruling.completion_tokens,
        "total_tokens": ruling.prompt_tokens + ruling.completion_tokens,
        "cost": total,
        "is_byok": False,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
            "video_tokens": 0,
        },
        "cost_details": {
            "upstream_inference_cost": total,
            "upstream_inference_prompt_cost": prompt,
            "upstream_inference_completions_cost": completion,
        },
        "completion_tokens_details": {
            "reasoning_tokens": ruling.reasoning_tokens,
            "image_tokens": 0,
            "audio_tokens": 0,
        },
    }


def identity(ruling: Ruling, kind: str) -> dict[str, Any]:
    """What an answer and all its chunks begin with."""
    return {
        "id": generation_id(ruling.at, ruling.number),
        "object": kind,
        "created": int(ruling.at),
        "model": ruling.served_as,
        "provider": ruling.provider,
    }


def reasons(told: Answer) -> dict[str, str]:
    """Why an answer ended, in two vocabularies."""
    native = NATIVE.get(told.finish, told.finish)
    return {"finish_reason": told.finish, "native_finish_reason": native}


def failed(ruling: Ruling) -> dict[str, Any]:
    """The body of a 200 that is an error."""
    return {"error": upstream_error(ruling), "id": generation_id(ruling.at, ruling.number)}


def _whole(ruling: Ruling, _: Request, told: Answer) -> dict[str, Any]:
    found = identity(ruling, "chat.completion")
    found |= {"system_fingerprint": None, "service_tier": None}
    if ruling.kind is Kind.BREAK:
        return found | {"choices": [_broken_choice(told)]}
    choice = {"index": 0, "logprobs": None, **reasons(told), "message": _message(told)}
    return found | {"choices": [choice], "usage": usage(ruling)}


def _broken_choice(told: Answer) -> dict[str, Any]:
    return {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(told.content[: told.half])},
        "finish_reason": "error",
        "error": disconnected_choice(),
    }


def _message(told: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if told.call else told.text,
        "refusal": None,
        "reasoning": told.thoughts or None,
    }
    if told.reasoning:
        message["reasoning_details"] = [_reasoning_detail(told.thoughts)]
    if told.call:
        message["tool_calls"] = [_tool_call(told.call, told.call.arguments)]
    return message


def _reasoning_detail(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}


def _tool_call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"index": 0, "id": CALL_ID, "type": "function", "function": function}


# --- streamed ------------------------------------------------------------------------------------

_OPEN = b',"finish_reason":null,"native_finish_reason":null}]}\n\n'
_OPEN_TOKEN = b',"role":"assistant"}' + _OPEN


class _Stream:
    """See Stream. What the events share is encoded once."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling
        self._head = b"data: " + encode(identity(ruling, "chat.completion.chunk"))[:-1]
        self._choice = self._head + b',"choices":[{"index":0,"delta":'
        self._token = self._choice + b'{"content":'

    def opening(self) -> Iterable[Beat]:
        """See Stream."""
        return ()

    def tokens(self, told: Answer) -> Iterator[Beat]:
        """See Stream."""
        for text in told.reasoning:
            detail = _reasoning_detail(text)
            yield self._delta(
                content="", role="assistant", reasoning=text, reasoning_details=[detail]
            )
        for text in told.content:
            yield 1, self._token + encode(text) + _OPEN_TOKEN
        if told.call:
            yield from self._call(told.call)
        if not (told.reasoning or told.content or told.call):
            yield 1, self._token + encode("") + _OPEN_TOKEN

    def closing(self, told: Answer) -> Iterable[Beat]:
        """See Stream."""
        last = {"content": "", "role": "assistant"}
        end = b"," + encode(reasons(told))[1:]
        finish = last | {"reasoning": None} if told.reasoning else last
        used = b'],"usage":' + encode(usage(self._ruling)) + b"}\n\n"
        return (
            (1, self._choice + encode(finish) + end + b"]}\n\n"),
            (1, self._choice + encode(last) + end + used),
            (0, DONE),
        )

    def fail(self, kind: Kind) -> Iterable[Beat]:
        """See Stream. The first and only event has no choices, or one that failed."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        if kind is Kind.BREAK:
            return (self._bare(choices=[choice], error=disconnected()),)
        error = upstream_error(self._ruling)
        if kind is Kind.ERROR_FIRST:
            return self._bare(error=error, choices=[choice]), (0, DONE)
        return (self._bare(choices=[], error=error),)

    def _call(self, call: ToolCall) -> Iterator[Beat]:
        yield self._delta(content=None, role="assistant", tool_calls=[_tool_call(call, "")])
        for fragment in fragments(call.arguments):
            part = {"index": 0, "function": {"arguments": fragment}}
            yield self._delta(content=None, role="assistant", tool_calls=[part])

    def _bare(self, **fields: Any) -> Beat:
        """An event with fields of its own instead of a delta."""
        return 1, self._head + b"," + encode(fields)[1:] + b"\n\n"

    def _delta(self, **delta: Any) -> Beat:
        return 1, self._choice + encode(delta) + _OPEN


CHAT = Dialect(
    path="/chat/completions",
    read=reader("chat", ChatBody, _wish),
    whole=_whole,
    failed=failed,
    envelope=plain_envelope,
    stream=_Stream,
    texts={},
)
