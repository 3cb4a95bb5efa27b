"""What an upstream may say, as bytes, and the scripts that say it: the good answers, and how one is spoiled."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from tests.gateway.rawserver import Peer, Script
from tests.wire.streaming import DONE, HELLO, STOP, chunk

__all__ = ["DONE", "GOOD", "HELLO", "STOP", "chunk", "in_pieces", "json_reply", "says", "sse"]

GOOD: dict[str, Any] = {
    "id": "gen-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip
EVENTS = b"content-type: text/event-stream\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """The head of an answer; `lines` without their ends."""
    return b"HTTP/1.1 " + b"\r\n".join([status, *lines]) + b"\r\n\r\n"


def json_reply(body: Any, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A plain answer; a body that is bytes already stays as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = b"content-length: %d" % len(data)
    lines = lines or (b"content-type: application/json",)
    return head(*lines, length, status=status) + data


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(*events: bytes, ended: bool = True) -> bytes:
    """A stream, a chunk an event."""
    start = head(b"content-type: text/event-stream", b"transfer-encoding: chunked")
    return start + b"".join(map(piece, events)) + (END_OF_CHUNKS if ended else b"")


def says(*pieces: bytes, then: str = "stay", size: int = 0) -> Script:
    """Answer the first request with these pieces, each a read of its own, in slices of `size` if it is set.

    Then the connection stays for what is asked next, or it ends by "fin" or "reset".
    """

    async def script(peer: Peer) -> None:
        await peer.request()
        for data in pieces:
            await peer.send_sliced(data, size or len(data) or 1)
        if then == "reset":
            peer.reset()
        elif then == "fin":
            peer.writer.close()

    return script


def in_pieces(start: bytes, rest: Iterable[bytes], pause: float) -> Script:
    """Begin an answer and go on with a pause before every further piece, for as long as the client listens."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(start)
        for data in rest:
            await asyncio.sleep(pause)
            peer.send(data)
            await peer.writer.drain()

    return script
