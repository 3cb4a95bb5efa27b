"""The gateway's application called directly: no sockets, an upstream that answers by script."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keywheel.config import Config, GatewaySettings
from keywheel.core.policy import Limits
from keywheel.engine import Engine
from keywheel.gateway.app import Gateway
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.wire.models import read_models

KEY = "sk-or-v1-" + "fa4e" * 16
HOST = (b"host", b"127.0.0.1:8787")
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
GOOD = {
    "id": "gen-1", "object": "chat.completion", "created": 1, "model": "a/small-8b:free",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}  # fmt: skip
JSON = (b"content-type", b"application/json")
Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class Scripted:
    """One answer of the upstream."""

    status: int = 200
    headers: Headers = (JSON,)
    body: bytes = json.dumps(GOOD).encode()

    async def read(self) -> bytes:
        body, self.body = self.body, b""
        return body

    async def pump(self, sink: Callable[[bytes], float], _silence: float) -> bool:
        while data := await self.read():
            if not sink(data):
                return True
        return False

    def close(self) -> None:
        """Nothing is open."""

    retire = close

    def set_silence(self, seconds: float) -> None:
        """Nothing is waited for."""


@dataclass
class FakeUpstream:
    """Notes what it is sent."""

    answer: Callable[[], Scripted] = Scripted
    sent: list[tuple[str, str, Headers, bytes]] = field(default_factory=list)

    async def request(
        self, method: str, path: str, headers: Headers, body: bytes, _timeouts: object
    ) -> Scripted:
        self.sent.append((method, path, headers, body))
        return self.answer()

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class App:
    """A gateway with two free models and one key."""

    gateway: Gateway
    engine: Engine
    upstream: FakeUpstream

    async def call(
        self,
        method: str,
        path: str,
        headers: Headers = (HOST,),
        body: bytes | Mapping[str, Any] = b"",
    ) -> Reply:
        """One request and its whole answer."""
        path, _, query = path.partition("?")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[Any] = []
        waiting = asyncio.Event()

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await waiting.wait()
            return None

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": list(headers), "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8787), "state": {},
        }  # fmt: skip
        await self.gateway(scope, receive, send)
        raw = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in sent[0]["headers"]]
        assert len(dict(raw)) == len(raw), "a header twice"
        return Reply(sent[0]["status"], dict(raw), b"".join(m.get("body", b"") for m in sent[1:]))


def served(name: str, price: str = "0") -> dict[str, Any]:
    """A model as the upstream lists it."""
    return {
        "id": name, "name": name, "created": 1, "context_length": 8192,
        "pricing": {"prompt": price, "completion": price},
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "supported_parameters": ["tools", "temperature"],
    }  # fmt: skip


def app(settings: GatewaySettings | None = None, upstream: FakeUpstream | None = None) -> App:
    """A gateway that is ready to serve, and in which nobody waits for a lane that opens later."""
    config = Config(gateway=settings or GatewaySettings(), limits=Limits(max_queue=0.0))
    engine = Engine(config, [KeyEntry("primary", Secret(KEY), "test")])
    listed = [served("a/small-8b:free"), served("b/large-70b:free"), served("c/paid-70b", "0.1")]
    engine.take_models(read_models(json.dumps({"data": listed}).encode()))
    engine.set_ready()
    upstream = upstream or FakeUpstream()
    return App(Gateway(engine, upstream), engine, upstream)  # pyright: ignore[reportArgumentType]
