"""Which model and which account a request gets, seen over the wire."""

from dataclasses import replace
from typing import Any

import pytest

from keywheel import sim
from keywheel.config import Config, ModelSettings
from tests.journeys.rig import HELLO, Rig, rig
from tests.sim.client import EMBED, EMBED_ENTRY

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SEEING: dict[str, Any] = {
    "messages": [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}]
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
CANARY = "conversation-canary-7f3a"


def offers(running: Rig, model: str) -> frozenset[str]:
    return running.engine.menu.entries[model].model.can


@pytest.mark.parametrize(
    ("fields", "ability"),
    [(SEEING, "image"), ({"tools": [TOOL]}, "tools"), ({"response_format": SCHEMA}, "json_schema")],
)
def test_only_a_model_that_can_gets_the_request(fields: dict[str, Any], ability: str) -> None:
    with rig() as running:
        for _ in range(6):
            assert running.chat(**fields).status_code == 200
        assert running.attempts
        assert all(ability in offers(running, model) for _, model, _ in running.attempts)


def test_what_no_allowed_model_can_is_said_with_those_that_could() -> None:
    with rig() as running:
        blind = next(e.id for e in running.engine.menu.ordered if "image" not in e.model.can)
        reply = running.chat(models=[blind], **SEEING)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["missing"]) == (400, "invalid_request", ["image"])  # fmt: skip
        assert "image" in error["message"]
        assert error["would_do"]
        assert all("image" in offers(running, model) for model in error["would_do"])
        assert running.attempts == []


def test_a_pool_serves_its_own_models_only() -> None:
    with rig(config=Config(pools={"mine": ("google/*",)})) as running:
        for name in ("auto:mine", "auto:vision", "auto:smart"):
            assert running.chat(model=name).status_code == 200
        (_, mine, _), (_, vision, _), (_, smart, _) = running.attempts
        assert mine.startswith("google/")
        assert "image" in offers(running, vision)
        assert smart == running.engine.menu.pools["smart"].models[0]
        refused = running.chat(model="auto:none")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_not_free")
        assert "auto:mine" in refused.json()["error"]["message"]


def test_a_conversation_stays_with_its_account_and_its_name_is_kept_nowhere() -> None:
    with rig() as running:
        talk = {"x-session-id": CANARY}
        for _ in range(8):
            assert running.chat(headers=talk).status_code == 200
        assert len({account for account, _, _ in running.attempts}) == 1
        assert CANARY not in running.http.get("/admin/stats").text
        assert not [name for name, _, _ in running.engine.pool.affinity.entries() if CANARY in name]
        for _ in range(8):
            running.chat()
        assert len({account for account, _, _ in running.attempts}) == 4


def test_later_turns_go_where_the_conversation_was() -> None:
    with rig() as running:
        turns = [{"role": "user", "content": "Tell me of Ada."}]
        for number in range(6):
            reply = running.chat(messages=turns)
            text = reply.json()["choices"][0]["message"]["content"]
            turns += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": str(number)},
            ]
        assert len({account for account, _, _ in running.attempts}) == 1


def test_a_model_that_privacy_settings_hide_costs_its_account_no_request() -> None:
    """Settings differ between accounts: `GET /models/user` tells, without a 404 first."""
    scenario = sim.scenario("calm")
    first, *others = scenario.accounts
    strict = replace(first, hidden=("*:free",))
    with rig(replace(scenario, accounts=(strict, *others))) as running:
        for _ in range(8):
            assert running.chat().status_code == 200
        assert {kind for _, _, kind in running.attempts} == {"ok"}
        assert len({account for account, _, _ in running.attempts}) == 3


# --- money -----------------------------------------------------------------------------------------


def paid_id(running: Rig) -> str:
    """A paid chat model of the list, not one of the dearest."""
    entries = running.engine.menu.entries.values()
    paid = [e for e in entries if e.why_not == "paid" and e.model.price.completion < 0.00001]
    return min(entry.id for entry in paid if entry.model.price.completion > 0)


def test_without_leave_a_paid_model_is_refused_and_nothing_is_sent() -> None:
    with rig() as running:
        reply = running.chat(model=paid_id(running))
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_free")
        assert "models.allow_paid" in reply.json()["error"]["message"]
        assert running.attempts == []


