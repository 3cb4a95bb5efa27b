"""What is read from a request: needs, tool calls, minimal JSON."""

import json
from typing import Any

import pytest

from keywheel.sim import Ask, Kind
from keywheel.sim.dialects import DIALECTS
from keywheel.sim.requests import MAX_BODY, ToolCall
from keywheel.sim.shapes import instance

read = DIALECTS["chat"].read
HELLO = [{"role": "user", "content": "hello"}]


def asked(**fields: Any) -> Ask:
    return read(json.dumps({"model": "a/b", "messages": HELLO, **fields}).encode()).ask


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, {}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stream": True}, {"stream": True}),
        ({"models": ["c/d", "e/f"]}, {"models": ("c/d", "e/f")}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools": True}),
        ({"tools": []}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}, {}),
        ({"response_format": {"type": "json_object"}}, {"json": True}),
        ({"response_format": {"type": "text"}}, {}),
        ({"reasoning": {"effort": "none"}}, {"reasoning_off": True}),
        ({"reasoning": {"enabled": False}}, {"reasoning_off": True}),
        ({"reasoning_effort": "none"}, {"reasoning_off": True}),
        ({"reasoning": {"effort": "high"}}, {}),
        ({"provider": {"require_parameters": True}}, {"require_parameters": True}),
        ({"provider": {"data_collection": "deny"}}, {"deny_collection": True}),
        ({"provider": {"zdr": True}}, {"deny_collection": True}),
        ({"temperature": 0.5, "unknown": [1]}, {}),
    ],
)
def test_needs(fields: dict[str, Any], needs: dict[str, Any]) -> None:
    expected = {"models": ("a/b",), "prompt_tokens": 9} | needs
    assert asked(**fields) == Ask(**expected)


def test_images_are_seen() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert asked(messages=[{"role": "user", "content": [image]}]).images


def test_a_longer_prompt_has_more_tokens() -> None:
    assert asked(messages=[{"role": "user", "content": "x" * 4000}]).prompt_tokens == 1008


def test_a_body_beyond_the_limit_is_refused_unread() -> None:
    assert read(b" " * (MAX_BODY + 1)).ask.flaw is Kind.TOO_LARGE


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL_WEATHER = ToolCall("get_weather", '{"city":"simulated"}')


@pytest.mark.parametrize(
    ("text", "choice", "call"),
    [
        ("hello", None, None),
        ("hello", "auto", None),
        ("hello", "required", CALL_WEATHER),
        ("hello", {"type": "function", "function": {"name": "clock"}}, ToolCall("clock", "{}")),
        ("please use a tool", None, CALL_WEATHER),
        ("ask the CLOCK", "auto", ToolCall("clock", "{}")),
        ("please use a tool", "none", None),
    ],
)
def test_when_a_tool_is_called(text: str, choice: Any, call: ToolCall | None) -> None:
    body = {
        "messages": [{"role": "user", "content": text}],
        "tools": [WEATHER, CLOCK],
        "tool_choice": choice,
    }
    assert read(json.dumps(body).encode()).call == call


def test_a_tools_result_is_answered_in_words() -> None:
    messages = [
        *HELLO,
        {"role": "tool", "tool_call_id": "x", "content": "the tool says 21 degrees"},
    ]
    body = {"messages": messages, "tools": [WEATHER]}
    assert read(json.dumps(body).encode()).call is None


def test_text_parts_are_read_too() -> None:
    parts = [{"type": "text", "text": "which"}, {"type": "text", "text": "tool"}]
    body = {"messages": [{"role": "user", "content": parts}], "tools": [WEATHER]}
    assert read(json.dumps(body).encode()).call == CALL_WEATHER


@pytest.mark.parametrize("messages", [[{"role": "user", "content": 5}], "tool", [{}]])
def test_messages_of_another_shape_call_nothing(messages: Any) -> None:
    body = {"messages": messages, "tools": [WEATHER]}
    assert read(json.dumps(body).encode()).call is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {}),
        ({"type": "string"}, "simulated"),
        ({"type": "string", "minLength": 12}, "simulated..."),
        ({"type": "string", "maxLength": 3}, "sim"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "integer"}, 0),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "integer", "exclusiveMinimum": 4}, 5),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["string", "null"]}, "simulated"),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 7}, 7),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"properties": {"a": {"type": "boolean"}}}, {"a": True}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 0),
        ({"$ref": "#/$defs/missing/deeper"}, None),
        ({"type": "object", "properties": 5}, {}),
        ({"type": "strange"}, None),
    ],
)
def test_the_minimal_instance(schema: dict[str, Any], value: Any) -> None:
    assert instance(schema) == value


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert json.dumps(instance(node)).count("next") < 20


def test_a_schema_cannot_ask_for_too_much() -> None:
    assert len(instance({"type": "string", "minLength": 10**9})) <= 64
