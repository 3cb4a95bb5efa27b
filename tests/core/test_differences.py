"""Why two decisions about the same record differ, said in a sentence."""

from math import log

import pytest

from keywheel.core.decisions import Decision, Passed
from keywheel.core.differences import reason
from keywheel.core.ranking import Score


def score(answer: float, failures: float, place: float) -> Score:
    return Score(log(answer + failures) + place, answer, failures, place, 0)


CHEAP, DEAR = score(4.0, 1.0, 0.0), score(4.0, 1.0, 1.0)
BY_LIST = Score(1.0, 0.0, 0.0, 0.0, 1)


def decision(
    model: str | None,
    key: str = "k1",
    scores: tuple[Score | None, Score | None] = (CHEAP, DEAR),
    passed: tuple[Passed, ...] = (),
    at_home: bool = False,
    no_lane: str | None = None,
    ids: tuple[str, str] = ("m1", "m2"),
) -> Decision:
    ranked = tuple(zip(ids, scores, strict=True))
    if model is None:
        return Decision(0.0, ranked, passed, no_lane=no_lane)
    return Decision(0.0, ranked, passed, key, "a1", model, at_home)


CLOSED = (("m2", "closed", 9.0),)
CASES = {
    "nothing": (decision("m1"), decision(None, no_lane="unfit"), "no model fits the request"),
    "nothing, unknown cause": (decision("m1"), decision(None), "nothing could be used"),
    "something": (
        decision(None, passed=CLOSED),
        decision("m2"),
        "it may use m2, which was kept back: the model is closed for now",
    ),
    "something that nothing was told of": (
        decision(None),
        decision("m2"),
        "it tries as a last resort what only our own guesses close",
    ),
    "stays": (
        decision("m1"),
        decision("m1", "k2", at_home=True),
        "the account that knows the conversation is kept",
    ),
    "stays not": (
        decision("m1", at_home=True),
        decision("m1", "k2"),
        "the account that knows the conversation is not kept",
    ),
    "key": (decision("m1"), decision("m1", "k2"), "another key has most left"),
    "not listed": (
        decision("m2"),
        decision("m1", ids=("m1", "m3")),
        "m2 is not on its list",
    ),
    "kept out": (
        decision("m2"),
        decision("m1", passed=(("m2", "tools", 0.0),)),
        "m2: it cannot do this: tools",
    ),
    "let in": (
        decision("m1", passed=CLOSED),
        decision("m2"),
        "it may use m2, which was kept back: the model is closed for now",
    ),
    "place": (
        decision("m1"),
        decision("m2", scores=(DEAR, CHEAP)),
        "m2 13.6 s → 5.0 s (place × 2.72 → × 1.00); m1 5.0 s → 13.6 s (place × 1.00 → × 2.72)",
    ),
    "failures": (
        decision("m1"),
        decision("m2", scores=(score(4.0, 9.0, 0.0), DEAR)),
        "m2 13.6 s → 13.6 s; m1 5.0 s → 13.0 s (failures 1.0 → 9.0 s)",
    ),
    "scores came": (
        decision("m1", scores=(None, BY_LIST)),
        decision("m2", scores=(DEAR, CHEAP)),
        "m2 by its place → 5.0 s; m1 by its place → 13.6 s",
    ),
    "scores went": (
        decision("m1"),
        decision("m2", scores=(None, None)),
        "m2 stands before m1 in its list",
    ),
    "the same lane once more": (
        decision("m1"),
        Decision(0.0, (), (), "k1", "a1", "m2"),
        "m2 stands before m1 in its list",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_told_by_what_makes_it(name: str) -> None:
    old, new, said = CASES[name]
    assert reason(old, new) == said
