"""OpenTelemetry traces, where the environment asks for them: a span for each request and, in it, one for each attempt.

Spans are made when a request has ended, from what the engine tells of it, and sent by a thread of the SDK. They hold
labels from the configuration, ids from the model list and words of our own; never a prompt, an answer or a key.
The SDK is an extra and is loaded only when traces are wanted.
"""

import logging
import os
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import keywheel
from keywheel.core.types import Attempted, Event, Finished
from keywheel.engine import Engine

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger("keywheel.traces")

EXPORTER = "OTEL_TRACES_EXPORTER"
SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", EXPORTER)
EXTRA = "pip install 'keywheel[otel]'"
HELD = 4096  # requests whose attempts are kept until they end …
TRIES = 64  # … and attempts of each
LONGEST = 128  # bytes of a `traceparent`; today's have 55
FLUSH = 2.0  # seconds that the last spans have at the end
QUIET = 300.0  # seconds between two complaints of the SDK
SAID = 200  # characters of a complaint
CHATTY = ("urllib3", "requests")  # what the exporter sends with; tells each request at debug
_LOGIN = re.compile(r"//[^/\s@]*@")
# What a dialect does, in the words of the conventions.
OPERATIONS = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
}

Value = str | int | float | None
Remember = Callable[[str, bytes], None]


class Upstream(NamedTuple):
    """Where attempts go."""

    host: str
    port: int


class Sent(NamedTuple):
    """An attempt, with the request it was made for."""

    attempt: Attempted
    request: Finished
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Attribute:
    """One line of the table of attributes: what it is on the span of a request, and on that of an attempt.

    A span on which nothing is to be said has it not.
    """

    name: str
    meaning: str
    request: Callable[[Finished], Value] | None = None
    attempt: Callable[[Sent], Value] | None = None


ATTRIBUTES = (
    Attribute("gen_ai.operation.name", "`chat`, `text_completion` or `embeddings`.",
        lambda r: OPERATIONS[r.dialect], lambda s: OPERATIONS[s.request.dialect]),
    Attribute("gen_ai.provider.name", "`openrouter`.",
        lambda r: "openrouter", lambda s: "openrouter"),
    Attribute("gen_ai.request.model", "The model that was asked.",
        attempt=lambda s: s.attempt.model),
    Attribute("gen_ai.response.model", "The model whose answer the client got.",
        lambda r: r.model if r.outcome == "ok" else None),
    Attribute("gen_ai.usage.input_tokens", "Tokens of the prompt, as the upstream reports them.",
        attempt=lambda s: s.attempt.tokens_in or None),
    Attribute("gen_ai.usage.output_tokens", "Tokens of the answer, as the upstream reports them.",
        attempt=lambda s: s.attempt.tokens_out or None),
    Attribute("error.type", "Of what failed: the code the client was given; the row of the classification table.",
        lambda r: (r.code or str(r.status)) if r.outcome == "failed" else None,
        lambda s: s.attempt.row if is_fault(s.attempt) else None),
    Attribute("http.response.status_code", "The status the client was given.",
        lambda r: r.status or None),
    Attribute("server.address", "The upstream's host.",
        attempt=lambda s: s.upstream.host),
    Attribute("server.port", "The upstream's port.",
        attempt=lambda s: s.upstream.port),
    Attribute("keywheel.request.id", "As in `x-request-id`, for logs and `keywheel explain`.",
        lambda r: r.request_id),
    Attribute("keywheel.dialect", "`chat`, `completions`, `responses`, `messages` or `embeddings`.",
        lambda r: r.dialect),
    Attribute("keywheel.outcome", "`ok`, `failed` (an error was returned), `abandoned` (the client left).",
        lambda r: r.outcome),
    Attribute("keywheel.attempts", "Attempts that came to an end, as in `x-keywheel-attempts`.",
        lambda r: r.attempts),
    Attribute("keywheel.key", "Label of the key; of a request: the last one tried.",
        lambda r: r.key or None, lambda s: s.attempt.key),
    Attribute("keywheel.account", "Name of the account; of a request: the last one tried.",
        lambda r: r.account or None, lambda s: s.attempt.account),
    Attribute("keywheel.row", "`ok`, `abandoned`, or the row of the classification table.",
        attempt=lambda s: s.attempt.row),
    Attribute("keywheel.scope", "Who is at fault, where somebody is.",
        attempt=lambda s: s.attempt.scope or None),
    Attribute("keywheel.time_to_first_token", "Seconds from the send to the first content.",
        attempt=lambda s: s.attempt.ttft),
    Attribute("keywheel.overhead", "Seconds that the gateway itself added to a plain answer.",
        lambda r: r.overhead or None),
    Attribute("keywheel.cost_usd", "US dollars that the answer has cost, if any.",
        attempt=lambda s: s.attempt.cost or None),
)  # fmt: skip
_OF_REQUESTS = tuple((a.name, a.request) for a in ATTRIBUTES if a.request)
_OF_ATTEMPTS = tuple((a.name, a.attempt) for a in ATTRIBUTES if a.attempt)


def is_fault(attempt: Attempted) -> bool:
    """Whether it failed; one that was given up did not."""
    return not attempt.ok and attempt.row != "abandoned"


