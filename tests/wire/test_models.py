"""The model list: what is free, what chats, in which order; and the facts of a key."""

import json
import random
from math import inf
from pathlib import Path
from typing import Any

import pytest

from keywheel.wire.facts import KeyFacts, read_balance, read_key
from keywheel.wire.loose import BadCatalogue, mend
from keywheel.wire.models import (
    UNKNOWN_CONTEXT,
    UNKNOWN_SIZE,
    Entry,
    billions,
    order,
    read_listing,
    read_models,
    smartest_key,
)
from keywheel.wire.preferences import CURATED, FOUNDING

REAL = (Path(__file__).parent / "models" / "2026-08-16.json").read_bytes()
NOW = 1_786_838_400.0  # 2026-08-16T00:00:00Z
CHAT = (
    "nvidia/nemotron-3-super-120b-a12b:free",
    "google/gemma-4-31b-it:free",
    "nvidia/nemotron-3-ultra-550b-a55b:free",
    "google/gemma-4-26b-a4b-it:free",
    "nvidia/nemotron-3.5-lightning:free",
    "dots-studio/dots-3-note-preview:free",
    "openai/gpt-oss-20b:free",
    "poolside/laguna-s-2.1:free",
    "cohere/north-mini-code:free",
    "nvidia/nemotron-3-nano-omni-30b-a3b-reasoning:free",
    "nvidia/nemotron-3-nano-30b-a3b:free",
    "poolside/laguna-xs-2.1:free",
    "nvidia/nemotron-nano-12b-v2-vl:free",
    "nvidia/nemotron-nano-9b-v2:free",
    "liquid/lfm-2.5-2.6b:free",
)
FREE = {"prompt": "0", "completion": "0"}


def served(model_id: str = "a/b:free", **fields: Any) -> dict[str, Any]:
    return {"id": model_id, "pricing": FREE, "context_length": 32_000} | fields


def listed(*entries: Any) -> tuple[Entry, ...]:
    return read_models(json.dumps({"data": entries}).encode())


def one(**fields: Any) -> Entry:
    return listed(served(**fields))[0]


def ids(entries: tuple[Entry, ...], *preferred: str, **options: Any) -> list[str]:
    return [entry.id for entry in order(entries, preferred, **({"now": NOW} | options))]


def test_the_real_list_has_19_free_models_of_which_15_chat_in_the_curated_order() -> None:
    listing = read_listing(REAL)
    assert (len(listing.entries), listing.skipped) == (413, {})
    free = {entry.id: entry.why_not for entry in listing.entries if entry.model.free}
    assert len(free) == 19
    assert {name: why for name, why in free.items() if why} == {
        "nvidia/nemotron-3.5-content-safety:free": "safety classifier",
        "google/lyria-3-pro-preview": "not a chat model",
        "google/lyria-3-clip-preview": "not a chat model",
        "openrouter/free": "router",
    }
    assert ids(listing.entries) == list(CHAT)


def test_the_real_list_by_quality() -> None:
    smart = sorted(order(read_models(REAL), now=NOW), key=smartest_key)
    assert [entry.id for entry in smart[:3]] == [
        "nvidia/nemotron-3-ultra-550b-a55b:free",
        "nvidia/nemotron-3-super-120b-a12b:free",
        "google/gemma-4-31b-it:free",
    ]


def test_the_real_list_in_facts() -> None:
    by_id = {entry.id: entry for entry in read_models(REAL)}
    gemma = by_id["google/gemma-4-26b-a4b-it:free"]
    assert gemma.model.context == 131_072  # the provider's, not the model's 262,144
    assert gemma.model.max_output == 32_768
    assert gemma.model.can >= {"tools", "image", "video", "json_object", "json_schema", "reasoning"}
    gpt = by_id["openai/gpt-oss-20b:free"].model
    assert gpt.reasoning
    assert "reasoning_off" not in gpt.can
    assert by_id["deepseek/deepseek-v3.1-terminus"].expires == 1_786_924_800.0  # 2026-08-17
    assert b'"id":"openai/gpt-oss-20b:free"' in bytes(by_id["openai/gpt-oss-20b:free"].raw)
    assert sum("tools" in by_id[name].model.can for name in CHAT) == 15


