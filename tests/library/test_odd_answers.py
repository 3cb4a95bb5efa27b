"""Good answers that are hard to read: what the library makes of them."""

import json
from typing import Any

import httpx2
import pytest

from keywheel.answers import Answer, TextStream, answer
from keywheel.errand import Reply, begin
from keywheel.gateway.once import _text
from keywheel.testing import Simulator
from keywheel.transports import KeywheelTransport

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
HALF = rb"caf\u00e9 \ud83d\ude00 \ud83d \\ud83d"  # a pair, a half, and the text of an escape
READ = "caf\xe9 \U0001f600 \ufffd \\ud83d"
PLAIN = b'{"choices":[{"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}]%b}'
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def served(sim: Simulator, kind: str, content: bytes, **fields: Any) -> Answer | str:
    """What the library gives for this answer of the upstream: whole, or the text of a stream."""
    inner = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": kind}, content=content)
    )
    axle = sim.axle()
    transport = KeywheelTransport(axle, inner)
    try:
        reply: Reply = transport.serve(begin(axle, "chat", (), json.dumps(BODY | fields).encode()))
        if reply.passage:
            return "".join(TextStream(reply, transport.body(reply.passage)))
        return answer(reply)
    finally:
        axle.close()


@pytest.mark.parametrize("rest", [b"", b',"usage":{"total_tokens":3}', b',"novelty":1e999'])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_half_a_surrogate_pair_spoils_no_answer(sim: Simulator, start: bytes, rest: bytes) -> None:
    found = served(sim, "application/json", start + PLAIN % (HALF, rest))
    assert isinstance(found, Answer)
    assert found.text == found.raw["choices"][0]["message"]["content"] == READ
    found.text.encode()


def test_half_a_surrogate_pair_takes_no_text_from_a_stream(sim: Simulator) -> None:
    assert served(sim, "text/event-stream", EVENTS % HALF, stream=True) == READ


def test_nor_from_what_the_command_line_shows() -> None:
    assert _text(b'{"choices":[{"delta":{"content":"%b"}}]}' % HALF) == READ
    assert _text(b'{"choices":') == ""
