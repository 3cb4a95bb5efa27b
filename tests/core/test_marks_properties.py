"""I32: any order, any repeats, any restart of writers give the same reading. Compared with a naive one as well."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.marks import Block, Clear, Count, Mark, Reach, fade, pack, parse, read
from keywheel.core.types import Kind, Provenance, Scope

NOW = 1_000.0
LENGTHS = {"bad-key": inf, "server-error": 300.0, "error rate 6/9": 330.0}
SCOPES = [Scope(Kind.KEY, "k"), Scope(Kind.MODEL, "m"), Scope(Kind.ACCESS, "a+m")]
WRITERS = st.sampled_from(["a/0@1", "a/0@2", "b/0@1"])  # the second is the first one started anew
MOMENTS = st.integers(0, 1_050).map(float)
blocks = st.builds(
    Block,
    st.sampled_from(SCOPES),
    WRITERS,
    MOMENTS,
    st.integers(900, 2_000).map(float),
    st.sampled_from(list(Provenance)),
    st.sampled_from(["bad-key", "server-error", "error rate 6/9"]),
)
clears = st.builds(Clear, st.sampled_from(SCOPES), WRITERS, MOMENTS, st.sampled_from(list(Reach)))
counts = st.builds(
    Count, st.sampled_from(["x", "y"]), st.integers(1, 2), WRITERS, st.integers(0, 9)
)
told = st.lists(st.one_of(blocks, clears, counts), max_size=12)


@given(told, st.data())
def test_order_and_repeats_change_nothing(marks: list[Mark], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(marks), max_size=6)) if marks else []
    shuffled = data.draw(st.permutations([*marks, *again]))
    assert read(shuffled, NOW) == read(marks, NOW)


@given(told, told)
def test_what_was_told_before_a_restart_may_be_told_again(old: list[Mark], new: list[Mark]) -> None:
    assert read([*old, *new, *old], NOW) == read([*old, *new], NOW)


@given(told)
def test_what_fades_was_not_read(marks: list[Mark]) -> None:
    before, after = read(marks, NOW), read(fade(marks, NOW), NOW)
    assert after.blocks == before.blocks
    assert after.cleared == before.cleared
    assert all(before.counts[place] == n for place, n in after.counts.items())


@given(told)
def test_plain_values_carry_everything(marks: list[Mark]) -> None:
    assert [parse(pack(mark)) for mark in marks] == marks


@given(told)
def test_a_scope_is_closed_as_the_rule_says_word_for_word(marks: list[Mark]) -> None:
    reading = read(marks, NOW)
    for scope in SCOPES:
        ends = [0.0]
        for block in (m for m in marks if isinstance(m, Block) and m.scope == scope):
            openings = [
                m.at
                for m in marks
                if isinstance(m, Clear) and m.scope == scope
                if m.reach is Reach.ALL or block.provenance is Provenance.HEURISTIC
            ]
            if all(at < block.at for at in openings):
                longest = block.at + LENGTHS[block.why]
                by_hand = block.provenance is Provenance.OPERATOR
                ends.append(block.until if by_hand else min(block.until, longest))
        latest = max(ends)
        assert reading.until(scope) == (latest if latest > NOW else 0.0)
