"""What a user gets, end to end: rotation, fallback, streams, honest errors."""

import json
from collections import Counter

import pytest

from keywheel import sim
from tests.journeys.rig import HELLO, Rig, rig


@pytest.fixture
def calm():
    with rig() as running:
        yield running


def shared_account() -> sim.Scenario:
    return sim.Scenario(accounts=(sim.Account(keys=2), sim.Account()))


def test_a_plain_answer_names_who_served_it(calm: Rig) -> None:
    reply = calm.chat()
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"]
    assert reply.headers["x-keywheel-key"] == "primary"
    assert reply.headers["x-keywheel-attempts"] == "1"
    assert reply.headers["x-keywheel-model"].endswith(":free")
    assert float(reply.headers["x-keywheel-overhead-ms"]) < 1000


def test_four_keys_on_four_accounts_take_turns(calm: Rig) -> None:
    served = Counter(calm.chat().headers["x-keywheel-key"] for _ in range(40))
    assert sorted(served) == ["primary", "quaternary", "secondary", "tertiary"]
    assert all(abs(count - 10) <= 1 for count in served.values())


def test_two_keys_of_one_account_share_its_budget() -> None:
    with rig(shared_account()) as running:
        served = Counter(running.chat().headers["x-keywheel-account"] for _ in range(20))
        assert len(served) == 2
        assert all(count == 10 for count in served.values())
        report = running.http.get("/admin/stats").json()
        assert [account["keys"] for account in report["accounts"]] == [
            ["primary", "secondary"],
            ["tertiary"],
        ]


def test_a_dead_key_is_never_asked(calm: Rig) -> None:
    """GET /key told at the start, so not one request was lost on it."""
    with rig(sim.scenario("dead-key")) as running:
        replies = [running.chat() for _ in range(12)]
        assert {reply.status_code for reply in replies} == {200}
        assert {reply.headers["x-keywheel-attempts"] for reply in replies} == {"1"}


def test_a_key_revoked_later_costs_one_attempt_and_is_never_tried_again(calm: Rig) -> None:
    calm.world.script("key-unknown", key=0, times=1)
    replies = [calm.chat() for _ in range(20)]
    assert {reply.status_code for reply in replies} == {200}
    assert sum(int(reply.headers["x-keywheel-attempts"]) - 1 for reply in replies) == 1
    assert Counter(kind for _, _, kind in calm.attempts)["key-unknown"] == 1
    assert "primary" not in {reply.headers["x-keywheel-key"] for reply in replies}


def test_a_saturated_model_is_left_alone_and_no_key_is_marked(calm: Rig) -> None:
    best = calm.chat().headers["x-keywheel-model"]
    calm.world.script("upstream-pool", model=best, times=9)
    replies = [calm.chat() for _ in range(5)]
    assert {reply.status_code for reply in replies} == {200}
    assert best not in {reply.headers["x-keywheel-model"] for reply in replies}
    assert Counter(kind for _, _, kind in calm.attempts)["upstream-pool"] == 1
    keys = calm.http.get("/admin/stats").json()["keys"]
    assert {key["state"] for key in keys} == {"open"}


@pytest.mark.parametrize(
    "kind", ["error-in-200", "empty", "502", "503", "504", "500", "529", "bare-429", "edge-html"]
)
def test_a_failed_attempt_is_invisible(calm: Rig, kind: str) -> None:
    calm.world.script(kind, times=1)
    reply = calm.chat()
    if kind == "edge-html":  # the edge stands before every model: nothing else can help
        assert reply.status_code == 502
        return
    assert reply.status_code == 200
    assert reply.headers["x-keywheel-attempts"] == "2"
    assert "error" not in reply.json()


@pytest.mark.parametrize("kind", ["error-first", "empty", "error-in-200", "502", "truncated"])
def test_a_stream_that_fails_before_content_is_invisible(calm: Rig, kind: str) -> None:
    calm.world.script(kind, times=1)
    events = stream(calm)
    if kind == "truncated":
        assert events[-1] != "[DONE]"
        return
    assert events[-1] == "[DONE]"
    assert not [event for event in events if '"error"' in event]


def test_a_stream_that_breaks_after_content_ends_with_an_error_and_without_done(calm: Rig) -> None:
    calm.world.script("break-after-content", times=1)
    events = [json.loads(event) for event in stream(calm)]
    assert events[-1]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert events[-1]["error"]["message"]
    assert len({event["model"] for event in events if "model" in event}) == 1
    assert len(calm.attempts) == 1


def test_a_missing_done_is_mended(calm: Rig) -> None:
    calm.world.script("no-done", times=1)
    assert stream(calm)[-1] == "[DONE]"


