"""Answers with status 200: what they say, as one body or as a stream, whole or broken.

Framing as recorded: LF only, `role` in every delta, the finish reason twice, usage before `[DONE]`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from math import inf
from typing import Any

from keywheel.sim.kinds import Kind
from keywheel.sim.replies import (
    Ending,
    Headers,
    Piece,
    Reply,
    encode,
    generation_id,
    headers,
)
from keywheel.sim.requests import Request, ToolCall
from keywheel.sim.rulings import Ruling

FILLER = (
    "It",
    "goes",
    "on,",
    "word",
    "by",
    "word,",
    "for",
    "as",
    "long",
    "as",
    "it",
    "was",
    "told.",
)
THOUGHTS = ("The", "user", "wants", "an", "answer;", "let", "me", "find", "one.")
COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
NO_CACHE: Headers = [(b"cache-control", b"no-cache")]

BROKEN = frozenset({Kind.BREAK, Kind.TRUNCATED, Kind.STALL_AFTER, Kind.RESET_AFTER})
ENDINGS = {
    Kind.SILENT: Ending.HANGING,
    Kind.STALL_AFTER: Ending.HANGING,
    Kind.RESET: Ending.DROPPED,
    Kind.RESET_AFTER: Ending.DROPPED,
}
NATIVE = {"error": "MALFORMED_FUNCTION_CALL"}  # native_finish_reason where it differs


@dataclass(frozen=True, slots=True)
class Pace:
    """When streams send comments (seconds): the first after `after`, then every `every`."""

    after: float = 5.0
    every: float = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says, in tokens."""

    reasoning: list[str]
    content: list[str]
    call: ToolCall | None
    finish: str

    @property
    def native(self) -> str:
        """The provider's own finish reason."""
        return NATIVE.get(self.finish, self.finish)


def answer(ruling: Ruling, request: Request, pace: Pace) -> Reply:
    """The reply of an attempt whose status is 200."""
    if ruling.kind in {Kind.SILENT, Kind.RESET}:
        return Reply(200, _headers(ruling), (), ruling.seconds, ENDINGS[ruling.kind])
    told = compose(ruling, request)
    if ruling.stream:
        pieces = _paced(ruling, pace, _events(ruling, told))
        ending = ENDINGS.get(ruling.kind, Ending.CLEAN)
        return Reply(200, _headers(ruling), pieces, 0.0, ending)
    return _plain(ruling, told)


def compose(ruling: Ruling, request: Request) -> Answer:
    """What the model says: the same for the same ruling, as many words as the ruling has tokens."""
    thoughts = list(islice(_spaced(cycle(THOUGHTS)), ruling.reasoning_tokens))
    silent = ruling.completion_tokens == 0
    if request.call and not silent:
        return Answer(thoughts, [], request.call, "tool_calls")
    if request.json and ruling.model and ruling.model.json and not silent:
        text = request.json
        return Answer(thoughts, [text[at : at + 4] for at in range(0, len(text), 4)], None, "stop")
    words = ["Simulated", "answer", "from", f"{ruling.model_name}."]
    count = ruling.completion_tokens - ruling.reasoning_tokens
    return Answer(
        thoughts, list(islice(_spaced(_then(words, cycle(FILLER))), count)), None, ruling.finish
    )


def usage(ruling: Ruling) -> dict[str, Any]:
    """The usage block. Free models cost 0."""
    completion_cost = 0.0
    if ruling.model:
        completion_cost = ruling.model.completion_price * ruling.completion_tokens
    return {
        "prompt_tokens": ruling.prompt_tokens,
        "completion_tokens": ruling.completion_tokens,
        "total_tokens": ruling.prompt_tokens + ruling.completion_tokens,
        "cost": ruling.cost or 0,
        "is_byok": False,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
            "video_tokens": 0,
        },
        "cost_details": {
            "upstream_inference_cost": ruling.cost or 0,
            "upstream_inference_prompt_cost": (ruling.cost - completion_cost) or 0,
            "upstream_inference_completions_cost": completion_cost or 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": ruling.reasoning_tokens,
            "image_tokens": 0,
            "audio_tokens": 0,
        },
    }


