"""The application: routes, refusals of the request itself, control, connections that end badly."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import httpx2
import pytest

from keywheel.sim import (
    SCENARIOS,
    Account,
    Behaviour,
    Scenario,
    World,
    create_app,
    demo_keys,
    fixture_models,
)
from tests.sim.client import FREE, NOON, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

Serve = Callable[..., tuple[Client, World]]
CHAT = "/api/v1/chat/completions"
CALM = Scenario(dated_slugs=0)
HELLO = {"model": PLAIN, "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/models", 200),
        ("GET", "/api/v1/models/", 200),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models", 404),
        ("GET", CHAT, 405),
        ("POST", "/api/v1/models", 405),
        ("GET", "/api/v1/auth/key", 200),
    ],
)
async def test_routes(serve: Serve, method: str, path: str, status: int) -> None:
    client, _ = serve(CALM)
    answer = await client.ask(method, path)
    assert (answer.status, answer.complete) == (status, True)


async def test_an_unknown_path_answers_in_json(serve: Serve) -> None:
    client, _ = serve(CALM)
    answer = await client.get("/api/v1/nothing")
    assert answer.body == b'{"error":{"message":"Not Found","code":404}}'


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{not json", 400, "Input must have at least 1 token."),
        (b"", 400, "Input must have at least 1 token."),
        ({"model": PLAIN}, 400, 'Input required: specify "prompt" or "messages"'),
        ({"model": PLAIN, "messages": []}, 400, 'Input required: specify "prompt" or "messages"'),
        ({"models": ["a"] * 4, "messages": [{}]}, 400, "'models' array must have 3 items or fewer."),
        ({"model": 5, "messages": [{}]}, 400, "Invalid request parameters"),
        ([], 400, "Invalid request parameters"),
    ],
)  # fmt: skip
async def test_bad_requests(serve: Serve, body: Any, status: int, text: str) -> None:
    client, world = serve(CALM)
    answer = await client.post(CHAT, body)
    assert (answer.status, answer.json()["error"]["message"]) == (status, text)
    assert world.ledgers[0].day.used == 0


async def test_a_body_that_is_not_json_names_no_user(serve: Serve) -> None:
    client, _ = serve(CALM)
    assert "user_id" not in (await client.post(CHAT, b"{")).json()
    assert "user_id" in (await client.post(CHAT, {"model": PLAIN})).json()


@pytest.mark.parametrize("path", ["/api/v1/key", "/api/v1/credits", "/api/v1/models/user", CHAT])
async def test_the_key_is_asked_for_first(serve: Serve, path: str) -> None:
    client, _ = serve(CALM)
    method = "POST" if path == CHAT else "GET"
    for key, text in (("", "No cookie auth credentials found"), ("sk-wrong", "User not found.")):
        answer = await Client(client.app, key).ask(method, path, b"not json")
        assert (answer.status, answer.json()) == (401, {"error": {"message": text, "code": 401}})


async def test_the_model_list_needs_no_key_and_has_the_services_shape(serve: Serve) -> None:
    client, _ = serve(CALM)
    told = (await Client(client.app).get("/api/v1/models")).json()
    assert told["links"] == {"next": None}
    assert told["total_count"] == len(told["data"])
    assert told["data"] == [dict(model.row) for model in fixture_models() if not model.embeds]


async def test_the_users_model_list_leaves_out_what_privacy_hides(serve: Serve) -> None:
    client, _ = serve(Scenario(accounts=(Account(hidden=("nvidia/*",)),)))
    told = (await client.get("/api/v1/models/user")).json()
    assert told["total_count"] == len(told["data"]) < len(fixture_models()) - 1  # one embeds
    assert not [model for model in told["data"] if model["id"].startswith("nvidia/")]


async def test_credits(serve: Serve) -> None:
    client, _ = serve(Scenario(accounts=(Account(credits=10, usage=2.5),)))
    told = (await client.get("/api/v1/credits")).json()
    assert told == {"data": {"total_credits": 10, "total_usage": 2.5}}


async def test_a_request_may_come_in_pieces(serve: Serve) -> None:
    client, _ = serve(CALM)
    messages = [
        {"type": "http.request", "body": b'{"model":"x/y","mess', "more_body": True},
        {"type": "http.request", "body": b'ages":[{}]}', "more_body": False},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    await client.app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_a_client_that_leaves_before_its_body_gets_nothing(serve: Serve) -> None:
    client, world = serve(CALM)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await client.app({"type": "http", "method": "POST", "path": CHAT, "headers": []}, receive, send)
    assert (sent, len(world.journal)) == ([], 0)


async def test_lifespan_is_acknowledged(serve: Serve) -> None:
    client, _ = serve(CALM)
    asked, sent = ["lifespan.startup", "lifespan.shutdown"], list[str]()

    async def receive() -> Any:
        return {"type": asked.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await client.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- answers to what was asked -------------------------------------------------------------------


async def test_the_free_router_answers_under_the_chosen_id(serve: Serve) -> None:
    client, _ = serve(CALM)
    model = (await client.chat("openrouter/free")).json()["model"]
    assert model.endswith(":free")


async def test_a_request_without_model_gets_the_default(serve: Serve) -> None:
    client, _ = serve(CALM)
    answer = await client.post(CHAT, {"messages": [{"role": "user", "content": "hi"}]})
    assert answer.json()["model"].endswith(":free")


async def test_json_is_answered_by_models_that_can(serve: Serve) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    client, _ = serve(CALM)
    able = (await client.chat(FREE, response_format=form)).json()
    unable = (await client.chat("poolside/laguna-xs-2.1:free", response_format=form)).json()
    assert able["choices"][0]["message"]["content"] == '{"n":3}'
    assert unable["choices"][0]["message"]["content"].startswith("Simulated")


# --- connections ---------------------------------------------------------------------------------


async def test_silence_lasts_until_the_client_leaves(serve: Serve) -> None:
    client, world = serve(CALM)
    world.script("silent")
    answer = await client.ask("POST", CHAT, HELLO, lambda _: False)
    assert (answer.status, answer.pieces, answer.complete) == (0, [], False)
    assert world.journal[-1].kind == "silent"


async def test_nothing_comes_of_silence_while_the_client_waits(serve: Serve) -> None:
    client, world = serve(CALM)
    world.script("silent")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.chat(), 0.005)


async def test_a_websocket_is_not_answered(serve: Serve) -> None:
    client, _ = serve(CALM)

    async def never(*_: Any) -> Any:
        raise AssertionError("touched")

    await client.app({"type": "websocket"}, never, never)


async def test_a_reset_drops_the_connection_after_the_headers(serve: Serve) -> None:
    client, world = serve(CALM)
    world.script("reset")
    with pytest.raises(ConnectionResetError):
        await client.chat(stream=True)


@pytest.mark.parametrize("speed", [1.0, inf])
async def test_a_reset_after_content_has_sent_some(serve: Serve, speed: float) -> None:
    client, world = serve(CALM, speed=speed)
    world.script("reset-after-content")
    seen: list[Answer] = []

    def watch(answer: Answer) -> bool:
        seen[:] = [answer]
        return True

    with pytest.raises(ConnectionResetError):
        await client.ask("POST", CHAT, HELLO, watch)
    assert seen[0].pieces
    assert not seen[0].complete


async def test_a_stall_sends_content_and_then_nothing_until_the_client_leaves(serve: Serve) -> None:
    client, world = serve(CALM)
    world.script("stall-after-content")
    answer = await client.ask("POST", CHAT, HELLO, lambda seen: len(seen.pieces) < 3)
    assert len(answer.pieces) >= 3
    assert not answer.complete


async def test_a_client_that_leaves_stops_its_stream_at_once(serve: Serve) -> None:
    client, _ = serve(CALM, speed=1.0)
    answer = await client.ask("POST", CHAT, HELLO, lambda seen: len(seen.pieces) < 5)
    assert 5 <= len(answer.pieces) <= 8
    assert not answer.complete


async def test_a_failing_sleep_is_not_swallowed() -> None:
    async def sleep(_: float) -> None:
        raise RuntimeError("no time")

    world = World(CALM, start=NOON)
    client = Client(create_app(world, clock=lambda: NOON, sleep=sleep), demo_keys()[0])
    with pytest.raises(RuntimeError, match="no time"):
        await client.chat()


# --- control -------------------------------------------------------------------------------------


async def test_state_tells_the_truth_and_no_key(serve: Serve) -> None:
    client, _ = serve(replace(SCENARIOS["shared-account"], counter_lag=60))
    await client.chat()
    answer = await client.get("/_sim/state")
    told = answer.json()
    first = told["accounts"][0]
    assert (first["keys"], first["day"]["used"], first["day"]["shown"]) == (
        ["key-1", "key-2"],
        1,
        0,
    )
    assert told["journal"][0] == {
        "at": NOON,
        "key": "key-1",
        "account": "account-1",
        "model": PLAIN,
        "kind": "ok",
        "stream": False,
    }
    assert b"sk-or" not in answer.body


async def test_scripts_can_be_sent(serve: Serve) -> None:
    client, _ = serve(CALM)
    order = {"kind": "502", "key_index": 0, "model": PLAIN, "times": 2}
    assert (await client.post("/_sim/script", order)).json() == {"scripts": 1}
    assert [(await client.chat()).status for _ in range(3)] == [502, 502, 200]


@pytest.mark.parametrize(
    "order", [{"kind": "boom"}, {"kind": "502", "tims": 3}, {"kind": "502", "times": 0}, b"{"]
)
async def test_a_wrong_script_is_refused(serve: Serve, order: Any) -> None:
    client, world = serve(CALM)
    assert (await client.post("/_sim/script", order)).status == 400
    assert world.scripts == []


async def test_reset_forgets_everything(serve: Serve) -> None:
    client, world = serve(CALM)
    await client.chat()
    world.script("502")
    told = (await client.post("/_sim/reset", None)).json()
    assert (told["journal"], told["scripts"], told["accounts"][0]["day"]["used"]) == ([], [], 0)


async def test_a_real_http_client_can_use_it() -> None:
    world = World(SCENARIOS["calm"], start=NOON)
    app = create_app(world, speed=inf)
    transport = httpx2.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {demo_keys()[0]}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://sim/api/v1", headers=headers
    ) as client:
        body = {"model": FREE, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        answer = await client.post("/chat/completions", json=body)
        assert answer.status_code == 200
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_a_world_of_models_can_be_given() -> None:
    few = [model for model in fixture_models() if model.id == FREE]
    world = World(
        Scenario(models={FREE: Behaviour(ttft=3.0, ttft_spread=0)}), models=few, start=NOON
    )
    client = Client(create_app(world, speed=inf, clock=lambda: NOON))
    assert (await client.get("/api/v1/models")).json()["total_count"] == 1
    assert world.forecast(FREE, NOON).ttft == 3.0
