"""The gateway inside another ASGI application: under any path, with or without that application's lifespan."""

import threading
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from keywheel.axle import Axle
from keywheel.gateway.app import Gateway
from keywheel.gateway.outlet import Outlet, SendMessage, raw
from keywheel.gateway.run import build
from keywheel.gateway.waiting import Receive
from keywheel.problems import Problem

Scope = Mapping[str, Any]
PLAIN = (b"content-type", b"application/json")
NO_TOKENS = Problem(
    401, "unauthorized",
    "Without tokens only this machine itself is served. Set gateway.tokens (KEYWHEEL_TOKENS), and gateway.hosts to "
    "the names under which this application is reached.",
    final=True,
)  # fmt: skip


class Mounted:
    """An ASGI application. Nothing is opened or started before its lifespan or its first request."""

    def __init__(self, axle: Axle) -> None:
        self._axle = axle
        self._lock = threading.Lock()
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """The ASGI entry point."""
        gateway = self._open()
        if scope["type"] == "http":
            self._axle.start()
            if not self._axle.config.gateway.tokens and not _is_local(scope):
                await _refuse(_below(scope), send)
                return
        await gateway(_below(scope), receive, send)

    async def aclose(self) -> None:
        """Close the connections and end the background work, where no lifespan does it."""
        with self._lock:
            gateway, self._gateway = self._gateway, None
        if gateway:
            await gateway.upstream.close()
        self._axle.close()

    def _open(self) -> Gateway:
        with self._lock:
            if self._gateway is None:
                self._gateway = build(self._axle.engine)
            return self._gateway


def _below(scope: Scope) -> Scope:
    """The scope as it would be at the root: a path of ours begins with `/v1`."""
    prefix = scope.get("root_path", "")
    path = scope.get("path", "")
    if not prefix or not path.startswith(prefix):
        return scope
    raw_path = scope.get("raw_path") or path.encode()
    return {
        **scope,
        "root_path": "",
        "path": path.removeprefix(prefix),
        "raw_path": raw_path.removeprefix(prefix.encode()),
    }


def _is_local(scope: Scope) -> bool:
    """Whether the client is on this machine, as far as the server can see."""
    client = scope.get("client")
    try:
        return client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _refuse(scope: Scope, send: SendMessage) -> None:
    headers = {**NO_TOKENS.headers(), "www-authenticate": "Bearer"}
    body = NO_TOKENS.body("chat", scope["path"])
    await Outlet(send).respond(NO_TOKENS.status, (PLAIN, *raw(headers)), body)
