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
BOUNDLESS = 1_000_000_000  # requests a day: the quota must never bind
CREATED = 1_791_084_135
GENERATION = "gen-1791084135-benchBENCHbenchBENCHbe"
DONE = b"data: [DONE]\n\n"
WISH = re.compile(rb'"user": ?"bench (\d+) ([\d.]+)"')
PROSE = (
    "the model answers when a request comes with words that nobody reads and then another one "
    "follows: def return value index path/to/file 0.125 \"quoted\" {'key': [1, 2]}"
)
WORDS = PROSE.split()
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

    def body(self, number: int) -> bytes:
        """A request; another number gives another conversation, so that nothing gains by remembering one."""
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
    return _plain("word " * ((ANSWER_BYTES - len(_plain(""))) // 5))


def _plain(content: str) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": None, "reasoning": None}
    choice = {
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
        "native_finish_reason": "stop",
        "message": message,
    }
    fields = {"system_fingerprint": None, "service_tier": None, "choices": [choice], "usage": USAGE}
    return json.dumps(_head("chat.completion") | fields, separators=(",", ":")).encode()


def content_events(count: int) -> list[bytes]:
    """Events of a stream, each with another word: about 300 bytes of which a few are text, as in life."""
    chance = random.Random(0)
    return [_event(_chunk(chance.choice(WORDS) + " ")) for _ in range(count)]


def last_events() -> bytes:
    """How a stream ends: the finish, the usage beside a repeated finish, `[DONE]`."""
    return b"".join(
        (_event(_chunk("", "stop")), _event(_chunk("", "stop", {"usage": USAGE})), DONE),
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
        "model": "bench/model-with-a-name-of-the-usual-length-20261004:free",
        "provider": "Bench",
    }


def _chunk(content: str, finish: str | None = None, more: dict[str, object] | None = None) -> str:
    choice = {
        "index": 0,
        "delta": {"content": content, "role": "assistant"},
        "finish_reason": finish,
        "native_finish_reason": finish,
    }
    body = _head("chat.completion.chunk") | {"choices": [choice]} | (more or {})
    return json.dumps(body, separators=(",", ":"))


def _event(chunk: str) -> bytes:
    return f"data: {chunk}\n\n".encode()