@pytest.mark.parametrize(
    ("pricing", "why"),
    [
        ({"prompt": "0", "completion": "0"}, None),
        ({"prompt": 0, "completion": 0.0, "image": None}, None),
        ({"prompt": "0.000", "completion": " 0e-9 ", "request": "0", "discount": 0.5}, None),
        ({"prompt": "0", "completion": "0", "overrides": [{"min_prompt_tokens": 9, "prompt": "0"}]}, None),
        ({"prompt": "0", "completion": "0", "overrides": [{"min_prompt_tokens": 9, "prompt": "1"}]}, "paid"),
        ({"prompt": "0", "completion": "0", "request": "0.001"}, "paid"),
        ({"prompt": "0", "completion": "0", "image_output": 1}, "paid"),
        ({"prompt": "1e-400", "completion": "0"}, "paid"),
        ({"prompt": "0.0000001", "completion": "0"}, "paid"),
        ({"prompt": "-1", "completion": "-1"}, "router"),
        ({"prompt": "-0.5", "completion": "0"}, "price unknown"),
        ({"prompt": "0"}, "price unknown"),
        ({"completion": "0"}, "price unknown"),
        ({"prompt": None, "completion": "0"}, "price unknown"),
        ({"prompt": "free", "completion": "0"}, "price unknown"),
        ({"prompt": "nan", "completion": "0"}, "price unknown"),
        ({"prompt": False, "completion": "0"}, "price unknown"),
        ({"prompt": [], "completion": "0"}, "price unknown"),
        ({}, "price unknown"),
        (None, "price unknown"),
        ("0", "price unknown"),
    ],
)  # fmt: skip
def test_free_is_exactly_zero_in_every_field(pricing: Any, why: str | None) -> None:
    entry = one(pricing=pricing)
    assert entry.why_not == why
    assert entry.model.free is (why is None)


@pytest.mark.parametrize(
    ("model_id", "why"),
    [
        ("vendor/chat", None),
        ("~vendor/chat-latest", "alias"),
        ("openrouter/free", "router"),
        ("vendor/chat:free:online", "routing suffix"),
        ("vendor/chat:nitro", "routing suffix"),
        ("meta-llama/llama-guard-4-12b:free", "safety classifier"),
        ("google/shieldgemma-9b", "safety classifier"),
        ("vendor/text-moderation", "safety classifier"),
        ("vendor/text-embedding-3", "not a chat model"),
        ("vendor/rerank-v3", "not a chat model"),
        ("vendor/whisper-large", "not a chat model"),
    ],
)
def test_only_chat_models_are_candidates(model_id: str, why: str | None) -> None:
    assert listed(served(model_id))[0].why_not == why


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ({"input_modalities": ["image", "text"], "output_modalities": ["text"]}, None),
        ({"modality": "text+image->text"}, None),
        ({}, None),
        (None, None),
        ({"input_modalities": ["audio"], "output_modalities": ["text"]}, "not a chat model"),
        ({"input_modalities": ["text"], "output_modalities": ["text", "image"]}, "not a chat model"),
        ({"modality": "text->embeddings"}, None),
        ({"modality": "image->embeddings"}, "no model for text"),
        ({"modality": "text->text+embeddings"}, "not a chat model"),
    ],
)  # fmt: skip
def test_chat_is_text_in_and_text_out_and_embeddings_are_made_of_text(
    architecture: Any, why: str | None
) -> None:
    assert one(architecture=architecture).why_not == why


VECTORS = {"modality": "text->embeddings"}


def test_a_model_that_makes_embeddings_says_so_and_comes_last_of_all() -> None:
    entries = listed(
        served("v/embed-9b:free", architecture=VECTORS), served("a/small-1b:free"),
        served("p/dear", pricing={"prompt": "1", "completion": "1"}),
        served("q/dear-embed", pricing={"prompt": "0.01", "completion": "0"}, architecture=VECTORS),
    )  # fmt: skip
    assert [e.model.embeds for e in entries] == [True, False, False, True]
    assert ids(entries, "v/*", forgive=frozenset({"paid"})) == [
        "a/small-1b:free", "p/dear", "v/embed-9b:free", "q/dear-embed",
    ]  # fmt: skip
    assert entries[3].why_not == "paid"


