"""What is believed about one model: limits and standing."""

from keywheel.core.policy import Choice
from keywheel.core.states import ModelState
from keywheel.core.types import Ask, Model
from tests.core.build import ASK, NOON, breaker

BALANCED = Choice()


def state(**more: object) -> ModelState:
    return ModelState(Model("m1", 8_000, **more), 0, breaker())  # type: ignore[arg-type]


def test_the_catalogue_is_believed() -> None:
    made = state(max_output=100, can=frozenset({"tools"}))
    assert (made.room, made.most, made.offers) == (8_000, 100, {"tools"})
    assert state().misfit(Ask(reply_tokens=8_000), NOON) is None
    assert state().misfit(Ask(reply_tokens=8_001), NOON) == "context"
    assert made.misfit(Ask(reply_tokens=101), NOON) == "max_output"


def test_a_learnt_limit_never_raises_the_catalogues() -> None:
    made = state()
    made.learn_context(9_000, NOON)
    assert made.context(NOON) == 8_000


def test_what_was_learnt_ends_one_by_one() -> None:
    made = state(can=frozenset({"tools", "image"}))
    made.learn_context(1_000, NOON)
    made.learn_lack("tools", NOON + 600)
    asks = Ask(tokens=2_000), Ask(needs=frozenset({"tools"}))
    assert [made.misfit(ask, NOON + 600) for ask in asks] == ["context", "tools"]
    assert [made.misfit(ask, NOON + 1_800) for ask in asks] == [None, "tools"]
    assert [made.misfit(ask, NOON + 2_400) for ask in asks] == [None, None]


def test_a_new_listing_keeps_what_was_learnt() -> None:
    made = state()
    made.learn_context(1_000, NOON)
    made.list_as(Model("m1", 16_000), 3)
    assert made.context(NOON + 1) == 1_000
    assert made.context(NOON + 1_800) == 16_000
    assert made.rank == 3


def test_a_score_is_kept_until_it_is_to_be_worked_out_anew() -> None:
    made = state()
    score = made.score(ASK, 0, BALANCED)
    assert made.scores == {(0, 100): score}
    made.score_anew()
    assert made.scores == {}


def test_answers_of_different_length_are_scored_apart() -> None:
    made = state()
    made.learnt.at = NOON
    made.learnt.answered(100, 1.0, 101.0, 1_000)
    short, long = Ask(tokens=100, reply_tokens=10), Ask(tokens=100, reply_tokens=5_000)
    assert made.score(short, 0, BALANCED) < made.score(long, 0, BALANCED)
    assert set(made.scores) == {(0, 10), (0, 5_000)}
