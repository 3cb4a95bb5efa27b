"""`Keywheel` and `AsyncKeywheel`: ask without an SDK. Both can be shared by any number of threads and tasks."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import httpx2
import msgspec

from keywheel import fittings, listing
from keywheel.answers import Answer, AsyncTextStream, TextStream, answer
from keywheel.awaiting import FIRST_LOOK, first_look
from keywheel.axle import Axle
from keywheel.client import NO_KEYS, ApiStats, gathered
from keywheel.config import Config
from keywheel.core.types import Event
from keywheel.engine import Engine
from keywheel.errand import Errand, begin, refusal
from keywheel.errors import ConfigError, InvalidRequest, RequestFailed
from keywheel.keys import LIST, find
from keywheel.transports import AsyncKeywheelTransport, KeywheelTransport

Way = TypeVar("Way", KeywheelTransport, AsyncKeywheelTransport)
Messages = str | Iterable[Mapping[str, Any]]


class _Wheel(Generic[Way]):
    """What both have in common."""

    def __init__(
        self,
        keys: Iterable[str] = (),
        *,
        config: Config | None = None,
        on_event: Callable[[Event], None] | None = None,
        axle: Axle | None = None,
    ) -> None:
        """`keys` are upstream keys themselves. `on_event` is called with every event, in the thread it happens in.

        Raises `ConfigError` without a key.
        """
        self._axle = axle or axle_of(config, keys)
        if not self._axle.keys:
            raise ConfigError(NO_KEYS)
        if on_event:
            self._axle.listen(on_event)
        self._way = self._connect()

    def _connect(self) -> Way:
        """The driver that leads requests to their answers."""
        raise NotImplementedError

    @classmethod
    def from_env(cls, *, on_event: Callable[[Event], None] | None = None) -> Self:
        """Keys and settings from the environment, `.env.local`, `.env` and `keywheel.toml`. Raises `ConfigError`."""
        return cls(axle=gathered(), on_event=on_event)

    @classmethod
    def from_config(
        cls, path: str | PathLike[str], *, on_event: Callable[[Event], None] | None = None
    ) -> Self:
        """The same with this TOML file instead of `keywheel.toml`. Raises `ConfigError`."""
        return cls(axle=gathered(Path(path)), on_event=on_event)

    @property
    def engine(self) -> Engine:
        """The engine itself, for those who build on it. Raises `Closed`."""
        return self._axle.engine

    def on_event(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on; an error in it is logged and ends nothing."""
        self._axle.listen(listener)

    def stats(self) -> ApiStats:
        """Usage figures. Asking for them sends nothing."""
        return ApiStats(self._axle.engine.report())

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """Why a request went where it went: the decisions with their candidates, the attempts, the outcome.

        `request_id` is that of an answer or stream, or the `x-request-id` that an SDK got. None for a request that is
        not among the latest 500 of this wheel. Asking sends nothing. Raises `Closed`.
        """
        return self._axle.engine.explain(request_id)

    def transport(self) -> httpx2.BaseTransport:
        """For an `httpx2.Client`."""
        return KeywheelTransport(self._axle)

    def async_transport(self) -> httpx2.AsyncBaseTransport:
        """For an `httpx2.AsyncClient`."""
        return AsyncKeywheelTransport(self._axle)

    def for_openai(self, *, async_: bool = False) -> dict[str, Any]:
        """Keyword arguments of `openai.OpenAI` or, with `async_`, of `openai.AsyncOpenAI`."""
        return fittings.fit(fittings.OPENAI, self._axle, async_=async_)

    def for_anthropic(self, *, async_: bool = False) -> dict[str, Any]:
        """Keyword arguments of `anthropic.Anthropic` or, with `async_`, of `anthropic.AsyncAnthropic`."""
        return fittings.fit(fittings.ANTHROPIC, self._axle, async_=async_)

    def _begin(self, params: Mapping[str, Any]) -> Errand:
        try:
            return begin(self._axle, "chat", (), _encode(params))
        except RequestFailed as error:
            refusal(self._axle, "chat", error)
            raise


