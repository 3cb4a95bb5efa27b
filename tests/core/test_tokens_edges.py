"""Token estimates of very long texts and of runs that are nearly dense."""

from math import log

import pytest

from keywheel.core import tokens
from keywheel.core.tokens import LATIN, LIMIT, Ratio, estimate


def test_a_very_long_text_is_judged_by_all_its_parts() -> None:
    third = LIMIT // 2
    parts = [" word" * (third // 5), "模" * third, "1, 2" * (third // 4)]
    whole = sum(estimate(part) for part in parts)
    for order in (parts, parts[::-1]):
        assert estimate("".join(order)) == pytest.approx(whole, rel=0.1)


def test_of_a_very_long_text_no_more_than_the_limit_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(tokens, "_weigh", lambda text: float(not read.append(len(text))))
    assert estimate("a" * (3 * LIMIT)) == 3
    assert read == [LIMIT]


@pytest.mark.parametrize(
    ("run", "weight"),
    [
        ("1" * 35 + "abcdefa", 35 * tokens.DIGIT + 7 * LATIN),
        ("1" * 34 + "abcdefab", 42 * tokens.DENSE),
        ("A" * 50, 50 * LATIN),
    ],
)
def test_a_dense_run_has_letters_enough_and_something_else(run: str, weight: float) -> None:
    assert estimate(run) == pytest.approx(weight)


def test_the_shortest_prompt_teaches_a_little() -> None:
    learnt = Ratio()
    learnt.learn(1.0, 2)
    assert 0 < learnt.weight < 0.1


def test_the_margin_is_twice_the_usual_miss() -> None:
    learnt = Ratio(1.0, 0.0, log(2))  # a mean miss of half of ln 2
    assert 100.0 * learnt.stretch <= 201
    assert 100.0 * learnt.stretch > 199
