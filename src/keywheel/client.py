"""The library's functions, around one wheel that this process shares. Nothing is read, opened or started at import."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keywheel.errors import ConfigError

if TYPE_CHECKING:
    import httpx2

    from keywheel.axle import Axle
    from keywheel.engine import Engine

NO_KEYS = (
    "no key: set OPENROUTER_API_KEY (OPENROUTER_API_KEY_2 … for more) in the environment or in .env.local, "
    "or give Keywheel(keys=[…])"
)
_lock = threading.Lock()
_default: "Axle | None" = None


@dataclass(frozen=True, slots=True)
class ApiStats:
    """Usage figures at one moment."""

    _report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The figures in the shape of `GET /admin/stats`: totals, keys, accounts, models, errors."""
        return self._report


def get_api_stats() -> ApiStats:
    """Usage figures of this process's default wheel.

    The wheel takes its keys and settings from the environment, `.env.local` and `.env` at its first use; asking
    for figures sends nothing. Raises `ConfigError` for a wrong setting.
    """
    return ApiStats(default_engine().report())


def for_openai(*, async_: bool = False) -> dict[str, Any]:
    """Keyword arguments that make an OpenAI client turn on the default wheel.

    `OpenAI(**for_openai())`, `AsyncOpenAI(**for_openai(async_=True))`. Raises `ConfigError` for a wrong setting or
    without keys, `Unsupported` for a version that cannot be served.
    """
    from keywheel import fittings  # noqa: PLC0415 - importing keywheel stays cheap

    return fittings.fit(fittings.OPENAI, _with_keys(), async_=async_)


def for_anthropic(*, async_: bool = False) -> dict[str, Any]:
    """Keyword arguments that make an Anthropic client turn on the default wheel.

    `Anthropic(**for_anthropic())`, `AsyncAnthropic(**for_anthropic(async_=True))`. Raises as `for_openai` does.
    """
    from keywheel import fittings  # noqa: PLC0415

    return fittings.fit(fittings.ANTHROPIC, _with_keys(), async_=async_)


def transport() -> "httpx2.BaseTransport":
    """A transport for an `httpx2.Client` of one's own, on the default wheel. Raises `ConfigError`."""
    from keywheel.transports import KeywheelTransport  # noqa: PLC0415

    return KeywheelTransport(_with_keys())


def async_transport() -> "httpx2.AsyncBaseTransport":
    """A transport for an `httpx2.AsyncClient` of one's own, on the default wheel. Raises `ConfigError`."""
    from keywheel.transports import AsyncKeywheelTransport  # noqa: PLC0415

    return AsyncKeywheelTransport(_with_keys())


def default_engine() -> "Engine":
    """The engine that this process shares, made at its first use."""
    return default_axle().engine


def default_axle() -> "Axle":
    """What the default wheel turns on. Raises `ConfigError` for a wrong setting."""
    global _default  # noqa: PLW0603 - one wheel a process is what callers of a plain function expect
    with _lock:
        if _default is None:
            _default = gathered()
        return _default


def forget() -> None:
    """Close the default wheel; the next use makes a new one, from the environment as it is then."""
    global _default
    with _lock:
        axle, _default = _default, None
    if axle:
        axle.close()


def gathered(config_file: Path | None = None) -> "Axle":
    """An axle with the keys and settings of this environment. Raises `ConfigError` for a wrong setting."""
    from keywheel.axle import Axle  # noqa: PLC0415
    from keywheel.environment import gather  # noqa: PLC0415

    found = gather(config_file=config_file)
    return Axle(found.config, found.keys)


def _with_keys() -> "Axle":
    axle = default_axle()
    if not axle.keys:
        raise ConfigError(NO_KEYS)
    return axle


def _renew() -> None:
    """In a forked child: the parent's lock may be taken for ever."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)
