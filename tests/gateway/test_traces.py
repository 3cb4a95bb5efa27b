"""Traces: a tree for each request, the names of the conventions, nothing secret, and nothing at all when not asked."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from keywheel.config import Config
from keywheel.core.types import Attempted, Finished
from keywheel.engine import Engine
from keywheel.gateway import traces
from keywheel.gateway.traces import ATTRIBUTES, HELD, OPERATIONS, TRIES, Complaints, Traces
from keywheel.wire.dialects import DIALECTS
from tests.gateway.asgi import GOOD, HELLO, HOST, KEY, App, FakeUpstream, Scripted, app

WALL = 1_900_000_000_000_000_000  # nanoseconds
AT = 1_000.0
MODEL = "a/small-8b:free"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01".encode()
CANARY = "canary-of-a-prompt"
Told = dict[str, Any]


class Watched:
    """Traces whose spans are kept here."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.memory = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        tracer = provider.get_tracer("keywheel")
        self.traces = Traces(tracer, "https://openrouter.ai/api/v1", lambda: WALL)

    @property
    def request(self) -> ReadableSpan:
        """The span of the only request."""
        (span,) = (s for s in self.memory.get_finished_spans() if s.kind is SpanKind.SERVER)
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        """The spans within it."""
        return [s for s in self.memory.get_finished_spans() if s.kind is SpanKind.CLIENT]


def attempted(at: float, total: float, row: str = "ok", request_id: str = "r1") -> Attempted:
    ok = row == "ok"
    return Attempted(
        at, request_id, "primary", "lab", MODEL, row, "" if ok else "model", ok, 0.2 if ok else None,
        total, 7 if ok else 0, 9 if ok else 0,
    )  # fmt: skip


def finished(outcome: str = "ok", status: int = 200, code: str = "", **changes: Any) -> Finished:
    event = Finished(AT, "r1", "chat", outcome, status, code, 1, "primary", "lab", MODEL, 3.0)
    return event._replace(**changes)


def attributes(span: ReadableSpan) -> Told:
    assert span.attributes is not None
    return dict(span.attributes)


# --- the tree --------------------------------------------------------------------------------------


def served(watched: Watched, *answers: Scripted, headers: Any = (), **fields: Any) -> App:
    """A gateway that served one request; the upstream gave these answers."""
    left = list(answers)
    made = app(upstream=FakeUpstream(lambda: left.pop(0)))
    made.engine.listen(watched.traces.hear)
    call = made.call("POST", "/v1/chat/completions", (HOST, *headers), HELLO | fields)
    reply = asyncio.run(call)
    assert not left, reply
    return made


def test_a_request_with_a_fallback_is_a_tree_of_two_attempts() -> None:
    watched = Watched()
    error = json.dumps({"error": {"code": 502, "message": "Provider returned error"}}).encode()
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    good = Scripted(body=json.dumps(GOOD | {"usage": usage}).encode())
    served(watched, Scripted(502, body=error), good, headers=[(b"x-request-id", b"mine-1")])

    request, (first, second) = watched.request, watched.attempts
    assert request.parent is None
    assert request.context is not None
    for attempt in (first, second):
        assert attempt.parent is not None
        assert attempt.parent.span_id == request.context.span_id
        assert attempt.context is not None
        assert attempt.context.trace_id == request.context.trace_id

    told = attributes(request)
    assert 0 < told.pop("keywheel.overhead") < 60
    winner = told["gen_ai.response.model"]
    assert request.name == f"chat {winner}"
    assert told == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openrouter",
        "gen_ai.response.model": winner, "http.response.status_code": 200,
        "keywheel.request.id": "mine-1", "keywheel.dialect": "chat", "keywheel.outcome": "ok",
        "keywheel.attempts": 2, "keywheel.key": "primary", "keywheel.account": "account1",
    }  # fmt: skip

    lost, won = attributes(first), attributes(second)
    common = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openrouter",
        "server.address": "openrouter.ai", "server.port": 443,
        "keywheel.key": "primary", "keywheel.account": "account1",
    }  # fmt: skip
    row = lost["keywheel.row"]
    assert row[0].isdigit()
    assert lost == common | {
        "gen_ai.request.model": lost["gen_ai.request.model"], "error.type": row,
        "keywheel.row": row, "keywheel.scope": lost["keywheel.scope"],
    }  # fmt: skip
    assert won.pop("keywheel.time_to_first_token") >= 0
    assert won == common | {
        "gen_ai.request.model": winner, "keywheel.row": "ok",
        "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 5,
    }  # fmt: skip
    assert lost["gen_ai.request.model"] != winner
    assert [span.status.status_code for span in (request, first, second)] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET,
    ]  # fmt: skip


