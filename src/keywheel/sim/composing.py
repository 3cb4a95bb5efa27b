"""What a model says, whatever the dialect that says it: words, counts, prices, errors of the provider."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

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
CALL_ID = "call_0a1b2c3d"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says, in tokens. `finish` in the words of chat completions."""

    reasoning: list[str]
    content: list[str]
    call: ToolCall | None
    finish: str

    @property
    def text(self) -> str:
        """All of the content."""
        return "".join(self.content)

    @property
    def thoughts(self) -> str:
        """All of the reasoning."""
        return "".join(self.reasoning)

    @property
    def half(self) -> int:
        """How much of the content a broken answer has: half, but not nothing."""
        return max(1, len(self.content) // 2)


class Cost(NamedTuple):
    """The price of an answer in USD, and its two parts."""

    total: float
    prompt: float
    completion: float


def compose(ruling: Ruling, request: Request) -> Answer:
    """What the model says: the same for the same ruling, as many words as the ruling has tokens."""
    thoughts = list(islice(_spaced(cycle(THOUGHTS)), ruling.reasoning_tokens))
    silent = ruling.completion_tokens == 0
    if request.call and not silent:
        return Answer(thoughts, [], request.call, "tool_calls")
    if request.json and ruling.model and ruling.model.json and not silent:
        return Answer(thoughts, list(fragments(request.json, 4)), None, "stop")
    words = ["Simulated", "answer", "from", f"{ruling.model_name}."]
    count = ruling.completion_tokens - ruling.reasoning_tokens
    return Answer(
        thoughts, list(islice(_spaced(_then(words, cycle(FILLER))), count)), None, ruling.finish
    )


def cost(ruling: Ruling) -> Cost:
    """What the answer costs. Nothing on free models."""
    completion = 0.0
    if ruling.model:
        completion = ruling.model.completion_price * ruling.completion_tokens
    return Cost(ruling.cost or 0, (ruling.cost - completion) or 0, completion or 0)


def upstream_error(ruling: Ruling) -> dict[str, Any]:
    """The provider's error inside a 200, before anything was said."""
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


def disconnected() -> dict[str, Any]:
    """The provider's error in the middle of an answer, streamed."""
    return _broken("Provider disconnected unexpectedly")


def disconnected_choice() -> dict[str, Any]:
    """The same in an answer that is not streamed."""
    return _broken("Provider disconnected mid-stream")


def fragments(text: str, size: int = 6) -> Iterator[str]:
    """A text in pieces, as arguments of a call are streamed."""
    return (text[at : at + size] for at in range(0, len(text), size))


def _broken(message: str) -> dict[str, Any]:
    return {"code": 502, "message": message, "metadata": {"error_type": "provider_unavailable"}}


def _then(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest


def _spaced(words: Iterator[str]) -> Iterator[str]:
    yield next(words)
    for word in words:
        yield f" {word}"
