"""`POST /responses`, OpenAI's newer API: a result of items, each with events of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
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
from keywheel.sim.dialects.dialect import Beat, Dialect, named_event, plain_envelope
from keywheel.sim.kinds import Kind
from keywheel.sim.refusals import REFUSALS
from keywheel.sim.replies import generation_id
from keywheel.sim.requests import ABSENT, Body, Function, Reasoning, Request, Wish, reader
from keywheel.sim.rulings import Ruling

Item = dict[str, Any]

STATUSES = {
    "stop": "completed",
    "tool_calls": "completed",
    "length": "incomplete",
    "error": "failed",
}
INCOMPLETE = {"reason": "max_output_tokens"}
SERVER_ERROR = "server_error"  # the lossy `error.code`; `error_type` says more
NO_INPUT = ABSENT | {b'""'}


class _Tool(msgspec.Struct):
    type: str = "function"
    name: str | None = None
    parameters: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    schema: dict[str, Any] | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Body(Body):
    input: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    max_output_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    text: _Text | None = None
    reasoning: Reasoning | None = None


def _wish(body: _Body) -> Wish:
    raw, form = bytes(body.input), (body.text or _Text()).format or _Format()
    return Wish(
        prompt=bytes(body.instructions) + raw,
        said=raw if raw.startswith(b"[") else b'[{"content":' + raw + b"}]",
        max_tokens=body.max_output_tokens,
        tools=bool(body.tools) and body.tool_choice != "none",
        functions=list(_functions(body.tools or ())),
        demand=_demand(body.tool_choice),
        images=b'"input_image"' in raw,
        form=form.type,
        schema=form.schema,
        reasoning_off=(body.reasoning or Reasoning()).off,
        flaw=Kind.NO_INPUT if raw in NO_INPUT else None,
    )


def _functions(tools: Iterable[_Tool]) -> Iterator[Function]:
    for tool in tools:
        if tool.type == "function" and tool.name:
            yield Function(tool.name, tool.parameters)


def _demand(choice: str | _Tool | None) -> str | None:
    if isinstance(choice, _Tool):
        return choice.name
    return "" if choice == "required" else None


# --- the result ----------------------------------------------------------------------------------


def _token(ruling: Ruling) -> str:
    """What the ids of one answer share."""
    return generation_id(ruling.at, ruling.number).rpartition("-")[2]


def _result(ruling: Ruling, status: str, **fields: Any) -> dict[str, Any]:
    """The result object; what the request could have set stands at its default."""
    found: dict[str, Any] = {
        "id": f"resp_{_token(ruling)}",
        "object": "response",
        "created_at": int(ruling.at),
        "completed_at": int(ruling.at + ruling.seconds) if status == "completed" else None,
        "status": status,
        "error": None,
        "incomplete_details": INCOMPLETE if status == "incomplete" else None,
        "model": ruling.served_as,
        "output": [],
        "instructions": None,
        "max_output_tokens": None,
        "metadata": None,
        "parallel_tool_calls": True,
        "presence_penalty": None,
        "frequency_penalty": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }
    return found | fields


def _usage(ruling: Ruling) -> dict[str, Any]:
    total, prompt, completion = cost(ruling)
    return {
        "input_tokens": ruling.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": ruling.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": ruling.reasoning_tokens},
        "total_tokens": ruling.prompt_tokens + ruling.completion_tokens,
        "cost": total,
        "is_byok": False,
        "cost_details": {
            "upstream_inference_cost": total,
            "upstream_inference_input_cost": prompt,
            "upstream_inference_output_cost": completion,
        },
    }


def _whole(ruling: Ruling, _: Request, told: Answer) -> dict[str, Any]:
    if ruling.kind is not Kind.BREAK:
        return _ended(ruling, told)
    half = replace(told, content=told.content[: told.half], call=None, finish="length")
    return _result(ruling, "failed", output=_items(ruling, half), **_error(disconnected()))


def _ended(ruling: Ruling, told: Answer) -> dict[str, Any]:
    """The result of an answer that came to its end, however it ended."""
    status = STATUSES[told.finish]
    return _result(ruling, status, output=_items(ruling, told), usage=_usage(ruling))


def _items(ruling: Ruling, told: Answer) -> list[Item]:
    found: list[Item] = []
    if told.reasoning:
        found.append(_reasoning(ruling, told.thoughts, "completed"))
    if told.content:
        cut = told.finish == "length"
        found.append(_message(ruling, told.text, "incomplete" if cut else "completed"))
    if told.call:
        arguments = told.call.arguments
        found.append(_function_call(ruling, told.call.name, arguments, "completed"))
    return found


def _reasoning(ruling: Ruling, text: str, status: str) -> Item:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    identity = f"rs_{_token(ruling)}"
    return {
        "type": "reasoning",
        "id": identity,
        "status": status,
        "summary": [],
        "content": content,
    }


def _message(ruling: Ruling, text: str, status: str) -> Item:
    return {
        "type": "message",
        "id": f"msg_{_token(ruling)}",
        "status": status,
        "role": "assistant",
        "content": [_part(text)] if text else [],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _function_call(ruling: Ruling, name: str, arguments: str, status: str) -> Item:
    return {
        "type": "function_call",
        "id": f"fc_{_token(ruling)}",
        "status": status,
        "call_id": CALL_ID,
        "name": name,
        "arguments": arguments,
    }


# --- errors --------------------------------------------------------------------------------------


def _error(error: dict[str, Any]) -> dict[str, Any]:
    """A provider's error as members of a result."""
    return {"error": _coded(error), "error_type": error["metadata"]["error_type"]}


