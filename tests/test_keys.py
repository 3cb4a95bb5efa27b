"""Keys: every variable, the labels they get, and what cannot be a key."""

from collections.abc import Mapping

import pytest

from keywheel.errors import ConfigError
from keywheel.keys import KeyEntry, find, label, overlooked
from keywheel.secret import Secret

A, B, C, D, E = (f"sk-or-v1-{letter * 64}" for letter in "abcde")
FIRST, SECOND = "OPENROUTER_API_KEY", "OPENROUTER_API_KEY_2"
LIST, FILE = "OPENROUTER_API_KEYS", "OPENROUTER_API_KEYS_FILE"


def found(*sources: Mapping[str, str], files: Mapping[str, str] | None = None) -> dict[str, str]:
    """Label → value of all keys in the given variables."""
    entries = find(
        [(f"source {n}", variables) for n, variables in enumerate(sources)],
        lambda name: (files or {})[name],
    )
    return {entry.label: entry.secret.reveal() for entry in entries}


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        found(variables)
    return str(caught.value)


def test_labels_go_by_number() -> None:
    assert [label(n) for n in (1, 2, 3, 4, 5, 12)] == [
        "primary", "secondary", "tertiary", "quaternary", "key5", "key12",
    ]  # fmt: skip


def test_no_variable_is_no_key() -> None:
    assert found({}) == {}
    assert found({FIRST: "", SECOND: "  ", LIST: ", '' \n", FILE: ""}) == {}


def test_a_numbered_variable_gives_its_key_the_label_of_its_number() -> None:
    variables = {"OPENROUTER_API_KEY_3": C, SECOND: B, FIRST: A, "OPENROUTER_API_KEY_10": D}
    assert found(variables) == {"primary": A, "secondary": B, "tertiary": C, "key10": D}


def test_gaps_in_the_numbers_do_no_harm() -> None:
    assert found({SECOND: B, "OPENROUTER_API_KEY_5": E}) == {"secondary": B, "key5": E}


def test_keys_are_ordered_by_number_not_by_name() -> None:
    variables = {f"OPENROUTER_API_KEY_{n}": f"key-number-{n}" for n in (10, 9, 2)}
    assert list(found(variables)) == ["secondary", "key9", "key10"]


@pytest.mark.parametrize("separator", [",", " ", "\n", "\r\n", " , ", ",,"])
@pytest.mark.parametrize("variable", [FIRST, LIST])
def test_one_variable_may_hold_several_keys(variable: str, separator: str) -> None:
    assert found({variable: separator.join((A, B, C))}) == {
        "primary": A,
        "secondary": B,
        "tertiary": C,
    }


def test_a_further_key_in_one_variable_never_takes_the_label_of_a_number() -> None:
    assert found({FIRST: f"{A} {B}", SECOND: C}) == {"primary": A, "secondary": C, "tertiary": B}


def test_the_list_fills_the_free_labels() -> None:
    assert found({SECOND: B, LIST: f"{A},{C}"}) == {"primary": A, "secondary": B, "tertiary": C}


@pytest.mark.parametrize("other", ["OPENROUTER_KEY", "OPENROUTER_API_KEY_1"])
def test_other_names_of_the_first_key(other: str) -> None:
    assert found({other: A}) == {"primary": A}
    assert found({FIRST: A, other: B}) == {"primary": A, "secondary": B}


def test_the_same_key_twice_counts_once_and_keeps_its_number() -> None:
    assert found({FIRST: A, "OPENROUTER_API_KEY_4": A, LIST: f"{A} {B} {B}"}) == {
        "primary": A,
        "secondary": B,
    }
    assert found({LIST: A}, {"OPENROUTER_API_KEY_3": A}) == {"tertiary": A}


@pytest.mark.parametrize("quoted", [f'"{A}"', f"'{A}'", f' "{A}" ', f"\"{A}\",'{A}'"])
def test_quotes_are_trimmed(quoted: str) -> None:
    assert found({FIRST: quoted}) == {"primary": A}


def test_a_file_may_hold_comments_blank_lines_quotes_and_several_keys_a_line() -> None:
    text = f"# mine\n{A}  # the first\n\n\t'{B}', {C}\r\n#{D}\n"
    assert found({FILE: "keys"}, files={"keys": text}) == {
        "primary": A,
        "secondary": B,
        "tertiary": C,
    }


def test_keys_of_all_sources_come_together() -> None:
    assert found({FIRST: A}, {SECOND: B}, {LIST: C}) == {
        "primary": A,
        "secondary": B,
        "tertiary": C,
    }


def test_the_more_important_source_keeps_the_label() -> None:
    assert found({FIRST: A}, {"OPENROUTER_API_KEY_1": B}) == {"primary": A, "secondary": B}


def test_an_entry_names_where_it_was_found_and_hides_its_key() -> None:
    (entry,) = find([("environment", {FIRST: A})], str)
    assert entry == KeyEntry("primary", Secret(A), "OPENROUTER_API_KEY in environment")
    assert A[-8:] not in repr(entry)


@pytest.mark.parametrize(
    "value",
    ["short", "x" * 513, "sk-or-v1-…", "sk-or-v1-\x07bell", "OPENROUTER_API_KEY=" + A, "a;b;c;d;e;f", "[REDACTED-KEY]"],
)  # fmt: skip
def test_what_no_header_can_carry_is_refused_by_name_and_never_shown(value: str) -> None:
    said = refusal(**{SECOND: value})
    assert said.startswith("OPENROUTER_API_KEY_2 in source 0: this cannot be an API key")
    assert value not in said


def test_what_looks_like_a_key_variable_and_is_none_is_noticed() -> None:
    wrong = ["OPENROUTER_API_KEY2", "OPENROUTER_API_KEY_02", "OPENROUTER_API_KEY_TEAM", "OPENROUTER_KEY_2"]  # fmt: skip
    right = [FIRST, SECOND, LIST, FILE, "OPENROUTER_KEY", "OPENROUTER_API_BASE", "MY_OPENROUTER_API_KEY"]  # fmt: skip
    assert overlooked([*wrong, *right]) == wrong