def stream(running: Rig) -> list[str]:
    """The data of every event of one streamed answer."""
    with running.http.stream(
        "POST", "/v1/chat/completions", json=HELLO | {"stream": True}
    ) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [line[6:] for line in reply.iter_lines() if line.startswith("data: ")]


# --- the official SDK ------------------------------------------------------------------------------


def test_the_openai_sdk_gets_plain_streamed_and_tool_answers(calm: Rig) -> None:
    client = calm.openai(max_retries=0)
    messages = [{"role": "user", "content": "Use the tool get_weather for Paris"}]
    plain = client.chat.completions.create(model="auto", messages=HELLO["messages"])
    assert plain.choices[0].message.content
    pieces = client.chat.completions.create(model="auto", messages=HELLO["messages"], stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    tool = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
    }
    called = client.chat.completions.create(model="auto", messages=messages, tools=[tool])
    assert called.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_the_openai_sdk_lists_the_models(calm: Rig) -> None:
    ids = [model.id for model in calm.openai().models.list()]
    assert ids[:5] == ["auto", "auto:fast", "auto:smart", "auto:code", "auto:vision"]
    assert all(name.endswith(":free") for name in ids[5:])
    assert calm.http.get(f"/v1/models/{ids[1]}").json()["data"]["id"] == ids[1]


# --- nonsense --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        (b"", 400, "invalid_request", "JSON"),
        (b"{", 400, "invalid_request", "JSON"),
        (b"[]", 400, "invalid_request", "object"),
        (b'{"messages": 7}', 400, "invalid_request", "messages"),
        (b'{"messages": []}', 400, "invalid_request", "messages"),
        (b'{"messages":[{"role":"user","content":"x"}],"model":7}', 400, "invalid_request", "model"),
        (b'{"messages":[{"role":"user","content":"x"}],"stream":"yes"}', 400, "invalid_request", "stream"),
        (b'{"messages":[{"role":"user","content":"x"}],"model":"openai/gpt-4o"}', 400, "model_not_free", "gpt-4o"),
        (b'{"messages":[{"role":"user","content":"x"}],"n":3}', 400, "invalid_request", "n"),
    ],
)  # fmt: skip
def test_nonsense_gets_a_sentence_that_names_the_field(
    calm: Rig, body: bytes, status: int, code: str, word: str
) -> None:
    reply = calm.http.post("/v1/chat/completions", content=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert word in error["message"]
    assert calm.attempts == []
    assert calm.chat().status_code == 200


def test_a_body_over_the_limit_is_refused(calm: Rig) -> None:
    reply = calm.http.post("/v1/chat/completions", content=b"x" * (11 << 20))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "payload_too_large")
    assert calm.chat().status_code == 200


def test_a_prompt_longer_than_every_context_is_refused_with_the_reason(calm: Rig) -> None:
    reply = calm.chat(messages=[{"role": "user", "content": "word " * 1_500_000}])
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_too_long")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("POST", "/healthz", 405), ("GET", "/v1/nothing", 404)],
)
def test_wrong_methods_and_paths_are_named(calm: Rig, method: str, path: str, status: int) -> None:
    reply = calm.http.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_no_key_is_an_honest_503() -> None:
    with rig(keys=[]) as running:
        reply = running.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_usable_lane")
        assert running.http.get("/readyz").status_code == 503
        assert running.http.get("/healthz").status_code == 200


def test_only_bad_keys_is_an_honest_503() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(keys=2, dead_keys=(0, 1)),))) as running:
        reply = running.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_usable_lane")
        assert reply.headers["x-should-retry"] == "false"


def test_a_spent_day_is_a_429_that_says_when() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(used_today=50),), counter_lag=0)) as running:
        reply = running.chat()
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["type"]) == (
            429,
            "quota_exhausted",
            "insufficient_quota",
        )
        assert 0 < int(reply.headers["retry-after"]) <= 86_431
        assert running.attempts == []


def test_a_foreign_host_or_origin_is_refused(calm: Rig) -> None:
    assert calm.chat(headers={"host": "evil.example"}).status_code == 403
    assert calm.chat(headers={"origin": "http://evil.example"}).status_code == 403


def test_a_stream_that_arrives_in_one_piece_is_one_attempt() -> None:
    """A hundred events in the first read: the content is among them, so nothing is too much."""
    chatty = sim.Behaviour(answer_tokens=300, answer_spread=0.0)
    with rig(sim.Scenario(behaviour=chatty, dated_slugs=0)) as running:
        for _ in range(10):
            assert stream(running)[-1] == "[DONE]"
        assert len(running.attempts) == 10
