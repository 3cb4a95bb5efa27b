"""`keywheel replay`: ten thousand recorded decisions come out as they did; other settings differ where they say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keywheel import sim
from keywheel.cli import rerunning
from keywheel.config import Config, LogSettings
from keywheel.core.decisions import Decision
from keywheel.core.policy import Choice, Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.replay import take_down
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Model, Price
from scripts.policy import bench, policies
from scripts.policy.scenarios import SCENARIOS
from tests.cli.commandline import data, keywheel, refusal
from tests.core.build import ASK, NOON, account, answered, failed, model, on, pool, run
from tests.journeys.rig import rig

MANY = 10_000


def recorder(lines: list[bytes]) -> Callable[[Pool, Ask, Tried, Decision], None]:
    return lambda *seen: lines.append(msgspec.json.encode(take_down(*seen)))


def written(path: Path, lines: list[bytes]) -> str:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Days of simulated traffic: outages, drifting speeds, dead keys, spent minutes and days."""
    lines: list[bytes] = []

    class Watched(policies.Keywheel):
        def __init__(self, setting: policies.Setting) -> None:
            super().__init__(setting)
            self.pool.watch = recorder(lines)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(policies.POLICIES, "watched", Watched)
        hours = {
            "midnight": 0.3,
            "crowd-fixed": 0.02,
            "keys": 1.0,
            "outage": 6.3,
            "fan-out": 8.0,
            "unsteady": 23.9,
        }
        for name, length in hours.items():
            bench.run(SCENARIOS[name], "watched", 0, length)
    return written(tmp_path_factory.mktemp("life") / "log", lines[:MANY])


@pytest.fixture(scope="module")
def part(life: str) -> str:
    """Every eighth of them."""
    path = Path(life)
    return written(path.with_name("part"), path.read_bytes().splitlines()[::8])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def small(log: Path, *decided: tuple[Pool, Ask]) -> str:
    """A log of single decisions."""
    lines: list[bytes] = []
    for made, ask in decided:
        made.watch = recorder(lines)
        made.select(ask, Tried(), NOON)
        made.watch = None
    return written(log, lines)


def other(folder: Path, text: str) -> tuple[str, str]:
    (folder / "other.toml").write_text(text)
    return "--config", str(folder / "other.toml")


def differences(log: str, folder: Path, text: str) -> list[dict[str, Any]]:
    return data("replay", log, *other(folder, text))["differences"]


# --- the same --------------------------------------------------------------------------------------


def test_ten_thousand_decisions_come_out_as_they_did(life: str) -> None:
    told = data("replay", life)
    assert (told["read"], told["identical"], told["different"]) == (MANY, MANY, 0)
    lanes = {tuple(json.loads(line)["chosen"]) for line in Path(life).read_text().splitlines()}
    assert len({model for _, model, _ in lanes}) > 5
    assert {cause for *_, cause in lanes} >= {None, "minute", "day", "health"}


def test_it_is_told_in_two_lines(part: str) -> None:
    result = keywheel("replay", part)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.startswith("1,250 decisions from ")
    assert first.endswith(", by the recorded settings")
    assert second == "1,250 identical, 0 different"


def test_a_choice_that_comes_out_otherwise_is_1(log: Path) -> None:
    small(log, (pool(), ASK), (pool(), ASK))
    lines = log.read_text().splitlines()
    forged = lines[0].replace('"chosen":["k1","m1",null]', '"chosen":["k2","m2",null]')
    assert forged != lines[0]
    log.write_text("\n".join([forged, lines[1], ""]))
    result = keywheel("replay", str(log))
    assert result.exit_code == 1
    assert "1 identical, 1 different" in result.stdout
    assert "decides otherwise than the one that recorded it" in " ".join(result.stdout.split())


def test_what_a_gateway_has_recorded_comes_out_as_it_did(log: Path) -> None:
    settings = Config(log=LogSettings(decisions=str(log)))
    with rig(sim.Scenario(accounts=(sim.Account(), sim.Account())), settings) as running:
        running.world.script("502", times=3)
        ids = [running.chat(model="auto:fast").headers["x-request-id"] for _ in range(3)]
        running.chat(messages=[{"role": "user", "content": "a secret of mine"}])
    told = data("replay", str(log))
    assert (told["read"], told["identical"], told["broken"]) == (
        len(running.attempts),
        told["read"],
        [],
    )
    recorded = [json.loads(line)["request_id"] for line in log.read_text().splitlines()]
    assert {*ids} < {*recorded}
    assert "a secret of mine" not in log.read_text()