def test_spans_lie_where_the_clock_of_other_services_says() -> None:
    watched = Watched()
    watched.traces.hear(attempted(AT - 1.5, 1.0, "20 upstream-pool"))
    watched.traces.hear(attempted(AT, 1.25))
    watched.traces.hear(finished())
    spans = [watched.request, *watched.attempts]
    seconds = [[((t or 0) - WALL) / 1e9 for t in (s.start_time, s.end_time)] for s in spans]
    assert seconds == [[-3.0, 0.0], [-2.5, -1.5], [-1.25, 0.0]]


def test_no_attempt_lies_outside_its_request() -> None:
    watched = Watched()
    watched.traces.hear(attempted(AT + 1.0, 9.0))
    watched.traces.hear(finished())
    (attempt,) = watched.attempts
    assert (attempt.start_time, attempt.end_time) == (watched.request.start_time, WALL)


@pytest.mark.parametrize(
    ("event", "code", "error"),
    [
        (finished("failed", 503, "no_usable_lane"), StatusCode.ERROR, "no_usable_lane"),
        (finished("failed", 400, "model_not_free"), StatusCode.UNSET, "model_not_free"),
        (finished("failed", 200, "28 cut-off"), StatusCode.ERROR, "28 cut-off"),
        (finished("failed", 502), StatusCode.ERROR, "502"),
        (finished("abandoned", 0), StatusCode.UNSET, None),
        (finished("abandoned", 200), StatusCode.UNSET, None),
    ],
)
def test_how_a_request_without_an_answer_looks(
    event: Finished, code: StatusCode, error: str | None
) -> None:
    watched = Watched()
    watched.traces.hear(event)
    told = attributes(watched.request)
    assert watched.request.status.status_code is code
    assert told.get("error.type") == error
    assert told["keywheel.outcome"] == event.outcome
    assert "gen_ai.response.model" not in told
    assert ("http.response.status_code" in told) == bool(event.status)


def test_an_attempt_that_was_given_up_is_no_error() -> None:
    watched = Watched()
    watched.traces.hear(attempted(AT, 1.0, "abandoned"))
    watched.traces.hear(finished("abandoned", 0))
    (attempt,) = watched.attempts
    assert attempt.status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(attempt)


def test_a_request_for_which_nothing_was_tried_has_the_name_of_what_was_wanted() -> None:
    watched = Watched()
    watched.traces.hear(finished("failed", 503, "x", dialect="embeddings", model="", key=""))
    assert watched.request.name == "embeddings"
    assert "keywheel.key" not in attributes(watched.request)


def test_every_dialect_has_an_operation() -> None:
    assert set(OPERATIONS) == set(DIALECTS)


def test_the_table_names_each_attribute_once_and_puts_it_somewhere() -> None:
    names = [attribute.name for attribute in ATTRIBUTES]
    assert len(set(names)) == len(names)
    assert all(attribute.request or attribute.attempt for attribute in ATTRIBUTES)


# --- what must not be in a span --------------------------------------------------------------------