def test_capabilities_have_the_names_that_requests_use() -> None:
    entry = one(
        architecture={"modality": "text+image+audio+file->text+image"},
        supported_parameters=["tools", "structured_outputs", "include_reasoning", "seed", 5],
    )
    assert entry.model.can == {
        "image", "audio", "file", "tools", "json_schema", "reasoning", "reasoning_off", "image_output",
    }  # fmt: skip
    mandatory = one(reasoning={"mandatory": True}).model
    assert mandatory.can == {"reasoning"}


@pytest.mark.parametrize(
    ("fields", "context", "output"),
    [
        ({"context_length": 9, "top_provider": {"context_length": 5}}, 5, None),
        ({"context_length": 9, "top_provider": {"max_completion_tokens": 4}}, 9, 4),
        ({"context_length": None, "top_provider": {"context_length": 5}}, 5, None),
        ({"context_length": None, "top_provider": None}, UNKNOWN_CONTEXT, None),
        ({"context_length": "16384"}, 16_384, None),
        ({"context_length": -1}, UNKNOWN_CONTEXT, None),
        ({"context_length": "1e999999"}, UNKNOWN_CONTEXT, None),
    ],
)
def test_context_and_output_bounds(
    fields: dict[str, Any], context: int, output: int | None
) -> None:
    model = one(**fields).model
    assert (model.context, model.max_output) == (context, output)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html><body>502</body></html>",
        b'{"error":{"message":"x"}}',
        b'{"data":{}}',
        b'{"data":[]}',
        b'{"data":[{"id":5},"x",null]}',
        b'{"data":[{"id":"\xff"}]}',
        b"[" * 100_000,
        b"[]",
        REAL[: len(REAL) // 2],
    ],
)
def test_garbage_is_refused_as_a_whole(payload: bytes) -> None:
    with pytest.raises(BadCatalogue) as caught:
        read_models(payload)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"\uDE00 and more", "\ufffd and more"),
        (rb"\ud83d\n\ude00", "\ufffd\n\ufffd"),
        (rb"\ud83d\u0041", "\ufffdA"),
        (rb"\ud83d\ud83d\ude00\ud83d", "\ufffd\U0001f600\ufffd"),
        (rb"\\ud83d \\\ud83d", "\\ud83d \\\ufffd"),
        (rb"\"\\\"\ud83d\\ude00", '"\\"\ufffd\\ude00'),
        (b"\xff\xed\xa0\xbd \xc3\xa9", "\ufffd\ufffd\ufffd\ufffd \xe9"),
    ],
)
@pytest.mark.parametrize("member", ["name", "description"])
def test_what_no_text_can_hold_spoils_no_more_than_itself(
    member: str, said: bytes, read: str
) -> None:
    odd = json.dumps(served(name="B")).encode()[:-1] + b',"%b":"%b"}' % (member.encode(), said)
    plain = json.dumps(served("c/d:free", description="\U0001f600 \\ud83d")).encode()
    first, second = read_models(b'{"data":[%b,%b]}' % (odd, plain))
    assert json.loads(bytes(first.raw))[member] == read  # a client reads it, too
    assert first.name == (read if member == "name" else "B")
    assert bytes(second.raw) == plain
    assert first.why_not is second.why_not is None


def test_only_halves_of_surrogate_pairs_are_mended() -> None:
    rng = random.Random(5)
    pieces = (
        r"\ud83d",
        r"\uDBFF",
        r"\ude00",
        r"\uDfFf",
        r"\u0041",
        r"\uFFFF",
        r"\\",
        r"\"",
        r"\n",
        "u",
        "d83d",
        "é",
    )
    for _ in range(3_000):
        said = '"' + "".join(rng.choices(pieces, k=rng.randint(1, 8))) + '"'
        read = "".join(
            "\ufffd" if "\ud800" <= char <= "\udfff" else char for char in json.loads(said)
        )
        assert json.loads(mend(said.encode())) == read, said


