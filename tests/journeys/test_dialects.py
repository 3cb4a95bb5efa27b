"""Every dialect: plain, streamed, and a failure before content that nobody sees."""

from collections.abc import Iterator

import pytest

from tests.journeys.rig import Rig, rig

SAID = [{"role": "user", "content": "Hello"}]
BODIES = {
    "/v1/completions": {"model": "auto", "prompt": "Hello"},
    "/v1/responses": {"model": "auto", "input": "Hello"},
    "/v1/messages": {"model": "auto", "max_tokens": 64, "messages": SAID},
    "/api/v1/chat/completions": {"model": "auto", "messages": SAID},
}
ENDS = {
    "/v1/completions": "[DONE]",
    "/v1/responses": '"response.completed"',
    "/v1/messages": '"message_stop"',
    "/api/v1/chat/completions": "[DONE]",
}


@pytest.fixture(scope="module")
def calm() -> Iterator[Rig]:
    with rig() as running:
        yield running


def stream(running: Rig, path: str) -> list[str]:
    with running.http.stream("POST", path, json=BODIES[path] | {"stream": True}) as reply:
        assert reply.status_code == 200
        return [line[6:] for line in reply.iter_lines() if line.startswith("data: ")]


@pytest.mark.parametrize("path", BODIES)
def test_plain_and_streamed(calm: Rig, path: str) -> None:
    reply = calm.http.post(path, json=BODIES[path])
    assert reply.status_code == 200
    assert reply.headers["x-keywheel-attempts"] == "1"
    assert ENDS[path] in stream(calm, path)[-1]


@pytest.mark.parametrize("kind", ["error-first", "error-in-200", "502", "empty"])
@pytest.mark.parametrize("path", BODIES)
def test_a_failure_before_content_is_invisible(calm: Rig, path: str, kind: str) -> None:
    calm.clock.ahead += 400  # what earlier cases closed is open again
    calm.world.script(kind, times=1)
    events = stream(calm, path)
    assert ENDS[path] in events[-1]
    assert not [event for event in events if "rror" in event and '"error":null' not in event]


def test_a_break_after_content_is_an_error_in_the_dialects_own_shape(calm: Rig) -> None:
    calm.clock.ahead += 400
    calm.world.script("break-after-content", times=1)
    assert '"type":"error"' in stream(calm, "/v1/messages")[-1]
    calm.clock.ahead += 400
    calm.world.script("break-after-content", times=1)
    assert '"error"' in stream(calm, "/v1/responses")[-1]


def test_errors_of_messages_have_anthropics_shape(calm: Rig) -> None:
    reply = calm.http.post("/v1/messages", json={"model": "auto", "max_tokens": 5, "messages": 7})
    assert reply.status_code == 400
    assert reply.json()["type"] == "error"
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_the_pool_reports_itself_as_one_key(calm: Rig) -> None:
    data = calm.http.get("/v1/key").json()["data"]
    assert data["free_model_daily_requests"]["limit"] == 200
    assert calm.http.get("/v1/credits").json()["data"]["total_usage"] == 0
