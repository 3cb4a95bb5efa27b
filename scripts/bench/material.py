"""What travels during the benchmark: requests as the OpenAI SDK sends them, answers in OpenRouter's real shape.

A request tells the fake upstream what to answer in its `user` field, which every proxy passes on:
`bench EVENTS SPACING`. No events: a plain answer; otherwise a stream of so many events, SPACING seconds apart.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

MODELS = 5
ANSWER_BYTES = 1024
EVENT_BYTES = 300
BOUNDLESS = 1_000_000_000  # requests a day: the quota must never bind
CREATED = 1_791_084_135
GENERATION = "gen-1791084135-benchBENCHbenchBENCHbe"
DONE = b"data: [DONE]\n\n"
WISH = re.compile(rb'"user": ?"bench (\d+) ([\d.]+)"')
WORDS = [
    "the",
    "model",
    "answers",
    "when",
    "a",
    "request",
    "comes",
    "with",
    "words",
    "that",
    "nobody",
    "reads",
    "and",
    "then",
    "another",
    "one",
    "follows",
    "def",
    "return",
    "value",
    "index",
    '"quoted"',
    "path/to/file",
    "0.125",
    "{'key':",
    "[1,",
    "2]}",
]
USAGE = {
    "prompt_tokens": 42,
    "completion_tokens": 100,
    "total_tokens": 142,
    "cost": 0,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
    "cost_details": {"upstream_inference_cost": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of request. `spacing`: seconds between two events of a stream, 0 for no pause."""

    name: str
    events: int = 0
    spacing: float = 0.0
    prompt_bytes: int = 200

    def bodies(self, count: int) -> list[bytes]:
        """Different conversations with the same wish: nothing that remembers one may gain from it."""
        return [self._body(number) for number in range(count)]

    def _body(self, number: int) -> bytes:
        chance = random.Random(number)
        body: dict[str, object] = {
            "model": "auto",
            "user": f"bench {self.events} {self.spacing:g}",
            "messages": list(_messages(chance, self.prompt_bytes)),
        }
        if self.events:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(body, separators=(",", ":")).encode()


def _messages(chance: random.Random, size: int) -> Iterator[dict[str, str]]:
    """A conversation of about so many bytes, in turns of at most 10 kB."""
    yield {"role": "system", "content": f"You are helper {chance.random()}."}
    share = min(size, 10_000)
    for turn in range(max(1, size // share)):
        role = "assistant" if turn % 2 else "user"
        yield {"role": role, "content": prose(chance, share)}


def prose(chance: random.Random, size: int) -> str:
    """Words and line breaks, exactly so many characters."""
    words: list[str] = []
    length = 0
    while length < size:
        words.append(chance.choice(WORDS) + ("\n" if chance.random() < 0.1 else " "))
        length += len(words[-1])
    return "".join(words)[:size]


def wish(body: bytes) -> tuple[int, float]:
    """What a request wants: the number of events and the seconds between them."""
    found = WISH.search(body)
    return (int(found[1]), float(found[2])) if found else (0, 0.0)


def plain_answer() -> bytes:
    """A whole answer of 1 KiB."""
    body = _head("chat.completion") | {
        "system_fingerprint": None,
        "service_tier": None,
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "message": {"role": "assistant", "content": "", "refusal": None, "reasoning": None},
            }
        ],
        "usage": USAGE,
    }
    return _filled(json.dumps(body, separators=(",", ":")), ANSWER_BYTES)


def content_event() -> bytes:
    """One event of a stream, with a word in it."""
    return b"data: " + _filled(_chunk(None), EVENT_BYTES - 8) + b"\n\n"


def last_events() -> bytes:
    """How a stream ends: the finish, the usage beside a repeated finish, `[DONE]`."""
    return b"".join(
        (_event(_chunk("stop")), _event(_chunk("stop", {"usage": USAGE})), DONE),
    )


def models_answer(count: int) -> bytes:
    """`GET /models`: so many free chat models."""
    names = ["bench/model:free", *(f"bench/model-{n}:free" for n in range(2, count + 1))]
    return json.dumps({"data": [_model(name) for name in names]}).encode()


def key_answer() -> bytes:
    """`GET /key` of an account whose limits never bind."""
    daily = {"used": 0, "limit": BOUNDLESS, "remaining": BOUNDLESS}
    data = {
        "label": "sk-or-v1-000...000",
        "is_management_key": False,
        "limit": None,
        "limit_reset": None,
        "limit_remaining": None,
        "usage": 0,
        "is_free_tier": False,
        "expires_at": None,
        "creator_user_id": "user_bench",
        "free_model_daily_requests": daily,
    }
    return json.dumps({"data": data}).encode()


def _model(name: str) -> dict[str, object]:
    return {
        "id": name,
        "canonical_slug": name.removesuffix(":free"),
        "name": name,
        "created": CREATED,
        "description": "",
        "context_length": 1_000_000,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
        },
        "pricing": {"prompt": "0", "completion": "0"},
        "top_provider": {"context_length": 1_000_000, "max_completion_tokens": 100_000},
        "supported_parameters": ["max_tokens", "temperature", "tools", "tool_choice"],
        "expiration_date": None,
    }


def _head(kind: str) -> dict[str, object]:
    return {
        "id": GENERATION,
        "object": kind,
        "created": CREATED,
        "model": "bench/model-20261004:free",
        "provider": "Bench",
    }


def _chunk(finish: str | None, more: dict[str, object] | None = None) -> str:
    choice = {
        "index": 0,
        "delta": {"content": "", "role": "assistant"},
        "finish_reason": finish,
        "native_finish_reason": finish,
    }
    body = _head("chat.completion.chunk") | {"choices": [choice]} | (more or {})
    return json.dumps(body, separators=(",", ":"))


def _event(chunk: str) -> bytes:
    return f"data: {chunk}\n\n".encode()


def _filled(text: str, size: int) -> bytes:
    """The JSON with its empty content filled up to a length."""
    filling = "lorem " * size
    return text.replace('"content":""', f'"content":"{filling[: size - len(text)]}"').encode()
