"""The lists of what can be used, when the upstream's entries are not as they should be."""

import json
import random
from typing import Any

import msgspec
import pytest

from keywheel import listing
from keywheel.engine import Engine
from keywheel.errand import route
from keywheel.wire.models import read_models
from tests.gateway.asgi import App, app, served

ODD: tuple[Any, ...] = (
    None, True, 7, -1, 0.5, 10**30, "", "x", "\ud83d", "1e999", [], [None], ["x", 5, {}, "tools"], {}, {"x": None},
    {"input_modalities": None}, {"input_modalities": "text"}, {"input_modalities": ["text", 5], "modality": 5},
)  # fmt: skip
MEMBERS = [name for name in served("a/b") if name != "id"] + ["top_provider", "reasoning", "links"]
VECTORS = {"architecture": {"input_modalities": ["text"], "output_modalities": ["embeddings"]}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def holding(*entries: dict[str, Any]) -> App:
    """A gateway whose upstream lists these."""
    it = app()
    it.engine.take_models(read_models(json.dumps({"data": entries}).encode()))
    return it


def ids(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["id"] for entry in entries]


def told_by_the_library(engine: Engine, path: str) -> Any:
    path, _, query = f"/v1{path}".partition("?")
    answer = route("GET", path, query).answer
    assert answer is not None
    return json.loads(answer(engine).body)


@pytest.mark.anyio
@pytest.mark.parametrize("member", ["supported_parameters", "architecture"])
@pytest.mark.parametrize("value", [None, 5, "text", [5], {"input_modalities": None}])
async def test_one_odd_entry_is_listed_like_the_others(member: str, value: Any) -> None:
    it = holding(served("a/good-8b:free"), served("b/odd-9b:free") | {member: value})
    for path in ("/models", "/models/auto", "/models/b/odd-9b:free", "/models/auto:fast"):
        reply = await it.call("GET", f"/v1{path}")
        assert reply.status == 200, path
        assert reply.json == told_by_the_library(it.engine, path)
    listed = (await it.call("GET", "/v1/models")).json["data"]
    assert {"auto", "a/good-8b:free", "b/odd-9b:free"} <= set(ids(listed))
    auto = listed[0]
    assert auto["supported_parameters"] == ["tools", "temperature"]
    assert auto["architecture"]["input_modalities"] == ["text"]


@pytest.mark.anyio
async def test_what_is_readable_of_an_odd_entry_counts() -> None:
    odd = {
        "architecture": {"input_modalities": ["text", 5, "image"]},
        "supported_parameters": ["seed", None],
    }
    it = holding(served("a/odd-9b:free") | odd)
    auto = (await it.call("GET", "/v1/models/auto")).json["data"]
    assert auto["supported_parameters"] == ["seed"]
    assert auto["architecture"]["input_modalities"] == ["text", "image"]


@pytest.mark.anyio
async def test_an_odd_embedding_model_is_listed_too() -> None:
    it = holding(served("a/b:free"), served("e/v:free") | VECTORS | {"supported_parameters": None})
    for path, expected in (("/embeddings/models", ["e/v:free"]), ("/models/e/v:free", "e/v:free")):
        told = (await it.call("GET", f"/v1{path}")).json
        assert told == told_by_the_library(it.engine, path)
        data = told["data"]
        assert (ids(data) if isinstance(data, list) else data["id"]) == expected


def test_no_entry_is_odd_enough_to_break_the_lists() -> None:
    rng = random.Random(7)
    for _ in range(400):
        odd = {name: rng.choice(ODD) for name in rng.sample(MEMBERS, rng.randint(1, len(MEMBERS)))}
        vectors = rng.choice(({}, VECTORS))
        it = holding(served("a/good-8b:free"), served("b/odd-9b:free") | vectors | odd)
        told = json.loads(listing.encode([listing.entries(it.engine), listing.vectors(it.engine)]))
        assert {"auto", "a/good-8b:free"} <= set(ids(told[0]))
        usable = {entry.id for embeds in (False, True) for entry in it.engine.models(embeds=embeds)}
        assert usable <= set(ids(told[0] + told[1]))
        for name in usable:
            assert isinstance(listing.find(it.engine, name), msgspec.Raw)


# --- pages -----------------------------------------------------------------------------------------

MANY = [f"e/v{number}:free" for number in range(5)]


def shelf() -> App:
    chats = [served(name.replace("v", "c")) for name in MANY]
    return holding(*chats, *(served(name) | VECTORS for name in MANY))


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
@pytest.mark.parametrize("path", ["/embeddings/models", "/models"])
async def test_pages_follow_one_another_to_the_whole_list(prefix: str, path: str) -> None:
    it = shelf()
    whole = (await it.call("GET", prefix + path)).json
    assert (whole["total_count"], whole["links"]["next"]) == (len(whole["data"]), None)
    found, following = list[dict[str, Any]](), f"{prefix}{path}?limit=2"
    while following:
        page = (await it.call("GET", following)).json
        assert page["total_count"] == whole["total_count"]
        assert 1 <= len(page["data"]) <= 2
        found += page["data"]
        following = page["links"]["next"]
    assert found == whole["data"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("offset=3", MANY[3:]), ("offset=0&limit=1000", MANY), ("offset=1&limit=2", MANY[1:3]),
        ("limit=5", MANY), ("offset=5", []), ("offset=&limit=1", MANY[:1]), ("category=finance", MANY),
    ],
)  # fmt: skip
async def test_offset_and_limit_choose_a_page(query: str, expected: list[str]) -> None:
    it, path = shelf(), f"/embeddings/models?{query}"
    told = (await it.call("GET", f"/v1{path}")).json
    assert sorted(ids((await it.call("GET", "/v1/embeddings/models")).json["data"])) == MANY
    assert ids(told["data"]) == expected
    assert told == told_by_the_library(it.engine, path)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("offset", "-1"), ("offset", "1.5"), ("offset", "9" * 5000)],
)  # fmt: skip
async def test_what_is_no_page_is_refused(name: str, value: str) -> None:
    it = shelf()
    for path in ("/v1/models", "/v1/embeddings/models", "/api/v1/embeddings/models"):
        reply = await it.call("GET", f"{path}?{name}={value}")
        assert reply.status == 400
        if path.startswith("/v1"):
            assert (reply.json["error"]["code"], reply.json["error"]["param"]) == (
                "invalid_request",
                name,
            )
