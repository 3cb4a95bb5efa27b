"""The dialects of the upstream: one row each, saying where an event of a stream holds what matters.

A reading never fails. What cannot be understood says nothing: it is no content, no error and no end.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

# Ten times the largest context window on offer: a larger figure is the sender's mistake.
MOST_TOKENS = 100_000_000
MOST_COST = 10_000.0  # US dollars for one answer, in the same sense

_T = TypeVar("_T")


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens and US dollars as the upstream reports them; None where it is silent."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    reasoning: int = 0
    cost: float = 0.0

    def after(self, earlier: "Usage | None") -> "Usage":
        """This report, with token figures it leaves out taken from an earlier one."""
        if earlier is None:
            return self
        return Usage(
            earlier.tokens_in if self.tokens_in is None else self.tokens_in,
            earlier.tokens_out if self.tokens_out is None else self.tokens_out,
            self.reasoning,
            self.cost,
        )


class Reading(msgspec.Struct, gc=False):
    """What one event says. `text` (a refusal and a tool call included) and `reasoning` count when truthy."""

    kind: str = ""
    text: Any = None
    reasoning: Any = None
    finish: str | None = None
    error: bool = False
    usage: Usage | None = None
    id: Any = None
    model: Any = None
    created: Any = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API of the upstream.

    `ends` and `errors`: kinds of event that end the stream, well or badly. `budget`: the finish that means
    "out of tokens". `refusals`: finishes that excuse an answer without content. `texts`: members whose
    string is output and nothing else; `counter`: the member that grows from event to event. `mends`: a
    missing `[DONE]` may be added.
    """

    name: str
    path: str
    read: Callable[[bytes], Reading]
    ends: frozenset[str] = frozenset({"[DONE]"})
    errors: frozenset[str] = frozenset({"error"})
    budget: str = "length"
    refusals: frozenset[str] = frozenset({"content_filter"})
    texts: tuple[bytes, ...] = ()
    counter: bytes = b'"sequence_number":'
    mends: bool = False

    def hear(self, payload: bytes, name: str = "") -> Reading:
        """Read the data of one event; `name` is what its `event` field says."""
        if payload.strip() == b"[DONE]":
            return Reading("[DONE]")
        reading = self.read(payload)
        if not reading.kind:
            reading.kind = name
        return reading


def read_usage(body: bytes) -> Usage | None:
    """What a whole answer, in any dialect, says about its usage."""
    return _usage(_parse(body, _BODY).usage)


# What an event looks like to us. A member that may hold anything is `Any`, so that an odd value in it
# does not hide the rest of the event.


