"""Whether a complete 200 is the answer that was asked for, in every dialect."""

from typing import Any

import pytest
from tests.wire.replying import answered

from keywheel.wire.answers import flaw_in


def message(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None} | members


def chat(finish: str = "stop", usage: dict[str, Any] | None = None, **members: Any) -> Any:
    return {"choices": [{"message": message(**members), "finish_reason": finish}], "usage": usage}


def thought(given: int, reasoning: Any) -> dict[str, Any]:
    return {
        "completion_tokens": given,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize(
    ("row", "dialect", "body"),
    [
        ("ok", "chat", chat(content=" ")),
        ("ok", "chat", chat(images=[{"url": "x"}])),
        ("ok", "chat", chat("content_filter")),
        ("ok", "a-dialect-of-next-year", chat(content="x")),
        ("empty", "chat", chat(reasoning="Hm.")),
        ("empty", "chat", chat("tool_calls", tool_calls=[])),
        ("empty", "chat", chat("length", thought(600, 0))),
        ("empty", "chat", chat("length", thought(600, "all"))),
        ("empty", "chat", {"choices": []}),
        ("empty", "chat", {"choices": [None, 3]}),
        ("budget-spent-on-reasoning", "chat", chat("length", thought(600, 590))),
        ("budget-spent-on-reasoning", "chat", chat("length", reasoning="Hm.")),
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
    said = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [],
        "usage": {"output_tokens": 0},
    }
    assert flaw_in(said, "responses", {}) == "context-too-long"
