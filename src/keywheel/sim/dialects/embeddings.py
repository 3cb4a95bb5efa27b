"""`POST /embeddings`: one vector for each input, never streamed.

The vectors are invented, but the same input has the same vector, of length one.
"""

from base64 import b64encode
from hashlib import sha256
from math import sqrt
from random import Random
from struct import pack
from typing import Any

import msgspec

from keywheel.sim.composing import Answer, cost
from keywheel.sim.dialects.chat import failed
from keywheel.sim.dialects.dialect import Dialect, plain_envelope
from keywheel.sim.kinds import Kind
from keywheel.sim.refusals import REFUSALS
from keywheel.sim.replies import generation_id
from keywheel.sim.requests import ABSENT, Body, Request, Vectors, Wish, reader
from keywheel.sim.rulings import Ruling

DIMENSIONS, MAX_DIMENSIONS = 2048, 4096  # the bundled model's; a list does not tell a model's own
MAX_INPUTS = 2048  # as in OpenAI's API
NO_INPUT = ABSENT | {b'""'}


class _Body(Body):
    input: msgspec.Raw = msgspec.Raw()
    dimensions: int | None = None
    encoding_format: str = "float"


def _wish(body: _Body) -> Wish:
    raw = bytes(body.input)
    vectors = Vectors(_inputs(raw), body.dimensions or DIMENSIONS, body.encoding_format == "base64")
    return Wish(prompt=raw, vectors=vectors, flaw=_flaw(body, raw, vectors))


def _flaw(body: _Body, raw: bytes, wanted: Vectors) -> Kind | None:
    if raw in NO_INPUT:
        return Kind.NO_INPUT
    sized = len(wanted.inputs) <= MAX_INPUTS and 1 <= wanted.dimensions <= MAX_DIMENSIONS
    return None if body.model and sized else Kind.INVALID


def _inputs(raw: bytes) -> tuple[bytes, ...]:
    """The inputs as they stand in the request: one text, texts, one text's tokens, or tokens of several."""
    if not raw.startswith(b"["):
        return (raw,)
    parts = [bytes(part) for part in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    tokens = parts and parts[0][:1].isdigit()
    return (raw,) if tokens else tuple(parts)


def _whole(ruling: Ruling, request: Request, _: Answer) -> dict[str, Any]:
    if ruling.kind is Kind.BREAK:
        return failed(ruling)  # there are no halves of vectors
    wanted = request.vectors
    inputs = wanted.inputs if ruling.completion_tokens > ruling.reasoning_tokens else ()
    data = [
        {"object": "embedding", "embedding": _vector(text, wanted), "index": place}
        for place, text in enumerate(inputs)
    ]
    return {
        "object": "list",
        "data": data,
        "model": ruling.served_as,
        "id": generation_id(ruling.at, ruling.number),
        "usage": {
            "prompt_tokens": ruling.prompt_tokens,
            "total_tokens": ruling.prompt_tokens,
            "cost": cost(ruling).total,
        },
    }


def _vector(text: bytes, wanted: Vectors) -> list[float] | str:
    chance = Random(sha256(text).digest())
    drawn = [chance.uniform(-1, 1) for _ in range(wanted.dimensions)]
    length = sqrt(sum(each * each for each in drawn))
    vector = [each / length for each in drawn]
    if not wanted.base64:
        return vector
    return b64encode(pack(f"<{len(vector)}f", *vector)).decode()


EMBEDDINGS = Dialect(
    path="/embeddings",
    read=reader("embeddings", _Body, _wish),
    whole=_whole,
    failed=failed,
    envelope=plain_envelope,
    stream=None,
    texts={Kind.NO_INPUT: REFUSALS[Kind.INVALID].text},
)
