"""Gathering: which file hides which, who else can read it, and errors that take no key along."""

import os
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from keywheel import environment
from keywheel.config import from_flags
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError

A, B, C = (f"sk-or-v1-{letter * 64}" for letter in "abc")
TOKEN = "0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for `$XDG_CONFIG_HOME`."""
    folder = tmp_path / "home"
    (folder / "keywheel").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder / "keywheel"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def look(folder: Path, /, **variables: str) -> Environment:
    return gather(environment=variables, folder=folder)


def refusal(folder: Path, /, **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        look(folder, **variables)
    return str(caught.value)


def labels(found: Environment) -> Mapping[str, str]:
    return {entry.label: entry.secret.reveal() for entry in found.keys}


# --- what wins -------------------------------------------------------------------------------------


def test_every_source_in_its_place(folder: Path, home: Path) -> None:
    """Flags > environment > .env.local > .env > ./keywheel.toml > $XDG_CONFIG_HOME/keywheel/config.toml."""
    names = ("attempts", "attempts_per_model", "max_queue", "connect", "gap", "silence")
    variables = [f"KEYWHEEL_LIMITS__{name.upper()}" for name in names]
    write(home / "config.toml", "[limits]\n" + "".join(f"{name} = 6\n" for name in names))
    write(folder / "keywheel.toml", "[limits]\n" + "".join(f"{name} = 5\n" for name in names[:5]))
    write(folder / ".env", "".join(f"{variable}=4\n" for variable in variables[:4]))
    write(folder / ".env.local", "".join(f"{variable}=3\n" for variable in variables[:3]))
    found = gather(
        from_flags(limits__attempts=1),
        environment=dict.fromkeys(variables[:2], "2"),
        folder=folder,
    )
    limits = found.config.limits
    assert [getattr(limits, name) for name in names] == [1, 2, 3, 4, 5, 6]
    assert [found.origins[f"limits.{name}"] for name in names] == [
        "flag", "environment", ".env.local", ".env",
        str(folder / "keywheel.toml"), str(home / "config.toml"),
    ]  # fmt: skip


def test_a_file_named_by_flag_replaces_the_usual_ones(folder: Path, home: Path) -> None:
    write(home / "config.toml", "gateway.port = 1")
    write(folder / "keywheel.toml", "gateway.port = 2\nlimits.gap = 2")
    named = write(folder / "other.toml", "gateway.port = 3")
    found = gather(config_file=named, environment={}, folder=folder)
    assert (found.config.gateway.port, found.config.limits.gap) == (3, 30.0)


def test_keys_of_environment_and_files_come_together(folder: Path) -> None:
    write(folder / ".env.local", f'export OPENROUTER_API_KEY_2="{B}"  # mine')
    write(folder / ".env", f"OPENROUTER_API_KEY_3={C}")
    found = look(folder, OPENROUTER_API_KEY=A)
    assert labels(found) == {"primary": A, "secondary": B, "tertiary": C}
    assert [entry.origin for entry in found.keys] == [
        "OPENROUTER_API_KEY in environment",
        "OPENROUTER_API_KEY_2 in .env.local",
        "OPENROUTER_API_KEY_3 in .env",
    ]


def test_a_variable_hides_the_same_one_of_a_less_important_source(folder: Path) -> None:
    write(folder / ".env.local", f"OPENROUTER_API_KEY={B}\nKEYWHEEL_PORT=2")
    write(folder / ".env", f"OPENROUTER_API_KEY={C}\nKEYWHEEL_PORT=3")
    found = look(folder, OPENROUTER_API_KEY=A, KEYWHEEL_PORT="1")
    assert (labels(found), found.config.gateway.port) == ({"primary": A}, 1)


def test_a_variable_set_to_nothing_hides_it_too(folder: Path) -> None:
    write(folder / ".env.local", f"OPENROUTER_API_KEY={B}\nKEYWHEEL_PORT=2")
    found = look(folder, OPENROUTER_API_KEY="", KEYWHEEL_PORT="")
    assert (labels(found), found.config.gateway.port) == ({}, 8787)


def test_the_environment_of_the_process_is_the_usual_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENROUTER_API_KEY", A)
    monkeypatch.delenv("OPENROUTER_API_KEYS_FILE", raising=False)
    assert labels(gather())["primary"] == A


def test_a_byte_order_mark_is_no_part_of_a_name(folder: Path, home: Path) -> None:
    write(folder / ".env", f"\ufeffOPENROUTER_API_KEY={A}")
    write(home / "config.toml", "\ufeffgateway.port = 1")
    keys = write(folder / "keys", f"\ufeff{B}")
    found = look(folder, OPENROUTER_API_KEYS_FILE=str(keys))
    assert labels(found) == {"primary": A, "secondary": B}
    assert found.config.gateway.port == 1


def test_a_key_file_may_lie_below_the_home_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "keys", A)
    monkeypatch.setenv("HOME", str(folder))
    assert labels(look(folder, OPENROUTER_API_KEYS_FILE="~/keys")) == {"primary": A}


