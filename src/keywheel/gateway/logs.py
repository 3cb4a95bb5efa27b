"""Logs: pretty on a terminal, JSON elsewhere, never a secret.

Every record, whoever wrote it, passes one formatter; its last step replaces loaded secrets and what looks like one.
Inside another application nothing is set up: records go to that application through the standard library's logging.
"""

import asyncio
import logging
import re
import sys
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TextIO, cast
from urllib.parse import quote

import msgspec
import structlog
from structlog.types import EventDict

from keywheel.config import LogSettings
from keywheel.core.types import Attempted, Blocked, Event, Reopened
from keywheel.secret import Secret

PUBLIC_HEAD = "sk-or-v1-"  # every key of the upstream begins so
TELLING = 8  # so many characters of a secret give it away
CHATTY = {
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "asyncio": logging.WARNING,
    "uvicorn": logging.ERROR,
}  # fmt: skip - its warnings are about what scanners send
FLUSH = 0.05  # seconds that the line of a request may wait for others to be written with it
PAUSE = 1.0  # seconds between two lines of requests that nothing was tried for
EXHAUSTED = ("no_usable_lane", "quota_exhausted")
_REST = r"[\w.~+/%=…-]*"
_log = structlog.get_logger("keywheel.health")
_steps = logging.getLogger("keywheel.health")
_request_log = structlog.get_logger("keywheel.request")
_host_log = logging.getLogger("keywheel.request")


class Line(msgspec.Struct, omit_defaults=True):
    """What is logged about a request at its end."""

    id: str
    outcome: str
    status: int
    tries: list[str]
    seconds: float
    code: str | None = None
    key: str | None = None
    account: str | None = None
    model: str | None = None
    dropped: tuple[str, ...] | None = None
    unsaid: int | None = None  # lines that were left out before this one


class Redactor:
    """The last look at a line before it is written."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        heads, wholes = {*_in_base64(PUBLIC_HEAD)}, set[str]()
        for secret in secrets:
            value = secret.reveal()
            if len(value) >= TELLING:  # a shorter password of a Redis is found in many a word
                heads.update(_heads(value))
                wholes.update(_wholes(value))
        known = "|".join(map(re.escape, sorted(heads | wholes, key=len, reverse=True)))
        alike = rf"{PUBLIC_HEAD}[\w.…-]+|AIza[\w-]{{30,}}|(?i:bearer )[\w.~+/=-]{{{TELLING},}}"
        self._pattern = re.compile(f"(?:{known}){_REST}|{alike}")
        self._signs = (*heads, PUBLIC_HEAD, "AIza")

    def __call__(self, _logger: Any, _method: str, line: str) -> str:
        """The line without secrets."""
        # looking for each sign first costs a twentieth of the pattern, and most lines have none
        if any(map(line.__contains__, self._signs)) or "bearer " in line.lower():
            return self._pattern.sub("***", line)
        return line


def _heads(value: str) -> Iterator[str]:
    """How a secret may begin in a line, whole or cut: as it is, in a URL, in a JSON string, in base64."""
    body = value.removeprefix(PUBLIC_HEAD)
    head = (body if len(body) >= TELLING else value)[:TELLING]
    yield from (head, quote(head, safe=""), _in_json(head))
    yield from _in_base64(head)


def _wholes(value: str) -> Iterator[str]:
    """A secret with signs, as a password may have them, at which what follows its beginning would stop being read."""
    if not re.fullmatch(_REST, value):
        yield from (value, _in_json(value))


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


def _in_base64(text: str) -> Iterator[str]:
    """What base64 of anything that contains the text contains, wherever the text begins in it."""
    for shift in range(3):
        encoded = b64encode(bytes(shift) + text.encode()).decode()
        yield encoded[-(-shift * 8 // 6) : (shift + len(text)) * 8 // 6]


class _Handler(logging.StreamHandler[TextIO]):
    """A log that cannot be written stops no request. Lines that were `put` are written together."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: deque[str] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, line: str) -> None:
        """Take a finished line; it is written soon, and before any other record. For the event loop's thread."""
        self._waiting.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._ring)

    def emit(self, record: logging.LogRecord) -> None:
        self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        self._write_waiting()
        super().flush()

    def _ring(self) -> None:
        self._timer = None
        with suppress(OSError, ValueError):  # nobody reads any more
            self.flush()

    def _write_waiting(self) -> None:
        lines = list[str]()
        while self._waiting:  # piece by piece: another thread may write at the same time
            lines.append(self._waiting.popleft())
        if lines:
            with suppress(OSError, ValueError):
                self.stream.write("".join(lines))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say that a record was lost, without its text; say nothing when nobody reads."""
        error = sys.exception()
        with suppress(OSError, ValueError):
            if not isinstance(error, OSError):
                kind = type(error).__name__
                self.stream.write(f"a log record of {record.name} was lost: {kind}\n")


class _Journal:
    """Writes the line of a request as JSON, past the general way of records.

    That way takes 70 µs of CPU for each line, this one 6; nothing else in a request costs as much.
    """

    def __init__(self, handler: _Handler, redact: Redactor) -> None:
        self._handler = handler
        self._redact = redact
        self._encode = msgspec.json.Encoder().encode
        self._second = 0
        self._stamp = ""

    def __call__(self, line: Line) -> None:
        body = self._encode(line)
        if not body.isascii() or b"\x7f" in body:  # what may move the cursor
            _tell_slowly(line)
            return
        text = f'{body[:-1].decode()}{_KIND}{self._now()}Z"}}\n'
        self._handler.put(self._redact(None, "", text))

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1e6):06d}"


_KIND = ',"event":"request","level":"info","logger":"keywheel.request","timestamp":"'


def _tell_slowly(line: Line) -> None:
    _request_log.info("request", **msgspec.structs.asdict(line))


def _tell_nobody(_line: Line) -> None:
    """The level is above that of requests."""


def _tell_host(line: Line) -> None:
    """Nobody has set logs up: the application around us decides about the record, and finds the fields on it."""
    if not _host_log.isEnabledFor(logging.INFO):
        return
    status = f"{line.status} {line.code}" if line.code else str(line.status)
    tries = " > ".join(line.tries) or "nothing was tried"
    said = f"request {line.id}: {line.outcome}, {status}, {line.seconds:.3f} s; {tries}"
    _host_log.info("%s", _visible(said, "request"), extra=msgspec.structs.asdict(line))


_tell_request: Callable[[Line], None] = _tell_host


class Throttle:
    """While nothing can be served, clients that ask again and again would fill the disk: one line a second will do."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._unsaid = 0

    def admits(self, line: Line) -> bool:
        """Whether a line is to be written; it then says how many were not."""
        if line.tries or line.code not in EXHAUSTED:
            return True
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return False
        self._next = now + PAUSE
        line.unsaid, self._unsaid = self._unsaid or None, 0
        return True


