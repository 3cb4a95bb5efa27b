"""The transports under an HTTP client: answers, fallbacks, refusals. One suite, blocking and asyncio."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from keywheel.config import Config
from keywheel.core.policy import Limits
from keywheel.testing import Simulator
from keywheel.wheel import Keywheel
from tests.library.probing import FAULTS, HELLO, ONCE, totals, under_way

BASE = "https://openrouter.ai/api/v1"


@dataclass
class Way:
    """A client on one of the transports."""

    sim: Simulator
    wheel: Keywheel
    send: Callable[..., httpx2.Response]

    def ask(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        return self.send("POST", ONCE, json=HELLO | fields, headers=headers)


def blocking(wheel: Keywheel, *arguments: Any, **options: Any) -> httpx2.Response:
    """One request, whole."""
    with httpx2.Client(transport=wheel.transport(), timeout=60.0) as client:
        return client.request(*arguments, **options)


def asynchronous(wheel: Keywheel, *arguments: Any, **options: Any) -> httpx2.Response:
    """The same in an event loop of its own."""

    async def run() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=wheel.async_transport(), timeout=60.0) as client:
            return await client.request(*arguments, **options)

    return asyncio.run(run())


@pytest.fixture(params=[blocking, asynchronous])
def way(request: pytest.FixtureRequest, sim: Simulator) -> Iterator[Way]:
    impatient = replace(Config(), limits=Limits(max_queue=0.0))
    with sim.wheel(impatient) as wheel:
        yield Way(sim, wheel, lambda *a, **o: request.param(wheel, *a, **o))
        assert under_way(wheel.engine) == 0


# --- answers ---------------------------------------------------------------------------------------


def test_a_plain_answer_says_who_gave_it(way: Way) -> None:
    reply = way.ask()
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"]
    assert reply.headers["x-keywheel-key"] == "primary"
    assert reply.headers["x-keywheel-account"] == "account1"
    assert reply.headers["x-keywheel-model"] in reply.json()["model"]
    assert reply.headers["x-keywheel-attempts"] == "1"
    assert len(reply.headers["x-request-id"]) == 24


@pytest.mark.parametrize("stream", [False, True])
def test_faults_before_the_first_content_are_never_seen(way: Way, stream: bool) -> None:
    for fault in (*FAULTS, "error-first" if stream else "error-in-200"):
        way.sim.fail(fault)
    reply = way.ask(stream=stream)
    assert reply.status_code == 200
    assert b'"error"' not in reply.content
    assert int(reply.headers["x-keywheel-attempts"]) == 4
    assert totals(way.wheel.engine)["succeeded"] == 1


def test_a_stream_is_passed_on_with_its_end_marker(way: Way) -> None:
    reply = way.ask(stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert totals(way.wheel.engine)["tokens_out"] > 0


def test_an_error_after_content_is_an_event_and_no_second_answer(way: Way) -> None:
    way.sim.fail("break-after-content")
    reply = way.ask(stream=True)
    *_, last = reply.content.strip().split(b"\n\n")
    assert json.loads(last.removeprefix(b"data: "))["choices"][0]["finish_reason"] == "error"
    assert b"[DONE]" not in reply.content
    assert totals(way.wheel.engine)["failed"] == 1


def test_a_connection_that_breaks_is_a_reason_to_try_another_lane(way: Way) -> None:
    way.sim.fail("reset")
    reply = way.ask()
    assert (reply.status_code, reply.headers["x-keywheel-attempts"]) == (200, "2")


def test_the_stream_that_is_cut_off_after_content_is_ended_honestly(way: Way) -> None:
    way.sim.fail("reset-after-content")
    reply = way.ask(stream=True)
    assert b'"finish_reason":"error"' in reply.content


@pytest.mark.parametrize("path", ["/responses", "/messages", "/completions", "/embeddings"])
def test_every_dialect_is_served(way: Way, path: str) -> None:
    bodies = {
        "/responses": {"input": "Hello"},
        "/messages": {"max_tokens": 50, **HELLO},
        "/completions": {"prompt": "Hello"},
        "/embeddings": {"input": "Hello"},
    }
    reply = way.send("POST", BASE + path, json={"model": "auto"} | bodies[path])
    assert reply.status_code == 200, reply.text


def test_embeddings_come_in_one_piece_when_a_stream_is_asked_for(way: Way) -> None:
    reply = way.send("POST", BASE + "/embeddings", json={"input": "Hello", "stream": True})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["data"][0]["embedding"]
    assert totals(way.wheel.engine)["failed"] == 0


def test_models_come_from_the_wheel(way: Way) -> None:
    listed = way.send("GET", BASE + "/models").json()["data"]
    assert listed[0]["id"] == "auto"
    one = way.send("GET", f"{BASE}/models/{listed[-1]['id']}")
    assert one.json()["data"]["id"] == listed[-1]["id"]
    assert way.send("GET", BASE + "/models/no/such").status_code == 404
    vectors = way.send("GET", BASE + "/embeddings/models").json()["data"]
    assert [entry["architecture"]["output_modalities"] for entry in vectors] == [["embeddings"]]
    assert way.send("GET", BASE + "/models?offset=1&limit=1").json()["data"] == listed[1:2]


# --- refusals --------------------------------------------------------------------------------------


def test_other_paths_and_methods_are_named(way: Way) -> None:
    lost = way.send("GET", BASE + "/files")
    assert lost.status_code == 404
    assert "GET /api/v1/files is not served" in lost.json()["error"]["message"]
    assert way.send("GET", ONCE).status_code == 405


def test_a_paid_model_is_refused_as_the_gateway_refuses_it(way: Way) -> None:
    reply = way.ask(model="openai/gpt-4o")
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "model_not_free"
    assert reply.headers["x-should-retry"] == "false"
    assert way.sim.attempts == []


def test_a_body_that_cannot_be_read_is_refused(way: Way) -> None:
    reply = way.send("POST", ONCE, content=b"{")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert totals(way.wheel.engine)["failed"] == 1


def test_anthropics_dialect_is_refused_in_its_own_shape(way: Way) -> None:
    reply = way.send(
        "POST", BASE + "/messages", json={"model": "no/such", **HELLO, "max_tokens": 5}
    )
    assert reply.json()["type"] == "error" or reply.status_code == 200
    refused = way.send("POST", BASE + "/messages", content=b"{")
    assert refused.json()["type"] == "error"


def test_an_exhausted_quota_says_when_to_come_back(way: Way) -> None:
    way.sim.fail("day", times=50)
    way.ask()  # finds it out
    reply = way.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exhausted")
    assert int(reply.headers["retry-after"]) > 0


def test_who_sets_a_time_out_gets_a_deadline(way: Way) -> None:
    way.sim.fail("silent", times=9)
    reply = way.send("POST", ONCE, json=HELLO, timeout=0.2)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")


# --- what goes upstream ----------------------------------------------------------------------------


def test_the_clients_own_credentials_stay_here_and_the_key_goes_upstream() -> None:
    seen = list[httpx2.Request]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(500)

    from keywheel.testing import simulator
    from keywheel.transports import KeywheelTransport

    with simulator() as sim:
        axle = sim.axle()
        inner = httpx2.MockTransport(answer)
        headers = {
            "authorization": "Bearer mine",
            "x-api-key": "mine",
            "cookie": "mine",
            "x-title": "T",
            "connection": "x-openrouter-hop",
            "x-openrouter-hop": "1",
            "x-openrouter-kept": "1",
        }
        with httpx2.Client(transport=KeywheelTransport(axle, inner)) as client:
            reply = client.post(ONCE, json=HELLO, headers=headers, timeout=9.0)
        axle.close()
    assert reply.status_code == 502
    sent = dict(seen[0].headers)
    assert sent.pop("authorization") == f"Bearer {sim.keys[0]}"
    assert sim.keys[0] not in repr(seen[0].headers)
    assert {name for name in sent if name not in ("host", "content-length")} == {
        "content-type", "user-agent", "accept-encoding", "x-title", "x-openrouter-kept",
    }  # fmt: skip
    assert json.loads(seen[0].content)["model"] != "auto"
