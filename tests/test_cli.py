"""The command line without a process of its own: exit codes, what goes where, and what is never shown."""

import json
import os
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from keywheel import __version__, sim
from keywheel.cli import cli
from keywheel.cli.manners import EXIT_CODES, print_table
from keywheel.config import from_toml, load
from keywheel.gateway import run
from tests.journeys.rig import rig

KEY = "sk-or-v1-" + "5ec2e7" * 10
TOKEN = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
AWAY = "http://127.0.0.1:9/api/v1"
Variables = dict[str, str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no keys and no settings."""
    for name in list(os.environ):
        if name.startswith(("OPENROUTER", "KEYWHEEL", "COLUMNS", "NO_COLOR", "FORCE_COLOR")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def simulated(scenario: sim.Scenario | None = None) -> Iterator[tuple[sim.World, Variables]]:
    """A simulator, and the variables that lead to it."""
    scenario = scenario or sim.scenario("calm")
    world = sim.World(scenario, seed=1)
    app = sim.create_app(world, speed=float("inf"))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as url:
        keys = ",".join(sim.demo_keys(scenario))
        yield world, {"OPENROUTER_BASE_URL": f"{url}/api/v1", "OPENROUTER_API_KEY": keys}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Variables]:
    with simulated() as (_, variables):
        yield variables


def keywheel(*args: str, input: str | None = None, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(cli, args, input=input, prog_name="keywheel")


def data(*args: str, **variables: str) -> Any:
    """The object that a command prints with `--json`."""
    result = keywheel(*args, "--json", **variables)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    body = json.loads(result.stdout)
    assert body["schema_version"] == 1
    return body


def refusal(code: int, *args: str, **variables: str) -> str:
    """The one sentence on standard error with which a command ends; nothing on standard output."""
    result = keywheel(*args, **variables)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("keywheel: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("keywheel: ").strip()


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

    monkeypatch.setattr("keywheel.cli.reading.gather", interrupted)
    result = keywheel("keys", "list")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


def test_a_bug_of_ours_is_not_dressed_up_as_the_users_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("keywheel.cli.reading.gather", broken)
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
    assert next(row["why_not"] for row in rows if row["id"] == first) == "excluded"


def test_an_upstream_that_is_away_is_4() -> None:
    said = refusal(4, "models", OPENROUTER_BASE_URL=AWAY)
    assert said == f"{AWAY}: GET /models: ConnectError"


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
    wanted = data("models", **upstream)["models"][-1]["id"]
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
            assert len(result.stdout.splitlines()) == 6


def test_stats_without_a_gateway_is_4() -> None:
    said = refusal(4, "stats", KEYWHEEL_PORT="9")
    assert said == "no gateway answers at http://127.0.0.1:9; start one with: keywheel serve"


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, b"{}", "wants a token; set KEYWHEEL_TOKENS"),
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


# --- serve refuses before it listens ---------------------------------------------------------------


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may listen."""

    def listen(host: str, port: int) -> None:
        raise AssertionError(f"listened on {host}:{port}")

    monkeypatch.setattr(run, "listen", listen)


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(
    ("args", "variables", "sentence"),
    [
        ((), {}, "no API key"),
        (("--host", "0.0.0.0"), {"OPENROUTER_API_KEY": KEY}, "gateway.host: '0.0.0.0' can be reached by others"),
        (("--host", "0.0.0.0", "--sim"), {}, "gateway.host: '0.0.0.0' can be reached by others"),
        (("--host", ""), {"OPENROUTER_API_KEY": KEY}, "gateway.host: '' can be reached by others"),
        (("--host", "no.such.host"), {"OPENROUTER_API_KEY": KEY}, "gateway.host: 'no.such.host' can be reached"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_TOKENS": "changeme"}, "gateway.tokens: 1 of 1 cannot be used"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_TOKENS": ""}, "gateway.tokens: is set but holds no token"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_GATEWAY__REQUIRE_TOKEN": "yes"}, "gateway.require_token: no token"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_GATEWAY__HOSTS": "*"}, "gateway.hosts: '*' is no host name"),
        (("--port", "70000"), {"OPENROUTER_API_KEY": KEY}, "gateway.port: must be between 0 and 65535, not 70000"),
        (("--sim", "nonsense"), {}, "no scenario 'nonsense'; known are calm"),
        (("--sim", "cal"), {}, "no scenario 'cal'; did you mean 'calm'?"),
        (("--sim", "missing.toml"), {}, "missing.toml: "),
        (("--config", "missing.toml"), {}, "missing.toml cannot be read: No such file"),
        ((), {"OPENROUTER_API_KEY": "short"}, "OPENROUTER_API_KEY in environment: this cannot be an API key"),
        ((), {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": "http://h/"}, "upstream.base_url: must begin with"),
        ((), {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": "https://h/?a"}, "upstream: base URL must not hold"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_UPSTREAM__PROXY": "socks5://h:1"}, "upstream: proxy must look"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_UPSTREAM__CA_FILE": "no.pem"}, "upstream.ca_file: no.pem: No"),
        ((), {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_ACCOUNTS__A__KEYS": "second"}, "accounts.a.keys: there is no key"),
    ],
)  # fmt: skip
def test_serve_refuses_with_3_before_it_listens(
    args: tuple[str, ...], variables: Variables, sentence: str
) -> None:
    assert refusal(3, "serve", *args, **variables).startswith(sentence)


@pytest.mark.parametrize("command", [("serve", "--sim"), ("sim",)])
def test_a_port_in_use_is_1_with_what_to_do(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refusal(1, *command, "--port", port)
    assert said == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "another program uses it; choose another --port"
    )


def test_an_address_of_another_machine_is_1() -> None:
    said = refusal(1, "serve", "--host", "192.0.2.1", OPENROUTER_API_KEY=KEY, KEYWHEEL_TOKENS=TOKEN)
    assert said.endswith("Cannot assign requested address; is this an address of this machine?")


# --- what serve says -------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `serve` would have served; it returns at once."""
    calls: list[Any] = []

    def serve(app: Any, bound: socket.socket, settings: Any) -> None:
        calls.append((app, bound.getsockname(), settings))
        raise SystemExit(0)

    monkeypatch.setattr(run, "serve", serve)
    monkeypatch.setattr("keywheel.gateway.logs.set_up", lambda *_: None)
    return calls


def first_line(*args: str, **variables: str) -> str:
    result = keywheel("serve", "--port", "0", *args, **variables)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[0]


@pytest.mark.parametrize("args", [(), ("--demo",)])
def test_with_a_key_the_first_line_names_the_upstream(
    served: list[Any], args: tuple[str, ...]
) -> None:
    line = first_line(*args, OPENROUTER_API_KEY=f"{KEY} {KEY}2", OPENROUTER_BASE_URL=AWAY)
    assert line == f"keywheel {__version__} serves from {AWAY} with 2 key(s)"
    assert served[0][0].upstream
    assert "simul" not in line


def test_without_a_key_the_demo_says_that_answers_are_invented(served: list[Any]) -> None:
    assert first_line("--demo") == (
        f"keywheel {__version__} serves from the built-in simulator (no OPENROUTER_API_KEY is set), "
        "scenario calm: answers are invented"
    )


def test_with_a_key_the_simulator_must_be_asked_for(served: list[Any]) -> None:
    line = first_line("--sim", "slow", OPENROUTER_API_KEY=KEY, KEYWHEEL_ACCOUNTS__A__KEYS="primary")
    assert "serves from the built-in simulator (--sim), scenario slow" in line
    (app, _, _), *_ = served
    assert KEY not in [secret.reveal() for secret in app._engine.secrets.values()]
    assert app._engine.report()["accounts"][0]["name"] == "account1"


def test_the_address_that_is_printed_is_the_one_it_listens_on(served: list[Any]) -> None:
    out = keywheel("serve", "--sim", "--port", "0").stdout
    port = served[0][1][1]
    assert f"OpenAI base URL: http://127.0.0.1:{port}/v1\n" in out
    assert f"curl http://127.0.0.1:{port}/v1/chat/completions" in out


def test_ipv6_loopback_is_served(served: list[Any]) -> None:
    out = keywheel("serve", "--sim", "--port", "0", "--host", "::1").stdout
    assert f"http://[::1]:{served[0][1][1]}/v1" in out


def test_flags_win_over_variables(served: list[Any]) -> None:
    first_line("--sim", "--host", "127.0.0.1", KEYWHEEL_HOST="0.0.0.0", KEYWHEEL_PORT="1")
    assert served[0][1][0] == "127.0.0.1"


def test_warnings_go_to_standard_error(served: list[Any], folder: Path) -> None:
    path = folder / ".env"
    path.write_text("OPENROUTER_API_KEY2=x")
    path.chmod(0o644)
    result = keywheel("serve", "--sim", "--port", "0", "--host", "0.0.0.0", KEYWHEEL_TOKENS=TOKEN)
    first, second, third = result.stderr.splitlines()
    assert first.startswith("keywheel: .env can be read by other users")
    assert second.startswith("keywheel: OPENROUTER_API_KEY2 in .env is not read")
    assert third.startswith("keywheel: listening on 0.0.0.0: requests that name this machine")


def test_the_simulator_alone_prints_its_address_and_keys(served: list[Any]) -> None:
    result = keywheel(
        "sim", "--port", "0", "--scenario", "dead-key", "--seed", "3", "--speed", "inf"
    )
    lines = result.stdout.splitlines()
    port = served[0][1][1]
    assert (
        lines[0]
        == f"OpenRouter, simulated (scenario dead-key, seed 3): http://127.0.0.1:{port}/api/v1"
    )
    assert [line.split(": ")[1] for line in lines[1:]] == sim.demo_keys(sim.scenario("dead-key"))


@pytest.mark.parametrize("name", ["nonsense", "missing.toml"])
def test_the_simulator_alone_refuses_an_unknown_scenario_with_3(name: str) -> None:
    assert refusal(3, "sim", "--scenario", name)


# --- docs ------------------------------------------------------------------------------------------


def test_the_example_of_an_env_file_is_accepted(folder: Path) -> None:
    example = Path(__file__).parent.parent / ".env.example"
    (folder / ".env.local").write_text(example.read_text().replace("# ", ""))
    (folder / ".env.local").chmod(0o600)
    assert "no API key" in refusal(3, "keys", "list", KEYWHEEL_TOKENS=TOKEN)


def test_the_toml_in_the_docs_is_accepted() -> None:
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text("utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    assert blocks
    for block in blocks:
        assert tomllib.loads(block)
        assert from_toml(block, "docs").values
