"""What a type checker sees of the public names. Never run, only checked."""

from typing import Any, assert_type

import keywheel
from keywheel import ApiStats, Error, get_api_stats
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
