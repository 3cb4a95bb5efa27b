"""What single events say, in each dialect and in shapes that no document knows."""

import json
from typing import Any

import pytest

from keywheel.wire.dialects import DIALECTS, Reading, Usage, read_usage


def hear(name: str, event: Any) -> Reading:
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    return DIALECTS[name].hear(payload)


def said(reading: Reading) -> dict[str, Any]:
    """The members of a reading that say anything."""
    return {name: value for name in reading.__struct_fields__ if (value := getattr(reading, name))}


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"delta": members}]}


@pytest.mark.parametrize(
    ("event", "reading"),
    [
        (delta(content="Hi"), {"text": "Hi"}),
        (delta(content=""), {}),
        (delta(content=None, role="assistant"), {}),
        (delta(refusal="No."), {"text": "No."}),
        (delta(tool_calls=[{"index": 0}]), {"text": [{"index": 0}]}),
        (delta(tool_calls=[]), {}),
        (delta(function_call={"name": "f"}), {"text": {"name": "f"}}),
        (delta(images=["x"]), {"text": ["x"]}),
        (delta(audio={"data": "x"}), {"text": {"data": "x"}}),
        (delta(reasoning="Hm"), {"reasoning": "Hm"}),
        (delta(reasoning_content="Hm"), {"reasoning": "Hm"}),
        (delta(reasoning="Hm", content="Hi"), {"reasoning": "Hm", "text": "Hi"}),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"finish": "stop"}),
        ({"choices": [{"delta": {}, "finish_reason": 7}]}, {}),
        ({"choices": [None, {"delta": None}, {"delta": {"content": "b"}}]}, {"text": "b"}),
        ({"choices": [], "usage": None, "error": None}, {}),
        ({"id": "g", "model": "m", "created": 5}, {"id": "g", "model": "m", "created": 5}),
        ({"choices": [], "error": {"code": 502}}, {"error": True}),
        ({"choices": [{"error": {"code": 502}, "finish_reason": "error"}]}, {"error": True, "finish": "error"}),
        ({"error": "gone"}, {"error": True}),
        ({"error": {}}, {}),
        (b"[DONE]", {"kind": "[DONE]"}),
        (b" [DONE]\n", {"kind": "[DONE]"}),
    ],
)  # fmt: skip
def test_chat(event: Any, reading: dict[str, Any]) -> None:
    assert said(hear("chat", event)) == reading


def test_completions_have_their_text_in_the_choice() -> None:
    event = {"choices": [{"text": "Hi", "finish_reason": "length"}]}
    assert said(hear("completions", event)) == {"text": "Hi", "finish": "length"}


@pytest.mark.parametrize(
    ("event", "reading"),
    [
        ({"type": "message_start", "message": {"id": "g", "model": "m", "usage": {"input_tokens": 3}}},
         {"id": "g", "model": "m", "usage": Usage(3)}),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, {}),
        ({"type": "content_block_start", "content_block": {"type": "tool_use"}}, {"text": "tool_use"}),
        ({"type": "content_block_start", "content_block": {"type": "redacted_thinking"}},
         {"reasoning": "redacted_thinking"}),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, {"text": "Hi"}),
        ({"type": "content_block_delta", "delta": {"partial_json": "{"}}, {"text": "{"}),
        ({"type": "content_block_delta", "delta": {"thinking": "Hm"}}, {"reasoning": "Hm"}),
        ({"type": "content_block_delta", "delta": {"signature": "x"}}, {}),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
         {"finish": "end_turn", "usage": Usage(None, 4)}),
        ({"type": "ping"}, {}),
        ({"type": "error", "error": {"type": "overloaded_error"}}, {"error": True}),
    ],
)  # fmt: skip
def test_messages(event: dict[str, Any], reading: dict[str, Any]) -> None:
    assert said(hear("messages", event)) == {"kind": event["type"], **reading}


