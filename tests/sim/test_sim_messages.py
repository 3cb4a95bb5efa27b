"""Anthropic's API: blocks, named events, the other envelope."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keywheel.sim import Account, Ask, Scenario, World
from keywheel.sim.dialects import DIALECTS
from tests.sim.client import FREE, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded"
Serve = Callable[..., tuple[Client, World]]
CALM = Scenario(dated_slugs=0)
CLOCK = {
    "name": "clock",
    "input_schema": {"type": "object", "properties": {"zone": {"const": "Europe/Paris"}}},
}
BEGIN = ["message_start", "ping"]
BLOCK = ["content_block_start", "content_block_delta", "content_block_stop"]


async def scripted(serve: Serve, kind: str, model: str = PLAIN, **fields: Any) -> Answer:
    client, world = serve(CALM)
    world.script(kind)
    return await client.say("/messages", model, **fields)


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def asked(**fields: Any) -> Ask:
    body = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}], **fields}
    return DIALECTS["messages"].read(json.dumps(body).encode()).ask


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, {}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"stream": True}, {"stream": True}),
        ({"system": "x" * 78}, {"prompt_tokens": 28}),
        ({"tools": [CLOCK]}, {"tools": True}),
        ({"tools": [CLOCK], "tool_choice": {"type": "none"}}, {}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_off": True}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {"json": True}),
        ({"models": ["c/d"]}, {"models": ("c/d",)}),
        ({"fallbacks": [{"model": "c/d"}]}, {"models": ("a/b", "c/d")}),
        ({"provider": {"zdr": True}}, {"deny_collection": True}),
    ],
)
def test_needs(fields: dict[str, Any], needs: dict[str, Any]) -> None:
    assert asked(**fields) == Ask(**{"models": ("a/b",), "prompt_tokens": 8} | needs)


def test_images_are_seen() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
    assert asked(messages=[{"role": "user", "content": [image]}]).images


async def test_at_most_three_fallbacks_and_not_both_lists(serve: Serve) -> None:
    client, _ = serve(CALM)
    last = {"model": PLAIN}
    assert (await client.say("/messages", "x/y", fallbacks=[last] * 3)).json()["model"] == PLAIN
    assert (await client.say("/messages", fallbacks=[last] * 4)).status == 400
    assert (await client.say("/messages", fallbacks=[last], models=["a/b"])).status == 400


# --- answers -------------------------------------------------------------------------------------


async def test_a_message(serve: Serve) -> None:
    answer = await scripted(serve, "ok", FREE, max_tokens=20)
    told = answer.json()
    assert (told["type"], told["role"], told["model"]) == ("message", "assistant", FREE)
    assert told["id"] == answer.headers["x-generation-id"]
    thinking, text = told["content"]
    assert thinking["thinking"].startswith("The user wants")
    assert thinking["signature"]
    assert text["text"].startswith("Simulated answer")
    assert (told["stop_reason"], told["usage"]["output_tokens"]) == ("max_tokens", 20)
    assert told["usage"]["output_tokens_details"] == {"thinking_tokens": 6}
    assert told["usage"]["cost"] == 0


async def test_a_paid_message_names_its_cost(serve: Serve) -> None:
    client, _ = serve(Scenario(accounts=(Account(credits=5),)))
    used = (await client.say("/messages", "openai/gpt-4o-mini", max_tokens=10)).json()["usage"]
    assert used["cost"] == pytest.approx(
        used["input_tokens"] * 0.00000015 + used["output_tokens"] * 0.0000006
    )


@pytest.mark.parametrize(
    ("kind", "reason", "blocks"),
    [
        ("ok", "end_turn", ["thinking", "text"]),
        ("empty", "end_turn", []),
        ("finish-error", None, []),
        ("all-reasoning", "max_tokens", ["thinking"]),
    ],
)
async def test_why_a_message_ends(serve: Serve, kind: str, reason: str, blocks: list[str]) -> None:
    told = (await scripted(serve, kind, FREE)).json()
    streamed = (await scripted(serve, kind, FREE, stream=True)).events()
    assert told["stop_reason"] == reason
    assert [block["type"] for block in told["content"]] == blocks
    started = [event for event in streamed if event["type"] == "content_block_start"]
    assert [event["content_block"]["type"] for event in started] == blocks
    assert [event["index"] for event in started] == list(range(len(blocks)))
    [delta] = [event for event in streamed if event["type"] == "message_delta"]
    assert delta["delta"]["stop_reason"] == reason


async def test_a_stream_has_the_recorded_events(serve: Serve) -> None:
    wanted = Answer(pieces=[(RECORDED / "messages-plain.sse").read_bytes()])
    answer = await scripted(serve, "ok", stream=True)
    assert answer.names() == wanted.names()
    first = {event["type"]: event for event in answer.events()}
    for event in wanted.events():
        assert contains(first[event["type"]], event)


def contains(told: Any, wanted: Any) -> bool:
    """Whether it has all members of the recorded one; newer documents add some."""
    if not isinstance(wanted, dict):
        return isinstance(told, type(wanted))
    return all(name in told and contains(told[name], each) for name, each in wanted.items())


async def test_a_stream_says_what_the_whole_message_says(serve: Serve) -> None:
    told = (await scripted(serve, "ok", FREE)).json()
    streamed = await scripted(serve, "ok", FREE, stream=True)
    deltas = [
        event["delta"] for event in streamed.events() if "index" in event and "delta" in event
    ]
    thinking, text = told["content"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == thinking["thinking"]
    assert "".join(delta.get("signature", "") for delta in deltas) == thinking["signature"]
    assert "".join(delta.get("text", "") for delta in deltas) == text["text"]
    *_, delta, _stop = streamed.events()
    assert delta["usage"].items() <= told["usage"].items()
    assert streamed.names() == [*BEGIN, *BLOCK, *BLOCK, "message_delta", "message_stop"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "clock"}, None])
async def test_a_tool_is_called(serve: Serve, choice: Any) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "use a tool"}]}]
    fields = {"messages": said, "tools": [CLOCK], "tool_choice": choice}
    told = (await scripted(serve, "ok", **fields)).json()
    use = told["content"][-1]
    assert (use["type"], use["name"], use["input"]) == (
        "tool_use",
        "clock",
        {"zone": "Europe/Paris"},
    )
    assert told["stop_reason"] == "tool_use"
    events = (await scripted(serve, "ok", **fields, stream=True)).events()
    parts = [event["delta"]["partial_json"] for event in events if "partial_json" in str(event)]
    assert len(parts) > 2
    assert json.loads("".join(parts)) == use["input"]


async def test_a_tools_result_is_answered_in_words(serve: Serve) -> None:
    result = {"type": "tool_result", "tool_use_id": "x", "content": "the tool says noon"}
    said = [{"role": "user", "content": [result, {"type": "text", "text": "clock"}]}]
    told = (await scripted(serve, "ok", messages=said, tools=[CLOCK])).json()
    assert told["stop_reason"] == "end_turn"


async def test_json_is_answered_where_it_is_wished(serve: Serve) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    told = (await scripted(serve, "ok", FREE, output_config=config)).json()
    assert told["content"][-1]["text"] == '{"n":3}'


# --- errors --------------------------------------------------------------------------------------


def masked(body: Any) -> Any:
    return json.loads(re.sub(r"gen-\d+-\w{20}", "gen-x", json.dumps(body)))


async def test_a_rate_limit_has_the_documented_body(serve: Serve) -> None:
    wanted = recorded("429-messages")
    answer = await scripted(serve, "bare-429")
    assert (answer.status, masked(answer.json())) == (429, masked(wanted["body"]))


@pytest.mark.parametrize(
    ("name", "kind"), [("401-messages", "key-unknown"), ("529-messages", "529")]
)
async def test_an_error_has_the_documented_shape(serve: Serve, name: str, kind: str) -> None:
    wanted = recorded(name)
    answer = await scripted(serve, kind)
    told = answer.json()
    assert answer.status == wanted["status"]
    assert told["error"]["type"] == wanted["body"]["error"]["type"]
    assert type(told["request_id"]) is type(wanted["body"]["request_id"])
    assert contains(told, wanted["body"])


@pytest.mark.parametrize(
    ("kind", "name", "error_type"),
    [
        ("credits", "billing_error", "payment_required"),
        ("moderation", "permission_error", "content_policy_violation"),
        ("gone", "not_found_error", "not_found"),
        ("too-large", "invalid_request_error", "payload_too_large"),
        ("context", "invalid_request_error", "context_length_exceeded"),
        ("408", "timeout_error", "timeout"),
        ("500", "api_error", "server"),
        ("502", "api_error", "provider_unavailable"),
        ("503-hint", "overloaded_error", "provider_overloaded"),
        ("524", "timeout_error", "timeout"),
    ],
)
async def test_errors_have_a_lossy_and_a_stable_name(
    serve: Serve, kind: str, name: str, error_type: str
) -> None:
    told = (await scripted(serve, kind)).json()["error"]
    assert (told["type"], told["error_type"]) == (name, error_type)


async def test_the_metadata_stand_beside_the_error(serve: Serve) -> None:
    told = (await scripted(serve, "day")).json()
    assert told["metadata"]["limit_source"] == "openrouter_free_tier_daily"
    assert told["request_id"] is None
    assert "metadata" not in (await scripted(serve, "408")).json()


async def test_missing_messages_are_named(serve: Serve) -> None:
    client, _ = serve(CALM)
    told = (await client.post("/api/v1/messages", {"model": PLAIN})).json()
    assert told["error"]["message"] == "Invalid request: messages is required"


async def test_an_error_in_the_stream_is_an_event_of_its_own(serve: Serve) -> None:
    wanted = recorded("stream-mid-messages-overloaded")["body"]
    answer = await scripted(serve, "break-after-content", stream=True)
    assert answer.names() == [*BEGIN, *BLOCK[:2], "error"]
    assert contains(answer.events()[-1], wanted)


async def test_an_error_comes_first_or_after_the_start(serve: Serve) -> None:
    assert (await scripted(serve, "error-in-200", stream=True)).names() == ["error"]
    assert (await scripted(serve, "error-first", stream=True)).names() == [*BEGIN, "error"]


async def test_a_truncated_stream_ends_inside_a_block(serve: Serve) -> None:
    answer = await scripted(serve, "truncated", stream=True)
    assert answer.names() == [*BEGIN, *BLOCK[:2]]
