"""What a `model` and `models` come to, and the pools."""

import json
from pathlib import Path
from typing import Any

import pytest

from keywheel.errors import ModelNotFree
from keywheel.wire.menu import Menu, Taste, Wish, menu
from keywheel.wire.models import Entry, read_models

NOW = 1_790_000_000.0
REAL = Path(__file__).parent / "models" / "2026-08-16.json"


def listed(id: str, price: str = "0", **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "context_length": 32_000,
        "pricing": {"prompt": price, "completion": price},
    } | more


def entries(*models: dict[str, Any]) -> tuple[Entry, ...]:
    return read_models(json.dumps({"data": list(models)}).encode())


IMAGES = {"architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]}}
LIST = entries(
    listed("a/tiny-3b:free"),
    listed("b/coder-32b:free"),
    listed("c/large-400b:free", **IMAGES),
    listed("d/paid-9b", "0.000001"),
    listed("e/leaving-9b:free", expiration_date="2026-10-01"),
)


def test_auto_and_nothing_ask_for_the_best() -> None:
    found = menu(LIST, Taste(), NOW)
    assert found.wish("auto", (), NOW) == found.wish(None, (), NOW) == Wish()


def test_what_has_a_price_must_not_answer_for_what_has_none() -> None:
    assert menu(LIST, Taste(), NOW).costly == {"d/paid-9b"}


def test_an_id_comes_first_and_a_list_stands_for_itself() -> None:
    found = menu(LIST, Taste(), NOW)
    assert found.wish("a/tiny-3b:free", (), NOW) == Wish(first="a/tiny-3b:free")
    exactly = ("c/large-400b:free", "a/tiny-3b:free")
    assert found.wish("a/tiny-3b:free", exactly, NOW) == Wish(exactly)
    assert found.wish(None, ("auto",), NOW) == Wish()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("d/paid-9b", "paid"),
        ("d/paid-9b", "models.allow_paid"),
        ("x/unknown", "does not list it"),
        ("auto:nonsense", "auto:fast, auto:smart, auto:code, auto:vision"),
    ],
)
def test_what_may_not_be_used_is_refused_with_the_remedy(model: str, said: str) -> None:
    with pytest.raises(ModelNotFree, match=said) as caught:
        menu(LIST, Taste(), NOW).wish(model, (), NOW)
    assert caught.value.param == "model"


def test_a_pool_among_other_models_is_refused() -> None:
    with pytest.raises(ModelNotFree, match="a pool stands alone"):
        menu(LIST, Taste(), NOW).wish(None, ("auto:fast", "a/tiny-3b:free"), NOW)


def test_without_a_list_nothing_is_called_unknown() -> None:
    assert Menu().wish("x/unknown", (), NOW) == Wish(first="x/unknown")


def test_an_excluded_model_says_so() -> None:
    found = menu(LIST, Taste(exclude=("*tiny*",)), NOW)
    assert found.refusal(LIST[0], NOW) == "excluded by configuration"
    assert found.refusal(LIST[3], NOW) == "paid"
    assert found.refusal(LIST[1], NOW) is None


def test_the_first_expiry_is_when_the_menu_is_stale() -> None:
    found = menu(LIST, Taste(), NOW)
    assert "e/leaving-9b:free" in found.candidates
    later = menu(LIST, Taste(), found.stale_at)
    assert "e/leaving-9b:free" not in later.candidates


# --- pools -----------------------------------------------------------------------------------------


def test_fast_ranks_by_speed_alone() -> None:
    assert menu(LIST, Taste(), NOW).wish("auto:fast", (), NOW) == Wish(strategy="fastest")


def test_smart_goes_by_quality_and_size() -> None:
    wish = menu(LIST, Taste(), NOW).wish("auto:smart", (), NOW)
    assert wish.strategy == "ordered"
    assert wish.models[:2] == ("c/large-400b:free", "b/coder-32b:free")


def test_code_puts_models_made_for_code_first_and_keeps_the_rest() -> None:
    wish = menu(LIST, Taste(), NOW).wish("auto:code", (), NOW)
    assert wish.models[0] == "b/coder-32b:free"
    assert len(wish.models) == 4


def test_vision_needs_a_model_that_reads_images() -> None:
    found = menu(LIST, Taste(), NOW)
    assert found.wish("auto:vision", (), NOW) == Wish(needs=frozenset({"image"}))
    assert [e.id for e in found.ordered if found.pools["vision"].takes(e)] == ["c/large-400b:free"]