class Traces:
    """A listener of the engine. Of a request under way only its attempts are kept, and of a bounded number.

    Requests that are under way at the same time and that their clients gave the same id are not told apart.
    """

    def __init__(
        self, tracer: "Tracer", base_url: str, wall: Callable[[], int] = time.time_ns
    ) -> None:
        """`wall`: nanoseconds by the clock that other services have; the engine's own does not follow a sleep."""
        self._tracer = tracer
        self._upstream = _upstream(base_url)
        self._wall = wall
        self._attempts = OrderedDict[str, deque[Attempted]]()
        self._callers = OrderedDict[str, bytes]()

    def __len__(self) -> int:
        return max(len(self._attempts), len(self._callers))

    def remember(self, request_id: str, traceparent: bytes) -> None:
        """The client's own trace, which its request goes on with."""
        if len(traceparent) <= LONGEST:
            self._callers[request_id] = traceparent
            if len(self._callers) > HELD:
                self._callers.popitem(last=False)

    def hear(self, event: Event) -> None:
        """Keep an attempt, or make the spans of a request that has ended."""
        if isinstance(event, Attempted):
            self._attempts.setdefault(event.request_id, deque(maxlen=TRIES)).append(event)
            if len(self._attempts) > HELD:
                self._attempts.popitem(last=False)
        elif isinstance(event, Finished):
            attempts = self._attempts.pop(event.request_id, ())
            self._tell(event, attempts, self._callers.pop(event.request_id, b""))

    def _tell(self, request: Finished, attempts: Sequence[Attempted], caller: bytes) -> None:
        from opentelemetry.context import Context  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        shift = self._wall() - _ns(request.at)
        began, ended = _ns(request.at - request.total) + shift, _ns(request.at) + shift
        whole = self._tracer.start_span(
            _name(request, request.model),
            _context(caller),
            SpanKind.SERVER,
            {name: value for name, read in _OF_REQUESTS if (value := read(request)) is not None},
            start_time=began,
        )
        inside = set_span_in_context(whole, Context())
        for attempt in attempts if whole.is_recording() else ():
            sent = Sent(attempt, request, self._upstream)
            part = self._tracer.start_span(
                _name(request, attempt.model),
                inside,
                SpanKind.CLIENT,
                {name: value for name, read in _OF_ATTEMPTS if (value := read(sent)) is not None},
                start_time=max(began, _ns(attempt.at - attempt.total) + shift),
            )
            _end_span(part, min(ended, _ns(attempt.at) + shift), failed=is_fault(attempt))
        # by the conventions a server does not count it as its failure when the request was at fault
        refused = 400 <= request.status < 500
        _end_span(whole, ended, failed=request.outcome == "failed" and not refused)


def _upstream(base_url: str) -> Upstream:
    parts = urlsplit(base_url)
    return Upstream(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _name(request: Finished, model: str) -> str:
    return f"{OPERATIONS[request.dialect]} {model}".rstrip()


def _context(traceparent: bytes) -> "Context":
    """What a span begins in: the client's trace, or nothing."""
    from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415 - an extra

    carrier = {"traceparent": traceparent.decode("latin-1")} if traceparent else {}
    return tracecontext.TraceContextTextMapPropagator().extract(carrier)


def _end_span(span: "Span", at: int, *, failed: bool) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

    if failed:
        span.set_status(StatusCode.ERROR)
    span.end(at)


# --- on and off ------------------------------------------------------------------------------------

_remember: Remember | None = None


def note(request_id: str, traceparent: bytes) -> None:
    """A request came with this header. Of no effect where no traces are made."""
    if _remember:
        _remember(request_id, traceparent)


@contextmanager
def traced(engine: Engine, worker: int = 0) -> Generator[None]:
    """Traces of all requests for as long as the block lasts, if the environment asks for them.

    Whatever is wrong with them is a warning, which the first `worker` says for all, and stops nothing.
    """
    global _remember  # noqa: PLW0603 - who listens to the whole process
    switch = wanted(os.environ)
    provider = _provider(switch, log.debug if worker else log.warning) if switch else None
    if provider is None:
        yield
        return
    tracer = provider.get_tracer("keywheel", keywheel.__version__)
    traces = Traces(tracer, engine.config.upstream.base_url)
    engine.listen(traces.hear)
    _remember = traces.remember
    try:
        yield
    finally:
        _remember = None
        last = threading.Thread(target=provider.shutdown, name="keywheel-traces", daemon=True)
        last.start()
        last.join(FLUSH)


def wanted(environment: Mapping[str, str]) -> str | None:
    """The variable that asks for traces, None when they are not wanted or go where we do not send them."""
    exporters = environment.get(EXPORTER, "").lower().replace(" ", "")
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or (exporters and "otlp" not in exporters.split(",")):
        return None
    return next((name for name in SWITCHES if environment.get(name, "").strip()), None)


def _provider(switch: str, warn: Callable[[str], None]) -> "TracerProvider | None":
    """The SDK as its own variables want it; None without it."""
    _tame()
    try:
        return _set_up()
    except ImportError:
        warn(f"{switch} is set, but traces need an extra: {EXTRA}")
    except Exception as error:  # a wrong variable of the SDK
        kind = type(error).__name__
        warn(f"no traces are made, the SDK refuses its settings: {kind}: {error}")
    return None


def _set_up() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    own = {"service.name": "keywheel", "service.version": keywheel.__version__}
    resource = Resource.create(own).merge(OTELResourceDetector().detect())  # variables win
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Complaints(logging.Handler):
    """What the SDK says about itself: one warning of ours now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the first of many. Only the exporter is quoted: others quote variables, and those hold secrets."""
        now = self._clock()
        if now < self._quiet_until:
            return
        self._quiet_until = now + QUIET
        said = record.getMessage() if record.name.startswith("opentelemetry.exporter.") else ""
        log.warning("traces: %s", _LOGIN.sub("//***@", said)[:SAID] or f"trouble in {record.name}")


def _tame() -> None:
    sdk = logging.getLogger("opentelemetry")
    sdk.handlers[:] = [Complaints()]
    sdk.propagate = False
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
