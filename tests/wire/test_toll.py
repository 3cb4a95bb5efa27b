"""Whatever could cost money or lead elsewhere does not leave."""

import json
from typing import Any

import pytest

from keywheel.errors import InvalidRequest
from keywheel.wire.members import members
from keywheel.wire.toll import pay_no, reads_files


def passed(**fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    kept, dropped = pay_no(members(json.dumps(fields).encode()))
    return {name: json.loads(bytes(raw)) for name, raw in kept.items()}, dropped


def test_fallback_fields_go_silently_since_they_are_served_here() -> None:
    sent, dropped = passed(models=["a"], route="fallback", fallbacks=[{"model": "b"}], top_k=4)
    assert sent == {"top_k": 4}
    assert dropped == ()


@pytest.mark.parametrize(
    "name", ["api_key", "api_base", "base_url", "preset", "web_search_options"]
)
def test_other_destinations_and_costs_are_dropped_by_name(name: str) -> None:
    assert passed(**{name: "x", "seed": 1}) == ({"seed": 1}, (name,))


def test_provider_preferences_pass_unchanged() -> None:
    provider = {"order": ["a"], "only": ["b"], "sort": "price", "max_price": {"prompt": 9}}
    assert passed(provider=provider) == ({"provider": provider}, ())


@pytest.mark.parametrize(
    "plugin",
    [
        {"id": "context-compression", "engine": "middle-out"},
        {"id": "response-healing"},
        {"id": "web", "enabled": False},
        {"id": "file-parser", "pdf": {"engine": "cloudflare-ai"}},
        {"id": "file-parser", "pdf": {"engine": "pdf-text"}},
        {"id": "file-parser", "pdf": {"engine": "native"}},
    ],
)
def test_plugins_known_to_be_free_pass(plugin: dict[str, Any]) -> None:
    assert passed(plugins=[plugin]) == ({"plugins": [plugin]}, ())


@pytest.mark.parametrize(
    "plugin",
    [
        {"id": "web"},
        {"id": "web-fetch"},
        {"id": "fusion", "enabled": True},
        {"id": "moderation"},
        {"id": "file-parser"},
        {"id": "file-parser", "pdf": {}},
        {"id": "file-parser", "pdf": {"engine": "mistral-ocr"}},
        {"id": "something-new"},
        {},
    ],
)
def test_other_plugins_are_dropped_by_name(plugin: dict[str, Any]) -> None:
    named = (f"plugins.{plugin.get('id', '')}",)
    assert passed(plugins=[plugin]) == ({}, named)
    healing = {"id": "response-healing"}
    assert passed(plugins=[plugin, healing]) == ({"plugins": [healing]}, named)


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "tool",
    [
        FUNCTION,
        {"type": "custom", "name": "c"},
        {"name": "anthropic", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "openrouter:datetime"},
        {"type": "namespace", "name": "n", "tools": []},
    ],
)
def test_tools_of_the_client_pass(tool: dict[str, Any]) -> None:
    assert passed(tools=[tool], tool_choice="auto") == (
        {"tools": [tool], "tool_choice": "auto"},
        (),
    )


@pytest.mark.parametrize(
    "kind",
    [
        "openrouter:web_search", "openrouter:fusion", "web_search", "web_search_preview", "web_search_20250305",
        "code_execution_20250825", "advisor_20260301", "image_generation", "mcp",
    ],
)  # fmt: skip
def test_tools_of_the_server_are_dropped_by_name(kind: str) -> None:
    tool = {"type": kind, "name": "search"}
    assert passed(tools=[tool, FUNCTION], tool_choice="auto") == (
        {"tools": [FUNCTION], "tool_choice": "auto"},
        (f"tools.{kind}",),
    )
    assert passed(tools=[tool], tool_choice="required") == ({}, (f"tools.{kind}", "tool_choice"))
    assert passed(tools=[tool]) == ({}, (f"tools.{kind}",))


@pytest.mark.parametrize(
    "choice", [{"type": "openrouter:web_search"}, {"type": "tool", "name": "search"}]
)
def test_a_choice_of_a_dropped_tool_goes_with_it(choice: dict[str, Any]) -> None:
    tools = [{"type": "web_search_20250305", "name": "search"}, FUNCTION]
    sent, dropped = passed(tools=tools, tool_choice=choice)
    assert sent == {"tools": [FUNCTION]}
    assert dropped == ("tools.web_search_20250305", "tool_choice")


def test_a_choice_of_a_kept_tool_stays() -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    sent, dropped = passed(tools=[FUNCTION], tool_choice=choice)
    assert sent["tool_choice"] == choice
    assert dropped == ()


def test_kept_entries_keep_their_bytes() -> None:
    body = b'{"plugins": [{"id":"web"}, {"id" : "response-healing", "x": 1.50}]}'
    kept, _ = pay_no(members(body))
    assert bytes(kept["plugins"]) == b'[{"id" : "response-healing", "x": 1.50}]'


@pytest.mark.parametrize("name", ["plugins", "tools"])
@pytest.mark.parametrize("content", ["web", ["web"]])
def test_lists_of_another_shape_are_refused(name: str, content: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"`{name}"):
        passed(**{name: content})


def test_an_empty_list_is_left_alone() -> None:
    assert passed(plugins=[], tools=None) == ({"plugins": [], "tools": None}, ())


def test_a_free_parser_reads_files_for_any_model() -> None:
    def reads(*plugins: dict[str, Any]) -> bool:
        return reads_files(members(json.dumps({"plugins": plugins}).encode()))

    parser = {"id": "file-parser", "pdf": {"engine": "cloudflare-ai"}}
    assert reads({"id": "web"}, parser)
    assert not reads({**parser, "enabled": False})
    assert not reads({"id": "file-parser", "pdf": {"engine": "native"}})
    assert not reads()