class Keywheel(_Wheel[KeywheelTransport]):
    """The wheel for blocking code.

    with keywheel.Keywheel.from_env() as wheel:
        print(wheel.chat("Hello").text)
    """

    def _connect(self) -> KeywheelTransport:
        return KeywheelTransport(self._axle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def chat(self, messages: Messages, *, model: str = "auto", **params: Any) -> Answer:
        """One answer to a prompt or to a list of messages. Raises `RequestFailed`."""
        return self.complete(model=model, messages=_messages(messages), **params)

    def complete(self, **params: Any) -> Answer:
        """One answer to a chat request with OpenAI's parameters. Raises `RequestFailed`."""
        return answer(self._way.serve(self._begin(_plain(params))))

    def stream(self, messages: Messages, *, model: str = "auto", **params: Any) -> TextStream:
        """The same piece by piece. Raises `RequestFailed` here, or later if the answer breaks off."""
        body = {"model": model, "messages": _messages(messages), **params, "stream": True}
        reply = self._way.serve(self._begin(body))
        return TextStream(reply, self._way.body(reply.passage) if reply.passage else None)

    def models(self) -> list[dict[str, Any]]:
        """What can be used now, best first, in OpenRouter's shape; `auto` and the pools come first."""
        engine = self._axle.start()
        engine.ready.wait(FIRST_LOOK)
        return _listed(engine)

    def close(self) -> None:
        """End the background work and close the connections."""
        self._axle.close()
        self._way.close()


class AsyncKeywheel(_Wheel[AsyncKeywheelTransport]):
    """The wheel for asyncio."""

    def _connect(self) -> AsyncKeywheelTransport:
        return AsyncKeywheelTransport(self._axle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def chat(self, messages: Messages, *, model: str = "auto", **params: Any) -> Answer:
        """One answer to a prompt or to a list of messages. Raises `RequestFailed`."""
        return await self.complete(model=model, messages=_messages(messages), **params)

    async def complete(self, **params: Any) -> Answer:
        """One answer to a chat request with OpenAI's parameters. Raises `RequestFailed`."""
        return answer(await self._way.serve(self._begin(_plain(params))))

    async def stream(
        self, messages: Messages, *, model: str = "auto", **params: Any
    ) -> AsyncTextStream:
        """The same piece by piece. Raises `RequestFailed` here, or later if the answer breaks off."""
        body = {"model": model, "messages": _messages(messages), **params, "stream": True}
        reply = await self._way.serve(self._begin(body))
        return AsyncTextStream(reply, self._way.body(reply.passage) if reply.passage else None)

    async def models(self) -> list[dict[str, Any]]:
        """What can be used now, best first, in OpenRouter's shape; `auto` and the pools come first."""
        engine = self._axle.start()
        await first_look(engine.ready, FIRST_LOOK)
        return _listed(engine)

    async def close(self) -> None:
        """End the background work and close the connections."""
        await asyncio.to_thread(self._axle.close)
        await self._way.aclose()


def axle_of(config: Config | None, keys: Iterable[str]) -> Axle:
    """An axle with settings and keys that the program gives. Raises `ConfigError` for what cannot be a key."""
    given: list[Any] = (
        [keys] if isinstance(keys, str) else list(keys or ())
    )  # None: an unset variable
    for place, key in enumerate(given):
        if not isinstance(key, str):
            raise ConfigError(f"keys[{place}] is of type {type(key).__name__}; a key is a str")
    entries = find([("keys=[…]", {LIST: " ".join(given)})], lambda _name: "")
    return Axle(config or Config(), entries)


def _messages(messages: Messages) -> list[Any]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    given: Any = messages
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        kind = type(cast("object", given)).__name__
        said = f"`messages` is of type {kind}. Send a str, or a list of messages."
        raise InvalidRequest(said, param="messages")
    return list(messages)


def _plain(params: Mapping[str, Any]) -> Mapping[str, Any]:
    if params.get("stream"):
        raise InvalidRequest("`stream` is set; use the method stream().", param="stream")
    return params


def _encode(params: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(params)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"the request cannot be written as JSON: {error}") from None


def _listed(engine: Engine) -> list[dict[str, Any]]:
    return msgspec.json.decode(listing.encode(listing.entries(engine)))
