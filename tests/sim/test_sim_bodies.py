"""Bodies against recorded ones: captures and documents of 2025 to 2026, kept in `recorded/`."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from keywheel.sim import (
    Account,
    Ask,
    Behaviour,
    Kind,
    Scenario,
    World,
    bodies,
    create_app,
    demo_keys,
)
from keywheel.sim.kinds import COMMITTED
from keywheel.sim.requests import Request
from tests.sim.client import FREE, NOON, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded"
POOLSIDE, LIQUID = "poolside/laguna-xs-2.1:free", "liquid/lfm-2.5-2.6b:free"
COHERE = "cohere/north-mini-code:free"
RICH = Account(day_limit=1000, credits=10.0)

# Which kind, on which model, has to give which recorded answer.
REFUSALS = [
    ("429-minute", "minute", PLAIN),
    ("429-day-50", "day", PLAIN),
    ("429-upstream", "upstream-pool", POOLSIDE),
    ("429-upstream-retry-after-1", "upstream-hint", LIQUID),
    ("429-model-minute", "model-capacity", COHERE),
    ("429-model-day", "model-day", COHERE),
    ("401-user-not-found", "key-unknown", PLAIN),
    ("401-no-cookie", "no-key", PLAIN),
    ("402-insufficient-credits", "credits", PLAIN),
    ("402-never-purchased", "never-paid", PLAIN),
    ("402-in-flight-budget", "in-flight", PLAIN),
    ("402-afford-tokens", "afford", PLAIN),
    ("403-key-limit-weekly", "key-limit", PLAIN),
    ("403-harness-gate", "harness", COHERE),
    ("404-no-endpoints", "gone", COHERE),
    ("404-free-ended", "ended", COHERE),
    ("404-guardrail-privacy", "privacy", PLAIN),
    ("404-tool-use", "no-tools", PLAIN),
    ("404-image-input", "no-images", PLAIN),
    ("404-parameters", "no-parameters", PLAIN),
    ("400-context-length", "context", PLAIN),
    ("400-invalid-model-id", "bad-model", COHERE),
    ("400-models-array-too-long", "many-models", PLAIN),
    ("400-input-required", "no-input", PLAIN),
    ("400-reasoning-mandatory", "reasoning-mandatory", PLAIN),
    ("400-provider-wrapped", "provider-400", POOLSIDE),
    ("500-typed", "500", PLAIN),
    ("502-provider-unavailable", "502", PLAIN),
    ("503-no-backends", "503", PLAIN),
    ("503-retry-after", "503-hint", PLAIN),
    ("504-timeout-typed", "504", PLAIN),
    ("524-edge-timeout", "524", PLAIN),
    ("529-overloaded", "529", PLAIN),
]

# What may differ: ids, model names of another day, figures that the capture's request had.
MASKS = [
    (r"user_[0-9a-f]{27}", "user_x"),
    (r"gen-\d+-\w{20}", "gen-x"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"limit_rpd/\S+", "limit_rpd/<id>"),
    (r"(nex-agi|thinkingmachines|nonexistent|cohere|z-ai)/[\w.-]+(:free)?", "<model>"),
    (r"via [\w ]+\.", "via <provider>."),
    (r"keys/[0-9a-f]{8} ", "keys/<hash> "),
    (r"length is \d+ .* tokens \(\d+ of text input, \d+ in", "length is <n> tokens (<n> in"),
    (r"up to \d+ tokens, but can only afford \d+", "up to <n> tokens, but can only afford <n>"),
]


def masked(value: Any) -> Any:
    text = json.dumps(value)
    for pattern, replacement in MASKS:
        text = re.sub(pattern, replacement, text)
    return json.loads(text)


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def scripted(kind: str, model: str, now: float, **fields: Any) -> Answer:
    world = World(Scenario(accounts=(Account(),), dated_slugs=0), seed=1, start=now)
    world.script(kind)
    app = create_app(world, speed=inf, clock=lambda: now)
    tools = [{"type": "function", "function": {"name": "read"}}]
    return await Client(app, demo_keys(world.scenario)[0]).chat(model, tools=tools, **fields)


@pytest.fixture
def fixed_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawn hint is exactly a second, as in the capture."""
    monkeypatch.setattr("random.Random.uniform", lambda *_: 1)


