"""From a client's body to a request, and back to a body for one model."""

import json
import random
from typing import Any

import pytest

from keywheel.errors import InvalidRequest
from keywheel.wire.ask import MAX_ID, SPEECHES, Request, read, reading
from keywheel.wire.fields import DOCUMENTED

HELLO: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Hello"}]},
    "completions": {"prompt": "Hello"},
    "responses": {"input": "Hello"},
    "messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9},
    "embeddings": {"input": ["Hello"]},
}
MODEL = "nvidia/nemotron-3-super-120b-a12b:free"


def ask(dialect: str = "chat", /, **fields: Any) -> Request:
    return read(json.dumps(HELLO[dialect] | fields).encode(), dialect)


def sent(request: Request) -> dict[str, Any]:
    return json.loads(request.with_model(MODEL))


STREAMS = [name for name in SPEECHES if name != "embeddings"]


@pytest.mark.parametrize("dialect", STREAMS)
def test_every_dialect_reads_and_writes(dialect: str) -> None:
    request = ask(dialect, model="auto", stream=True, temperature=0.5)
    assert (request.dialect, request.model, request.stream) == (dialect, "auto", True)
    assert request.tokens > 0
    assert request.models == ()
    assert not request.restricted
    expected = HELLO[dialect] | {"model": MODEL, "stream": True, "temperature": 0.5}
    assert sent(request) == expected


@pytest.mark.parametrize("stream", [True, False, None, "yes"])
@pytest.mark.parametrize("passthrough", [True, False])
def test_embeddings_never_stream_whatever_is_asked_for(stream: Any, passthrough: bool) -> None:
    fields = {"stream": stream, "stream_options": {"include_usage": True}, "dimensions": 9}
    body = json.dumps(HELLO["embeddings"] | fields).encode()
    request = read(body, "embeddings", passthrough=passthrough)
    assert not request.stream
    assert request.dropped == ("stream", "stream_options")
    assert sent(request) == HELLO["embeddings"] | {"model": MODEL, "dimensions": 9}


def test_defaults_of_a_bare_request() -> None:
    request = ask()
    assert (request.model, request.stream, request.reply_tokens) == (None, False, 0)
    assert (request.needs, request.dropped) == (frozenset(), ())


def test_bytes_and_order_are_kept() -> None:
    body = b'{ "new": [1,  2.50],"model" : "x", "messages":[{"role":"user","content":"\\u00e9 "}] }'
    assert read(body, "chat").with_model("y") == (
        b'{"new":[1,  2.50],"model":"y","messages":[{"role":"user","content":"\\u00e9 "}]}'
    )


def test_a_missing_model_is_put_first() -> None:
    body = b'{"messages":[{"content":"x"}],"seed":1}'
    assert read(body, "chat").with_model("y") == (
        b'{"model":"y","messages":[{"content":"x"}],"seed":1}'
    )


def test_a_second_model_cannot_be_smuggled_in() -> None:
    body = b'{"model":"free","messages":[{"content":"x"}],"mod\\u0065l":"paid"}'
    request = read(body, "chat")
    assert request.model == "paid"
    assert request.with_model("y") == b'{"model":"y","messages":[{"content":"x"}]}'


def test_an_odd_model_id_is_escaped() -> None:
    assert json.loads(ask().with_model('a"b\\'))["model"] == 'a"b\\'


def test_no_paid_route_survives_hostile_fields() -> None:
    """Requirement C21: whatever a client sends, one model is asked and nothing that costs."""
    rng = random.Random(1)
    values: tuple[Any, ...] = ("openai/gpt-5", ["openai/gpt-5"], [{"model": "openai/gpt-5"}], None)
    extras = {
        "route": "fallback",
        "plugins": [{"id": "web"}, {"id": "fusion", "model": "openai/gpt-5"}],
        "tools": [{"type": "openrouter:subagent", "parameters": {"model": "openai/gpt-5"}}],
        "web_search_options": {},
        "preset": "openai/gpt-5",
        "base_url": "https://example.org",
    }
    for _ in range(300):
        fields = {name: extra for name, extra in extras.items() if rng.random() < 0.5}
        fields["model"] = rng.choice(("openai/gpt-5", "auto", None))
        fields[rng.choice(("models", "fallbacks"))] = rng.choice(values)
        try:
            request = ask(**fields)
        except InvalidRequest:
            continue
        out = request.with_model(MODEL)
        assert b"openai/gpt-5" not in out
        assert json.loads(out) == HELLO["chat"] | {"model": MODEL}


