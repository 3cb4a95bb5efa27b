"""How marks of several workers are read (routing rule A.11.2)."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from keywheel.core.marks import (
    AHEAD,
    MONTH,
    TRIP,
    Block,
    Clear,
    Count,
    Mark,
    Reach,
    fade,
    longest,
    pack,
    parse,
    read,
)
from keywheel.core.rows import ROWS
from keywheel.core.types import DAY, Kind, Provenance, Scope

NOW = 1_791_201_600.0
KEY, MODEL = Scope(Kind.KEY, "primary"), Scope(Kind.MODEL, "m:free")
BAD_KEY = "bad-key"  # a reason that no time bounds


def block(
    at: float = 0.0,
    until: float = 100.0,
    *,
    by: Provenance = Provenance.AUTHORITATIVE,
    why: str = BAD_KEY,
    scope: Scope = KEY,
    writer: str = "w",
) -> Block:
    """Times are seconds from NOW."""
    return Block(scope, writer, NOW + at, NOW + until, by, why)


def clear(at: float, reach: Reach = Reach.ALL, *, scope: Scope = KEY, writer: str = "w") -> Clear:
    return Clear(scope, writer, NOW + at, reach)


def until(*marks: Mark, scope: Scope = KEY) -> float:
    """The end of what closes a scope, in seconds from NOW; 0.0 when it is open."""
    end = read(marks, NOW).until(scope)
    return end - NOW if end else 0.0


# --- blocks and clearings --------------------------------------------------------------------------


def test_nothing_told_closes_nothing() -> None:
    assert read((), NOW).until(KEY) == 0.0
    assert until() == 0.0


def test_a_scope_is_closed_until_the_latest_end() -> None:
    assert until(block(-9, 100), block(-5, 50), block(-7, 70, writer="v")) == 100.0
    assert until(block(), scope=MODEL) == 0.0


def test_a_block_that_ended_closes_nothing() -> None:
    assert until(block(-9, -1), block(-9, 0)) == 0.0


def test_a_clearing_opens_what_was_decided_before_it_and_nothing_later() -> None:
    assert until(block(-9, 100), clear(-5)) == 0.0
    assert until(block(-9, 100), clear(-9)) == 0.0
    assert until(block(-9, 100), clear(-5), block(-4, 30)) == 30.0


@pytest.mark.parametrize(
    ("by", "reach", "opens"),
    [
        (Provenance.HEURISTIC, Reach.HEURISTIC, True),
        (Provenance.HEURISTIC, Reach.ALL, True),
        (Provenance.AUTHORITATIVE, Reach.HEURISTIC, False),
        (Provenance.AUTHORITATIVE, Reach.ALL, True),
        (Provenance.OPERATOR, Reach.HEURISTIC, False),
        (Provenance.OPERATOR, Reach.ALL, True),
    ],
)
def test_a_success_clears_guesses_only(by: Provenance, reach: Reach, opens: bool) -> None:
    assert (until(block(-9, by=by), clear(-5, reach)) == 0.0) is opens


def test_a_clearing_of_another_scope_opens_nothing() -> None:
    assert until(block(-9), clear(-5, scope=MODEL)) == 100.0


def test_the_reading_keeps_one_block_of_each_provenance() -> None:
    guess = block(-9, 50, by=Provenance.HEURISTIC)
    long, short = block(-9, 100), block(-8, 20)
    assert read((short, guess, long), NOW).blocks == {
        KEY: {Provenance.HEURISTIC: guess, Provenance.AUTHORITATIVE: long}
    }


def test_the_reading_says_when_a_scope_was_last_opened() -> None:
    told = (clear(-9), clear(-5), clear(-7, Reach.HEURISTIC), clear(-8, writer="v"))
    expected = {KEY: {Reach.ALL: NOW - 5, Reach.HEURISTIC: NOW - 7}}
    assert read(told, NOW).cleared == expected


def test_the_future_and_unknown_scopes_are_left_out() -> None:
    assert until(block(AHEAD + 1, 500)) == 0.0
    assert until(block(AHEAD, 500)) == 500.0
    assert until(block(-9), clear(AHEAD + 1)) == 100.0
    assert read((block(), clear(-9)), NOW, lambda scope: scope == MODEL) == read((), NOW)


# --- how long --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "seconds"),
    [
        ("bad-key", inf),
        ("server-error", 300.0),
        ("edge-refusal", DAY),
        ("platform-day", DAY + 60),
        ("forbidden", DAY),
        ("model-gone", 6 * 3_600.0),
        ("key-limit", MONTH),
        ("wrong-path", 60.0),
        ("error rate 6/9", TRIP),
        ("words of somebody", DAY),
    ],
)
def test_no_block_lasts_longer_than_its_reason_allows(why: str, seconds: float) -> None:
    assert longest(why) == seconds
    assert until(block(-9, 10**9, why=why)) == min(seconds - 9, 10**9)


def test_every_row_that_blocks_may_last_for_a_while() -> None:
    assert all(longest(row.name) >= 30.0 for row in ROWS.values() if row.blocks)


def test_what_the_operator_disabled_has_no_end() -> None:
    assert until(block(-9, inf, by=Provenance.OPERATOR, why="disabled by operator")) == inf
    assert until(block(-9, inf, why="disabled by operator")) == DAY - 9


# --- counts ----------------------------------------------------------------------------------------


def test_a_count_is_the_sum_of_the_largest_of_each_writer() -> None:
    told = (
        Count("attempts", 7, "v", 3),
        Count("attempts", 7, "w", 5),
        Count("attempts", 7, "v", 2),
        Count("attempts", 8, "v", 1),
        Count("tokens", 7, "v", 40),
    )
    assert read(told, NOW).counts == {("attempts", 7): 8, ("attempts", 8): 1, ("tokens", 7): 40}


# --- fading ----------------------------------------------------------------------------------------


def test_only_what_can_still_matter_stays() -> None:
    lasting, opened = block(-9, 100), block(-9, 100, scope=MODEL)
    opening, older = clear(-5, scope=MODEL), clear(-6, scope=MODEL, writer="v")
    counts = [Count("attempts", slot, "w", 1) for slot in (5, 6, 7)] + [Count("old", 1, "w", 1)]
    told = (lasting, opened, opening, older, block(-9, -1), clear(-MONTH - 1), *counts)
    assert set(fade(told, NOW)) == {lasting, opening, *counts[1:]}


def test_fading_has_one_order_and_drops_repeats() -> None:
    told = (block(-9), clear(-20, scope=MODEL), Count("attempts", 7, "w", 1))
    assert fade(told[::-1] * 2, NOW) == fade(told, NOW)


# --- as plain values -------------------------------------------------------------------------------

MARKS = (
    block(),
    replace(block(), until=inf, provenance=Provenance.OPERATOR),
    clear(-5, Reach.HEURISTIC),
    Count("attempts", 7, "w", 3),
)


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_comes_back_from_its_plain_values(mark: Mark) -> None:
    assert parse(pack(mark)) == mark
    assert parse(list(pack(mark))) == mark


BLOCK, CLEAR, COUNT = (list(pack(mark)) for mark in (MARKS[0], *MARKS[2:]))


@pytest.mark.parametrize("row", [None, 7, "block", [], {}, [[]], [None], ["other", 1], [7, 8]])
def test_what_has_no_known_form_is_no_mark(row: object) -> None:
    assert parse(row) is None


@pytest.mark.parametrize("form", [BLOCK, CLEAR, COUNT])
def test_a_mark_has_exactly_its_fields(form: list[object]) -> None:
    assert parse(form[:-1]) is None
    assert parse([*form, "more"]) is None


WRONG: dict[str, tuple[Any, ...]] = {
    "scope": ("planet", "", None, 7, ["key"]),
    "text": ("", "x" * 301, None, 7, True, ["x"]),
    "moment": (-1.0, nan, inf, 2.0**53, "7", True, [1], None),
    "end": (-1.0, nan, inf, "7", True),
    "word": ("royal", "", None, 7, ["all"]),
    "number": (-1, 2**53, 1.0, "7", True, None),
}


@pytest.mark.parametrize(
    ("form", "place", "kind"),
    [
        (BLOCK, 1, "scope"),
        (BLOCK, 2, "text"),
        (BLOCK, 3, "text"),
        (BLOCK, 4, "moment"),
        (BLOCK, 5, "end"),
        (BLOCK, 6, "word"),
        (BLOCK, 7, "text"),
        (CLEAR, 1, "scope"),
        (CLEAR, 2, "text"),
        (CLEAR, 3, "text"),
        (CLEAR, 4, "moment"),
        (CLEAR, 5, "word"),
        (COUNT, 1, "text"),
        (COUNT, 2, "number"),
        (COUNT, 3, "text"),
        (COUNT, 4, "number"),
    ],
)
def test_a_field_of_the_wrong_type_or_range_makes_it_no_mark(
    form: list[object], place: int, kind: str
) -> None:
    for value in WRONG[kind]:
        assert parse([*form[:place], value, *form[place + 1 :]]) is None, value