# --- not streamed --------------------------------------------------------------------------------


def _plain(ruling: Ruling, told: Answer) -> Reply:
    identity = generation_id(ruling.at, ruling.number)
    took = ruling.seconds
    if ruling.tokens_per_second:
        took += ruling.completion_tokens / ruling.tokens_per_second
    if ruling.kind in {Kind.ERROR_IN_200, Kind.ERROR_FIRST}:
        data = encode({"error": _upstream_error(ruling), "id": identity})
    else:
        data = encode(_completion(ruling, told, identity))
    if ruling.kind in BROKEN - {Kind.BREAK}:
        data = data[: len(data) // 2]
    ending = ENDINGS.get(ruling.kind, Ending.CLEAN)
    return Reply(200, _headers(ruling), ((0.0, data),), took, ending)


def _completion(ruling: Ruling, told: Answer, identity: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": identity,
        "object": "chat.completion",
        "created": int(ruling.at),
        "model": ruling.served_as,
        "provider": ruling.provider,
        "system_fingerprint": None,
        "service_tier": None,
    }
    if ruling.kind is Kind.BREAK:
        return found | {"choices": [_broken_choice(told)]}
    choice = {
        "index": 0,
        "logprobs": None,
        "finish_reason": told.finish,
        "native_finish_reason": told.native,
        "message": _message(told),
    }
    return found | {"choices": [choice], "usage": usage(ruling)}


def _broken_choice(told: Answer) -> dict[str, Any]:
    return {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(told.content[: _half(told)])},
        "finish_reason": "error",
        "error": {
            "code": 502,
            "message": "Provider disconnected mid-stream",
            "metadata": {"error_type": "provider_unavailable"},
        },
    }


def _message(told: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if told.call else "".join(told.content),
        "refusal": None,
        "reasoning": "".join(told.reasoning) or None,
    }
    if told.reasoning:
        message["reasoning_details"] = [_reasoning_detail("".join(told.reasoning))]
    if told.call:
        message["tool_calls"] = [_tool_call(told.call, told.call.arguments)]
    return message


# --- streamed ------------------------------------------------------------------------------------


def _events(ruling: Ruling, told: Answer) -> Iterator[bytes]:
    """The events of a stream, one a token."""
    event = _Event(ruling)
    if ruling.kind is Kind.ERROR_IN_200:
        yield event.bare(choices=[], error=_upstream_error(ruling))
        return
    if ruling.kind is Kind.ERROR_FIRST:
        failed = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        yield event.bare(error=_upstream_error(ruling), choices=[failed])
        yield DONE
        return
    deltas = _deltas(event, told)
    if ruling.kind in BROKEN:
        yield from islice(deltas, len(told.reasoning) + _half(told))
    if ruling.kind is Kind.BREAK:
        failed = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        yield event.bare(choices=[failed], error=_disconnected())
    if ruling.kind in BROKEN:
        return
    yield from deltas
    yield event.finish(told, {"reasoning": None} if told.reasoning else {})
    yield event.last(told, usage(ruling))
    if ruling.kind is not Kind.NO_DONE:
        yield DONE


def _deltas(event: "_Event", told: Answer) -> Iterator[bytes]:
    for text in told.reasoning:
        yield event.delta(
            content="",
            role="assistant",
            reasoning=text,
            reasoning_details=[_reasoning_detail(text)],
        )
    for text in told.content:
        yield event.token(text)
    if told.call:
        yield event.delta(content=None, role="assistant", tool_calls=[_tool_call(told.call, "")])
        for fragment in _fragments(told.call.arguments):
            part = {"index": 0, "function": {"arguments": fragment}}
            yield event.delta(content=None, role="assistant", tool_calls=[part])
    if not (told.reasoning or told.content or told.call):
        yield event.token("")


