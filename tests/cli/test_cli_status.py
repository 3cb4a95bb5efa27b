"""`keywheel status` and `keys`: calm and whole in 80 columns, with the right exit code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keywheel import sim
from keywheel.cli import phrases, view
from keywheel.config import Config, GatewaySettings
from keywheel.secret import Secret
from tests.cli.commandline import AWAY, KEY, TOKEN, data, keywheel, refusal, simulated
from tests.journeys.rig import Rig, rig

ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"
STATE = json.loads((Path(__file__).parent.parent / "gateway" / "state.json").read_text("utf-8"))


def port(running: Rig) -> str:
    return running.address.rpartition(":")[2]


def shown(width: int, state: dict[str, Any] = STATE) -> str:
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as got:
        console.print(view.status(state, state["now"], "http://127.0.0.1:8787"))
    return got.get()


# --- status ----------------------------------------------------------------------------------------


def test_status_of_a_gateway_that_is_well_is_0() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(day_limit=1000),))) as running:
        running.chat()
        result = keywheel("status", COLUMNS="80", KEYWHEEL_PORT=port(running))
        told = data("status", KEYWHEEL_PORT=port(running))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "● ready · 15 of 15 ways open" in result.stdout
    assert "Troubles" not in result.stdout
    assert told["pool"]["state"] == "ready"
    assert told["totals"]["requests"] == 1


def test_status_of_an_exhausted_gateway_is_5_with_the_data_on_standard_output() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(used_today=50),), counter_lag=0)) as running:
        running.chat()
        text = keywheel("status", KEYWHEEL_PORT=port(running))
        told = keywheel("status", "--json", KEYWHEEL_PORT=port(running))
    assert (text.exit_code, text.stderr, told.exit_code, told.stderr) == (5, "", 5, "")
    assert "✖ exhausted" in text.stdout
    assert "the first opens in" in text.stdout
    assert json.loads(told.stdout)["pool"]["state"] == "exhausted"


@pytest.mark.parametrize("command", ["status", "stats"])
def test_no_gateway_is_4_and_says_how_to_start_one(command: str) -> None:
    said = refusal(4, command, KEYWHEEL_PORT="9")
    assert said.startswith(
        "no gateway answers at http://127.0.0.1:9; start one with: keywheel serve"
    )


def test_watching_as_json_is_wrong_usage() -> None:
    assert keywheel("status", "--watch", "--json").exit_code == 2


def test_top_wants_a_terminal() -> None:
    result = keywheel("top")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "keywheel status --json" in result.stderr


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_status_fits_its_terminal_and_cuts_nothing(width: int) -> None:
    lines = shown(width).splitlines()
    assert max(map(len, lines)) <= width
    together = "".join("".join(lines).split())
    for found in STATE["troubles"]:
        assert "".join(found["action"].split()) in together
    assert all(key["name"] in together for key in STATE["keys"])


def test_troubles_come_first_each_with_cause_scope_end_and_one_thing_to_do() -> None:
    text = shown(400)
    assert (
        text.index("Troubles") < text.index("Accounts") < text.index("Keys") < text.index("Models")
    )
    for found in STATE["troubles"]:
        told = text[text.index(found["cause"]) :]
        assert found["scope"] in told.splitlines()[1]
        assert ("over in" if found["until"] else "no end known") in told.splitlines()[1]
        assert told.splitlines()[2].strip() == f"→ {found['action']}"


def test_a_name_from_outside_cannot_steer_the_terminal() -> None:
    evil = json.loads(json.dumps(STATE))
    evil["models"][0]["id"] = "a/\x1b]0;x\x07b:free"
    evil["troubles"][0]["cause"] = "[red]\x1b[2J"
    text = shown(120, evil)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


def test_signs_and_words_say_what_colours_say() -> None:
    for state, (sign, _) in view.STATES.items():
        entry = {"state": state, "reason": None}
        assert view.standing(entry).plain == f"{sign} {state}"
    assert len({sign for sign, _ in view.STATES.values()}) == len(view.STATES)


@pytest.mark.parametrize(("remaining", "bar"), [(0, 0), (1, 1), (25, 4), (49, 8), (50, 8)])
def test_a_bar_is_empty_only_when_nothing_is_left(remaining: int, bar: int) -> None:
    day = {"used": 50 - remaining, "limit": 50, "remaining": remaining}
    text = view.left_today(day)
    assert text.plain == f"{'━' * 8} {remaining} of 50"
    assert (
        len(text.plain[:8])
        - sum(span.end - span.start for span in text.spans if span.style == "bright_black")
        == bar
    )


def test_a_quiet_hour_and_a_busy_minute_are_drawn() -> None:
    assert "".join(view.spark([0, 1, 8, 4])) == " ▁█▄"
    assert "".join(view.spark([0, 0])) == "  "


# --- phrases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (42, "42 s"),
        (59.6, "1 min 0 s"),
        (90, "1 min 30 s"),
        (900, "15 min"),
        (19_200, "5 h 20 min"),
        (190_000, "2 d 4 h"),
    ],
)
def test_a_span_in_its_two_greatest_units(seconds: float, said: str) -> None:
    assert phrases.span(seconds) == said


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(30, "00:00:30 UTC"), (7_200, "02:00 UTC"), (172_800, "03 Jan 00:00 UTC")],
)
def test_a_moment_is_as_exact_as_it_is_near(ahead: float, said: str) -> None:
    assert phrases.clock(ahead, 0.0) == said


def test_a_share_is_whole_only_when_nothing_failed() -> None:
    said = [phrases.share(rate) for rate in (None, 0.0, 0.5, 0.996, 1.0)]
    assert said == ["", "0%", "50%", "99.6%", "100%"]


# --- keys: the operator's hand ---------------------------------------------------------------------


def test_a_key_is_disabled_and_enabled_again_with_the_admin_token() -> None:
    settings = Config(gateway=GatewaySettings(admin_token=Secret(ADMIN)))
    with rig(config=settings) as running:
        variables = {"KEYWHEEL_PORT": port(running), "KEYWHEEL_ADMIN_TOKEN": ADMIN}
        result = keywheel("keys", "disable", "primary", **variables)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "keywheel: key primary is disabled (disabled by operator)\n"
        assert running.key("primary")["state"] == "disabled"
        told = data("keys", "enable", "primary", **variables)
        assert (told["action"], told["key"]["state"]) == ("enable", "open")
        assert keywheel("keys", "reset", "primary", **variables).exit_code == 0
        said = refusal(1, "keys", "disable", "nonesuch", **variables)
        assert said.startswith("There is no key 'nonesuch'. Known: primary,")


@pytest.mark.parametrize("variables", [{}, {"KEYWHEEL_TOKENS": TOKEN}])
def test_without_the_admin_token_one_is_told_what_to_set(variables: dict[str, str]) -> None:
    gateway = GatewaySettings(admin_token=Secret(ADMIN), tokens=(Secret(TOKEN),))
    with rig(config=replace(Config(), gateway=gateway)) as running:
        for args in (("keys", "disable", "primary"), ("status",), ("stats",)):
            said = refusal(1, *args, KEYWHEEL_PORT=port(running), **variables)
            assert "set KEYWHEEL_ADMIN_TOKEN" in said
            assert "admin-token.sha256" in said
            assert TOKEN not in said


# --- keys check ------------------------------------------------------------------------------------


def test_keys_are_checked_and_a_dead_one_is_1() -> None:
    dead = sim.scenario("dead-key")
    with simulated(dead) as (_, variables):
        result = keywheel("keys", "check", **variables)
        told = keywheel("keys", "check", "--json", **variables)
    assert result.exit_code == told.exit_code == 1
    rows = json.loads(told.stdout)["keys"]
    assert {row["name"]: row["valid"] for row in rows} == {
        "primary": True, "secondary": False, "tertiary": True, "quaternary": True,
    }  # fmt: skip
    assert rows[0]["free_limit"] == 50
    for key in sim.demo_keys(dead):
        assert key not in result.output + told.output
    assert "50 of 50" in result.stdout


def test_keys_of_an_upstream_that_is_away_are_4() -> None:
    assert "ConnectError" in refusal(
        4, "keys", "check", OPENROUTER_BASE_URL=AWAY, OPENROUTER_API_KEY=KEY
    )


def test_no_key_to_check_is_3() -> None:
    assert refusal(3, "keys", "check").startswith("no API key")
