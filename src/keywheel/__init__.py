"""keywheel turns a handful of OpenRouter API keys into one dependable, free LLM endpoint.

from openai import OpenAI
client = OpenAI(**keywheel.for_openai())
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keywheel.client import (
    ApiStats,
    async_transport,
    for_anthropic,
    for_openai,
    get_api_stats,
    transport,
)
from keywheel.errors import (
    Closed,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    Error,
    InvalidRequest,
    ModelNotFree,
    NoUsableLane,
    QuotaExhausted,
    RequestFailed,
    StoreError,
    Unsupported,
    UpstreamFailed,
)

if TYPE_CHECKING:
    from keywheel.answers import Answer, AsyncTextStream, TextStream
    from keywheel.wheel import AsyncKeywheel, Keywheel

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "ApiStats",
    "AsyncKeywheel",
    "AsyncTextStream",
    "Closed",
    "ConfigError",
    "ContextTooLong",
    "DeadlineExceeded",
    "Error",
    "InvalidRequest",
    "Keywheel",
    "ModelNotFree",
    "NoUsableLane",
    "QuotaExhausted",
    "RequestFailed",
    "StoreError",
    "TextStream",
    "Unsupported",
    "UpstreamFailed",
    "__version__",
    "async_transport",
    "for_anthropic",
    "for_openai",
    "get_api_stats",
    "transport",
]
# Where the names stand that need the engine, which is loaded when the first of them is asked for.
_LATER = {
    "Answer": "answers",
    "AsyncTextStream": "answers",
    "TextStream": "answers",
    "AsyncKeywheel": "wheel",
    "Keywheel": "wheel",
}

logging.getLogger("keywheel").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'keywheel' has no attribute {name!r}")
    return getattr(import_module(f"keywheel.{_LATER[name]}"), name)