class _Details(msgspec.Struct, gc=False):
    reasoning_tokens: Any = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cost: Any = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    images: Any = None
    audio: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    text: Any = None
    finish_reason: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    created: Any = None
    choices: list[_Choice | None] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Message(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    usage: _Usage | None = None


class _Block(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None
    thinking: Any = None


class _BlockDelta(msgspec.Struct, gc=False):
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    stop_reason: Any = None


class _MessagesEvent(msgspec.Struct, gc=False):
    type: Any = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _BlockDelta | None = None
    usage: _Usage | None = None
    error: Any = None


class _Part(msgspec.Struct, gc=False):
    text: Any = None
    refusal: Any = None


class _Item(msgspec.Struct, gc=False):
    type: Any = None
    content: list[_Part] | None = None


class _Body(msgspec.Struct, gc=False):
    usage: _Usage | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: Any = None


class _Response(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    created_at: Any = None
    error: Any = None
    output: list[_Item] | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None


class _ResponsesEvent(msgspec.Struct, gc=False):
    type: Any = None
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_MESSAGES_EVENT = msgspec.json.Decoder(_MessagesEvent)
_RESPONSES_EVENT = msgspec.json.Decoder(_ResponsesEvent)
_BODY = msgspec.json.Decoder(_Body)
_UNREADABLE = (ValueError, RecursionError)  # bad UTF-8 and bad JSON are both a ValueError


def _parse(payload: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        return decoder.decode(payload)
    except _UNREADABLE:
        return _parse_leniently(payload, decoder.type)


def _parse_leniently(payload: bytes, shape: type[_T]) -> _T:
    """Read what our decoder refuses and a client's may not: bad UTF-8, half surrogates, odd types."""
    try:
        said = json.loads(payload.decode(errors="replace"), strict=False)
    except _UNREADABLE:
        return shape()
    with suppress(*_UNREADABLE):
        return msgspec.convert(said, shape)
    return msgspec.convert(_plain(said), shape)


def _plain(said: object) -> dict[str, object]:
    """The members that may hold anything, of an event whose others are not as they should be."""
    if not isinstance(said, dict):
        return {}
    members = cast("dict[str, object]", said)
    return {name: members.get(name) for name in ("type", "id", "model", "created", "error")}


def _read_chunk(payload: bytes) -> Reading:
    """Chat and legacy completions."""
    chunk = _parse(payload, _CHUNK)
    reading = Reading(
        error=bool(chunk.error),
        usage=_usage(chunk.usage),
        id=chunk.id,
        model=chunk.model,
        created=chunk.created,
    )
    for choice in chunk.choices or ():
        if choice is not None:
            _read_choice(choice, reading)
    return reading


def _read_choice(choice: _Choice, reading: Reading) -> None:
    reading.finish = _word(choice.finish_reason) or reading.finish
    reading.error = reading.error or bool(choice.error)
    reading.text = reading.text or choice.text
    delta = choice.delta
    if delta is None:
        return
    reading.text = reading.text or delta.content or _other_output(delta)
    reading.reasoning = reading.reasoning or delta.reasoning or delta.reasoning_content


def _other_output(delta: _Delta) -> Any:
    return delta.tool_calls or delta.refusal or delta.function_call or delta.images or delta.audio


def _read_messages(payload: bytes) -> Reading:
    event = _parse(payload, _MESSAGES_EVENT)
    reading = Reading(_word(event.type) or "", error=bool(event.error), usage=_usage(event.usage))
    if event.message is not None:
        reading.id, reading.model = event.message.id, event.message.model
        reading.usage = _usage(event.message.usage)
    if event.content_block is not None:
        _read_block(event.content_block, reading)
    if event.delta is not None:
        reading.text = event.delta.text or event.delta.partial_json
        reading.reasoning = event.delta.thinking
        reading.finish = _word(event.delta.stop_reason)
    return reading


def _read_block(block: _Block, reading: Reading) -> None:
    """A block begins: a tool call says something by that alone, text and thinking by their deltas."""
    if block.type in ("text", "thinking"):
        reading.text, reading.reasoning = block.text, block.thinking
    elif block.type == "redacted_thinking":
        reading.reasoning = block.type
    else:
        reading.text = block.type


def _read_responses(payload: bytes) -> Reading:
    event = _parse(payload, _RESPONSES_EVENT)
    kind = _word(event.type) or ""
    reading = Reading(kind, error=bool(event.error))
    if "reasoning" in kind:
        reading.reasoning = event.delta
    else:
        reading.text = event.delta or _shows(event.item)
    if event.response is not None:
        _read_response(event.response, reading)
    return reading


def _read_response(response: _Response, reading: Reading) -> None:
    reading.id, reading.model, reading.created = response.id, response.model, response.created_at
    reading.error = reading.error or bool(response.error)
    reading.usage = _usage(response.usage)
    reading.text = _first(_shows(item) for item in response.output or ())
    if reading.kind == "response.completed":
        reading.finish = "completed"
    elif reading.kind == "response.incomplete":
        details = response.incomplete_details
        reading.finish = (details and _word(details.reason)) or "incomplete"


def _shows(item: _Item | None) -> Any:
    """The output of an item: the name of a call, the text of a message. Reasoning comes in deltas."""
    if item is None:
        return None
    kind = _word(item.type) or ""
    if kind.endswith("_call"):
        return kind
    parts = item.content or () if kind == "message" else ()
    return _first(part.text or part.refusal for part in parts)


def _first(said: Iterable[Any]) -> Any:
    return next((what for what in said if what), None)


def _usage(said: _Usage | None) -> Usage | None:
    """The figures of a report; None when it names none, or one that cannot be."""
    if said is None:
        return None
    taken = said.input_tokens if said.prompt_tokens is None else said.prompt_tokens
    given = said.output_tokens if said.completion_tokens is None else said.completion_tokens
    if (taken is None and given is None) or not (_counts(taken) and _counts(given)):
        return None
    details = said.completion_tokens_details or said.output_tokens_details
    reasoning = details and details.reasoning_tokens
    return Usage(
        taken,
        given,
        reasoning if type(reasoning) is int and _counts(reasoning) else 0,
        float(said.cost)
        if type(said.cost) in (int, float) and 0 <= said.cost <= MOST_COST
        else 0.0,
    )


def _counts(figure: Any) -> bool:
    return figure is None or (type(figure) is int and 0 <= figure <= MOST_TOKENS)


def _word(said: Any) -> str | None:
    return said if isinstance(said, str) and said else None


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "chat",
            "/chat/completions",
            _read_chunk,
            texts=(b'"content":', b'"reasoning":', b'"reasoning_content":', b'"text":'),
            mends=True,
        ),
        Dialect("completions", "/completions", _read_chunk, texts=(b'"text":',), mends=True),
        Dialect(
            "responses",
            "/responses",
            _read_responses,
            ends=frozenset({"response.completed", "response.incomplete", "[DONE]"}),
            errors=frozenset({"error", "response.error", "response.failed"}),
            budget="max_output_tokens",
            texts=(b'"delta":',),
        ),
        Dialect(
            "messages",
            "/messages",
            _read_messages,
            ends=frozenset({"message_stop", "[DONE]"}),
            budget="max_tokens",
            refusals=frozenset({"refusal"}),
            texts=(b'"text":', b'"thinking":', b'"partial_json":'),
        ),
        Dialect("embeddings", "/embeddings", _read_chunk),
    )
}
