"""The way back to the client: a small layer over ASGI's `send` that knows whether anything was sent yet."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

Message = Mapping[str, Any]
SendMessage = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


class Outlet:
    """One answer on its way out."""

    __slots__ = ("_pieces", "_send", "started")

    def __init__(self, send: SendMessage) -> None:
        self._send = send
        self._pieces: list[bytes] = []
        self.started = False

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the head."""
        await self._send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )
        self.started = True  # a cancelled wait for room sends nothing

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def put(self, data: bytes) -> bool:
        """Take a piece of the body, sent by `drain` at the latest; whether `drain` is due before the next one."""
        self._pieces.append(data)
        return True

    async def drain(self) -> None:
        """Send what was put, when the client can take it."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            await self.write(b"".join(pieces))

    async def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a complete answer."""
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, (*headers, length))
        await self.finish(body)
