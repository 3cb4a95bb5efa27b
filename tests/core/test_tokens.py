"""Token estimates against the measured ratios of routing rule A.9, on texts of eight kinds."""

import timeit
from pathlib import Path

import pytest

from keywheel.core import tokens
from keywheel.core.tokens import Ratio, estimate

TEXTS = Path(__file__).parent / "texts"
TOKENIZERS = ("o200k", "cl100k", "llama3", "mistral-v1")
MEASURED = {  # characters per token
    "prose": (4.36, 4.31, 4.31, 3.48),
    "code": (4.56, 4.58, 4.58, 3.54),
    "json": (2.22, 2.22, 2.22, 1.95),
    "chinese": (1.41, 1.04, 1.29, 0.99),
    "japanese": (1.46, 1.00, 1.52, 0.97),
    "digits": (3.0, 3.0, 3.0, 1.0),
    "base64": (1.45, 1.39, 1.39, 1.23),
    "emoji": (0.67, 0.40, 0.42, 0.57),
}
CASES = [
    (kind, tokenizer, ratio)
    for kind, ratios in MEASURED.items()
    for tokenizer, ratio in zip(TOKENIZERS, ratios, strict=True)
]
MODERN = [case for case in CASES if case[1] in ("o200k", "llama3")]
BAND = {"emoji": (0.75, 1.40)}  # one prior stands between tokenizers that differ by 1.6
USUAL = (0.80, 1.20)


def text(kind: str) -> str:
    return (TEXTS / f"{kind}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "tokenizer", "ratio"), MODERN)
def test_priors_are_near_the_measured_ratio(kind: str, tokenizer: str, ratio: float) -> None:
    low, high = BAND.get(kind, USUAL)
    found = estimate(text(kind)) / (len(text(kind)) / ratio)
    assert low <= found <= high, tokenizer


@pytest.mark.parametrize(("kind", "tokenizer", "ratio"), CASES)
def test_twenty_answers_calibrate_to_a_quarter(kind: str, tokenizer: str, ratio: float) -> None:
    body = text(kind)
    learnt = Ratio()
    for cut in range(20):
        piece = body[: len(body) - cut * 3]
        learnt.learn(estimate(piece), round(len(piece) / ratio))
    expected = learnt.expected(estimate(body))
    assert expected == pytest.approx(len(body) / ratio, rel=0.25), tokenizer


def test_a_chinese_prompt_is_not_taken_for_english() -> None:
    assert estimate("模型" * 3_000) > 4_096


def test_nothing_costs_nothing() -> None:
    assert estimate("") == 0


def test_texts_add_up() -> None:
    kinds = [text(kind)[:1_000] + "\n" for kind in MEASURED]
    assert estimate("".join(kinds)) == pytest.approx(sum(map(estimate, kinds)))


@pytest.mark.parametrize(
    ("run", "weight"),
    [
        ("0123456789abcdef" * 4, tokens.DENSE),  # hex
        ("A1b2C3d4E5f6G7h8" * 4, tokens.DENSE),  # base64
        ("usr/lib/python3/site/packages/" * 2, tokens.LATIN),
        ("=" * 60, tokens.LATIN),
        ("314159265358979323846" * 3, tokens.DIGIT),
        ("abcdefghij" * 6, tokens.LATIN),
    ],
)
def test_only_encoded_data_is_dense(run: str, weight: float) -> None:
    assert estimate(run) / len(run) == pytest.approx(weight, rel=0.02)


def test_data_inside_prose_is_found() -> None:
    prose, data = text("prose"), text("base64")
    found = estimate(prose + data + " " + prose)
    assert found == pytest.approx(2 * estimate(prose) + estimate(data), rel=0.01)


def test_accents_and_punctuation_are_no_emoji() -> None:
    assert estimate("é") == pytest.approx(tokens.OTHER)
    assert estimate("—“”") == pytest.approx(3 * tokens.OTHER)
    assert estimate("☀😀") == pytest.approx(2 * tokens.EMOJI)


def test_beyond_the_limit_slices_stand_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text("prose") * 40 + text("chinese") * 40
    exact = estimate(whole)
    monkeypatch.setattr(tokens, "LIMIT", len(whole) // 4)
    assert estimate(whole) == pytest.approx(exact, rel=0.1)


def test_no_loop_looks_at_single_characters() -> None:
    body = (text("prose") * 1_500)[: 1 << 21]
    looped = min(timeit.repeat(lambda: sum(1 for _ in body), number=1, repeat=3))
    assert min(timeit.repeat(lambda: estimate(body), number=1, repeat=3)) < looped / 4


def test_a_fresh_ratio_believes_the_priors() -> None:
    ratio = Ratio()
    assert ratio.expected(1_000) == 1_000
    assert 1_000 * ratio.stretch + 24 <= 1_024
    assert 1_000 * ratio.stretch + 25 > 1_024


def test_half_of_what_was_learnt_is_gone_after_twenty_looks() -> None:
    ratio = Ratio(weight=1_000.0, total=500.0)
    for _ in range(20):
        ratio.learn(1_000, 1_000)
    assert ratio.total == pytest.approx(250.0)


def test_ratios_stay_between_a_half_and_two_and_a_half() -> None:
    low, high = Ratio(), Ratio()
    for _ in range(500):
        low.learn(1_000, 1)
        high.learn(1_000, 8_000)
    assert 0.5 <= low.expected(1.0) < 0.52
    assert 2.4 < high.expected(1.0) <= 2.5


def test_a_usage_that_cannot_be_true_teaches_nothing() -> None:
    ratio = Ratio()
    for reported in (-1, 0, 10**9):
        ratio.learn(1_000, reported)
    assert ratio == Ratio()


def test_scatter_widens_the_margin() -> None:
    steady, scattered = Ratio(), Ratio()
    for turn in range(40):
        steady.learn(1_000, 1_200)
        scattered.learn(1_000, 900 if turn % 2 else 1_600)
    assert scattered.miss > 0.2 > steady.miss
    assert 1_000 * steady.stretch <= 1_400
    assert 1_000 * scattered.stretch > 1_400


def test_short_prompts_teach_little() -> None:
    """A greeting of 5 tokens reported as 60 is the chat template, not the tokenizer."""
    ratio = Ratio()
    for _ in range(5):
        ratio.learn(5, 60)
    assert ratio.expected(1_000) < 1_250


@pytest.mark.parametrize(("estimated", "reported"), [(0, 10), (10, 0), (-1, 5)])
def test_useless_reports_are_ignored(estimated: float, reported: int) -> None:
    ratio = Ratio()
    ratio.learn(estimated, reported)
    assert ratio == Ratio()
