"""The library's face. Nothing is read, opened or started at import."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keywheel.engine import Engine

_lock = threading.Lock()
_default: "Engine | None" = None


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


def default_engine() -> "Engine":
    """The engine that this process shares, made at its first use."""
    global _default  # noqa: PLW0603 - one wheel a process is what callers of a plain function expect
    with _lock:
        if _default is None:
            from keywheel.engine import Engine  # noqa: PLC0415 - importing keywheel stays cheap
            from keywheel.environment import gather  # noqa: PLC0415

            found = gather()
            _default = Engine(found.config, found.keys)
        return _default