# --- other settings --------------------------------------------------------------------------------


def test_a_life_by_another_strategy_differs_and_says_in_what(part: str, tmp_path: Path) -> None:
    result = keywheel(
        "replay", part, *other(tmp_path, '[models]\nstrategy = "fastest"'), COLUMNS="160"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    head = result.stdout.splitlines()
    assert head[0].endswith("other.toml")
    told = data("replay", part, *other(tmp_path, '[models]\nstrategy = "fastest"'))
    assert told["identical"] + told["different"] == MANY // 8
    assert 100 < told["different"] < MANY // 8
    assert head[1] == f"{told['identical']:,} identical, {told['different']:,} different"
    assert f"{told['different'] - 20:,} more: --json" in result.stdout
    assert all(each["why"] and each["before"] != each["after"] for each in told["differences"])
    moved = [each for each in told["differences"] if each["before"][1] != each["after"][1]]
    assert len(moved) > 100
    assert sum("place × " in each["why"] for each in moved) > len(moved) / 2


def test_a_life_with_a_model_excluded_differs_where_it_was_taken(part: str, tmp_path: Path) -> None:
    name = json.loads(Path(part).read_text().partition("\n")[0])["chosen"][1]
    found = differences(part, tmp_path, f'[models]\nexclude = ["{name}"]')
    taken = sum(
        json.loads(line)["chosen"][1] == name for line in Path(part).read_text().splitlines()
    )
    assert len(found) >= taken > 0
    assert {each["before"][1] for each in found if each["before"]} == {name}
    assert all(name not in each["after"] for each in found if each["after"])
    assert {each["why"] for each in found if each["after"]} == {f"{name} is not on its list"}


def two(policy: Policy | None = None) -> Pool:
    """m2 is faster than m1, which is preferred."""
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"), policy)
    for _ in range(6):
        run(made, answered(total=12.0), on("m1"))
        run(made, answered(total=7.0), on("m2"))
    return made


def test_a_preferred_model_comes_first_and_prices_of_places_are_told(
    log: Path, tmp_path: Path
) -> None:
    small(log, (two(Policy(choice=Choice(strategy="fastest"))), ASK))
    (found,) = differences(str(log), tmp_path, "[models]\npreference_step = 3")
    assert (found["before"][1], found["after"][1]) == ("m2", "m1")
    assert "place × 1.00 → × 3.00" in found["why"]
    (found,) = differences(str(log), tmp_path, '[models]\nstrategy = "ordered"')
    assert found["why"] == "m1 stands before m2 in its list"
    assert differences(str(log), tmp_path, '[models]\nstrategy="ordered"\npreferred=["m2"]') == []


def test_what_failures_cost_is_told(log: Path, tmp_path: Path) -> None:
    small(log, (two(), ASK))
    (found,) = differences(str(log), tmp_path, "[models]\nfailure_cost = 99")
    assert found["why"].count("failures ") == 2
    assert found["why"].startswith("m1 ")


def test_a_conversation_that_stays_or_not_is_told(log: Path, tmp_path: Path) -> None:
    ask = ASK._replace(conversation="c1", follow_up=True)
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    made.affinity.remember("c1", "a2", NOON)
    small(log, (made, ask))
    (found,) = differences(str(log), tmp_path, "[models]\naffinity = false")
    assert (found["before"], found["after"]) == (["k2", "m1"], ["k1", "m1"])
    assert found["why"] == "the account that knows the conversation is not kept"
    made = pool(("k1@a1", "k2@a2"), ("m1",), Policy(choice=Choice(affinity=False)))
    made.affinity.remember("c1", "a2", NOON)
    small(log, (made, ask))
    (found,) = differences(str(log), tmp_path, "")
    assert found["why"] == "the account that knows the conversation is kept"


def test_an_affinity_floor_may_change_the_key_only(log: Path, tmp_path: Path) -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",), accounts=(account("a1", 100), account("a2", 60)))
    made.affinity.remember("c1", "a2", NOON)
    small(log, (made, ASK._replace(conversation="c1", follow_up=True)))
    (found,) = differences(str(log), tmp_path, "[models]\naffinity_floor = 0.9")
    assert found["after"] == ["k1", "m1"]


def test_what_only_a_last_resort_would_try_is_told_both_ways(log: Path, tmp_path: Path) -> None:
    for before in (False, True):
        made = pool(("k1@a1",), ("m1",), Policy(Health(last_resort=before)))
        run(made, failed("server-error"), on("m1"))
        small(log, (made, ASK))
        (found,) = differences(
            str(log), tmp_path, f"[health]\nlast_resort = {str(not before).lower()}"
        )
        assert found["why"] == (
            "everything that fits is closed for its failures"
            if before
            else "it may use m1, which was kept back: the model is closed for now"
        )


def test_attempts_on_one_model_are_told(log: Path, tmp_path: Path) -> None:
    tried, lines = Tried({("k1", "m1")}, models={"m1": 1}, left=60.0), list[bytes]()
    made = pool(("k1@a1", "k2@a1"), ("m1", "m2"))
    made.watch = recorder(lines)
    made.select(ASK, tried, NOON)
    (found,) = differences(written(log, lines), tmp_path, "[limits]\nattempts_per_model = 1")
    assert (found["before"], found["after"]) == (["k2", "m1"], ["k1", "m2"])
    assert found["why"] == "m1: this request has tried it"


def test_paid_models_are_on_the_list_only_where_they_are_allowed(log: Path, tmp_path: Path) -> None:
    paid = Model("paid", 131_072, free=False, price=Price(1e-9, 1e-9))
    made = pool(("k1@a1",), (model("m1"), paid), Policy(choice=Choice(allow_paid=True)))
    small(log, (made, ASK._replace(first="paid")), (made, ASK._replace(models=("paid",))))
    first, second = differences(str(log), tmp_path, "")
    assert (first["after"], first["why"]) == (["k1", "m1"], "paid is not on its list")
    assert (second["after"], second["why"]) == (None, "there is no key, or no model")
    assert differences(str(log), tmp_path, "[models]\nallow_paid = true") == []


def test_the_order_by_quality_is_not_in_a_record_and_that_is_said(
    log: Path, tmp_path: Path
) -> None:
    result = keywheel(
        "replay", small(log, (pool(), ASK)), *other(tmp_path, '[models]\nstrategy="smartest"')
    )
    assert result.exit_code == 0
    assert "their order stays as recorded" in result.stderr


# --- what cannot be read ---------------------------------------------------------------------------


def test_broken_lines_are_named_and_the_rest_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(log, *[(pool(), ASK) for _ in range(3)])
    good = log.read_bytes().splitlines()
    cut, newer = good[0][:-20], good[0].replace(b'"version":1', b'"version":2')
    foreign = good[0].replace(b'"accounts":[["a1"', b'"accounts":[["b9"')
    monkeypatch.setattr(rerunning, "LONGEST", len(good[0]) + 50)
    lines = [
        good[0],
        cut,
        b"",
        newer,
        foreign,
        b"\xff\xfe",
        b"x" * 50_000,
        b"[]",
        good[1],
        good[2][:-9],
    ]
    log.write_bytes(b"\n".join(lines))
    result = keywheel("replay", str(log))
    assert result.exit_code == 0
    assert "2 decisions" in result.stdout
    assert "2 identical, 0 different" in result.stdout
    said = " ".join(result.stderr.split())
    assert said.startswith("keywheel: 8 lines cannot be read: ")
    assert ", ".join(f"{log}:{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10)) in said
    told = json.loads(keywheel("replay", str(log), "--json").stdout)
    assert [each["line"] for each in told["broken"]] == [2, 3, 4, 5, 6, 7, 8, 10]
    assert told["broken"][2]["why"] == "its version is 2, and 1 can be read"


def test_more_broken_lines_are_counted(log: Path) -> None:
    log.write_bytes(small(log, (pool(), ASK)) and log.read_bytes() + b"{}\n" * 30)
    assert "30 lines cannot be read" in keywheel("replay", str(log)).stderr
    assert "and 20 more; the first: " in keywheel("replay", str(log)).stderr


def test_a_log_without_a_decision_is_1(log: Path) -> None:
    log.write_text("")
    assert refusal(1, "replay", str(log)) == f"no decision in {log}"


def test_a_log_that_is_not_there_is_2() -> None:
    assert keywheel("replay", "nowhere").exit_code == 2
    assert keywheel("replay").exit_code == 2


def test_several_logs_are_read_in_turn_and_wrong_settings_are_3(log: Path, tmp_path: Path) -> None:
    one = small(log, (pool(), ASK))
    assert data("replay", one, one)["read"] == 2
    assert keywheel("replay", one, *other(tmp_path, "[models]\nstrateg = 1")).exit_code == 3
