"""What `keywheel serve` and `keywheel sim` refuse before they listen, and what they say first."""

import socket
from pathlib import Path
from typing import Any

import pytest

from keywheel import __version__, sim
from keywheel.gateway import run
from tests.cli.commandline import AWAY, KEY, TOKEN, Variables, keywheel, refusal

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