_throttle = Throttle()


def tell_request(line: Line) -> None:
    """Write the line of a request that has ended. To be called in the event loop."""
    if _throttle.admits(line):
        _tell_request(line)


def set_up(settings: LogSettings, secrets: Iterable[Secret], stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error) in the configured shape."""
    global _tell_request  # noqa: PLW0603 - logging is the process's own
    out = stream or sys.stderr
    pretty = settings.format == "text" or (settings.format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _tidy,
    ]
    last = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _console(out) if pretty else structlog.processors.JSONRenderer(serializer=_dumps),
        redact := Redactor(secrets),
    ]
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=cast("list[structlog.types.Processor]", last),
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name, level in CHATTY.items():
        logging.getLogger(name).setLevel(level)
    if root.isEnabledFor(logging.INFO):
        _tell_request = _tell_slowly if pretty else _Journal(handler, redact)
    else:
        _tell_request = _tell_nobody
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def tell(event: Event) -> None:
    """A listener: state changes at WARNING, attempts that failed and were got over at DEBUG."""
    if isinstance(event, Blocked):
        until = None if event.until == float("inf") else round(event.until, 1)
        _log.warning(
            "blocked", scope=event.scope.kind, name=event.scope.name, reason=event.reason,
            provenance=event.provenance, until=until,
        )  # fmt: skip
    elif isinstance(event, Reopened):
        _log.warning("reopened", scope=event.scope.kind, name=event.scope.name, why=event.why)
    elif isinstance(event, Attempted) and not event.ok and _steps.isEnabledFor(logging.DEBUG):
        _log.debug(
            "attempt failed", id=event.request_id, key=event.key, account=event.account, model=event.model,
            row=event.row, scope=event.scope or None, seconds=round(event.total, 3),
        )  # fmt: skip


def _console(out: TextIO) -> structlog.dev.ConsoleRenderer:
    # the default formatter of exceptions prints local variables, and those hold keys
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)


def _tidy(_logger: Any, _method: str, record: EventDict) -> EventDict:
    """No empty fields, and no text that moves the cursor or forges a line."""
    return {
        name: _visible(value, name) if isinstance(value, str) else value
        for name, value in record.items()
        if value is not None
    }


def _visible(text: str, name: str) -> str:
    if text.isprintable():
        return text
    if name == "exception":
        return "\n".join(map(_escaped, text.splitlines()))
    return _escaped(text.rstrip("\n"))


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _dumps(record: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(record, enc_hook=str).decode()
