"""Vectors, the models a scenario adds, and the routes about single models."""

import struct
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keywheel.sim import Behaviour, Scenario, ScenarioError, World, fixture_models, scenario
from tests.sim.client import EMBED, EMBED_ENTRY, FREE, Client

pytestmark = pytest.mark.anyio

Serve = Callable[..., tuple[Client, World]]
CALM = Scenario(dated_slugs=0)
API = "/api/v1"


async def embed(serve: Serve, **fields: Any) -> Any:
    client, _ = serve(CALM)
    return (await client.say("/embeddings", **fields)).json()


# --- embeddings ----------------------------------------------------------------------------------


async def test_a_vector_has_length_one_and_the_wished_dimensions(serve: Serve) -> None:
    told = await embed(serve, dimensions=32)
    [row] = told["data"]
    assert (told["object"], row["object"], row["index"]) == ("list", "embedding", 0)
    assert len(row["embedding"]) == 32
    assert sum(each * each for each in row["embedding"]) == pytest.approx(1)
    assert told["model"] == EMBED
    assert told["usage"] == {"prompt_tokens": 1, "total_tokens": 1, "cost": 0}


async def test_the_same_text_has_the_same_vector_in_both_encodings(serve: Serve) -> None:
    texts = ["one", "two", "one"]
    floats = [row["embedding"] for row in (await embed(serve, input=texts, dimensions=8))["data"]]
    packed = await embed(serve, input=texts, dimensions=8, encoding_format="base64")
    unpacked = [struct.unpack("<8f", b64decode(row["embedding"])) for row in packed["data"]]
    assert floats[0] == floats[2] != floats[1]
    assert [list(each) for each in unpacked] == [pytest.approx(each) for each in floats]


@pytest.mark.parametrize(
    ("given", "count"),
    [("text", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2),
     ([{"content": [{"type": "text", "text": "a"}]}], 1)],
)  # fmt: skip
async def test_each_input_has_a_vector(serve: Serve, given: Any, count: int) -> None:
    told = await embed(serve, input=given, dimensions=2)
    assert [row["index"] for row in told["data"]] == list(range(count))


@pytest.mark.parametrize(
    "fields",
    [{"input": ""}, {"input": []}, {"dimensions": -1}, {"dimensions": 10**9}, {"input": ["x"] * 3000},
     {"model": None}, {"model": FREE}],
)  # fmt: skip
async def test_what_cannot_be_embedded_is_refused(serve: Serve, fields: dict[str, Any]) -> None:
    client, _ = serve(CALM)
    body = {"model": EMBED, "input": "x", **fields}
    assert (await client.post(f"{API}/embeddings", body)).status == 400


async def test_vectors_are_never_streamed(serve: Serve) -> None:
    assert len((await embed(serve, stream=True))["data"]) == 1


@pytest.mark.parametrize("kind", ["empty", "finish-error", "all-reasoning"])
async def test_an_empty_list_of_vectors(serve: Serve, kind: str) -> None:
    client, world = serve(CALM)
    world.script(kind)
    assert (await client.say("/embeddings")).json()["data"] == []


async def test_vectors_take_no_time_a_token(serve: Serve, slept: list[float]) -> None:
    steady = Behaviour(ttft=1.0, ttft_spread=0, speed=1)
    client, _ = serve(Scenario(behaviour=steady), speed=1.0)
    await client.say("/embeddings")
    assert slept == [1.0]


# --- extra models --------------------------------------------------------------------------------


async def test_the_list_shows_text_unless_asked_for_more(serve: Serve) -> None:
    client, _ = serve(CALM)
    listed = {}
    for path in ("models", "models?output_modalities=all", "models?output_modalities=embeddings,x",
                 "embeddings/models", "models/user"):  # fmt: skip
        told = (await client.get(f"{API}/{path}")).json()["data"]
        listed[path] = {row["id"] for row in told}
    text = {model.id for model in fixture_models()} - {EMBED}
    assert listed["models"] == listed["models/user"] == text
    assert listed["models?output_modalities=all"] == text | {EMBED}
    assert listed["models?output_modalities=embeddings,x"] == listed["embeddings/models"] == {EMBED}