def test_dropped_parts_are_named() -> None:
    request = ask(plugins=[{"id": "web"}], api_key="x", tools=[{"type": "web_search"}])
    assert request.dropped == ("api_key", "plugins.web", "tools.web_search")
    assert request.needs == frozenset()


def test_every_documented_field_survives_both_settings() -> None:
    skipped = {"models", "route", "fallbacks", "plugins", "tools", "tool_choice", "n"}
    typed: dict[str, Any] = {"stream": True, "model": "x", "provider": {}, "modalities": ["text"]}
    for dialect, names in DOCUMENTED.items():
        fields: dict[str, Any] = {}
        for name in sorted(names - skipped - set(HELLO[dialect])):
            fields[name] = typed.get(name)
        for passthrough in (True, False):
            body = json.dumps(HELLO[dialect] | fields | {"novelty": 1}).encode()
            request = read(body, dialect, passthrough=passthrough)
            out = sent(request)
            assert ("novelty" in out) is passthrough
            assert request.dropped == (() if passthrough else ("novelty",))
            out.pop("novelty", None)
            assert out == HELLO[dialect] | fields | {"model": MODEL}


@pytest.mark.parametrize(
    ("dialect", "fields", "tokens"),
    [
        ("chat", {"max_tokens": 5}, 5),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("chat", {"max_tokens": None}, 0),
        ("responses", {"max_output_tokens": 3}, 3),
        ("messages", {}, 9),
        ("embeddings", {"max_tokens": 5}, 0),
    ],
)
def test_reply_tokens(dialect: str, fields: dict[str, Any], tokens: int) -> None:
    assert ask(dialect, **fields).reply_tokens == tokens


def test_models_and_fallbacks() -> None:
    assert ask(model="a", models=["b", "c"]).models == ("b", "c")
    assert ask(models=[]).models == ()
    assert ask("messages", model="a", fallbacks=[{"model": "b"}]).models == ("a", "b")
    assert ask("messages", fallbacks=[{"model": "b"}]).models == ("b",)
    assert ask(model="").model is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"model": 5}, "model"),
        ({"models": "a"}, "models"),
        ({"models": ["a"], "fallbacks": [{"model": "b"}]}, "models"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"session_id": 5}, "session_id"),
        ({"provider": {"zdr": "yes"}}, "provider.zdr"),
        ({"response_format": "json"}, "response_format"),
        ({"functions": {}}, "functions"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^`{param}`") as caught:
        ask(**fields)
    assert caught.value.param == param
    assert "Send" in caught.value.message


def test_one_answer_asked_for_explicitly_is_fine() -> None:
    assert sent(ask(n=1))["n"] == 1


PART = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}
FILE = {"messages": [{"role": "user", "content": [PART]}]}
FREE_PARSER = {"id": "file-parser", "pdf": {"engine": "cloudflare-ai"}}


