"""A tiny in-process ASGI client: it sees every piece as it is sent, and can leave in the middle."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FREE = "nvidia/nemotron-3-super-120b-a12b:free"
PLAIN = "nvidia/nemotron-nano-9b-v2:free"  # does not reason unless asked to
NOON = 1_791_201_600.0  # 2026-10-05T12:00:00Z


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    pieces: list[bytes] = field(default_factory=list[bytes])
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data events of a stream; `[DONE]` stays text."""
        found = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [each if each == "[DONE]" else json.loads(each) for each in found]


class Client:
    """Asks one application, with one key."""

    def __init__(self, app: Any, key: str = "") -> None:
        self.app = app
        self.key = key

    async def get(self, path: str) -> Answer:
        return await self.ask("GET", path)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.ask("POST", path, body)

    async def chat(self, model: str = PLAIN, **fields: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
        return await self.post("/api/v1/chat/completions", body)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        stay: Callable[[Answer], bool] = lambda _: True,
    ) -> Answer:
        """One exchange. The client leaves as soon as `stay` says no to what has come so far."""
        answer, left = Answer(), asyncio.Event()
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        requests = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if requests:
                return requests.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {n.decode(): v.decode() for n, v in message["headers"]}
            else:
                answer.pieces += [message["body"]] if message["body"] else []
                answer.complete = not message["more_body"]
            if not stay(answer):
                left.set()
            await asyncio.sleep(0)

        if not stay(answer):
            left.set()
        headers = [(b"authorization", f"Bearer {self.key}".encode())] if self.key else []
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await self.app(scope, receive, send)
        return answer
