"""What holds in every dialect: the same ruling, told in that dialect's own shape."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keywheel.sim import Account, Behaviour, Kind, Scenario, World
from keywheel.sim.dialects import DIALECTS
from keywheel.sim.kinds import COMMITTED, FINAL
from keywheel.sim.refusals import REFUSALS
from tests.sim.client import EMBED, FREE, HELLO, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

Serve = Callable[..., tuple[Client, World]]
CALM = Scenario(dated_slugs=0)
PATHS = [dialect.path for dialect in DIALECTS.values()]
STREAMED = [dialect.path for dialect in DIALECTS.values() if dialect.stream]
# Refused with a status of their own; what is too long is no refusal in responses.
REFUSED = sorted(set(REFUSALS) - FINAL)
ENDLESS = {Kind.SILENT, Kind.RESET, Kind.STALL_AFTER, Kind.RESET_AFTER}


async def scripted(serve: Serve, kind: str, path: str, **fields: Any) -> Answer:
    client, world = serve(CALM)
    world.script(kind)
    return await client.say(path, **fields)


def error_of(answer: Answer) -> dict[str, Any]:
    return answer.json()["error"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", REFUSED)
async def test_every_refusal_has_its_status_and_words(serve: Serve, kind: Kind, path: str) -> None:
    if path == "/responses" and kind is Kind.CONTEXT:
        return
    answer = await scripted(serve, kind, path)
    chat = await scripted(serve, kind, "/chat/completions", model=_model(path))
    assert (answer.status, answer.headers["content-type"]) == (chat.status, "application/json")
    assert _varied(error_of(answer)["message"]) == _varied(error_of(chat)["message"])
    for name in ("retry-after", "x-ratelimit-limit", "x-ratelimit-reset"):
        assert answer.headers.get(name) == chat.headers.get(name)


def _model(path: str) -> str:
    return EMBED if path == "/embeddings" else FREE


def _varied(text: str) -> str:
    """Counts of tokens depend on how a dialect writes a prompt."""
    return "".join(each for each in text if not each.isdigit())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", sorted(COMMITTED - ENDLESS))
async def test_every_answer_begins_with_200(
    serve: Serve, kind: Kind, path: str, stream: bool
) -> None:
    answer = await scripted(serve, kind, path, stream=stream)
    streamed = stream and path in STREAMED
    assert (answer.status, answer.complete) == (200, True)
    expected = "text/event-stream" if streamed else "application/json"
    assert answer.headers["content-type"] == expected
    assert answer.pieces
    if kind is not Kind.TRUNCATED:
        assert answer.events() if streamed else answer.json()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["reset", "reset-after-content"])
async def test_connections_drop(serve: Serve, kind: str, path: str) -> None:
    with pytest.raises(ConnectionResetError):
        await scripted(serve, kind, path)


@pytest.mark.parametrize("path", PATHS)
async def test_silence(serve: Serve, path: str) -> None:
    client, world = serve(CALM)
    world.script("silent")
    body = {"model": PLAIN, **HELLO[path]}
    answer = await client.ask("POST", f"/api/v1{path}", body, lambda _: False)
    assert (answer.status, answer.pieces) == (0, [])


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer_that_is_truncated_is_no_json(serve: Serve, path: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        (await scripted(serve, "truncated", path)).json()


@pytest.mark.parametrize("path", PATHS)
async def test_an_error_inside_a_200_names_the_provider(serve: Serve, path: str) -> None:
    for kind in ("error-in-200", "error-first"):
        answer = await scripted(serve, kind, path)
        assert error_of(answer)["message"].startswith("Upstream error from ")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("key", "text"), [("", "No cookie auth credentials found"), ("sk-x", "User not found.")]
)
async def test_the_key_is_asked_for_first(serve: Serve, path: str, key: str, text: str) -> None:
    client, _ = serve(CALM)
    answer = await Client(client.app, key).say(path)
    assert (answer.status, error_of(answer)["message"]) == (401, text)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"{", b"", {"model": 5}, [], {"model": FREE}])
async def test_bad_requests_count_nothing(serve: Serve, path: str, body: Any) -> None:
    client, world = serve(CALM)
    answer = await client.post(f"/api/v1{path}", body)
    assert (answer.status, world.ledgers[0].day.used) == (400, 0)
    assert error_of(answer)["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_all_dialects_spend_the_same_day(serve: Serve, path: str) -> None:
    client, world = serve(Scenario(accounts=(Account(used_today=49),)))
    assert (await client.say(path)).status == 200
    assert (await client.say(path)).status == 429
    assert world.journal[-1].kind is Kind.DAY


@pytest.mark.parametrize("path", PATHS)
async def test_a_list_of_models_moves_on(serve: Serve, path: str) -> None:
    client, world = serve(CALM)
    second = _model(path) if path == "/embeddings" else PLAIN
    answer = await client.say(path, models=["openchat/openchat-7b:free", second])
    assert answer.json()["model"] == second
    assert (await client.say(path, models=["a/b"] * 4)).status == 400
    assert world.ledgers[0].day.used == 1


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/embeddings"])
async def test_a_model_of_vectors_has_no_words(serve: Serve, path: str) -> None:
    client, _ = serve(CALM)
    answer = await client.say(path, EMBED)
    text = f"{EMBED} is not a valid model ID"
    assert (answer.status, error_of(answer)["message"]) == (400, text)


async def test_the_free_router_knows_no_vectors(serve: Serve) -> None:
    client, _ = serve(replace(CALM, accounts=(Account(minute_limit=100),)))
    chosen = {(await client.chat("openrouter/free")).json()["model"] for _ in range(40)}
    assert len(chosen) > 5
    assert EMBED not in chosen
    assert (await client.say("/embeddings", "openrouter/free")).status == 404


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", STREAMED)
async def test_one_generation_id_a_header(serve: Serve, path: str) -> None:
    for stream in (False, True):
        answer = await scripted(serve, "ok", path, stream=stream)
        assert answer.headers["x-generation-id"].startswith("gen-")


@pytest.mark.parametrize("path", STREAMED)
async def test_each_event_is_sent_by_itself(serve: Serve, path: str) -> None:
    answer = await scripted(serve, "ok", path, stream=True)
    assert all(piece.endswith(b"\n\n") and piece.count(b"\n\n") == 1 for piece in answer.pieces)
    assert b"\r" not in answer.body


@pytest.mark.parametrize("path", STREAMED)
async def test_the_mark_of_the_end_may_be_missing(serve: Serve, path: str) -> None:
    whole = await scripted(serve, "ok", path, stream=True)
    cut = await scripted(serve, "no-done", path, stream=True)
    assert cut.body + whole.pieces[-1] == whole.body


def slow(seconds: float) -> Scenario:
    behaviour = Behaviour(
        ttft=seconds, ttft_spread=0, speed=50, speed_spread=0, reasoning_share=0.5
    )
    return Scenario(behaviour=behaviour)


LIMITS = {"/responses": "max_output_tokens"}


@pytest.mark.parametrize("path", STREAMED)
async def test_tokens_take_time_and_their_frames_do_not(
    serve: Serve, slept: list[float], path: str
) -> None:
    client, _ = serve(slow(1.0), speed=1.0)
    await client.say(path, stream=True, **{LIMITS.get(path, "max_tokens"): 10})
    assert slept[0] == pytest.approx(1.0)
    assert sum(slept[1:]) == pytest.approx(0.02 * 10, abs=0.0201)  # one or two events end it


@pytest.mark.parametrize("path", STREAMED)
async def test_a_slow_start_is_bridged_by_comments(serve: Serve, path: str) -> None:
    client, _ = serve(slow(7.5))
    answer = await client.say(path, stream=True)
    assert answer.pieces.count(b": OPENROUTER PROCESSING\n\n") == 3


@pytest.mark.parametrize("path", STREAMED)
async def test_a_whole_answer_takes_as_long_as_its_tokens(
    serve: Serve, slept: list[float], path: str
) -> None:
    client, _ = serve(slow(1.0), speed=1.0)
    await client.say(path, **{LIMITS.get(path, "max_tokens"): 10})
    assert slept == pytest.approx([1.2])


# --- legacy completions --------------------------------------------------------------------------


def text_of(answer: Answer) -> str:
    return "".join(event["choices"][0]["text"] for event in answer.events()[:-1])


async def test_completions_answer_in_text(serve: Serve) -> None:
    told = (await scripted(serve, "ok", "/completions", max_tokens=8)).json()
    [choice] = told["choices"]
    assert told["object"] == "text_completion"
    assert choice["text"].startswith(f"Simulated answer from {FREE}.")
    assert (choice["finish_reason"], told["usage"]["completion_tokens"]) == ("length", 8)


async def test_completions_stream_what_the_whole_answer_says(serve: Serve) -> None:
    whole = (await scripted(serve, "ok", "/completions")).json()["choices"][0]["text"]
    streamed = await scripted(serve, "ok", "/completions", stream=True)
    *_, finish, usage, done = streamed.events()
    assert text_of(streamed) == whole
    assert finish["choices"] == usage["choices"]
    assert "usage" not in finish
    assert usage["usage"]["total_tokens"] > 0
    assert done == "[DONE]"


async def test_completions_break_as_chat_does(serve: Serve) -> None:
    *_, last = (await scripted(serve, "break-after-content", "/completions", stream=True)).events()
    assert last["error"]["code"] == 502
    assert last["choices"][0]["finish_reason"] == "error"
    [choice] = (await scripted(serve, "break-after-content", "/completions")).json()["choices"]
    assert (choice["finish_reason"], choice["error"]["code"]) == ("error", 502)
    [first] = (await scripted(serve, "error-in-200", "/completions", stream=True)).events()
    assert first["choices"] == []


@pytest.mark.parametrize("prompt", ["hello there", ["hello", "there"], [1, 2, 3, 4]])
async def test_a_prompt_has_several_shapes(serve: Serve, prompt: Any) -> None:
    client, _ = serve(CALM)
    assert (await client.say("/completions", prompt=prompt)).json()["usage"]["prompt_tokens"] == (
        len(json.dumps(prompt)) // 4
    )


async def test_completions_answer_json_where_it_is_wished(serve: Serve) -> None:
    form = {"type": "json_object"}
    answer = await scripted(serve, "ok", "/completions", response_format=form)
    assert json.loads(answer.json()["choices"][0]["text"]) == {"answer": "simulated"}
