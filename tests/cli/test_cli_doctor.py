"""`keywheel doctor`: what is wrong, one remedy each, never a key; 1 for a problem."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keywheel import sim
from keywheel.catalog import KeyCheck
from keywheel.cli import running
from keywheel.cli.checks import SKEW, Check, clock
from keywheel.cli.inquiry import Answer
from keywheel.cli.reading import Line
from tests.cli.commandline import AWAY, KEY, Variables, keywheel, simulated

NOBODY = {"KEYWHEEL_PORT": "9"}
STATE = json.loads((Path(__file__).parent.parent / "gateway" / "state.json").read_text("utf-8"))
Told = dict[str, list[dict[str, str]]]


def told(code: int, **variables: str) -> Told:
    """The checks by name."""
    result = keywheel("doctor", "--json", **(NOBODY | variables))
    assert (result.exit_code, result.stderr) == (code, ""), result.output
    body = json.loads(result.stdout)
    assert body["schema_version"] == 1
    found: Told = {}
    for check in body["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def test_where_all_is_well_it_is_0(upstream: Variables) -> None:
    found = told(0, **upstream)
    assert {check["verdict"] for checks in found.values() for check in checks} == {"ok"}
    assert {
        "versions",
        "exposure",
        "files",
        "state",
        "upstream",
        "models",
        "keys",
        "clock",
        "gateway",
    } <= found.keys()
    assert "keywheel serve" in found["gateway"][0]["remedy"]
    assert "one person" in found["accounts"][0]["remedy"]


def test_what_is_wrong_with_keys_and_accounts_is_named() -> None:
    accounts = (
        sim.Account(used_today=47, hidden=("google/*",)),
        sim.Account(dead_keys=(0,)),
        sim.Account(keys=2, used_today=50, credits=5.0, usage=5.5),
    )
    scenario = sim.Scenario(accounts=accounts, counter_lag=0.0)
    with simulated(scenario) as (_, variables):
        found = told(1, **variables)
        text = keywheel("doctor", COLUMNS="80", **NOBODY, **variables)
    assert found["key secondary"][0]["verdict"] == "problem"
    assert "account3: tertiary, quaternary" in found["accounts"][0]["told"]
    assert "share one quota" in found["accounts"][0]["remedy"]
    quota, privacy = found["account account1"]
    assert (quota["verdict"], quota["told"]) == ("warning", "3 of 50 free requests left today")
    assert "remove 2 free model(s)" in privacy["told"]
    assert "negative balance (-0.50 USD)" in found["account account3"][1]["told"]
    assert text.exit_code == 1
    assert max(map(len, text.stdout.splitlines())) <= 80
    for key in sim.demo_keys(scenario):
        assert key not in text.output + json.dumps(found)


def test_an_upstream_that_is_away_is_one_problem() -> None:
    found = told(1, OPENROUTER_BASE_URL=AWAY, OPENROUTER_API_KEY=KEY)
    assert found["upstream"][0]["told"].startswith(f"{AWAY}: GET /models: ConnectError: ")


def test_no_key_is_a_problem_with_what_to_set(upstream: Variables) -> None:
    found = told(1, OPENROUTER_BASE_URL=upstream["OPENROUTER_BASE_URL"])
    assert "set OPENROUTER_API_KEY" in found["keys"][0]["remedy"]


def test_without_a_key_nobody_is_asked_when_the_gateway_serves_from_the_simulator(
    monkeypatch: pytest.MonkeyPatch, upstream: Variables
) -> None:
    state = STATE | {"mode": running.SIMULATOR, "troubles": []}
    monkeypatch.setattr(Line, "get", lambda _line, _path: state)
    found = told(0, OPENROUTER_BASE_URL=AWAY)
    assert "OPENROUTER_API_KEY" in found["simulator"][0]["remedy"]
    assert not {"upstream", "keys"} & found.keys()
    assert "upstream" in told(0, **upstream)


def test_files_that_others_can_read_are_named(upstream: Variables, folder: Path) -> None:
    (folder / ".env").write_text("X=1")
    (folder / ".env").chmod(0o644)
    (folder / "keywheel.toml").write_text("")
    (folder / "keywheel.toml").chmod(0o666)
    secret, trusted = told(1, **upstream)["files"]
    assert (secret["verdict"], secret["remedy"]) == ("warning", "chmod 600 .env")
    assert (trusted["verdict"], trusted["remedy"]) == ("problem", "chmod go-w keywheel.toml")


def test_a_damaged_state_file_is_a_problem(upstream: Variables, folder: Path) -> None:
    path = folder / "state" / "keywheel" / "state.db"
    path.parent.mkdir(parents=True)
    path.write_text("no database" * 500)
    path.chmod(0o600)
    assert "keywheel state reset" in told(1, **upstream)["state"][0]["remedy"]


def test_an_exposure_that_serve_would_refuse_is_a_problem(upstream: Variables) -> None:
    found = told(1, KEYWHEEL_HOST="0.0.0.0", **upstream)
    assert "can be reached by others" in found["exposure"][0]["told"]


@pytest.mark.parametrize(
    ("skew", "verdict", "word"),
    [
        (0.0, "ok", "agrees"),
        (SKEW + 55, "warning", "1 min 0 s behind"),
        (-3_600.0, "warning", "1 h 0 min ahead of"),
    ],
)
def test_a_clock_that_is_off(skew: float, verdict: str, word: str) -> None:
    answer = Answer("primary", "test", "account1", KeyCheck(True), skew=skew)
    (check,) = clock([answer, replace(answer, skew=None)])
    assert (check.verdict, word in check.told) == (verdict, True)


# --- a running gateway -----------------------------------------------------------------------------


def checks(**changes: Any) -> dict[str, Check]:
    state = json.loads(json.dumps(STATE)) | changes
    return {check.name: check for check in running.gateway(state, "http://127.0.0.1:8787")}


def entries(plural: str, **changes: Any) -> list[dict[str, Any]]:
    return [entry | changes for entry in STATE[plural]]


def test_troubles_of_the_gateway_are_told_with_scope_and_action() -> None:
    found = checks()
    for trouble in STATE["troubles"]:
        check = found[trouble["code"]]
        assert (check.verdict == "ok") is (trouble["severity"] == "info")
        assert f"[{trouble['scope']}]" in check.told
        assert check.remedy == trouble["action"]


def test_all_keys_failing_names_the_reason_and_the_end() -> None:
    closed = {"state": "closed", "reason": "day limit", "row": None, "until": STATE["now"] + 60}
    check = checks(keys=entries("keys", **closed))["all keys failing"]
    assert check.verdict == "problem"
    assert "day limit; the first opens at" in check.told


def test_high_error_rates_name_who_is_at_fault() -> None:
    worst = {"row": "24 provider-down", "scope": "model", "count": 99, "last_at": 0}
    found = checks(keys=entries("keys", succeeded=1, failed=9), errors=[worst])
    check = found["high error rates"]
    assert "most often 24 provider-down (99 times, at fault: model)" in check.told
    assert "models.exclude" in check.remedy


def test_slow_responses_name_the_models_and_the_line() -> None:
    slow = entries("models", ttft_ms={"p50": 15_000.0, "p95": None, "p99": None})
    check = checks(models=slow)["slow responses"]
    assert "more than 10 s to the first word" in check.told
    assert "fastest" in check.remedy
    pool = STATE["pool"] | {"queue": {"length": 3, "limit": 100}}
    waits = running.gateway(STATE | {"pool": pool}, "x")
    assert any("3 request(s) wait" in check.told for check in waits)