class _Event:
    """Writes the events of one stream; what they share is encoded once."""

    def __init__(self, ruling: Ruling) -> None:
        identity = {
            "id": generation_id(ruling.at, ruling.number),
            "object": "chat.completion.chunk",
            "created": int(ruling.at),
            "model": ruling.served_as,
            "provider": ruling.provider,
        }
        self._head = b"data: " + encode(identity)[:-1]
        self._choice = self._head + b',"choices":[{"index":0,"delta":'
        self._token = self._choice + b'{"content":'

    def bare(self, **fields: Any) -> bytes:
        """An event with fields of its own instead of a delta."""
        return self._head + b"," + encode(fields)[1:] + b"\n\n"

    def token(self, text: str) -> bytes:
        """An event with one piece of content."""
        return self._token + encode(text) + _OPEN_TOKEN

    def delta(self, **delta: Any) -> bytes:
        """An event with any delta."""
        return self._choice + encode(delta) + _OPEN

    def finish(self, told: Answer, more: dict[str, Any]) -> bytes:
        """The event that ends the answer."""
        delta = {"content": "", "role": "assistant", **more}
        return self._choice + encode(delta) + _closing(told) + b"]}\n\n"

    def last(self, told: Answer, used: dict[str, Any]) -> bytes:
        """The event with the usage, which repeats the finish."""
        delta = {"content": "", "role": "assistant"}
        tail = b'],"usage":' + encode(used) + b"}\n\n"
        return self._choice + encode(delta) + _closing(told) + tail


_OPEN = b',"finish_reason":null,"native_finish_reason":null}]}\n\n'
_OPEN_TOKEN = b',"role":"assistant"}' + _OPEN


def _closing(told: Answer) -> bytes:
    reasons = {"finish_reason": told.finish, "native_finish_reason": told.native}
    return b"," + encode(reasons)[1:]


def _paced(ruling: Ruling, pace: Pace, events: Iterator[bytes]) -> Iterator[Piece]:
    """Give every event its time: comments while the first is awaited, then one event a token."""
    waited = 0.0
    while max(pace.after, waited + pace.every) < ruling.seconds < inf:
        beat = pace.after if waited == 0 else pace.every
        waited += beat
        yield beat, COMMENT
    wait = ruling.seconds - waited
    step = 1 / ruling.tokens_per_second if ruling.tokens_per_second else 0.0
    for event in events:
        yield (0.0 if event is DONE else wait), event
        wait = step


# --- small parts ---------------------------------------------------------------------------------


def _headers(ruling: Ruling) -> Headers:
    extra = [(b"x-generation-id", generation_id(ruling.at, ruling.number).encode())]
    if not ruling.stream:
        return headers(b"application/json", ruling.number, extra)
    return headers(b"text/event-stream", ruling.number, [*NO_CACHE, *extra])


def _upstream_error(ruling: Ruling) -> dict[str, Any]:
    text = (
        "Service temporarily overloaded"
        if ruling.stream
        else "ResourceExhausted: Worker local total request limit reached (16/16)"
    )
    return {
        "message": f"Upstream error from {ruling.provider}: {text}",
        "code": 502,
        "metadata": {"error_type": "provider_unavailable"},
    }


def _disconnected() -> dict[str, Any]:
    return {
        "code": 502,
        "message": "Provider disconnected unexpectedly",
        "metadata": {"error_type": "provider_unavailable"},
    }


def _reasoning_detail(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}


def _tool_call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"index": 0, "id": "call_0a1b2c3d", "type": "function", "function": function}


def _fragments(text: str, size: int = 6) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def _half(told: Answer) -> int:
    """How much of the content a broken answer has: half, but not nothing."""
    return max(1, len(told.content) // 2)


def _then(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest


def _spaced(words: Iterator[str]) -> Iterator[str]:
    yield next(words)
    for word in words:
        yield f" {word}"
