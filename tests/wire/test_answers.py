"""Whether a complete 200 is the answer that was asked for, in every dialect."""

from typing import Any

import pytest

from keywheel.wire.answers import flaw_in, is_failed
from tests.wire.replying import answered


def message(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None} | members


def chat(finish: str = "stop", usage: dict[str, Any] | None = None, **members: Any) -> Any:
    return {"choices": [{"message": message(**members), "finish_reason": finish}], "usage": usage}


def thought(given: int, reasoning: Any, name: str = "completion_tokens") -> dict[str, Any]:
    return {name: given, f"{name}_details": {"reasoning_tokens": reasoning}}


def cut_off(*output: Any, **usage: Any) -> dict[str, Any]:
    """A response that ran out of tokens."""
    return {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [*output],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("row", "dialect", "body"),
    [
        ("ok", "chat", chat(content=" ")),
        ("ok", "chat", chat(images=[{"url": "x"}])),
        ("ok", "chat", chat(function_call={"name": "f"})),
        ("ok", "chat", chat(audio={"id": "x"})),
        ("ok", "chat", chat("content_filter")),
        ("ok", "a-dialect-of-next-year", chat(content="x")),
        ("empty", "chat", chat(reasoning="Hm.")),
        ("empty", "chat", chat("tool_calls", tool_calls=[])),
        ("empty", "chat", chat("length", thought(600, 0))),
        ("empty", "chat", chat("length", thought(600, "all"))),
        ("empty", "chat", {"choices": []}),
        ("empty", "chat", {"choices": [None, 3]}),
        ("budget-spent-on-reasoning", "chat", chat("length", thought(600, 590))),
        ("budget-spent-on-reasoning", "chat", chat("length", thought(10, 9))),
        ("empty", "chat", chat("length", thought(600, 500))),
        ("empty", "chat", chat("length", thought(600, 539))),
        ("budget-spent-on-reasoning", "chat", chat("length", reasoning="Hm.")),
        ("budget-spent-on-reasoning", "chat", chat("length", reasoning_content="Hm.")),
        ("budget-spent-on-reasoning", "completions",
            {"choices": [{"text": "", "reasoning": "Hm.", "finish_reason": "length"}]}),
        ("malformed", "chat", {"choices": None}),
        ("malformed", "chat", []),
        ("malformed", "chat", b"{"),
        ("malformed", "chat", b""),
        ("malformed", "chat", b"\n<!DOCTYPE html>"),
        ("malformed", "chat", b'{"choices":[{"message":{"content":"x"}}],"x":NaN}'),
        ("malformed", "chat", b'{"choices":[{"message":{"content":"\xff"}}]}'),
        ("malformed", "chat", b"[" * 9_000),
        ("ok", "chat", b'\xef\xbb\xbf{"choices":[{"message":{"content":"\\ud83d"}}],"x":1e999}'),
        ("finish-error", "chat", chat("error", content="part")),
        ("ok", "completions", {"choices": [{"text": "x", "finish_reason": "stop"}]}),
        ("empty", "completions", {"choices": [{"text": "", "finish_reason": "stop"}]}),
        ("ok", "responses", {"output": [{"type": "function_call", "name": "f"}]}),
        ("ok", "responses", {"output": [{"type": "message", "content": [{"refusal": "No."}]}]}),
        ("ok", "responses", {"output": [], "status": "in_progress"}),
        ("empty", "responses", {"output": [{"type": "reasoning"}], "status": "completed"}),
        ("empty", "responses", {"output": [{"type": "reasoning", "content": [{"text": "Hm."}]}]}),
        ("empty", "responses", cut_off({"type": "message", "content": []})),
        ("context-too-long", "responses", cut_off(**thought(0, 0, "output_tokens"))),
        ("budget-spent-on-reasoning", "responses", cut_off(**thought(600, 590, "output_tokens"))),
        ("empty", "messages", {"content": [], "stop_reason": "max_tokens"}),
        ("budget-spent-on-reasoning", "messages", {"content": [{"type": "redacted_thinking"}],
            "stop_reason": "max_tokens"}),
        ("finish-error", "responses", {"output": [], "status": "failed", "error": None}),
        ("budget-spent-on-reasoning", "responses", {"output": [{"type": "reasoning"}], "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"}}),
        ("ok", "messages", {"content": [{"type": "text", "text": "x"}]}),
        ("ok", "messages", {"content": [{"type": "tool_use", "name": "f"}]}),
        ("ok", "messages", {"content": [], "stop_reason": "refusal"}),
        ("empty", "messages", {"content": [{"type": "text", "text": ""}], "stop_reason": "end_turn"}),
        ("budget-spent-on-reasoning", "messages", {"content": [{"type": "thinking"}],
            "stop_reason": "max_tokens"}),
        ("ok", "embeddings", {"data": [{"embedding": [0.1]}]}),
        ("empty", "embeddings", {"data": [{"embedding": []}]}),
        ("malformed", "embeddings", {"choices": []}),
    ],
)  # fmt: skip
def test_complete_answers(row: str, dialect: str, body: Any) -> None:
    assert answered(body, dialect) == row


@pytest.mark.parametrize(
    ("row", "headers"),
    [
        ("ok", {}),
        ("ok", {"content-type": "application/json; charset=utf-8", "content-encoding": "identity"}),
        ("ok", {"content-type": "Application/Problem+JSON"}),
        ("malformed", {"content-type": "text/html"}),
        ("malformed", {"content-type": "text/event-stream"}),
        ("malformed", {"content-encoding": "gzip"}),
    ],
)
def test_an_answer_of_another_kind_or_coded_is_malformed(row: str, headers: dict[str, str]) -> None:
    assert answered(chat(content="x"), headers=headers) == row


def test_an_empty_response_that_ran_out_of_tokens_had_too_long_a_prompt() -> None:
    """`/responses` reports a context error as a success: a model with more context may serve it."""
    assert flaw_in(cut_off(output_tokens=0), "responses", {}) == "context-too-long"


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (True, {"type": "response.failed"}),
        (True, {"type": "x", "response": {"status": "failed"}}),
        (True, {"response": {"choices": [{"finish_reason": "error"}]}}),
        (True, {"status": "failed"}),
        (False, {"status": "failed", "response": {"status": "completed"}}),
        (False, {"type": "response.completed", "response": {"status": "completed"}}),
        (False, {"choices": [{"finish_reason": "stop"}]}),
    ],
)
def test_an_answer_or_event_says_that_it_failed(failed: bool, said: dict[str, Any]) -> None:
    assert is_failed(said) == failed