def _coded(error: dict[str, Any]) -> dict[str, Any]:
    return {"code": SERVER_ERROR, "message": error["message"]}


def _failed(ruling: Ruling) -> dict[str, Any]:
    """A failed result: in the short form of the documents, or whole."""
    fields = _error(upstream_error(ruling))
    if ruling.kind is Kind.ERROR_FIRST:
        return _result(ruling, "failed", **fields)
    return {"id": f"resp_{_token(ruling)}", "status": "failed", **fields}


# --- streamed ------------------------------------------------------------------------------------


class _Stream:
    """See Stream."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling
        self._numbers = count()
        self._place = 0  # of the item being written

    def opening(self) -> Iterable[Beat]:
        """See Stream."""
        begun = _result(self._ruling, "in_progress")
        return (
            self._event(0, "response.created", response=begun),
            self._event(0, "response.in_progress", response=begun),
        )

    def tokens(self, told: Answer) -> Iterator[Beat]:
        """See Stream."""
        ruling = self._ruling
        if told.reasoning:
            begun = _reasoning(ruling, "", "in_progress")
            part = {"type": "reasoning_text", "text": ""}
            yield from self._spoken(begun, part, "response.reasoning_text", told.reasoning)
            yield self._done(_reasoning(ruling, told.thoughts, "completed"))
        if told.content:
            *_, message = _items(ruling, told)
            begun = _message(ruling, "", "in_progress")
            yield from self._spoken(begun, _part(""), "response.output_text", told.content)
            yield self._done(message)
        if told.call:
            name, arguments = told.call.name, told.call.arguments
            yield from self._called(name, arguments)
            yield self._done(_function_call(ruling, name, arguments, "completed"))

    def closing(self, told: Answer) -> Iterable[Beat]:
        """See Stream."""
        result = _ended(self._ruling, told)
        return (self._event(1, f"response.{result['status']}", response=result),)

    def fail(self, kind: Kind) -> Iterable[Beat]:
        """See Stream. Each kind has one of the three documented events."""
        if kind is Kind.BREAK:
            failed = _result(self._ruling, "failed", **_error(disconnected()))
            return (self._event(1, "response.failed", response=failed),)
        error = _coded(upstream_error(self._ruling))
        if kind is Kind.ERROR_FIRST:
            return *self.opening(), self._event(1, "response.error", error=error)
        return (self._event(1, "error", **error, param=None),)

    def _spoken(self, item: Item, part: Item, kind: str, texts: list[str]) -> Iterator[Beat]:
        """An item of text, but for its end."""
        at = {"item_id": item["id"], "output_index": self._place, "content_index": 0}
        more: dict[str, Any] = {"logprobs": []} if "logprobs" in part else {}
        yield self._added(0, item)
        yield self._event(0, "response.content_part.added", **at, part=part)
        for text in texts:
            yield self._event(1, f"{kind}.delta", **at, delta=text, **more)
        text = "".join(texts)
        yield self._event(0, f"{kind}.done", **at, text=text, **more)
        yield self._event(0, "response.content_part.done", **at, part=part | {"text": text})

    def _called(self, name: str, arguments: str) -> Iterator[Beat]:
        """A function call, but for its end."""
        item = _function_call(self._ruling, name, "", "in_progress")
        at = {"item_id": item["id"], "output_index": self._place}
        kind = "response.function_call_arguments"
        yield self._added(1, item)
        for fragment in fragments(arguments):
            yield self._event(1, f"{kind}.delta", **at, delta=fragment)
        yield self._event(0, f"{kind}.done", **at, name=name, arguments=arguments)

    def _added(self, weight: int, item: Item) -> Beat:
        kind = "response.output_item.added"
        return self._event(weight, kind, output_index=self._place, item=item)

    def _done(self, item: Item) -> Beat:
        self._place += 1
        place = self._place - 1
        return self._event(0, "response.output_item.done", output_index=place, item=item)

    def _event(self, weight: int, kind: str, **fields: Any) -> Beat:
        numbered = {"sequence_number": next(self._numbers), **fields}
        return weight, named_event(kind, numbered)


RESPONSES = Dialect(
    path="/responses",
    read=reader("responses", _Body, _wish),
    whole=_whole,
    failed=_failed,
    envelope=plain_envelope,  # as the official clients expect of every status but 200
    stream=_Stream,
    texts={Kind.NO_INPUT: REFUSALS[Kind.INVALID].text},
    # Too long a prompt is a successful result here (documented): incomplete, and empty.
    softened=frozenset({Kind.CONTEXT}),
)