def test_no_prompt_no_answer_and_no_key_is_in_any_span() -> None:
    watched = Watched()
    message = {"role": "assistant", "content": f"{CANARY}-answer"}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    error = json.dumps({"error": {"code": 502, "message": f"{CANARY} {KEY}"}}).encode()
    served(
        watched,
        Scripted(502, body=error),
        Scripted(body=json.dumps(GOOD | {"choices": choices}).encode()),
        headers=[(b"authorization", f"Bearer {KEY}".encode()), (b"x-session-id", CANARY.encode())],
        messages=[{"role": "user", "content": CANARY}],
        user=CANARY,
    )
    spans = watched.memory.get_finished_spans()
    assert len(spans) == 3
    for span in spans:
        for secret in (CANARY, KEY[9:17]):
            assert secret not in span.to_json()


def test_what_a_client_wrote_as_model_is_in_no_span() -> None:
    watched = Watched()
    served(watched, model=CANARY)
    assert CANARY not in watched.request.to_json()
    assert attributes(watched.request)["error.type"] == "model_not_free"


# --- what is kept ----------------------------------------------------------------------------------


def test_attempts_of_requests_that_never_end_are_bounded() -> None:
    watched = Watched()
    for number in range(HELD + 10):
        watched.traces.hear(attempted(AT, 1.0, request_id=f"r{number}"))
        watched.traces.remember(f"r{number}", CALLER)
    assert len(watched.traces) == HELD
    for _ in range(TRIES + 10):
        watched.traces.hear(attempted(AT, 1.0, request_id="latest"))
    watched.traces.hear(finished(request_id="latest"))
    assert len(watched.attempts) == TRIES


def test_nothing_is_kept_of_a_request_that_has_ended() -> None:
    watched = Watched()
    watched.traces.remember("r1", CALLER)
    watched.traces.hear(attempted(AT, 1.0))
    assert len(watched.traces) == 1
    watched.traces.hear(finished())
    assert len(watched.traces) == 0


def test_a_header_that_is_too_long_is_not_kept() -> None:
    watched = Watched()
    watched.traces.remember("r1", CALLER * 9)
    assert len(watched.traces) == 0


# --- the client's own trace ------------------------------------------------------------------------


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Traces of this process."""
    watched = Watched()
    monkeypatch.setattr(traces, "_remember", watched.traces.remember)
    return watched


def test_a_request_goes_on_with_the_trace_of_its_client(noted: Watched) -> None:
    served(noted, Scripted(), headers=[(b"traceparent", CALLER)])
    parent, context = noted.request.parent, noted.request.context
    assert parent is not None
    assert context is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, SPAN)
    assert parent.is_remote
    assert f"{context.trace_id:032x}" == TRACE


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"nonsense",
        CALLER[:-1],
        b"ff" + CALLER[2:],
        CALLER + b"-more",
        b"\xff" * 55,
        CALLER * 9,
    ],
)
def test_a_header_that_is_no_trace_begins_a_new_one(noted: Watched, header: bytes) -> None:
    served(noted, Scripted(), headers=[(b"traceparent", header)])
    assert noted.request.parent is None
    assert len(noted.traces) == 0


def test_the_header_does_not_reach_the_upstream(noted: Watched) -> None:
    made = served(noted, Scripted(), headers=[(b"traceparent", CALLER)])
    ((_, _, headers, _),) = made.upstream.sent
    assert b"traceparent" not in dict(headers)


def test_without_traces_the_header_is_of_no_effect() -> None:
    watched = Watched()
    served(watched, Scripted(), headers=[(b"traceparent", CALLER)])
    assert watched.request.parent is None


class OnlyAttempts(Sampler):
    """Wants no requests."""

    def should_sample(self, *args: Any, kind: SpanKind | None = None, **_: Any) -> SamplingResult:
        kind = kind or args[3]
        return SamplingResult(
            Decision.RECORD_AND_SAMPLE if kind is SpanKind.CLIENT else Decision.DROP
        )

    def get_description(self) -> str:
        return "only attempts"


def test_a_request_that_is_not_sampled_has_no_attempts_either() -> None:
    watched = Watched(OnlyAttempts())
    watched.traces.hear(attempted(AT, 1.0))
    watched.traces.hear(finished())
    assert watched.memory.get_finished_spans() == ()


# --- on and off ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "switch"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_SERVICE_NAME": "mine"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "0"}, "OTEL_TRACES_EXPORTER"),
    ],
)
def test_which_variables_ask_for_traces(variables: dict[str, str], switch: str | None) -> None:
    assert traces.wanted(variables) == switch


UNASKED = """
import sys
from keywheel.config import Config, StateSettings
from keywheel.gateway import traces, work
from keywheel.secret import Secret
with work.opened(work.Job(Config(state=StateSettings(url=Secret("memory:"))), [])):
    traces.note("r1", b"00-1-1-01")
