"""`keywheel serve` with traces: spans reach a receiver, and one that is missing or silent holds nothing up."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.serving import SOON, ask, base_of, ended, is_alive, settings, simulated, started

Sent = SimpleQueue[tuple[str, bytes]]


@contextmanager
def receiver() -> Iterator[tuple[str, Sent]]:
    """A collector on loopback: its address, and what it gets."""
    sent: Sent = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()
        thread.join(SOON)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A simulator to serve from, and no word of traces."""
    plain = {name: v for name, v in settings(tmp_path).items() if not name.startswith("OTEL_")}
    with simulated() as upstream:
        yield plain | upstream


def spans(found: ResourceSpans) -> list[Span]:
    return [span for scope in found.scope_spans for span in scope.spans]


def test_spans_reach_the_receiver_at_the_latest_at_the_end(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with receiver() as (address, sent):
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with started(tmp_path, environment, "--log-level", "debug") as (process, lines):
            assert [ask(base_of(lines)) for _ in range(2)] == [200, 200]
            assert sent.empty()
            code, _ = ended(process, signal.SIGTERM)
            assert process.stderr is not None
            said = process.stderr.read()
        path, body = sent.get(timeout=SOON)
    assert (code, path) == (0, "/v1/traces")
    assert "traces" not in said  # neither ours nor what the exporter sends with
    (found,) = ExportTraceServiceRequest.FromString(body).resource_spans
    resource = {entry.key: entry.value.string_value for entry in found.resource.attributes}
    assert resource["service.name"] == "keywheel"
    kinds = [span.kind for span in spans(found)]
    assert kinds.count(Span.SPAN_KIND_SERVER) == 2
    assert kinds.count(Span.SPAN_KIND_CLIENT) >= 2
    assert environment["OPENROUTER_API_KEY"][9:17].encode() not in body
    assert b"Hello" not in body


def test_requests_are_served_without_anybody_who_takes_the_spans(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}"
    environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with started(tmp_path, environment) as (process, lines):
        assert [ask(base_of(lines)) for _ in range(5)] == [200] * 5
        code, seconds = ended(process, signal.SIGTERM)
        assert process.stderr is not None
        said = [line for line in process.stderr.read().splitlines() if "traces" in line]
    assert (code, seconds < 5) == (0, True)
    assert len(said) == 1
    assert '"level":"warning"' in said[0]


def test_a_start_without_the_extra_says_so_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry'] = None")
    environment |= {"OTEL_TRACES_EXPORTER": "otlp", "PYTHONPATH": str(tmp_path)}
    with started(tmp_path, environment) as (process, lines):
        assert ask(base_of(lines)) == 200
        ended(process, signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
    assert said.count("pip install 'keywheel[otel]'") == 1
    (warning,) = [line for line in said.splitlines() if "OTEL_TRACES_EXPORTER" in line]
    assert json.loads(warning)["event"].startswith("OTEL_TRACES_EXPORTER is set, but")


def test_a_receiver_that_never_answers_does_not_hold_up_the_end(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with started(tmp_path, environment) as (process, lines):
            base = base_of(lines)
            assert ask(base) == 200
            with silent.accept()[0]:  # it is being sent to
                assert ask(base) == 200
                assert is_alive(base)
                code, seconds = ended(process, signal.SIGTERM)
    assert (code, seconds < 5) == (0, True)