@pytest.mark.usefixtures("fixed_hint")
@pytest.mark.parametrize(("name", "kind", "model"), REFUSALS)
async def test_a_refusal_has_the_recorded_body(name: str, kind: str, model: str) -> None:
    wanted = recorded(name)
    answer = await scripted(kind, model, instant(wanted["now"]))
    assert answer.status == wanted["status"]
    assert masked(answer.json()) == masked(wanted["body"])


@pytest.mark.usefixtures("fixed_hint")
@pytest.mark.parametrize(("name", "kind", "model"), REFUSALS)
async def test_a_refusal_has_the_recorded_headers(name: str, kind: str, model: str) -> None:
    wanted = recorded(name)
    answer = await scripted(kind, model, instant(wanted["now"]))
    expected = {each.lower(): value for each, value in wanted["headers"].items()}
    expected.pop("x-generation-id", None)  # its presence is tested below
    if name.startswith("429-model"):  # the captures show these in the body only
        expected |= {k.lower(): v for k, v in answer.json()["error"]["metadata"]["headers"].items()}
    shown = {"content-type", "retry-after", *(h for h in answer.headers if "ratelimit" in h)}
    assert {each: answer.headers[each] for each in shown if each in answer.headers} == expected


@pytest.mark.parametrize("name", ["429-minute", "429-day-50", "429-upstream"])
async def test_verbatim_captures_are_met_byte_for_byte(name: str) -> None:
    kind, model = next((kind, model) for each, kind, model in REFUSALS if each == name)
    wanted = recorded(name)
    answer = await scripted(kind, model, instant(wanted["now"]))
    body = json.dumps(wanted["body"], separators=(",", ":"), ensure_ascii=False)
    assert re.sub(r"user_[0-9a-f]{27}", "user_x", answer.body.decode()) == body


async def test_the_higher_tier_is_refused_in_its_own_words() -> None:
    wanted = recorded("429-day-1000")
    now = instant(wanted["now"])
    scenario = Scenario(accounts=(Account(day_limit=1000, used_today=1000),))
    world = World(scenario, start=now)
    client = Client(create_app(world, speed=inf, clock=lambda: now), demo_keys(scenario)[0])
    assert masked((await client.chat()).json()) == masked(wanted["body"])


@pytest.mark.parametrize(
    ("kind", "opened"),
    [("ok", True), ("bad-model", True), ("credits", True), ("upstream-pool", True), ("502", True),
     ("minute", False), ("day", False), ("key-unknown", False), ("not-json", False)],
)  # fmt: skip
async def test_only_what_the_router_saw_has_a_generation_id(kind: str, opened: bool) -> None:
    answer = await scripted(kind, PLAIN, NOON)
    identity = answer.headers.get("x-generation-id", "")
    assert bool(identity) is opened
    assert not opened or re.fullmatch(r"gen-1791201600-[0-9A-Za-z]{20}", identity)


async def test_every_answer_passes_through_the_edge() -> None:
    for kind in ("ok", "429", "502"):
        answer = await scripted("bare-429" if kind == "429" else kind, PLAIN, NOON)
        assert answer.headers["server"] == "cloudflare"
        assert re.fullmatch(r"[0-9a-f]{16}-[A-Z]{3}", answer.headers["cf-ray"])


async def test_answers_carry_no_rate_limits() -> None:
    answer = await scripted("ok", PLAIN, NOON)
    assert not [name for name in answer.headers if "ratelimit" in name or "retry" in name]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("error-in-200", "200-error-502-nvidia"),
        ("break-after-content", "200-choice-error-502"),
        ("finish-error", "200-finish-error-without-object"),
        ("empty", "200-empty-stop"),
        ("ok", "200-ok-reasoning"),
    ],
)
async def test_an_answer_has_the_recorded_shape(kind: str, shape: str) -> None:
    wanted = recorded(shape)["body"]
    answer = await scripted(kind, FREE, NOON)
    assert answer.status == 200
    told = answer.json()
    if kind == "break-after-content":  # documented without a provider; answers name one
        told = {name: value for name, value in told.items() if name in wanted}
    if kind == "ok":  # the capture leaves the details out
        del told["choices"][0]["message"]["reasoning_details"]
    assert skeleton(told) == skeleton(wanted)


