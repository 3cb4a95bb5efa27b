"""A tiny in-process ASGI client: it sees every piece as it is sent, and can leave in the middle."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from keywheel.sim import fixture_models

FREE = "nvidia/nemotron-3-super-120b-a12b:free"
PLAIN = "nvidia/nemotron-nano-9b-v2:free"  # does not reason unless asked to
NOON = 1_791_201_600.0  # 2026-10-05T12:00:00Z
EMBED_ENTRY = dict(next(model.row for model in fixture_models() if model.embeds))
EMBED: str = EMBED_ENTRY["id"]

# The least that each dialect wants besides a model.
HELLO: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/completions": {"prompt": "hello"},
    "/responses": {"input": "hello"},
    "/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4096},
    "/embeddings": {"input": "hello"},
}


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

    def names(self) -> list[str]:
        """The names of a stream's events; runs of equal ones count once."""
        lines = self.body.decode().split("\n")
        found = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        return [name for name, _ in groupby(found)]


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
        return await self.say("/chat/completions", model, **fields)

    async def say(self, path: str, model: str = "", **fields: Any) -> Answer:
        """Say hello in a dialect, to a model that speaks it."""
        model = model or (EMBED if path == "/embeddings" else FREE)
        return await self.post(f"/api/v1{path}", {"model": model, **HELLO[path], **fields})

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
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
        }
        await self.app(scope, receive, send)
        return answer
