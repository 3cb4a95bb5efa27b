"""Clients that still stand on the older httpx: the same transports behind a thin adapter.

httpx is no dependency of keywheel; whoever needs this has it installed.
"""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any, cast

import httpx2

from keywheel.errors import Unsupported
from keywheel.transports import AsyncKeywheelTransport, KeywheelTransport


def adapt(transport: KeywheelTransport) -> Any:
    """An `httpx.BaseTransport`. Raises `Unsupported` where httpx is missing."""
    httpx = load()

    class Stream(httpx.SyncByteStream):
        def __init__(self, answer: httpx2.Response) -> None:
            self._answer = answer

        def __iter__(self) -> Iterator[bytes]:
            return iter(cast("httpx2.SyncByteStream", self._answer.stream))

        def close(self) -> None:
            self._answer.close()

    class LegacyTransport(httpx.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            answer = transport.handle_request(_renewed(request, request.read()))
            return httpx.Response(
                answer.status_code, headers=answer.headers.raw, stream=Stream(answer)
            )

        def close(self) -> None:
            transport.close()

    return LegacyTransport()


def adapt_async(transport: AsyncKeywheelTransport) -> Any:
    """An `httpx.AsyncBaseTransport`. Raises `Unsupported` where httpx is missing."""
    httpx = load()

    class Stream(httpx.AsyncByteStream):
        def __init__(self, answer: httpx2.Response) -> None:
            self._answer = answer

        def __aiter__(self) -> AsyncIterator[bytes]:
            return aiter(cast("httpx2.AsyncByteStream", self._answer.stream))

        async def aclose(self) -> None:
            await self._answer.aclose()

    class LegacyTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            answer = await transport.handle_async_request(_renewed(request, await request.aread()))
            return httpx.Response(
                answer.status_code, headers=answer.headers.raw, stream=Stream(answer)
            )

        async def aclose(self) -> None:
            await transport.aclose()

    return LegacyTransport()


def load() -> Any:
    """The older httpx. Raises `Unsupported` where it is missing."""
    try:
        return import_module("httpx")
    except ImportError:
        raise Unsupported(
            "this client needs the older httpx, which is not installed; install it, or a version of the client that "
            "stands on httpx2 (openai 3, anthropic 1)"
        ) from None


def _renewed(request: Any, body: bytes) -> httpx2.Request:
    return httpx2.Request(
        request.method,
        str(request.url),
        headers=request.headers.raw,
        content=body,
        extensions=dict(request.extensions),
    )