def skeleton(value: Any) -> Any:
    """Names and types, in order."""
    if isinstance(value, dict):
        return [(name, skeleton(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [skeleton(value[0])] if value else []
    return "text?" if value is None or isinstance(value, str) else type(value).__name__


async def test_error_in_200_is_the_captured_text() -> None:
    answer = await scripted("error-in-200", FREE, NOON)
    assert answer.json()["error"] == recorded("200-error-502-nvidia")["body"]["error"]


async def test_a_tool_call_has_the_recorded_shape() -> None:
    wanted = recorded("200-ok-tool-call")["body"]
    answer = await scripted("ok", FREE, NOON, tool_choice="required", reasoning={"effort": "none"})
    assert skeleton(answer.json()) == skeleton(wanted)


async def test_all_reasoning_spends_the_whole_budget_on_thoughts() -> None:
    body = (await scripted("all-reasoning", FREE, NOON, max_tokens=30)).json()
    choice, used = body["choices"][0], body["usage"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
    assert choice["message"]["reasoning"]
    assert used["completion_tokens_details"]["reasoning_tokens"] == used["completion_tokens"] == 30


async def test_usage_adds_up_and_costs_nothing_on_free_models() -> None:
    used = (await scripted("ok", FREE, NOON, max_tokens=20)).json()["usage"]
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    assert (used["completion_tokens"], used["cost"]) == (20, 0)


async def test_the_answer_names_its_model_and_is_as_long_as_asked() -> None:
    short = (await scripted("ok", PLAIN, NOON, max_tokens=4)).json()["choices"][0]["message"]
    assert short["content"] == f"Simulated answer from {PLAIN}."


async def test_bodies_before_july_2026_have_no_limit_source(
    serve: Callable[..., tuple[Client, World]],
) -> None:
    old = Scenario(limit_source=False, models={FREE: Behaviour(minute_cap=1)})
    client, world = serve(old)
    world.script("minute")
    answer = (await client.chat()).json()["error"]
    assert set(answer["metadata"]) == {"headers", "provider_name"}
    await client.chat(FREE)
    assert "limit_rpm/nvidia/" in (await client.chat(FREE)).json()["error"]["message"]


async def test_errors_of_earlier_models_are_quoted(
    serve: Callable[..., tuple[Client, World]],
) -> None:
    client, world = serve(Scenario())
    world.script("upstream-pool", model=FREE)
    world.script("503", model=PLAIN)
    body = (await client.chat(models=[FREE, PLAIN])).json()
    assert body["error"]["message"] == "No backends available"
    [quoted] = body["error"]["metadata"]["previous_errors"]
    assert (quoted["code"], quoted["provider_name"]) == (429, "Nvidia")
    assert quoted["raw"].startswith(f"{FREE} is temporarily rate-limited upstream.")


async def test_get_key_has_the_recorded_fields_and_the_newest_ones(
    serve: Callable[..., tuple[Client, World]],
) -> None:
    client, _ = serve(Scenario(accounts=(Account(used_today=2, day_limit=1000, credits=10),)))
    answer = await client.get("/api/v1/key")
    told, wanted = answer.json()["data"], recorded("key")["data"]
    assert told.pop("budgets") == []
    assert told.pop("effective_budget") is None
    assert set(told) == set(wanted)
    told["creator_user_id"], told["label"] = wanted["creator_user_id"], wanted["label"]
    told["limit"] = told["limit_remaining"] = 1  # the capture's key had a cap
    assert told == wanted
    assert answer.headers["cache-control"] == "private, no-store"


async def test_the_label_masks_the_key(serve: Callable[..., tuple[Client, World]]) -> None:
    client, _ = serve(Scenario())
    assert (await client.get("/api/v1/key")).json()["data"]["label"] == "sk-or-v1-000...001"


async def test_the_daily_counter_may_be_absent(serve: Callable[..., tuple[Client, World]]) -> None:
    client, _ = serve(Scenario(daily_counter=False))
    assert "free_model_daily_requests" not in (await client.get("/api/v1/key")).json()["data"]


def test_every_refusal_has_a_row() -> None:
    world = World(Scenario(accounts=(RICH,)), start=NOON)
    for kind in set(Kind) - COMMITTED:
        world.script(kind)
        ruling = world.attempt(demo_keys()[0], Ask(models=(PLAIN,)), NOON)
        assert bodies.refuse(ruling, Request(Ask())).status >= 400