async def test_an_extra_model_may_speak_and_is_served_as_given(serve: Serve) -> None:
    row = dict(next(model.row for model in fixture_models() if model.id == FREE))
    row |= {"id": "someone/new:free", "canonical_slug": "someone/new-1"}
    client, _ = serve(Scenario(dated_slugs=0, extra_models=(row,)))
    assert (await client.chat("someone/new:free")).json()["model"] == "someone/new:free"
    assert (await client.get(f"{API}/models")).json()["data"][-1] == row


@pytest.mark.parametrize(
    ("change", "said"),
    [({"name": None}, "lacks name"), ({"pricing": {}}, "cannot be read: KeyError")],
)
def test_an_entry_that_is_not_whole_is_refused(change: dict[str, Any], said: str) -> None:
    entry = {name: each for name, each in (EMBED_ENTRY | change).items() if each is not None}
    with pytest.raises(ValueError, match=said):
        Scenario(extra_models=(entry,))


def test_a_file_may_add_models(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text('[[extra_models]]\nid = "a/b"', encoding="utf-8")
    with pytest.raises(ScenarioError, match="extra_models: 'a/b' lacks canonical_slug, name"):
        scenario(str(file))


# --- one model -----------------------------------------------------------------------------------


async def test_one_model_by_its_id_or_dated_slug(serve: Serve) -> None:
    client, _ = serve(CALM)
    row = next(model.row for model in fixture_models() if model.id == FREE)
    for name in (FREE, f"{row['canonical_slug']}:free"):
        assert (await client.get(f"{API}/model/{name}")).json() == {"data": row}


@pytest.mark.parametrize("path", ["model/a/b", "models/a/b/endpoints", f"models/{FREE}"])
async def test_what_is_not_listed_is_not_found(serve: Serve, path: str) -> None:
    client, _ = serve(CALM)
    assert (await client.get(f"{API}/{path}")).status == 404


async def test_routes_about_models_are_read_only(serve: Serve) -> None:
    client, _ = serve(CALM)
    assert (await client.post(f"{API}/model/{FREE}", {})).status == 405


async def test_an_alias_stands_for_its_target(serve: Serve) -> None:
    alias = EMBED_ENTRY | {"id": "~someone/latest", "alias_target": {"name": "", "slug": EMBED}}
    client, _ = serve(Scenario(extra_models=(alias,)))
    assert (await client.get(f"{API}/model/~someone/latest")).json()["data"] == EMBED_ENTRY
    told = (await client.get(f"{API}/models/~someone/latest/endpoints")).json()["data"]
    assert told["endpoints"] == []


async def test_an_alias_of_nothing_listed_is_told_as_it_is(serve: Serve) -> None:
    client, _ = serve(CALM)
    alias = next(model for model in fixture_models() if model.alias)
    assert (await client.get(f"{API}/model/{alias.id}")).json()["data"]["id"] == alias.id


async def test_endpoints_of_a_model(serve: Serve) -> None:
    client, _ = serve(CALM)
    told = (await client.get(f"{API}/models/{FREE}/endpoints")).json()["data"]
    [endpoint] = told.pop("endpoints")
    assert told.keys() == {"id", "name", "created", "description", "architecture"}
    assert (endpoint["provider_name"], endpoint["status"]) == ("Nvidia", 0)
    assert endpoint["uptime_last_30m"] == 100
    assert endpoint["latency_last_30m"] is endpoint["throughput_last_30m"] is None
    assert endpoint["supports_tool_choice"]["required"] is True


async def test_routers_have_no_endpoints(serve: Serve) -> None:
    client, _ = serve(CALM)
    told = (await client.get(f"{API}/models/openrouter/free/endpoints")).json()
    assert told["data"]["endpoints"] == []
