"""The command line: exit codes, what goes where, and what is never shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from keywheel import __version__, sim
from keywheel.cli import cli
from keywheel.cli.manners import EXIT_CODES, print_table
from keywheel.gateway import run
from tests.cli.commandline import AWAY, KEY, Variables, data, keywheel, refusal, simulated
from tests.journeys.rig import rig


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


# --- the whole -------------------------------------------------------------------------------------


def test_the_version() -> None:
    assert keywheel("--version").stdout == f"keywheel, version {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(flag: str) -> None:
    for path, command in commands(cli):
        result = keywheel(*path, flag)
        assert (result.exit_code, result.stderr) == (0, "")
        assert command.help
        assert result.stdout.startswith(f"Usage: keywheel {' '.join(path)}")


def test_help_names_the_exit_codes() -> None:
    assert " ".join(EXIT_CODES.split()) in " ".join(keywheel("--help").stdout.split())


def test_no_option_takes_a_key_or_a_token() -> None:
    """What stands on a command line can be read by every user of the machine (requirement C24)."""
    names = [
        option for _, command in commands(cli) for each in command.params for option in each.opts
    ]
    assert not [name for name in names if "key" in name or "token" in name]


@pytest.mark.parametrize(
    "args",
    [(), ("nothing",), ("serve", "--nothing"), ("serve", "--port", "x"), ("serve", "--log-level", "loud"),
     ("chat",), ("keys",), ("keys", "nothing"), ("config",), ("completion", "tcsh"), ("sim", "--speed", "0"),
     ("sim", "--seed", "x"), ("models", "extra")],
)  # fmt: skip
def test_wrong_usage_is_2(args: tuple[str, ...]) -> None:
    result = keywheel(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: keywheel" in result.stderr


@pytest.mark.parametrize(
    "args",
    [("serve",), ("chat", "x"), ("keys", "list"), ("models",), ("stats",), ("config", "show")],
)
def test_a_wrong_setting_is_3_for_every_command(args: tuple[str, ...]) -> None:
    said = refusal(3, *args, KEYWHEEL_LIMITS__ATEMPTS="1", OPENROUTER_API_KEY=KEY)
    assert said.startswith("unknown variable KEYWHEEL_LIMITS__ATEMPTS in environment; did you mean")


@pytest.mark.parametrize("args", [("serve",), ("chat", "x"), ("keys", "list")])
def test_no_key_is_3_with_what_to_do(args: tuple[str, ...]) -> None:
    said = refusal(3, *args)
    assert said.startswith("no API key: set OPENROUTER_API_KEY")
    assert "keywheel serve --sim" in said


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keywheel.cli.credentials.gather", interrupted)
    result = keywheel("keys", "list")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


def test_a_bug_of_ours_is_not_dressed_up_as_the_users_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("keywheel.cli.credentials.gather", broken)
    assert isinstance(keywheel("keys", "list").exception, ValueError)


# --- keys ------------------------------------------------------------------------------------------


def test_keys_are_listed_by_label(folder: Path) -> None:
    (folder / ".env.local").write_text(f"OPENROUTER_API_KEY_3={KEY}3")
    variables = {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_ACCOUNTS__TEAM__KEYS": "primary"}
    assert data("keys", "list", **variables)["keys"] == [
        {"name": "primary", "account": "team", "origin": "OPENROUTER_API_KEY in environment"},
        {"name": "tertiary", "account": None, "origin": "OPENROUTER_API_KEY_3 in .env.local"},
    ]
    _, first, second = keywheel("keys", "list", **variables).stdout.splitlines()
    assert first.split()[:2] == ["primary", "team"]
    assert second.split()[:2] == ["tertiary", "as"]


# --- models ----------------------------------------------------------------------------------------


def test_a_prompt_shows_which_models_would_take_it(upstream: Variables, folder: Path) -> None:
    (folder / "long.txt").write_text("word " * 60_000)
    rows = data("models", "--for-prompt", "long.txt", **upstream)["models"]
    reasons = [row["why_not"] for row in rows]
    assert reasons == sorted(reasons, key=lambda why: why is not None)
    assert {row["why_not"] for row in rows if row["context"] < 60_000} <= {"context"}
    assert all(row["why_not"] is None for row in rows if row["context"] > 100_000)


def test_a_chat_request_shows_what_it_needs(upstream: Variables, folder: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {"messages": [{"role": "user", "content": [picture]}], "max_tokens": 10}
    (folder / "ask.json").write_text(json.dumps(body))
    found = data("models", "--for-prompt", "ask.json", **upstream)
    assert found["prompt"]["needs"] == ["image"]
    assert {row["why_not"] for row in found["models"] if "image" not in row["can"]} == {"image"}
    told = keywheel("models", "--for-prompt", "ask.json", **upstream)
    assert "tokens, needs image" in told.stderr


def test_a_prompt_may_come_from_standard_input(upstream: Variables) -> None:
    result = keywheel("models", "--for-prompt", "-", "--json", input="你好" * 3_000, **upstream)
    assert 3_500 < json.loads(result.stdout)["prompt"]["tokens"] < 6_500


def test_an_empty_prompt_is_named(upstream: Variables) -> None:
    result = keywheel("models", "--for-prompt", "-", input='{"messages": []}', **upstream)
    assert (result.exit_code, "messages" in result.stderr) == (1, True)


def test_models_are_listed_in_order_without_a_key(upstream: Variables) -> None:
    rows = data("models", OPENROUTER_BASE_URL=upstream["OPENROUTER_BASE_URL"])["models"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["id"].endswith(":free") and row["why_not"] is None for row in rows)


def test_all_models_come_with_why_they_are_no_candidates(upstream: Variables) -> None:
    few, every = (data("models", *more, **upstream)["models"] for more in ((), ("--all",)))
    others = every[len(few) :]
    assert every[: len(few)] == few
    assert others
    assert all(row["rank"] is None and row["why_not"] for row in others)
    assert "paid" in {row["why_not"] for row in others}


def test_an_excluded_model_is_called_excluded(upstream: Variables) -> None:
    first = data("models", **upstream)["models"][0]["id"]
    rows = data("models", "--all", KEYWHEEL_MODELS__EXCLUDE=first, **upstream)["models"]
    assert next(row["why_not"] for row in rows if row["id"] == first) == "excluded by configuration"


def test_an_upstream_that_is_away_is_4() -> None:
    said = refusal(4, "models", OPENROUTER_BASE_URL=AWAY)
    assert said.startswith(f"{AWAY}: GET /models: ConnectError: ")
    assert said.endswith("refused")


def test_certificates_that_are_not_there_are_3() -> None:
    said = refusal(3, "models", KEYWHEEL_UPSTREAM__CA_FILE="missing.pem")
    assert said == "upstream.ca_file: missing.pem: No such file or directory"


# --- tables ----------------------------------------------------------------------------------------


def test_a_table_for_programs_is_plain_and_whole(upstream: Variables) -> None:
    ids = [row["id"] for row in data("models", **upstream)["models"]]
    lines = keywheel("models", **upstream).stdout.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ids
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("columns", ["10", "40", "80"])
def test_a_narrow_terminal_folds_and_cuts_nothing(upstream: Variables, columns: str) -> None:
    out = keywheel("models", COLUMNS=columns, **upstream).stdout
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "…" not in out


def test_a_folded_cell_keeps_every_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    name = "[b]meta-llama/llama-3.3-70b:free:smile:[/b]"
    print_table(("id",), [[name]])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "".join(line.strip() for line in lines) == name


def test_colours_are_for_terminals_that_want_them(upstream: Variables) -> None:
    wanted = keywheel("models", FORCE_COLOR="1", **upstream).stdout
    dumb = keywheel("models", TERM="dumb", **upstream).stdout
    unwanted = keywheel("models", FORCE_COLOR="1", NO_COLOR="1", **upstream).stdout
    assert "\x1b[1m" in wanted
    assert "\x1b" not in dumb
    assert "\x1b[3" not in unwanted


# --- chat ------------------------------------------------------------------------------------------


def test_chat_answers(upstream: Variables) -> None:
    result = keywheel("chat", "Hello", **upstream)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.strip()) > 10


def test_chat_needs_no_key_where_the_simulator_answers() -> None:
    body = data("chat", "Hello", "--sim", OPENROUTER_BASE_URL=AWAY)
    assert body["text"]
    assert "keywheel chat --sim" in refusal(3, "chat", "Hello")


def test_chat_streams_the_same_text_piece_by_piece() -> None:
    texts = []
    for more in ((), ("--stream",)):
        with simulated() as (_, variables):
            texts.append(keywheel("chat", "Hello", *more, **variables).stdout)
    assert texts[0] == texts[1]


def test_chat_reads_standard_input(upstream: Variables) -> None:
    body = json.loads(keywheel("chat", "-", "--json", input="Hello", **upstream).stdout)
    assert body["schema_version"] == 1
    assert body["text"]
    assert body["model"].endswith(":free")
    assert (body["key"], body["attempts"]) == ("primary", 1)


def test_chat_takes_a_model(upstream: Variables) -> None:
    wanted = data("models", **upstream)["models"][1]["id"]  # the first would be taken anyway
    assert data("chat", "Hello", "--model", wanted, **upstream)["model"] == wanted


def test_a_model_that_is_not_free_is_1(upstream: Variables) -> None:
    said = refusal(1, "chat", "x", "--model", "openai/gpt-4o", **upstream)
    assert "openai/gpt-4o" in said


def test_chat_with_an_upstream_that_is_away_is_4() -> None:
    result = keywheel("chat", "x", OPENROUTER_BASE_URL=AWAY, OPENROUTER_API_KEY=KEY)
    assert (result.exit_code, result.stdout) == (4, "")


def test_chat_with_nothing_left_for_today_is_5_and_says_when() -> None:
    with simulated(sim.Scenario(accounts=(sim.Account(used_today=50),), counter_lag=0)) as (_, variables):  # fmt: skip
        said = refusal(5, "chat", "x", **variables)
    assert "used up for today. The first lane opens at 00:00:" in said


def test_chat_whose_answer_breaks_off_is_1_and_keeps_what_came() -> None:
    with simulated() as (world, variables):
        world.script("break-after-content", times=1)
        result = keywheel("chat", "x", "--stream", **variables)
    assert result.exit_code == 1
    assert result.stdout.strip()
    assert result.stdout.endswith("\n")
    assert "the answer broke off" in result.stderr


@pytest.mark.parametrize("url", ["http://keys-in-plain-text.example/api/v1", "https://u:p@h/"])
def test_chat_sends_no_key_to_an_unsafe_address(url: str) -> None:
    said = refusal(3, "chat", "x", OPENROUTER_BASE_URL=url, OPENROUTER_API_KEY=KEY)
    assert said.startswith("upstream.base_url: must")


# --- stats -----------------------------------------------------------------------------------------


def test_stats_of_a_running_gateway() -> None:
    with rig() as running:
        running.chat()
        port = running.address.rpartition(":")[2]
        assert data("stats", KEYWHEEL_PORT=port)["totals"]["requests"] == 1
        for host in ("0.0.0.0", "localhost", ""):
            result = keywheel("stats", KEYWHEEL_PORT=port, KEYWHEEL_HOST=host)
            assert result.exit_code == 0, result.output
            assert result.stdout.startswith("requests 1  succeeded 1  failed 0  attempts 1")
            assert "fallbacks" not in result.stdout


def test_stats_without_a_gateway_is_4() -> None:
    said = refusal(4, "stats", KEYWHEEL_PORT="9")
    assert said.startswith(
        "no gateway answers at http://127.0.0.1:9; start one with: keywheel serve"
    )


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, b"{}", "wants the admin token; set KEYWHEEL_ADMIN_TOKEN"),
        (404, b"{}", "is no keywheel gateway (404)"),
        (200, b"<html>", "is no keywheel gateway (200)"),
        (200, b"[]", "is no keywheel gateway (200)"),
        (200, b'{"a": 1}', "is no keywheel gateway (200)"),
    ],
)
def test_something_else_on_the_port_is_1(status: int, body: bytes, sentence: str) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with run.listen("127.0.0.1", 0) as bound, run.in_thread(application, bound) as url:
        assert sentence in refusal(1, "stats", KEYWHEEL_PORT=url.rpartition(":")[2])
