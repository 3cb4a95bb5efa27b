"""Logs: pretty on a terminal, JSON elsewhere, never a secret.

Every record, whoever wrote it, passes one formatter; its last step replaces loaded secrets and what looks like one.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.types import EventDict

from keywheel.config import LogSettings
from keywheel.core.types import Blocked, Event, Reopened
from keywheel.secret import Secret

_LOOKS_SECRET = re.compile(r"sk-or-v1-[A-Za-z0-9_-]{6,}|(?i:bearer )[A-Za-z0-9._~+/=-]{8,}")
_log = structlog.get_logger("keywheel.health")


class Redactor:
    """The last look at a line before it is written."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        values = sorted((re.escape(s.reveal()) for s in secrets), key=len, reverse=True)
        self._known = re.compile("|".join(values)) if values else None

    def __call__(self, _logger: Any, _method: str, line: str) -> str:
        """The line without secrets."""
        if self._known:
            line = self._known.sub("***", line)
        return _LOOKS_SECRET.sub("***", line)


def set_up(settings: LogSettings, secrets: Iterable[Secret], stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error) in the configured shape."""
    out = stream or sys.stderr
    pretty = settings.format == "text" or (settings.format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
        _drop_empty,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if pretty
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=cast(
            "list[structlog.types.Processor]",
            [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
                Redactor(secrets),
            ],
        ),
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("httpx2", "httpcore2", "asyncio", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:3],
            _drop_empty,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def tell(event: Event) -> None:
    """A listener: state changes at WARNING, everything else is told elsewhere."""
    if isinstance(event, Blocked):
        until = None if event.until == float("inf") else round(event.until, 1)
        _log.warning(
            "blocked", scope=event.scope.kind, name=event.scope.name, reason=event.reason,
            provenance=event.provenance, until=until,
        )  # fmt: skip
    elif isinstance(event, Reopened):
        _log.warning("reopened", scope=event.scope.kind, name=event.scope.name, why=event.why)


def _drop_empty(_logger: Any, _method: str, record: EventDict) -> EventDict:
    return {name: value for name, value in record.items() if value is not None}


def _dumps(record: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(record, enc_hook=str).decode()