def test_half_a_surrogate_pair_in_an_id_leaves_that_model_out() -> None:
    listing = read_listing(b'{"data":[{"id":"a/\\ud83d"},{"id":"c/d"}]}')
    assert [entry.id for entry in listing.entries] == ["c/d"]
    assert listing.skipped == {"odd id": 1}


def test_a_list_that_is_too_big_is_not_even_read() -> None:
    with pytest.raises(BadCatalogue, match="more than 100"):
        read_models(REAL, max_size=100)


def test_odd_entries_are_skipped_and_counted() -> None:
    entries = [served(), served(), {"name": "no id"}, 5, {"id": ""}, served("bad id\r\nx: y")]
    listing = read_listing(json.dumps({"data": entries}).encode())
    assert [entry.id for entry in listing.entries] == ["a/b:free"]
    assert listing.skipped == {"listed twice": 1, "not understood": 2, "odd id": 2}


def test_an_entry_with_only_an_id_is_read() -> None:
    entry = listed({"id": "a/b"})[0]
    assert (entry.name, entry.created, entry.expires) == ("a/b", 0.0, None)
    assert entry.why_not == "price unknown"


@pytest.mark.parametrize(
    ("date", "expires"),
    [
        ("2026-08-17", NOW + 86_400),
        ("2026-08-17T06:00:00Z", NOW + 108_000),
        ("2026-08-17T06:00:00+06:00", NOW + 86_400),
        ("soon", None),
        (20260817, None),
        (None, None),
    ],
)
def test_expiry_dates(date: Any, expires: float | None) -> None:
    assert one(expiration_date=date).expires == expires


def test_an_expired_model_is_no_candidate() -> None:
    entry = one(expiration_date="2026-08-17")
    assert entry.refusal(NOW) is None
    assert entry.refusal(NOW + 86_400) == "expired"
    assert ids((entry,), now=NOW + 86_400) == []
    paid = one(expiration_date="2026-08-17", pricing={"prompt": "1", "completion": "1"})
    assert paid.refusal(NOW + 86_400) == "paid"


def test_the_founding_five_lead_where_alive() -> None:
    alive = [*reversed(FOUNDING), CURATED[0][0], "new/giant-900b:free"]
    entries = listed(*map(served, alive))
    assert ids(entries) == [*FOUNDING, CURATED[0][0], "new/giant-900b:free"]


def test_preferred_patterns_lead_in_their_order() -> None:
    entries = read_models(REAL)
    found = ids(entries, "openai/gpt-oss-20b", "POOLSIDE/*", "gone/model")
    assert found[:3] == [
        "openai/gpt-oss-20b:free",
        "poolside/laguna-s-2.1:free",
        "poolside/laguna-xs-2.1:free",
    ]
    assert sorted(found) == sorted(CHAT)


def test_excluded_patterns_are_out() -> None:
    entries = read_models(REAL)
    found = ids(entries, exclude=("nvidia/*", "*gemma-4-31b-it"))
    assert found == [name for name in CHAT if not name.startswith("nvidia/") and "31b" not in name]


def test_unknown_models_go_by_size_context_tools_and_age() -> None:
    tools = {"supported_parameters": ["tools"]}
    entries = listed(
        served("x/old-8b", created=1),
        served("x/new-8b", created=2),
        served("x/tools-8b", created=1, **tools),
        served("x/long-8b", context_length=64_000),
        served("x/unnamed"),
        served("x/big-70b"),
    )
    wanted = ["x/big-70b", "x/unnamed", "x/long-8b", "x/tools-8b", "x/new-8b", "x/old-8b"]
    assert ids(entries) == ids(entries[::-1]) == wanted


def test_paid_models_come_last_and_only_when_forgiven() -> None:
    paid = served("x/giant-900b", pricing={"prompt": "1", "completion": "1"})
    entries = listed(paid, served("x/small-1b"))
    assert ids(entries) == ["x/small-1b"]
    forgive = frozenset({"paid"})
    assert ids(entries, forgive=forgive) == ["x/small-1b", "x/giant-900b"]
    assert ids(entries, "x/giant*", forgive=forgive)[0] == "x/giant-900b"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("nvidia/nemotron-3-ultra-550b-a55b:free", 550),
        ("nvidia/nemotron-3-super-120b-a12b", 120),
        ("mistralai/mixtral-8x7b-instruct", 56),
        ("google/gemma-3n-e4b-it:free", 4),
        ("inclusionai/ling-2.6-1t", 1_000),
        ("liquid/lfm-2.5-2.6b:free", 2.6),
        ("x/tiny-350m", 0.35),
        ("microsoft/phi-3-mini-128k-instruct", UNKNOWN_SIZE),
    ],
)
def test_total_parameters_are_read_from_the_name(name: str, size: float) -> None:
    assert billions(name) == pytest.approx(size)


