"""`keywheel config show`, `keywheel completion`, and the examples in the docs."""

import tomllib
from pathlib import Path

import pytest

from keywheel.config import from_toml, load
from tests.cli.commandline import KEY, TOKEN, data, keywheel, refusal

ROOT = Path(__file__).parents[2]


# --- config show -----------------------------------------------------------------------------------


def test_settings_are_shown_as_toml_that_can_be_read_back(folder: Path) -> None:
    given = (
        '[accounts."a.b"]\nkeys = []\n[pools]\nx = ["*\\"q\\"*"]\n[models]\npreference_step = inf'
    )
    (folder / "keywheel.toml").write_text(given)
    for more in ((), ("--origin",)):
        out = keywheel("config", "show", *more).stdout
        assert load([from_toml(out, "out")]).config == load([from_toml(given, "in")]).config
        assert "gateway.port = 8787" in out
        assert "# upstream.proxy is not set" in out


def test_settings_are_shown_with_their_origin(folder: Path) -> None:
    (folder / ".env").write_text("KEYWHEEL_LOG__LEVEL=debug")
    (folder / "keywheel.toml").write_text("limits.gap = 7")
    variables = {"KEYWHEEL_PORT": "1", "OPENROUTER_API_KEY": KEY}
    lines = keywheel("config", "show", "--origin", **variables).stdout.splitlines()
    assert "gateway.port = 1  # environment" in lines
    assert 'log.level = "debug"  # .env' in lines
    assert f"limits.gap = 7.0  # {folder / 'keywheel.toml'}" in lines
    assert 'gateway.host = "127.0.0.1"  # default' in lines
    assert "# key primary is ***  # OPENROUTER_API_KEY in environment" in lines


def test_settings_are_shown_as_one_object(folder: Path) -> None:
    variables = {"KEYWHEEL_TOKENS": TOKEN, "OPENROUTER_API_KEY": KEY}
    body = data("config", "show", **variables)
    assert body["settings"]["gateway"]["tokens"] == ["***"]
    assert body["keys"] == {"primary": "***"}
    assert "origins" not in body
    origins = data("config", "show", "--origin", **variables)["origins"]
    assert origins["gateway.tokens"] == "environment"
    assert origins["limits.gap"] == "default"
    assert origins["keys.primary"] == "OPENROUTER_API_KEY in environment"


def test_another_file_can_be_shown(folder: Path) -> None:
    (folder / "keywheel.toml").write_text("gateway.port = 1")
    (folder / "other.toml").write_text("gateway.port = 2")
    assert data("config", "show")["settings"]["gateway"]["port"] == 1
    assert data("config", "show", "--config", "other.toml")["settings"]["gateway"]["port"] == 2
    said = refusal(3, "config", "show", "--config", "missing.toml")
    assert said == "missing.toml cannot be read: No such file or directory"


@pytest.mark.parametrize("more", [(), ("--origin",), ("--json",), ("--json", "--origin")])
def test_no_way_of_showing_settings_shows_a_secret(more: tuple[str, ...]) -> None:
    result = keywheel("config", "show", *more, KEYWHEEL_TOKENS=TOKEN, OPENROUTER_API_KEY=KEY)
    assert result.exit_code == 0
    assert KEY[9:17] not in result.output
    assert TOKEN[:8] not in result.output
    assert result.output.count("***") == 2


# --- completion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell(shell: str) -> None:
    result = keywheel("completion", shell)
    assert result.exit_code == 0
    assert f"_KEYWHEEL_COMPLETE={shell}_complete" in result.stdout


def test_completion_knows_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        out = keywheel(_KEYWHEEL_COMPLETE="bash_complete", **variables).stdout
        return [line.partition(",")[2] for line in out.splitlines()]

    assert completed("keywheel c") == ["chat", "completion", "config"]
    assert completed("keywheel serve --log-l") == ["--log-level"]
    assert completed("keywheel completion z") == ["zsh"]


# --- docs ------------------------------------------------------------------------------------------


def test_the_example_of_an_env_file_is_accepted(folder: Path) -> None:
    example = ROOT / ".env.example"
    (folder / ".env.local").write_text(example.read_text().replace("# ", ""))
    (folder / ".env.local").chmod(0o600)
    assert "no API key" in refusal(3, "keys", "list", KEYWHEEL_TOKENS=TOKEN)


def test_the_toml_in_the_docs_is_accepted() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    assert blocks
    for block in blocks:
        assert tomllib.loads(block)
        assert from_toml(block, "docs").values
