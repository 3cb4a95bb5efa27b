"""Scenarios: the named ones, the TOML form, and what is said about mistakes."""

import re
from pathlib import Path

import pytest

from keywheel.sim import (
    SCENARIOS,
    Account,
    Ask,
    Kind,
    Scenario,
    ScenarioError,
    World,
    demo_keys,
    fixture_models,
    scenario,
)
from keywheel.sim.spec import GONE, Saturation
from tests.sim.client import FREE, NOON, PLAIN

TOML = """
summary = "two accounts, one of them nearly spent"
window = "sliding"
counter_lag = 0

[[accounts]]
name = "lab"
keys = ["sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
day_limit = 1000

[[accounts]]
keys = 2
used_today = 49

[behaviour]
ttft = 1

[models."nvidia/*"]
faults = { 502 = 0.25, error-in-200 = 0.25 }
saturation = { windows = [[0, 60]] }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_named_scenario_plays(name: str) -> None:
    world = World(scenario(name), seed=1, start=NOON)
    keys = demo_keys(world.scenario)
    seen = [
        world.attempt(keys[step % len(keys)], Ask(), NOON + 10 * step).kind for step in range(160)
    ]
    assert Kind.OK in seen
    assert world.scenario.summary


def test_the_named_scenarios_are_the_promised_ones() -> None:
    promised = "calm saturated dead-key shared-account midnight flood slow down unreliable-key"
    assert list(SCENARIOS) == promised.split()
    assert scenario() is SCENARIOS["calm"]


def test_calm_answers_everything() -> None:
    world = World(scenario("calm"), start=NOON)
    free = [model for model in fixture_models() if model.free]
    asks = [Ask(models=(each.id,), embeddings=each.embeds) for each in free]
    seen = {world.attempt(demo_keys()[0], ask, NOON).kind for ask in asks}
    assert seen == {Kind.OK}


def test_demo_keys_are_fixed_well_formed_and_one_an_account_in_calm() -> None:
    keys = demo_keys()
    assert keys == demo_keys(scenario("calm"))
    assert len(set(keys)) == len(SCENARIOS["calm"].accounts) == 4
    assert all(re.fullmatch("sk-or-v1-0{60}[0-9a-f]{4}", key) for key in keys)


def test_saturated_refuses_the_popular_models_and_flood_fails_inside_200() -> None:
    saturated = World(scenario("saturated"), start=NOON)
    assert saturated.forecast(FREE, NOON).full in {True, False}
    assert saturated.forecast(PLAIN, NOON).failing == 0
    flood = World(scenario("flood"), start=NOON)
    assert flood.forecast(FREE, NOON).failing == pytest.approx(0.6)


def test_the_fixture_has_the_facts_of_the_day() -> None:
    models = {model.id: model for model in fixture_models()}
    free = [model for model in models.values() if model.free and not model.embeds]
    assert len(free) == 19
    assert sum(model.id.endswith(":free") for model in free) == 16
    assert {model.row["pricing"]["prompt"] for model in models.values() if model.router} == {
        "-1",
        "0",
    }
    assert (
        models["google/gemma-4-26b-a4b-it:free"].context == 131_072
    )  # the provider's, not the list's
    assert not models.keys() & set(GONE)


def test_a_file_is_a_scenario(file: Path) -> None:
    read = scenario(str(file))
    assert (read.name, read.window, len(read.accounts)) == ("lab", "sliding", 2)
    assert read.accounts[1] == Account(keys=2, used_today=49)
    assert read.models["nvidia/*"].saturation == Saturation(windows=((0, 60),))
    assert read.models["nvidia/*"].faults == {Kind.BAD_GATEWAY: 0.25, Kind.ERROR_IN_200: 0.25}
    assert len(demo_keys(read)) == 3


def test_the_world_of_a_file_knows_its_keys(file: Path) -> None:
    world = World(scenario(str(file)), start=NOON)
    first, second, third = demo_keys(world.scenario)
    assert first.startswith("sk-or-v1-0123")
    kinds = [world.attempt(key, Ask(models=(PLAIN,)), NOON + 90).kind for key in (second, third)]
    assert Kind.DAY in kinds
    assert world.journal[-1].account == "account-2"


@pytest.mark.parametrize(
    ("line", "path", "near"),
    [
        ("acounts = []", "acounts", "accounts"),
        ("[[accounts]]\nday_limt = 5", "accounts[0].day_limt", "day_limit"),
        ("[behaviour]\ntft = 1.0", "behaviour.tft", "ttft"),
        ('[models."nvidia/*"]\nspede = 1', "models.nvidia/*.spede", "speed"),
        ("[behaviour.saturation]\nmean_off_time = 1", "behaviour.saturation.mean_off_time", "mean_off"),
        ("[open_account]\nleak_per_min = 1", "open_account.leak_per_min", "leak_per_minute"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_named_with_the_nearest(
    tmp_path: Path, line: str, path: str, near: str
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        scenario(str(file))
    assert f"unknown field {path!r}; did you mean {near!r}?" in str(caught.value)
    assert "wrong.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('open_keys = "yes"', "open_keys"),
        ("[[accounts]]\nday_limit = 1.5", "accounts[0].day_limit"),
        ('window = "rolling"', "window"),
        ("[behaviour.faults]\nboom = 0.1", "boom"),
        ("[behaviour.faults]\n502 = 0.7\nempty = 0.7", "at most 1 together"),
        ("[[outages]]\nprovider = 'Nvidia'\nafter = 0", "until"),
        ("= nonsense", "line 1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(ScenarioError, match=re.escape(said)):
        scenario(str(file))


def test_an_unknown_name_is_told_the_nearest_one() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'saturated'"):
        scenario("saturate")
    with pytest.raises(ScenarioError, match="known are calm, saturated"):
        scenario("xyz")


def test_a_missing_file_is_a_scenario_error() -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.toml"):
        scenario("nowhere.toml")


def test_scenarios_are_values() -> None:
    assert Scenario() == Scenario()
    with pytest.raises(AttributeError):
        Scenario().name = "other"
