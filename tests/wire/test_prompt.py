"""What the five dialects say: texts, media, messages, conversations."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from keywheel.core.tokens import PER_MESSAGE, estimate
from keywheel.errors import InvalidRequest
from keywheel.wire import prompt as prompts
from keywheel.wire.members import Fields, members
from keywheel.wire.prompt import MAX_MESSAGES, Prompt

Reader = Callable[[Fields, Prompt], None]


def gathered(reader: Reader, **fields: Any) -> Prompt:
    prompt = Prompt()
    reader(members(json.dumps(fields).encode()), prompt)
    return prompt


def test_chat_texts_are_found_wherever_they_stand() -> None:
    call = {"id": "1", "function": {"name": "read", "arguments": '{"path": "a"}'}}
    prompt = gathered(
        prompts.read_chat,
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Hm."},
            {"role": "assistant", "function_call": {"name": "old", "arguments": {"a": 1}}},
            {"role": "tool", "tool_call_id": "1", "content": "done", "refusal": None},
        ],
    )
    assert prompt.texts == [
        "Be kind.", "Hello", "Hm.", "read", '{"path": "a"}', "old", '{"a":1}', "done",
    ]  # fmt: skip
    assert prompt.messages == 5
    assert (prompt.system, prompt.first) == ("Be kind.", "Hello")


def test_media_are_needs_and_no_text() -> None:
    data = "data:image/png;base64," + "A1b2" * 1_000
    parts = [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": data}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": data}},
        {"type": "novelty", "payload": data},
    ]
    prompt = gathered(prompts.read_chat, messages=[{"role": "user", "content": parts}])
    assert prompt.media == {"image", "audio", "video", "file"}
    assert prompt.tokens == PER_MESSAGE


def test_anthropic_blocks_and_system() -> None:
    prompt = gathered(
        prompts.read_anthropic,
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                    {"type": "document", "source": {"type": "text", "data": "plain words"}},
                    {
                        "type": "document",
                        "source": {
                            "type": "content",
                            "content": [{"type": "text", "text": "deep"}],
                        },
                    },
                    {"type": "search_result", "source": "https://example.org", "content": []},
                ],
            },
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "name": "t", "input": {"a": 1}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "content": "ok"}]},
        ],
    )
    assert prompt.texts == ["Be kind.", "plain words", "deep", "Hm.", "t", '{"a":1}', "ok"]
    assert prompt.media == {"image"}
    assert prompt.system == "Be kind."


def test_responses_items() -> None:
    prompt = gathered(
        prompts.read_responses,
        instructions="Be kind.",
        input=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "result"},
            {"type": "custom_tool_call", "name": "shell", "input": "ls"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "computer_call_output", "output": {"type": "input_image", "image_url": "x"}},
        ],
    )
    assert prompt.texts == ["Be kind.", "Hi", "f", "{}", "result", "shell", "ls", "Hm."]
    assert prompt.media == {"image"}
    assert (prompt.system, prompt.first, prompt.messages) == ("Be kind.", "Hi", 7)


def test_responses_text_is_one_user_message() -> None:
    prompt = gathered(prompts.read_responses, input="Hello")
    assert (prompt.texts, prompt.first, prompt.messages) == (["Hello"], "Hello", 1)


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("Hello", ["Hello"], 0),
        (["a", "b"], ["a", "b"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [3]], [], 3),
        ([{"content": [{"type": "text", "text": "x"}]}], ["x"], 0),
    ],
)
def test_plain_texts_and_token_ids(given: Any, texts: list[str], tokens: int) -> None:
    for reader, name in ((prompts.read_completion, "prompt"), (prompts.read_embeddings, "input")):
        prompt = gathered(reader, **{name: given})
        assert (prompt.texts, prompt.given) == (texts, tokens)
        assert prompt.conversation is None


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (prompts.read_chat, "messages"),
        (prompts.read_anthropic, "messages"),
        (prompts.read_responses, "input"),
        (prompts.read_completion, "prompt"),
        (prompts.read_embeddings, "input"),
    ],
)
def test_a_missing_or_empty_prompt_is_refused(reader: Reader, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`{name}` is missing") as caught:
        gathered(reader)
    assert caught.value.param == name
    with pytest.raises(InvalidRequest, match=f"`{name}` is (empty|missing)"):
        gathered(reader, **{name: []})


def test_at_most_a_thousand_messages() -> None:
    message = {"role": "user", "content": "x"}
    assert gathered(prompts.read_chat, messages=[message] * MAX_MESSAGES).messages == MAX_MESSAGES
    with pytest.raises(InvalidRequest, match="1001 messages"):
        gathered(prompts.read_chat, messages=[message] * (MAX_MESSAGES + 1))


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ([{"role": 1}], "messages[0].role"),
        ([{"content": 5}], "messages[0].content"),
        ([{"content": [{"type": "text", "text": {}}]}], "messages[0].content[0].text"),
    ],
)
def test_wrong_types_are_named_by_their_path(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        gathered(prompts.read_chat, messages=messages)
    assert caught.value.param == param


def test_tokens_count_texts_and_messages() -> None:
    messages = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    prompt = gathered(prompts.read_chat, messages=messages)
    assert prompt.tokens == pytest.approx(estimate("one\ntwo") + 2 * PER_MESSAGE)


def chat(*messages: tuple[str, str]) -> str | None:
    listed = [{"role": role, "content": content} for role, content in messages]
    return gathered(prompts.read_chat, messages=listed).conversation


def test_a_conversation_is_its_opening() -> None:
    opening = (("system", "Be kind."), ("user", "Hello"))
    first = chat(*opening)
    assert first is not None
    assert chat(*opening, ("assistant", "Hi"), ("user", "More"), ("system", "Stop.")) == first
    assert chat(("system", "Be brief."), ("user", "Hello")) != first
    assert chat(("system", "Be kind."), ("user", "Bye")) != first
    assert chat(("system", "Be kind.")) is None