KEY: dict[str, Any] = {
    "label": "sk-or-v1-abc...123",
    "is_management_key": False,
    "limit": 1,
    "limit_reset": "daily",
    "limit_remaining": 0.25,
    "is_free_tier": False,
    "expires_at": "2026-08-17T00:00:00Z",
    "creator_user_id": "user_x",
    "free_model_daily_requests": {"used": 2, "limit": 1000, "remaining": 998},
}


def key(**fields: Any) -> KeyFacts:
    facts = read_key(json.dumps({"data": fields}).encode())
    assert facts is not None
    return facts


def test_the_facts_of_a_key() -> None:
    facts = key(**KEY)
    assert facts == KeyFacts(
        account_id="user_x",
        free_used=2,
        free_limit=1000,
        limit=1.0,
        limit_remaining=0.25,
        limit_reset="daily",
        is_free_tier=False,
        expires_at=NOW + 86_400,
    )
    assert "sk-or" not in repr(facts)
    assert "user_x" not in repr(facts)


def test_everything_about_a_key_is_optional() -> None:
    assert key() == KeyFacts()
    odd = {"free_model_daily_requests": [], "is_free_tier": 1, "budgets": "x", "limit": "x"}
    assert key(**odd, expires_at=5) == KeyFacts()


def test_half_a_surrogate_pair_hides_no_fact_of_a_key() -> None:
    assert key(**KEY | {"label": "\ud83d", "novelty": "\ude00"}) == key(**KEY)
    assert key(creator_user_id="user\ud83d").account_id == "user\ufffd"


@pytest.mark.parametrize("name", ["is_management_key", "is_provisioning_key"])
def test_management_keys_are_seen(name: str) -> None:
    assert key(**{name: True}).is_management


@pytest.mark.parametrize(
    ("budgets", "until"),
    [
        ([], None),
        ([{"remaining_usd": 1, "resets_at": "2026-08-17T00:00:00Z"}], None),
        ([{"remaining_usd": None}], None),
        ([{"remaining_usd": 0, "resets_at": "2026-08-17T00:00:00Z"}], NOW + 86_400),
        (
            [
                {"remaining_usd": -1, "resets_at": "2026-08-18T00:00:00Z"},
                {"remaining_usd": 0, "resets_at": "2026-08-17T00:00:00Z"},
            ],
            NOW + 172_800,
        ),
        ([{"remaining_usd": 0, "resets_at": None}, 5], inf),
    ],
)
def test_a_used_up_budget_names_its_end(budgets: Any, until: float | None) -> None:
    assert key(budgets=budgets).spent_until == until


@pytest.mark.parametrize("payload", [b"", b"<html>", b'{"data":[]}', b'{"error":{}}'])
def test_what_is_no_key_answer_says_nothing(payload: bytes) -> None:
    assert read_key(payload) is None


@pytest.mark.parametrize(
    ("data", "balance"),
    [
        ({"total_credits": 10, "total_usage": 2.5}, 7.5),
        ({"total_credits": "10", "total_usage": "12"}, -2.0),
        ({"total_credits": 10}, None),
        ({"total_credits": True, "total_usage": 0}, None),
        ({}, None),
    ],
)
def test_a_balance_is_what_was_bought_less_what_was_used(
    data: dict[str, Any], balance: float | None
) -> None:
    assert read_balance(json.dumps({"data": data}).encode()) == balance


@pytest.mark.parametrize("payload", [b"", b"<html>", b"[]", b'{"data":7}'])
def test_what_is_no_answer_about_credits_says_nothing(payload: bytes) -> None:
    assert read_balance(payload) is None