def test_an_own_pool_holds_what_its_patterns_match_in_their_order() -> None:
    taste = Taste(pools={"mine": ("*400b*", "a/*"), "fast": ("a/*",)})
    found = menu(LIST, taste, NOW)
    assert found.wish("auto:mine", (), NOW) == Wish(
        ("c/large-400b:free", "a/tiny-3b:free"), strategy="balanced"
    )
    assert found.wish("auto:fast", (), NOW).models == ("a/tiny-3b:free",)
    assert [e.id for e in found.ordered if found.pools["mine"].takes(e)] == [
        "c/large-400b:free",
        "a/tiny-3b:free",
    ]


def test_an_own_pool_without_a_living_model_is_refused() -> None:
    found = menu(LIST, Taste(pools={"gone": ("z/*",)}), NOW)
    with pytest.raises(ModelNotFree, match="belongs to 'auto:gone'"):
        found.wish("auto:gone", (), NOW)


def test_paid_models_are_admitted_last_and_enter_own_pools_only() -> None:
    taste = Taste(allow_paid=True, pools={"mine": ("d/*",)})
    found = menu(LIST, taste, NOW)
    assert found.ordered[-1].id == "d/paid-9b"
    assert found.wish("d/paid-9b", (), NOW).first == "d/paid-9b"
    assert found.wish("auto:mine", (), NOW).models == ("d/paid-9b",)
    assert all("d/paid-9b" not in found.pools[name].models for name in ("smart", "code"))
    smartest = menu(LIST, Taste("smartest", allow_paid=True), NOW)
    assert smartest.ordered[-1].id == "d/paid-9b"


def test_the_price_read_is_the_dearest_that_may_apply() -> None:
    pricing = {
        "prompt": "0.000001", "completion": "0.000002", "internal_reasoning": "0.000004", "request": "0.01",
        "image": "0.001", "overrides": [{"prompt": "0.000005", "min_prompt_tokens": 200_000}],
    }  # fmt: skip
    (entry,) = entries(listed("p/dear-1b", pricing=pricing))
    price = entry.model.price
    assert price == (0.000005, 0.000004, 0.01, True)
    assert entries(listed("f/free-1b:free"))[0].model.price == (0.0, 0.0, 0.0, False)


def test_the_real_list_has_all_four_pools() -> None:
    found = menu(read_models(REAL.read_bytes()), Taste(), NOW)
    members = {
        name: [entry.id for entry in found.ordered if wheel.takes(entry)]
        for name, wheel in found.pools.items()
    }
    assert len(members["fast"]) == len(members["smart"]) == len(members["code"]) == 15
    assert 0 < len(members["vision"]) < 15
    assert members["smart"]
    assert found.pools["code"].models[0] == "poolside/laguna-s-2.1:free"


# --- embeddings ------------------------------------------------------------------------------------

VECTORS = {"architecture": {"input_modalities": ["text"], "output_modalities": ["embeddings"]}}
NEEDED = frozenset({"embeddings"})
MIXED = (
    *LIST,
    *entries(listed("v/embed:free", **VECTORS), listed("w/paid-embed", "0.1", **VECTORS)),
)


def test_an_embedding_model_that_is_named_has_no_substitute() -> None:
    """Vectors of different models cannot be compared."""
    found = menu(MIXED, Taste(), NOW)
    assert found.wish("v/embed:free", (), NOW, NEEDED) == Wish((), "v/embed:free", "ordered", pinned=True)  # fmt: skip
    assert found.wish("auto", (), NOW, NEEDED) == Wish(strategy="ordered")
    assert found.wish(None, ("v/embed:free",), NOW, NEEDED).models == ("v/embed:free",)


@pytest.mark.parametrize(
    ("model", "needs", "said"),
    [
        ("v/embed:free", frozenset[str](), r"\(not a chat model\).*GET /v1/models"),
        ("a/tiny-3b:free", NEEDED, r"\(no embedding model\).*GET /v1/embeddings/models"),
        ("w/paid-embed", NEEDED, r"\(paid\).*allow_paid"),
        ("x/unknown", NEEDED, "does not list it"),
    ],
)
def test_chats_and_embeddings_have_models_of_their_own(
    model: str, needs: frozenset[str], said: str
) -> None:
    found = menu(MIXED, Taste(), NOW)
    for asked in ((model, ()), (None, (model,))):
        with pytest.raises(ModelNotFree, match=said):
            found.wish(*asked, NOW, needs)


@pytest.mark.parametrize("strategy", ["balanced", "smartest"])
def test_no_built_in_pool_and_no_strategy_puts_an_embedding_model_among_those_that_chat(
    strategy: str,
) -> None:
    found = menu(MIXED, Taste(strategy, allow_paid=True), NOW)
    assert [entry.model.embeds for entry in found.ordered].index(True) == len(found.ordered) - 2
    assert all("embed" not in id for wheel in found.pools.values() for id in wheel.models)