found = {name.split(".")[0] for name in sys.modules}
print(sorted(found & {"opentelemetry", "requests", "urllib3", "google"}))
"""


def test_without_the_variables_nothing_is_imported() -> None:
    command = (sys.executable, "-c", UNASKED)
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment that asks for traces, and the SDK's logger as it was afterwards."""
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    sdk = logging.getLogger("opentelemetry")
    handlers, propagate = sdk.handlers[:], sdk.propagate
    yield monkeypatch
    sdk.handlers[:], sdk.propagate = handlers, propagate


@pytest.mark.parametrize("worker", [0, 1])
def test_a_missing_extra_is_one_warning_with_the_remedy(
    asked: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, worker: int
) -> None:
    asked.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with traces.traced(Engine(Config(), []), worker):
        traces.note("r1", CALLER)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    told = (
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need an extra: pip install 'keywheel[otel]'"
    )
    assert said == ([] if worker else [told])


def test_a_setting_that_the_sdk_refuses_stops_nothing(
    asked: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    engine = Engine(Config(), [])
    with traces.traced(engine):
        engine.finish(finished())
    (record,) = caplog.records
    assert record.getMessage() == (
        "no traces are made, the SDK refuses its settings: ValueError: max_queue_size must be a positive integer."
    )


def test_clients_are_listened_to_only_as_long_as_traces_are_made(
    asked: pytest.MonkeyPatch,
) -> None:
    assert traces._remember is None
    with traces.traced(Engine(Config(), [])):
        assert traces._remember is not None
    assert traces._remember is None


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "keywheel"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,a=b"}, "theirs"),
    ],
)
def test_the_service_is_keywheel_unless_it_is_named(
    asked: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        asked.delenv(variable, raising=False)
    for variable, value in variables.items():
        asked.setenv(variable, value)
    provider = traces._set_up()
    assert provider.resource.attributes["service.name"] == name
    provider.shutdown()


# --- what the SDK says -----------------------------------------------------------------------------


@pytest.fixture
def complain(
    caplog: pytest.LogCaptureFixture,
) -> Callable[[float, str, str], list[str]]:
    """At a moment, a logger of the SDK says something; what is logged of it."""
    now = [0.0]
    handler = Complaints(lambda: now[0])

    def say(at: float, name: str, text: str) -> list[str]:
        now[0] = at
        caplog.clear()
        handler.handle(logging.LogRecord(name, logging.ERROR, "", 1, "%s", (text,), None))
        return [record.getMessage() for record in caplog.records]

    return say


EXPORTS = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def test_an_exporter_in_trouble_is_told_of_now_and_then(
    complain: Callable[[float, str, str], list[str]],
) -> None:
    assert complain(100.0, EXPORTS, "refused") == ["traces: refused"]
    assert complain(101.0, EXPORTS, "refused") == []
    assert complain(399.0, EXPORTS, "refused") == []
    assert complain(400.0, EXPORTS, "x" * 500) == ["traces: " + "x" * 200]


def test_a_complaint_shows_no_secret_of_the_exporter(
    complain: Callable[[float, str, str], list[str]],
) -> None:
    header = "Header format invalid: authorization=Bearer s3cret"
    assert complain(1.0, "opentelemetry.util.re", header) == [
        "traces: trouble in opentelemetry.util.re"
    ]
    assert complain(500.0, EXPORTS, "no adapter for 'grpc://me:s3cret@c:4317'") == [
        "traces: no adapter for 'grpc://***@c:4317'"
    ]