def test_with_leave_a_paid_model_is_used_by_name_until_the_days_sum_is_used_up() -> None:
    settings = ModelSettings(allow_paid=True, paid_per_day=1.0)
    scenario = sim.scenario("calm")
    rich = tuple(replace(account, credits=50.0) for account in scenario.accounts)
    with rig(replace(scenario, accounts=rich), Config(models=settings)) as running:
        paid = running.http.get("/v1/models").json()["data"]
        assert any(float(entry["pricing"]["completion"]) > 0 for entry in paid)
        running.engine.tidy()
        listed = running.engine.menu
        name = next(
            e.id for e in listed.ordered if not e.model.free and e.model.price.completion > 0
        )
        assert running.chat(model=name, max_tokens=20).status_code == 200
        assert running.attempts[0][1] == name
        for _ in range(10):
            assert running.chat().status_code == 200
        assert all(model.endswith(":free") for _, model, _ in running.attempts[1:])
        running.engine.pool.roster.purse.cap = 0.0
        reply = running.http.post(
            "/v1/chat/completions",
            json=HELLO | {"model": name, "max_tokens": 20},
            headers={"x-keywheel-fallback": "off"},
        )
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exhausted")
        assert "paid_per_day" in reply.json()["error"]["message"]


# --- embeddings ------------------------------------------------------------------------------------

DEAR = "someone/embed-large"
DEAR_ENTRY = EMBED_ENTRY | {"id": DEAR, "pricing": {"prompt": "0.1", "completion": "0"}}
WITH_DEAR = sim.Scenario(extra_models=(DEAR_ENTRY,))
WITHOUT = sim.Scenario(models={EMBED: sim.Behaviour(leaves_after=0.0)})


def embed(running: Rig, model: str, path: str = "/v1/embeddings") -> Any:
    return running.http.post(path, json={"model": model, "input": "hello"})


def test_embeddings_come_from_the_upstreams_list_of_embedding_models() -> None:
    with rig() as running:
        for model in ("auto", EMBED):
            reply = embed(running, model)
            assert (reply.status_code, reply.headers["x-keywheel-model"]) == (200, EMBED)
        [vector] = running.openai().embeddings.create(model=EMBED, input="hello").data
        assert len(vector.embedding) == 2048
        listed = {entry["id"] for entry in running.http.get("/v1/models").json()["data"]}
        assert EMBED not in listed
        for _ in range(5):
            assert running.chat().status_code == 200
        assert [model for _, model, _ in running.attempts].count(EMBED) == 3


def test_what_makes_no_embeddings_or_costs_money_is_refused() -> None:
    with rig(WITH_DEAR) as running:
        chats = running.engine.menu.ordered[0].id
        for model in (chats, DEAR):
            reply = embed(running, model)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_free")
        refused = running.chat(model=EMBED)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_not_free")
        assert running.attempts == []


@pytest.mark.parametrize("allow_paid", [False, True])
def test_the_list_of_embedding_models_has_those_that_can_be_used(allow_paid: bool) -> None:
    with rig(WITH_DEAR, Config(models=ModelSettings(allow_paid=allow_paid))) as running:
        for prefix in ("/v1", "/api/v1"):
            told = running.http.get(f"{prefix}/embeddings/models").json()
            assert [entry["id"] for entry in told["data"]] == [EMBED, DEAR][: 1 + allow_paid]
            assert told["data"][0] == EMBED_ENTRY
            assert told["total_count"] == len(told["data"])
        assert running.http.get(f"/v1/models/{EMBED}").json()["data"] == EMBED_ENTRY
        running.world.script("upstream-pool", model=EMBED)
        assert embed(running, EMBED).status_code == 502  # and so the model is closed
        told = running.http.get("/v1/embeddings/models").json()["data"]
        assert [entry["id"] for entry in told] == [DEAR] * allow_paid


def test_without_an_embedding_model_that_is_what_is_missing() -> None:
    with rig(WITHOUT) as running:
        assert running.http.get("/v1/embeddings/models").json()["data"] == []
        reply = embed(running, "auto")
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (400, "invalid_request")
        assert error["missing"] == ["embeddings"]
