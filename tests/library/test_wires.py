"""What failures of connections mean, how long a read may take, and which clients can be fitted."""

import os
import socket
import ssl
import sys
import threading
import time
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import httpcore2
import httpx2
import pytest

from keywheel import fittings, legacy
from keywheel.config import UpstreamSettings
from keywheel.errors import ConfigError, Unsupported
from keywheel.testing import Simulator
from keywheel.wire.faults import FAILURES as KINDS
from keywheel.wires import FAILURES, AsyncWire, Failure, Patience, Wire, failure


def test_every_failure_has_a_row() -> None:
    for before, after in FAILURES.values():
        assert {before.kind, after.kind} <= set(KINDS)


def test_both_layers_of_the_client_are_understood() -> None:
    assert failure(httpx2.ConnectError("x"), headed=False) == Failure("unreachable", unsent=True)
    assert failure(httpcore2.ReadTimeout("x"), headed=False) == Failure("timeout-head")
    assert failure(httpcore2.ReadTimeout("x"), headed=True) == Failure("timeout-silence")
    assert failure(TimeoutError(), headed=True) == Failure("timeout-silence")
    assert failure(ZeroDivisionError(), headed=True) is None


def test_a_connection_that_ends_early_is_no_breach_of_protocol() -> None:
    gone = httpcore2.RemoteProtocolError("Server disconnected without sending a response.")
    assert failure(gone, headed=False) == Failure("reset")
    short = httpcore2.RemoteProtocolError("peer closed connection without sending complete body")
    assert failure(short, headed=True) == Failure("truncated")
    assert failure(httpcore2.RemoteProtocolError("odd"), headed=True) == Failure("protocol")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(ssl.SSLCertVerificationError("x"), "tls"), (ssl.SSLError("x"), "tls-handshake")],
)
def test_a_bad_certificate_is_told_from_a_failed_handshake(cause: Exception, kind: str) -> None:
    error = httpx2.ConnectError("x")
    error.__cause__ = cause
    assert failure(error, headed=False) == Failure(kind, unsent=True)


def test_patience_is_each_threads_own() -> None:
    patience = Patience()
    patience.allow(5.0)
    others = list[float | None]()
    thread = threading.Thread(target=lambda: others.append(patience.left(7.0)))
    thread.start()
    thread.join()
    assert others == [7.0]
    assert 4.9 < (patience.left(7.0) or 0) <= 5.0
    patience.allow(-1.0)
    with pytest.raises(httpcore2.ReadTimeout):
        patience.left(7.0)


def test_a_server_that_drips_is_not_waited_for_longer_than_allowed() -> None:
    """A time-out for every read would be kept by one byte after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def drip() -> None:
            line, _ = server.accept()
            with line:
                try:
                    while True:
                        line.sendall(b"H")
                        time.sleep(0.01)
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        wire = Wire(UpstreamSettings(base_url=f"http://127.0.0.1:{port}"))
        wire.patience.allow(0.1)
        with pytest.raises((httpcore2.ReadTimeout, httpcore2.RemoteProtocolError)):
            wire.handle_request(httpx2.Request("GET", f"http://127.0.0.1:{port}/"))
        wire.close()
        thread.join(5)


@pytest.mark.parametrize("kind", [Wire, AsyncWire])
def test_unsafe_upstreams_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="https"):
        kind(UpstreamSettings(base_url="http://example.com/v1"))


def test_certificates_come_from_the_system_or_from_a_file_that_exists() -> None:
    wire = Wire(UpstreamSettings(base_url="https://127.0.0.1:1/v1", ca_file="/no/such"))
    with pytest.raises(ConfigError, match="ca_file"):
        wire.handle_request(httpx2.Request("GET", "https://127.0.0.1:1/"))
    proxied = UpstreamSettings(base_url="https://127.0.0.1:1/v1", proxy="http://127.0.0.1:1")
    with pytest.raises(httpcore2.ConnectError):
        Wire(proxied).handle_request(httpx2.Request("GET", "https://127.0.0.1:1/"))


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # Python 3.12 on: threads are running
def test_a_forked_child_opens_connections_of_its_own(sim: Simulator) -> None:
    wire = Wire(UpstreamSettings(base_url=sim.base_url))
    wire.patience.allow(10.0)
    request = httpx2.Request("GET", sim.base_url + "/models")
    assert wire.handle_request(request).read()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if wire.handle_request(request).read() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wire.handle_request(request).read()
    wire.close()


# --- which clients can be fitted -------------------------------------------------------------------


def test_a_client_that_is_not_installed_cannot_be_fitted(sim: Simulator) -> None:
    with pytest.raises(Unsupported, match="anthropic is not installed"), sim.wheel() as wheel:
        wheel.for_anthropic()


def test_an_old_client_needs_the_old_httpx(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fittings, "version", lambda _package: "2.54.0")
    monkeypatch.setitem(sys.modules, "httpx", None)
    with sim.wheel() as wheel, pytest.raises(Unsupported, match="older httpx"):
        wheel.for_openai()


@pytest.mark.parametrize("async_", [False, True])
def test_an_anthropic_client_gets_the_base_url_it_adds_its_version_to(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, async_: bool
) -> None:
    monkeypatch.setattr(fittings, "version", lambda _package: "2.12.0")
    with sim.wheel() as wheel:
        options = wheel.for_anthropic(async_=async_)
    assert options["base_url"] == sim.base_url.removesuffix("/v1")
    assert isinstance(options["http_client"], httpx2.AsyncClient if async_ else httpx2.Client)
    assert options["api_key"] == "keywheel"


def old_httpx() -> Any:
    """httpx2 under the old name: what the adapter uses of the two is alike."""
    assert metadata.version("httpx2")
    return SimpleNamespace(
        **{name: getattr(httpx2, name) for name in httpx2.__all__ if hasattr(httpx2, name)}
    )


def test_the_old_httpx_gets_the_same_answers(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fittings, "version", lambda _package: "2.54.0")
    monkeypatch.setattr(legacy, "load", old_httpx)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with sim.wheel() as wheel, wheel.for_openai()["http_client"] as http:
        reply = http.post(sim.base_url + "/chat/completions", json=body)
        assert reply.text.endswith("data: [DONE]\n\n")
        with http.stream("POST", sim.base_url + "/chat/completions", json=body):
            pass
        totals = wheel.stats().to_dict()["totals"]
    assert (totals["succeeded"], totals["requests"]) == (1, 2)


@pytest.mark.anyio
async def test_the_old_httpx_gets_the_same_answers_with_asyncio(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fittings, "version", lambda _package: "2.54.0")
    monkeypatch.setattr(legacy, "load", old_httpx)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    async with sim.async_wheel() as wheel:
        async with wheel.for_openai(async_=True)["http_client"] as http:
            reply = await http.post(sim.base_url + "/chat/completions", json=body)
            assert reply.text.endswith("data: [DONE]\n\n")
        assert wheel.stats().to_dict()["totals"]["succeeded"] == 1