@pytest.mark.parametrize(
    ("dialect", "fields", "needs"),
    [
        ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        ("chat", {"tools": []}, set()),
        ("chat", {"functions": [{"name": "f"}]}, {"tools"}),
        ("chat", {"response_format": {"type": "json_object"}}, {"json_object"}),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema"}),
        ("chat", {"response_format": {"type": "grammar"}}, {"json_object"}),
        ("chat", {"response_format": {"type": "text"}}, set()),
        ("chat", {"response_format": None}, set()),
        ("responses", {"text": {"format": {"type": "json_schema"}}}, {"json_schema"}),
        ("responses", {"text": {"verbosity": "low"}}, set()),
        ("messages", {"output_config": {"format": {"type": "json_schema"}}}, {"json_schema"}),
        ("chat", {"reasoning": {"effort": "high"}}, {"reasoning"}),
        ("chat", {"reasoning": {"max_tokens": 100}}, {"reasoning"}),
        ("chat", {"reasoning": {"exclude": True}}, set()),
        ("chat", {"reasoning": {"enabled": False}}, {"reasoning_off"}),
        ("chat", {"reasoning_effort": "none"}, {"reasoning_off"}),
        ("responses", {"reasoning": {"effort": "low"}}, {"reasoning"}),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 9}}, {"reasoning"}),
        ("messages", {"thinking": {"type": "disabled"}}, {"reasoning_off"}),
        ("chat", {"thinking": True}, set()),
        ("chat", {"modalities": ["text", "image"]}, {"image_output"}),
        ("embeddings", {}, {"embeddings"}),
        ("chat", FILE, {"file"}),
        ("chat", FILE | {"plugins": [FREE_PARSER]}, set()),
        ("chat", FILE | {"plugins": [{"id": "file-parser"}]}, {"file"}),
    ],
)
def test_needs(dialect: str, fields: dict[str, Any], needs: set[str]) -> None:
    assert ask(dialect, **fields).needs == needs


def test_tool_schemas_count_as_tokens() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "word " * 400}}
    assert ask(tools=[tool]).tokens > ask().tokens + 400


def test_schemas_count_without_indentation_and_escapes() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "读取文件"}}]
    bodies = [
        json.dumps(HELLO["chat"] | {"tools": tools}, ensure_ascii=plain, indent=indent)
        for plain in (True, False)
        for indent in (None, 8)
    ]
    assert len({read(body.encode(), "chat").tokens for body in bodies}) == 1


@pytest.mark.parametrize(
    ("provider", "restricted"),
    [
        ({"data_collection": "deny"}, True),
        ({"zdr": True}, True),
        ({"data_collection": "allow", "zdr": False}, False),
        (None, False),
    ],
)
def test_privacy_limits_of_the_client_are_seen(provider: Any, restricted: bool) -> None:
    assert ask(provider=provider).restricted is restricted


def test_a_conversation_is_named_by_the_first_that_is_there() -> None:
    long = "x" * (MAX_ID + 1)
    body = json.dumps(HELLO["chat"] | {"session_id": "s", "prompt_cache_key": "p"}).encode()
    assert read(body, "chat", "h").conversation == "s"
    assert ask(session_id=long, prompt_cache_key="p").conversation == "p"
    body = json.dumps(HELLO["chat"] | {"prompt_cache_key": "p"}).encode()
    assert read(body, "chat", "h").conversation == "h"
    assert read(body, "chat", long).conversation == "p"
    assert ask(session_id="").conversation == ask().conversation
    assert ask().conversation is not None


def test_repr_shows_neither_prompt_nor_session() -> None:
    shown = repr(ask(session_id="canary-session", user="canary-user"))
    assert "canary" not in shown
    assert "Hello" not in shown


def test_a_request_without_its_body_is_still_the_same_request() -> None:
    request = read(b'{"model":"auto","messages":[{"role":"user","content":"Hello"}]}', "chat")
    slim = request.without_body()
    assert (slim.model, slim.tokens, slim.needs) == (request.model, request.tokens, request.needs)
    assert not slim.sent


def test_a_dialect_without_shapes_asks_for_none() -> None:
    assert ask("embeddings", reasoning_effort="none").needs == {"embeddings", "reasoning_off"}


def test_a_large_body_is_read_in_steps() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * 50_000}]}).encode()
    steps = reading(body, "chat")
    assert [next(steps, "end") for _ in range(3)] == [None] * 3
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == read(body, "chat")
