"""The client's side of the upstream tests: ask, read, fail, and leave nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keywheel.gateway.upstream import Response, Timeouts, Upstream, UpstreamError
from tests.gateway.rawserver import RawServer

SHORT = Timeouts(connect=2.0, head=0.04, silence=0.04, write=0.04, pool=0.02)
PATIENT = Timeouts(connect=2.0, head=2.0, silence=2.0, write=2.0, pool=2.0)

BOTH_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


@asynccontextmanager
async def asking(server: RawServer, **options: Any) -> AsyncIterator[Upstream]:
    """A client of `server`; at the end it may hold no place and no idle connection."""
    upstream = Upstream(server.url, **options)
    try:
        yield upstream
    finally:
        await upstream.close()
    await asyncio.sleep(0)
    assert (upstream.open_connections, upstream.idle_connections) == (0, 0)


async def ask(upstream: Upstream, timeouts: Timeouts = PATIENT, body: bytes = b"{}") -> Response:
    return await upstream.request("POST", "/chat", [(b"x-a", b"1")], body, timeouts)


async def read_all(response: Response) -> bytes:
    pieces: list[bytes] = []
    try:
        while piece := await response.read():
            pieces.append(piece)
    finally:
        response.close()
    return b"".join(pieces)


async def fetch(upstream: Upstream, timeouts: Timeouts = PATIENT, body: bytes = b"{}") -> bytes:
    return await read_all(await ask(upstream, timeouts, body))


async def fail(
    upstream: Upstream, timeouts: Timeouts = PATIENT, body: bytes = b"{}"
) -> tuple[str, bool]:
    """Ask for what must not succeed; kind of the error, and whether something may have left."""
    with pytest.raises(UpstreamError) as caught:
        await fetch(upstream, timeouts, body)
    return caught.value.kind, caught.value.sent
