"""What a type checker sees of the public names. Never run, only checked."""

from typing import Any, assert_type

import httpx2

import keywheel
from keywheel import (
    Answer,
    ApiStats,
    AsyncKeywheel,
    AsyncTextStream,
    Error,
    Keywheel,
    TextStream,
    get_api_stats,
)
from keywheel.core.types import Event
from keywheel.errors import (
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFree,
    NoUsableLane,
    QuotaExhausted,
    RequestFailed,
    StoreError,
    UpstreamFailed,
)


def statistics() -> None:
    """Figures of the default wheel."""
    assert_type(get_api_stats(), ApiStats)
    assert_type(keywheel.get_api_stats().to_dict(), dict[str, Any])
    assert_type(keywheel.__version__, str)


def clients() -> None:
    """What SDKs and HTTP clients are given."""
    assert_type(keywheel.for_openai(), dict[str, Any])
    assert_type(keywheel.for_anthropic(async_=True), dict[str, Any])
    assert_type(keywheel.transport(), httpx2.BaseTransport)
    assert_type(keywheel.async_transport(), httpx2.AsyncBaseTransport)


def hear(event: Event) -> None:
    """A listener."""


def blocking() -> None:
    """A wheel for blocking code."""
    with Keywheel(["sk-or-v1-0"], on_event=hear) as wheel:
        assert_type(wheel, Keywheel)
        answer = wheel.chat([{"role": "user", "content": "Hello"}], temperature=0.5)
        assert_type(answer, Answer)
        assert_type(answer.text, str)
        assert_type(answer.attempts, int)
        assert_type(answer.request_id, str)
        assert_type(wheel.explain(answer.request_id), dict[str, Any] | None)
        assert_type(answer.usage.tokens_in, int | None)
        assert_type(wheel.complete(model="auto", messages=[]), Answer)
        with wheel.stream("Hello") as pieces:
            assert_type(pieces, TextStream)
            assert_type(next(pieces), str)
            assert_type(pieces.request_id, str)
        assert_type(wheel.models(), list[dict[str, Any]])
        assert_type(wheel.stats(), ApiStats)
        assert_type(wheel.for_openai(), dict[str, Any])
        assert_type(wheel.transport(), httpx2.BaseTransport)
    assert_type(Keywheel.from_env(), Keywheel)
    assert_type(Keywheel.from_config("keywheel.toml"), Keywheel)


async def asynchronous() -> None:
    """A wheel for asyncio."""
    async with AsyncKeywheel.from_env() as wheel:
        assert_type(await wheel.chat("Hello"), Answer)
        async with await wheel.stream("Hello") as pieces:
            assert_type(pieces, AsyncTextStream)
            assert_type([piece async for piece in pieces], list[str])
        assert_type(await wheel.models(), list[dict[str, Any]])
        assert_type(wheel.explain("5ec2e7"), dict[str, Any] | None)


def errors() -> None:
    """One tree, with what a caller needs to decide."""
    try:
        get_api_stats()
    except RequestFailed as error:
        assert_type(error.status, int)
        assert_type(error.code, str)
        assert_type(error.message, str)
        assert_type(error.param, str | None)
        assert_type(error.retry_after, float | None)
        assert_type(error.attempts, int)
    except (ConfigError, StoreError) as error:
        assert_type(error, ConfigError | StoreError)
    except Error as error:
        assert_type(error.args, tuple[Any, ...])


def every_failure() -> tuple[type[RequestFailed], ...]:
    """Each of them is a `RequestFailed`."""
    return (
        InvalidRequest,
        ModelNotFree,
        ContextTooLong,
        QuotaExhausted,
        NoUsableLane,
        UpstreamFailed,
        DeadlineExceeded,
    )
