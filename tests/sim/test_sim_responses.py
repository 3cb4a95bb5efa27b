"""OpenAI's responses: items, numbered events, results that failed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keywheel.sim import Ask, Scenario, World
from keywheel.sim.dialects import DIALECTS
from tests.sim.client import FREE, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded"
Serve = Callable[..., tuple[Client, World]]
CALM = Scenario(dated_slugs=0)
CLOCK = {
    "type": "function",
    "name": "clock",
    "parameters": {"type": "object", "properties": {"zone": {"const": "Europe/Paris"}}},
}
BEGIN = ["response.created", "response.in_progress"]
ADDED, DONE = "response.output_item.added", "response.output_item.done"


async def scripted(serve: Serve, kind: str, model: str = PLAIN, **fields: Any) -> Answer:
    client, world = serve(CALM)
    world.script(kind)
    return await client.say("/responses", model, **fields)


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def asked(**fields: Any) -> Ask:
    return (
        DIALECTS["responses"]
        .read(json.dumps({"model": "a/b", "input": "hi", **fields}).encode())
        .ask
    )


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, {}),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"stream": True}, {"stream": True}),
        ({"instructions": "x" * 78}, {"prompt_tokens": 21}),
        ({"models": ["c/d", "e/f"]}, {"models": ("c/d", "e/f")}),
        ({"tools": [CLOCK]}, {"tools": True}),
        ({"tools": [CLOCK], "tool_choice": "none"}, {}),
        ({"reasoning": {"effort": "none"}}, {"reasoning_off": True}),
        ({"text": {"format": {"type": "json_object"}}}, {"json": True}),
        ({"text": {"format": {"type": "text"}}}, {}),
    ],
)
def test_needs(fields: dict[str, Any], needs: dict[str, Any]) -> None:
    assert asked(**fields) == Ask(**{"models": ("a/b",), "prompt_tokens": 1} | needs)


def test_images_are_seen() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    assert asked(input=[{"role": "user", "content": [image]}]).images


@pytest.mark.parametrize(
    ("said", "choice", "called"),
    [
        ("hello", None, False),
        ("hello", "required", True),
        ("hello", {"type": "function", "name": "clock"}, True),
        ("use a tool", "none", False),
        ("use a tool", "auto", True),
        ([{"role": "user", "content": [{"type": "input_text", "text": "the CLOCK"}]}], None, True),
        ([{"type": "function_call_output", "call_id": "x", "output": "the tool"}], None, False),
    ],
)
async def test_when_a_function_is_called(
    serve: Serve, said: Any, choice: Any, called: bool
) -> None:
    tools = [{"type": "web_search"}, CLOCK]
    told = (await scripted(serve, "ok", input=said, tools=tools, tool_choice=choice)).json()
    assert (told["output"][-1]["type"] == "function_call") is called


# --- results -------------------------------------------------------------------------------------


async def test_a_result_has_the_recorded_shape(serve: Serve) -> None:
    wanted = recorded("200-responses-ok")["body"]
    told = (await scripted(serve, "ok")).json()
    assert contains(told, wanted)
    assert told["error"] is told["incomplete_details"] is None


def contains(told: Any, wanted: Any) -> bool:
    """Whether it has all members of the recorded one, of the same types; newer documents add some."""
    if isinstance(wanted, list) and wanted:
        return bool(told) and contains(told[0], wanted[0])
    if not isinstance(wanted, dict):
        return isinstance(told, type(wanted))
    return all(name in told and contains(told[name], each) for name, each in wanted.items())


async def test_reasoning_is_an_item_before_the_message(serve: Serve) -> None:
    told = (await scripted(serve, "ok", FREE)).json()
    reasoning, message = told["output"]
    assert (reasoning["type"], message["type"]) == ("reasoning", "message")
    assert reasoning["content"][0]["text"].startswith("The user wants")
    used = told["usage"]
    assert 0 < used["output_tokens_details"]["reasoning_tokens"] < used["output_tokens"]
    assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]
    assert used["cost"] == 0


async def test_json_is_answered_where_it_is_wished(serve: Serve) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    told = (await scripted(serve, "ok", FREE, text={"format": form})).json()
    assert told["output"][-1]["content"][0]["text"] == '{"n":3}'


@pytest.mark.parametrize(
    ("kind", "status", "items"),
    [
        ("ok", "completed", ["reasoning", "message"]),
        ("empty", "completed", []),
        ("all-reasoning", "incomplete", ["reasoning"]),
        ("finish-error", "failed", []),
        ("context", "incomplete", []),
    ],
)
async def test_how_a_result_ends(serve: Serve, kind: str, status: str, items: list[str]) -> None:
    whole = (await scripted(serve, kind, FREE)).json()
    streamed = await scripted(serve, kind, FREE, stream=True)
    *_, last = streamed.events()
    assert last["type"] == f"response.{status}"
    for told in (whole, last["response"]):
        assert told["status"] == status
        assert [item["type"] for item in told["output"]] == items
        assert (told["incomplete_details"] is not None) is (status == "incomplete")
        assert told["error"] is None


async def test_too_long_a_prompt_is_noted_as_such(serve: Serve) -> None:
    client, world = serve(CALM)
    answer = await client.say("/responses", PLAIN, input="x" * 4_000_000)
    assert (answer.status, world.journal[-1].kind) == (200, "context")


# --- streams -------------------------------------------------------------------------------------


async def test_a_stream_has_the_recorded_events(serve: Serve) -> None:
    wanted = Answer(pieces=[(RECORDED / "responses-plain.sse").read_bytes()])
    answer = await scripted(serve, "ok", stream=True)
    assert set(wanted.names()) <= set(answer.names())
    first = {event["type"]: event for event in answer.events()}
    for event in wanted.events():
        assert contains(first[event["type"]], event)


async def test_the_events_of_text_in_their_order(serve: Serve) -> None:
    answer = await scripted(serve, "ok", stream=True)
    part, text = "response.content_part", "response.output_text"
    assert answer.names() == [
        *BEGIN,
        *(ADDED, f"{part}.added", f"{text}.delta", f"{text}.done", f"{part}.done", DONE),
        "response.completed",
    ]
    numbers = [event["sequence_number"] for event in answer.events()]
    assert numbers == list(range(len(numbers)))


async def test_a_stream_says_what_the_result_says(serve: Serve) -> None:
    told = (await scripted(serve, "ok", FREE)).json()
    events = (await scripted(serve, "ok", FREE, stream=True)).events()
    reasoning, message = told["output"]
    assert spoken(events, "response.reasoning_text.delta") == reasoning["content"][0]["text"]
    assert spoken(events, "response.output_text.delta") == message["content"][0]["text"]
    done = [event for event in events if event["type"] == DONE]
    assert [event["item"] for event in done] == told["output"] == events[-1]["response"]["output"]
    assert [event["output_index"] for event in done] == [0, 1]
    assert events[-1]["response"]["usage"] == told["usage"]


def spoken(events: list[Any], kind: str) -> str:
    return "".join(event["delta"] for event in events if event["type"] == kind)


async def test_a_function_call_comes_in_fragments(serve: Serve) -> None:
    answer = await scripted(serve, "ok", tools=[CLOCK], tool_choice="required", stream=True)
    kind = "response.function_call_arguments"
    events = answer.events()
    assert answer.names() == [
        *BEGIN, ADDED, f"{kind}.delta", f"{kind}.done", DONE, "response.completed",
    ]  # fmt: skip
    [item] = events[-1]["response"]["output"]
    assert json.loads(spoken(events, f"{kind}.delta")) == {"zone": "Europe/Paris"}
    assert spoken(events, f"{kind}.delta") == item["arguments"]
    assert (item["name"], item["status"]) == ("clock", "completed")


# --- errors --------------------------------------------------------------------------------------


async def test_a_failed_result_has_the_documented_shape(serve: Serve) -> None:
    wanted = recorded("200-responses-failed")["body"]
    told = (await scripted(serve, "error-in-200")).json()
    assert told.keys() == wanted.keys()
    assert contains(told, wanted)
    assert (told["error"]["code"], told["error_type"]) == ("server_error", "provider_unavailable")


async def test_a_failed_result_may_be_whole(serve: Serve) -> None:
    told = (await scripted(serve, "error-first")).json()
    assert (told["object"], told["status"], told["output"]) == ("response", "failed", [])
    assert told["error_type"] == "provider_unavailable"


async def test_a_result_that_broke_off_keeps_its_first_half(serve: Serve) -> None:
    told = (await scripted(serve, "break-after-content", FREE)).json()
    assert told["status"] == "failed"
    assert [item["status"] for item in told["output"]] == ["completed", "incomplete"]
    assert told["error"]["message"].startswith("Provider disconnected")


async def test_errors_in_streams_have_three_names(serve: Serve) -> None:
    broken = await scripted(serve, "break-after-content", stream=True)
    begun = await scripted(serve, "error-first", stream=True)
    bare = await scripted(serve, "error-in-200", stream=True)
    assert broken.names()[-1] == "response.failed"
    assert begun.names() == [*BEGIN, "response.error"]
    assert bare.names() == ["error"]
    assert contains(broken.events()[-1], recorded("stream-mid-responses-failed")["body"])
    assert begun.events()[-1]["error"]["code"] == bare.events()[0]["code"] == "server_error"


async def test_a_refusal_has_the_service_own_envelope(serve: Serve) -> None:
    answer = await scripted(serve, "day")
    told = answer.json()
    assert (answer.status, told["error"]["code"]) == (429, 429)
    assert told["error"]["metadata"]["limit_source"] == "openrouter_free_tier_daily"


async def test_a_truncated_stream_ends_inside_a_message(serve: Serve) -> None:
    answer = await scripted(serve, "truncated", stream=True)
    assert answer.names()[-1] == "response.output_text.delta"