@pytest.mark.parametrize(
    ("event", "reading"),
    [
        ({"type": "response.created", "response": {"id": "r", "model": "m", "created_at": 5, "output": []}},
         {"id": "r", "model": "m", "created": 5}),
        ({"type": "response.output_text.delta", "delta": "Hi"}, {"text": "Hi"}),
        ({"type": "response.function_call_arguments.delta", "delta": "{"}, {"text": "{"}),
        ({"type": "response.reasoning_text.delta", "delta": "Hm"}, {"reasoning": "Hm"}),
        ({"type": "response.output_item.added", "item": {"type": "function_call"}}, {"text": "function_call"}),
        ({"type": "response.output_item.added", "item": {"type": "message", "content": []}}, {}),
        ({"type": "response.output_item.added", "item": {"type": "reasoning", "content": [{"text": "Hm"}]}}, {}),
        ({"type": "response.output_item.done", "item": {"type": "message", "content": [{"refusal": "No."}]}},
         {"text": "No."}),
        ({"type": "response.completed", "response": {"usage": {"input_tokens": 8, "output_tokens": 2}}},
         {"finish": "completed", "usage": Usage(8, 2)}),
        ({"type": "response.completed",
          "response": {"output": [{"type": "message"}, {"type": "message", "content": [{"text": "Hi"}]}]}},
         {"finish": "completed", "text": "Hi"}),
        ({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}},
         {"finish": "max_output_tokens"}),
        ({"type": "response.incomplete", "response": {}}, {"finish": "incomplete"}),
        ({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, {"error": True}),
        ({"type": "error", "error": {"message": "x"}}, {"error": True}),
    ],
)  # fmt: skip
def test_responses(event: dict[str, Any], reading: dict[str, Any]) -> None:
    assert said(hear("responses", event)) == {"kind": event["type"], **reading}


@pytest.mark.parametrize(
    ("name", "ends", "errors"),
    [
        ("chat", {"[DONE]"}, {"error"}),
        ("responses", {"[DONE]", "response.completed", "response.incomplete"},
         {"error", "response.error", "response.failed"}),
        ("messages", {"[DONE]", "message_stop"}, {"error"}),
    ],
)  # fmt: skip
def test_each_dialect_knows_its_ends(name: str, ends: set[str], errors: set[str]) -> None:
    assert (DIALECTS[name].ends, DIALECTS[name].errors) == (ends, errors)


def test_every_dialect_has_its_path() -> None:
    assert {dialect.path for dialect in DIALECTS.values()} == {
        "/chat/completions", "/completions", "/responses", "/messages", "/embeddings",
    }  # fmt: skip


# --- odd shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"7", b'"x"', b"{", b"{}x", b"<html>", b"\xff", b"\x00", b'{"\\ud800": 1}',
     b"[" * 10_000, b'{"choices": {}}', b'{"choices": [7], "delta": 7, "response": 7, "usage": 7}',
     b'{"id": ' + b"9" * 9_000 + b"}"],
)  # fmt: skip
def test_what_cannot_be_understood_says_nothing(payload: bytes) -> None:
    for dialect in DIALECTS.values():
        assert said(dialect.hear(payload)) == {}


@pytest.mark.parametrize(
    ("payload", "reading"),
    [
        (b'{"choices":[{"delta":{"content":"a\xff"}}]}', {"text": "a�"}),
        (b'{"choices":[{"delta":{"content":"a\x00"}}]}', {"text": "a\0"}),
        (b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', {"text": "\ud83d"}),
        (b'{"id":"g","choices":{},"error":{"code":502}}', {"id": "g", "error": True}),
        (b'{"choices":[],"created":NaN,"error":{"raw":"\\udfff"}}', {"error": True}),
    ],
)
def test_what_a_client_may_understand_is_understood(
    payload: bytes, reading: dict[str, Any]
) -> None:
    heard = said(hear("chat", payload))
    heard.pop("created", None)
    assert heard == reading


# --- usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 16, "completion_tokens": 4, "cost": 0}, Usage(16, 4)),
        ({"prompt_tokens": 16, "completion_tokens": 4, "cost": 0.5,
          "completion_tokens_details": {"reasoning_tokens": 3}}, Usage(16, 4, 3, 0.5)),
        ({"input_tokens": 9, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}, Usage(9, 2, 1)),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({"prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": -1}, "cost": -1}, Usage(5)),
        ({"prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": None}, "cost": 1e300}, Usage(5)),
        ({"prompt_tokens": 5, "cost": "much"}, Usage(5)),
        ({"prompt_tokens": -5, "completion_tokens": 4}, None),
        ({"prompt_tokens": 5, "completion_tokens": 10**12}, None),
        ({"prompt_tokens": 5.0}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": "5"}, None),
        ({}, None),
        (None, None),
        ("none", None),
    ],
)  # fmt: skip
def test_usage_is_read_and_absurd_figures_are_not_believed(usage: Any, read: Usage | None) -> None:
    assert read_usage(json.dumps({"choices": [], "usage": usage}).encode()) == read


def test_a_body_that_is_no_json_has_no_usage() -> None:
    assert read_usage(b"<html>") is None