def test_a_pipe_may_hand_over_the_keys(folder: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, A.encode())
    os.close(writer)
    try:
        found = look(folder, OPENROUTER_API_KEYS_FILE=f"/dev/fd/{reader}")
        assert labels(found) == {"primary": A}
    finally:
        os.close(reader)


# --- files that cannot or must not be read ----------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o644])
def test_a_key_file_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    path = write(folder / "keys", A, mode)
    said = refusal(folder, OPENROUTER_API_KEYS_FILE=str(path))
    assert said == f"OPENROUTER_API_KEYS_FILE: {path} can be read by others; chmod 600 it"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_of_ones_own_is_read(folder: Path, mode: int) -> None:
    path = write(folder / "keys", A, mode)
    assert labels(look(folder, OPENROUTER_API_KEYS_FILE=str(path))) == {"primary": A}


def test_the_folder_that_the_system_guards_may_be_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "GUARDED", folder / "secrets")
    (folder / "secrets").mkdir()
    inside = write(folder / "secrets" / "keys", A, 0o444)
    outside = write(folder / "keys", A, 0o444)
    assert look(folder, OPENROUTER_API_KEYS_FILE=str(inside)).keys
    sneaky = folder / "secrets" / ".." / "keys"
    assert "can be read by others" in refusal(folder, OPENROUTER_API_KEYS_FILE=str(sneaky))
    assert outside.exists()


def test_a_toml_file_with_tokens_must_be_private(folder: Path) -> None:
    path = write(folder / "keywheel.toml", f'gateway.tokens = ["{TOKEN}"]', 0o644)
    assert refusal(folder) == f"{path} holds gateway.tokens and can be read by others; chmod 600 it"
    path.chmod(0o600)
    assert look(folder).config.gateway.tokens[0].reveal() == TOKEN


def test_a_toml_file_without_tokens_may_be_open(folder: Path) -> None:
    write(folder / "keywheel.toml", "gateway.port = 1", 0o644)
    assert look(folder).config.gateway.port == 1


