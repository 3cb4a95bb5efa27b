"""Whether a complete 200 is the answer that was asked for: one row per dialect says where its content is.

Text, a refusal and a call of a tool are content; reasoning alone is none. An answer that says itself why it is
empty (filtered, paused, not ready) is good: the client must see that.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

Object: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a dialect keeps the parts of an answer, and what counts as content or reasoning in a part.

    `finishes`: why the answer ended. `budget`: the finish that means "out of tokens". `excuses`: the finishes
    that explain an answer without content.
    """

    parts: str
    content: Callable[[Object], object]
    reasoning: Callable[[Object], object]
    finishes: Callable[[Object], Iterable[object]]
    budget: str = "length"
    excuses: frozenset[str] = frozenset({"content_filter"})


def flaw_in(value: object, dialect: str, headers: Mapping[str, str]) -> str | None:
    """What is wrong with a decoded answer without an error object, as the name of a row; None for a good one."""
    shape = SHAPES.get(dialect, SHAPES["chat"])
    answer = _object(value)
    if is_failed(answer):
        return "finish-error"
    if not _is_plain_json(headers) or not isinstance(answer.get(shape.parts), list):
        return "malformed"
    parts = _objects(answer.get(shape.parts))
    finishes = {finish for finish in shape.finishes(answer) if isinstance(finish, str)}
    if finishes & shape.excuses or any(shape.content(part) for part in parts):
        return None
    if shape.budget not in finishes:
        return "empty"
    if _is_reasoning(answer, parts, shape):
        return "budget-spent-on-reasoning"
    # On this API a prompt that is too long is no error but a success that ran out of tokens.
    return "context-too-long" if dialect == "responses" and not parts else "empty"


def is_failed(value: object) -> bool:
    """Whether an answer or event says that it ended badly, with or without saying why."""
    answer = _object(value)
    inner = _object(answer.get("response")) or answer
    if inner.get("status") == "failed" or answer.get("type") == "response.failed":
        return True
    return any(choice.get("finish_reason") == "error" for choice in _objects(inner.get("choices")))


def is_regular(value: object) -> bool:
    """Whether an event looks like part of an answer."""
    event = _object(value)
    return isinstance(event.get("choices"), list) or isinstance(event.get("type"), str)


def _is_plain_json(headers: Mapping[str, str]) -> bool:
    """Nothing else was asked for: JSON, not compressed. A missing type is forgiven."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    coded = headers.get("content-encoding", "").strip().lower()
    is_json = kind in ("", "application/json") or kind.endswith("+json")
    return is_json and coded in ("", "identity")


def _is_reasoning(answer: Object, parts: Iterable[Object], shape: Shape) -> bool:
    """Whether all or nearly all of the output was reasoning, by the answer itself or by its usage."""
    if any(shape.reasoning(part) for part in parts):
        return True
    usage = _object(answer.get("usage"))
    given = usage.get("completion_tokens") or usage.get("output_tokens")
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    thought = _object(details).get("reasoning_tokens")
    if not (isinstance(given, int) and isinstance(thought, int)):
        return False
    return thought * 10 >= given * 9 > 0  # nearly all: a few tokens of frame are not an answer


# --- what counts, by dialect -------------------------------------------------------------------------


def _of_choice(part: Object) -> object:
    message = _object(part.get("message"))
    members = ("content", "tool_calls", "refusal", "function_call", "images", "audio")
    return part.get("text") or next((said for name in members if (said := message.get(name))), None)


def _thought_of_choice(part: Object) -> object:
    message = _object(part.get("message"))
    return message.get("reasoning") or message.get("reasoning_content") or part.get("reasoning")


def _of_item(part: Object) -> object:
    kind = part.get("type")
    if isinstance(kind, str) and kind.endswith("_call"):
        return kind
    said = _objects(part.get("content")) if kind == "message" else []
    return any(piece.get("text") or piece.get("refusal") for piece in said)


def _of_block(part: Object) -> object:
    kind = part.get("type")
    return part.get("text") if kind == "text" else kind not in ("thinking", "redacted_thinking")


def _ends_of_choices(answer: Object) -> Iterable[object]:
    return (choice.get("finish_reason") for choice in _objects(answer.get("choices")))


def _ends_of_response(answer: Object) -> Iterable[object]:
    return (answer.get("status"), _object(answer.get("incomplete_details")).get("reason"))


def _is_type(*kinds: str) -> Callable[[Object], object]:
    return lambda part: part.get("type") in kinds


SHAPES: Mapping[str, Shape] = {
    "chat": Shape("choices", _of_choice, _thought_of_choice, _ends_of_choices),
    "completions": Shape("choices", _of_choice, _thought_of_choice, _ends_of_choices),
    "responses": Shape(
        "output",
        _of_item,
        _is_type("reasoning"),
        _ends_of_response,
        budget="max_output_tokens",
        excuses=frozenset({"content_filter", "queued", "in_progress", "cancelled"}),
    ),
    "messages": Shape(
        "content",
        _of_block,
        _is_type("thinking", "redacted_thinking"),
        lambda answer: (answer.get("stop_reason"),),
        budget="max_tokens",
        excuses=frozenset({"refusal", "pause_turn"}),
    ),
    "embeddings": Shape(
        "data",
        lambda part: part.get("embedding"),
        lambda _part: None,
        lambda _answer: (),
    ),
}


def _object(value: object) -> Object:
    return cast("Object", value) if isinstance(value, dict) else {}


def _objects(value: object) -> list[Object]:
    """The objects in a list; what is something else says nothing."""
    listed = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Object", part) for part in listed if isinstance(part, dict)]
