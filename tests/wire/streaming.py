"""Streams to scan, ways of cutting them, and all that can be seen of a scanner afterwards."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keywheel.wire.dialects import DIALECTS, Dialect
from keywheel.wire.stream import Scanner

STREAMS = Path(__file__).parent / "streams"
NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))
STATE = [name for name in Scanner.__slots__ if not name.startswith("_")]
CHAT = DIALECTS["chat"]
EOLS = (b"\n", b"\r", b"\r\n")


def recorded(name: str) -> bytes:
    return (STREAMS / f"{name}.sse").read_bytes()


def dialect(name: str) -> Dialect:
    return DIALECTS.get(name.partition("-")[0], CHAT)


def scan(dialect: Dialect, pieces: Iterable[bytes], **options: int) -> dict[str, Any]:
    """All that can be seen of a scanner after these pieces."""
    scanner = Scanner(dialect, **options)
    passed = b"".join([scanner.feed(piece) for piece in pieces])
    state = {name: getattr(scanner, name) for name in STATE}
    return {**state, "passed": passed, "end": scanner.end(), "mend": scanner.mend()}


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def with_eol(data: bytes, eol: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", eol)


def chunk(delta: dict[str, Any] | None = None, /, **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": members.pop("finish", None)}
    body = {"id": "gen-1", "created": 7, "model": "m", "choices": [choice], **members}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


HELLO = chunk({"content": "Hello"})
STOP = chunk(finish="stop")
DONE = b"data: [DONE]\n\n"
ERROR = chunk({"content": ""}, finish="error", error={"code": 502, "message": "gone"})