def test_an_env_file_that_others_can_read_is_a_warning(folder: Path) -> None:
    write(folder / ".env.local", "", 0o644)
    write(folder / ".env", "", 0o600)
    assert look(folder).warnings == (
        ".env.local can be read by other users of this machine; chmod 600 .env.local",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_that_another_user_made_is_not_followed(folder: Path) -> None:
    target = write(folder / "target", A)
    link = folder / "keys"
    link.symlink_to(target)
    assert look(folder, OPENROUTER_API_KEYS_FILE=str(link)).keys
    os.lchown(link, 12345, 12345)
    said = refusal(folder, OPENROUTER_API_KEYS_FILE=str(link))
    assert said == f"{link} is a link that another user made; it is not followed"


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_file_that_is_not_there_is_named_once(folder: Path, by_variable: bool) -> None:
    path = folder / "missing"
    variables = {"OPENROUTER_API_KEYS_FILE": str(path)} if by_variable else {}
    with pytest.raises(ConfigError) as caught:
        gather(config_file=None if by_variable else path, environment=variables, folder=folder)
    assert str(caught.value) == f"{path} cannot be read: No such file or directory"


@pytest.mark.parametrize("name", [".env", "keywheel.toml", "keys"])
def test_a_file_in_another_encoding_is_named(folder: Path, name: str) -> None:
    path = write(folder / name, "")
    path.write_bytes(b"A=\xff\n")
    said = refusal(folder, OPENROUTER_API_KEYS_FILE=str(path) if name == "keys" else "")
    assert said == f"{path} cannot be read: it is not UTF-8"


def test_a_folder_in_place_of_a_file_is_named(folder: Path) -> None:
    said = refusal(folder, OPENROUTER_API_KEYS_FILE=str(folder))
    assert said == f"{folder} cannot be read: Is a directory"


# --- accounts and keys -----------------------------------------------------------------------------


def test_an_account_names_keys_that_exist(folder: Path) -> None:
    write(folder / "keywheel.toml", 'accounts.team.keys = ["primary", "secondry"]')
    said = refusal(folder, OPENROUTER_API_KEY=A, OPENROUTER_API_KEY_2=B)
    origin = folder / "keywheel.toml"
    assert said == (
        f"accounts.team.keys: there is no key 'secondry' (from {origin}); did you mean secondary?"
    )


def test_a_label_like_no_other_gets_the_list_of_labels(folder: Path) -> None:
    said = refusal(folder, OPENROUTER_API_KEY=A, KEYWHEEL_ACCOUNTS__TEAM__KEYS="xyz")
    assert said == "accounts.team.keys: there is no key 'xyz' (from environment); known: primary"


def test_a_key_is_in_one_account(folder: Path) -> None:
    write(folder / "keywheel.toml", 'accounts.a.keys = ["primary"]\naccounts.b.keys = ["primary"]')
    said = refusal(folder, OPENROUTER_API_KEY=A)
    assert said == "accounts.b.keys: 'primary' is in account 'a' already"


def test_without_any_key_accounts_are_nothing_to_complain_about(folder: Path) -> None:
    write(folder / "keywheel.toml", 'accounts.team.keys = ["primary"]')
    assert look(folder).keys == ()


# --- what is said ----------------------------------------------------------------------------------


def test_a_variable_that_is_overlooked_is_a_warning(folder: Path) -> None:
    write(folder / ".env", f"OPENROUTER_API_KEY2={B}")
    assert look(folder).warnings == (
        "OPENROUTER_API_KEY2 in .env is not read; further keys are OPENROUTER_API_KEY_2, _3 …",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env.local", f"OPENROUTER_API_KEY={A}\nOPENROUTER_API_KEY_2=no"),
        (".env.local", f"OPENROUTER_API_KEY={A}\nKEYWHEEL_TYPO=1"),
        ("keywheel.toml", f'gateway.tokens = ["{A}"]\nwrong = 1'),
        ("keywheel.toml", f'gateway.tokens = ["{A}"]\n= 1'),
        ("keys", f"{A} no"),
    ],
)
def test_an_error_takes_no_key_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """Not in its text, nor in the local variables of its frames, its cause or its context."""
    path = write(folder / name, text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENROUTER_API_KEYS_FILE", str(path) if name == "keys" else "")
    monkeypatch.setenv("OPENROUTER_API_KEY_3", A)
    with pytest.raises(ConfigError) as caught:
        gather()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    inside = [frame for frame in frames.stack if frame.filename != __file__]
    assert inside
    assert A not in "".join(str(frame.locals) for frame in inside)
    assert A not in "".join(frames.format_exception_only())
