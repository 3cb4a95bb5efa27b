"""What the world decides: keys, models, faults, chance."""

from collections import Counter
from dataclasses import replace

import pytest

from keywheel.sim import SCENARIOS, Account, Ask, Behaviour, Kind, Scenario, World, demo_keys
from keywheel.sim.spec import Outage, Saturation
from tests.sim.client import FREE, NOON, PLAIN

KEY = demo_keys()[0]
OTHER = "sk-or-v1-" + "f" * 64
RICH = Account(day_limit=100_000, minute_limit=100_000, credits=10.0)


def rich(**fields: object) -> World:
    return World(Scenario(accounts=(RICH,), **fields), seed=3, start=NOON)


def kind(world: World, *models: str, key: str = KEY, now: float = NOON, **needs: object) -> Kind:
    return world.attempt(key, Ask(models=models, **needs), now).kind


# --- keys ----------------------------------------------------------------------------------------


def test_no_key_and_an_unknown_key_are_told_apart() -> None:
    world = rich(open_keys=False)
    assert kind(world, PLAIN, key="") is Kind.NO_KEY
    assert kind(world, PLAIN, key=OTHER) is Kind.KEY_UNKNOWN


def test_an_open_world_gives_a_well_formed_key_an_account_of_its_own() -> None:
    world = rich()
    assert kind(world, PLAIN, key=OTHER) is Kind.OK
    assert world.ledgers[-1].day.used == 1
    assert world.ledgers[0].day.used == 0
    assert kind(world, PLAIN, key="sk-or-v1-short") is Kind.KEY_UNKNOWN


def test_a_revoked_key_is_unknown_until_it_is_given_back() -> None:
    world = World(SCENARIOS["dead-key"], start=NOON)
    dead = demo_keys(world.scenario)[1]
    assert kind(world, PLAIN, key=dead) is Kind.KEY_UNKNOWN
    assert world.key(dead, NOON) is None
    world.dead.clear()
    assert kind(world, PLAIN, key=dead) is Kind.OK


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "needs", "expected"),
    [
        ("nobody/nothing:free", {}, Kind.BAD_MODEL),
        ("openchat/openchat-7b:free", {}, Kind.GONE),
        ("nvidia/nemotron-3.5-content-safety:free", {"tools": True}, Kind.NO_TOOLS),
        (PLAIN, {"images": True}, Kind.NO_IMAGES),
        (PLAIN, {"deny_collection": True}, Kind.DATA_POLICY),
        ("poolside/laguna-xs-2.1:free", {"json": True, "require_parameters": True}, Kind.NO_PARAMETERS),
        ("poolside/laguna-xs-2.1:free", {"json": True}, Kind.OK),
        ("google/gemma-4-26b-a4b-it:free", {"prompt_tokens": 140_000}, Kind.CONTEXT),
        ("google/gemma-4-26b-a4b-it:free", {"prompt_tokens": 130_000}, Kind.OK),
        ("openai/gpt-oss-20b:free", {"reasoning_off": True}, Kind.REASONING),
        (FREE, {"reasoning_off": True}, Kind.OK),
        ("openai/gpt-4o-mini", {}, Kind.OK),
        ("openai/gpt-4o-mini", {"max_tokens": 100_000_000}, Kind.CONTEXT),
        ("anthropic/claude-opus-5", {"max_tokens": 900_000}, Kind.AFFORD),
    ],
)  # fmt: skip
def test_routing_refuses(model: str, needs: dict[str, object], expected: Kind) -> None:
    assert kind(rich(), model, **needs) is expected


def test_a_paid_model_on_an_account_that_never_paid_is_refused() -> None:
    world = World(start=NOON)
    assert kind(world, "openai/gpt-4o-mini") is Kind.NEVER_PAID
    assert kind(world, "openrouter/auto") is Kind.NEVER_PAID
    assert kind(world, "nobody/nothing") is Kind.BAD_MODEL  # what does not exist has no price


def test_a_paid_answer_costs_money() -> None:
    world = rich()
    ruling = world.attempt(KEY, Ask(models=("openai/gpt-4o-mini",), prompt_tokens=1000), NOON)
    assert ruling.cost > 0
    assert world.ledgers[0].usage == ruling.cost


def test_the_free_router_picks_a_model_that_can() -> None:
    world = rich()
    ask = Ask(images=True, tools=True)
    chosen = [world.attempt(KEY, ask, NOON).model for _ in range(30)]
    assert len({model.id for model in chosen if model}) > 2
    assert all(model and model.free and model.images and model.tools for model in chosen)


def test_the_router_finds_nothing_when_nothing_fits() -> None:
    assert kind(rich(), "openrouter/free", deny_collection=True) is Kind.NO_FALLBACK


def test_hidden_models_differ_between_accounts() -> None:
    private = replace(RICH, hidden=("nvidia/*",))
    world = World(Scenario(accounts=(private, RICH)), start=NOON)
    first, second = demo_keys(world.scenario)
    assert kind(world, FREE, key=first) is Kind.PRIVACY
    assert kind(world, FREE, key=second) is Kind.OK
    mine, theirs = world.models_for(first, NOON), world.models_for(second, NOON)
    assert mine is not None
    assert theirs is not None
    assert {model.id for model in theirs} - {model.id for model in mine} >= {FREE}
    assert world.models_for("", NOON) is None


def test_models_join_and_leave() -> None:
    world = rich(models={FREE: Behaviour(leaves_after=100.0), PLAIN: Behaviour(joins_after=100.0)})
    early, late = ({m.id for m in world.models(NOON + after)} for after in (0, 100))
    assert (FREE in early, PLAIN in early) == (True, False)
    assert (FREE in late, PLAIN in late) == (False, True)
    assert kind(world, FREE, now=NOON + 100) is Kind.ENDED  # a paid version lives on
    assert kind(world, PLAIN) is Kind.GONE


def test_an_endpoint_may_have_less_context_than_the_list_says() -> None:
    world = rich(models={FREE: Behaviour(context=4096)})
    ruling = world.attempt(KEY, Ask(models=(FREE,), prompt_tokens=5000), NOON)
    assert (ruling.kind, ruling.limit) == (Kind.CONTEXT, 4096)


def test_a_harness_gate_refuses_every_key() -> None:
    world = rich(models={FREE: Behaviour(harness_only=True)})
    assert kind(world, FREE) is kind(world, FREE, key=OTHER) is Kind.HARNESS


def test_a_models_own_cap_holds_for_all_accounts() -> None:
    world = World(
        Scenario(accounts=(RICH, RICH), models={FREE: Behaviour(minute_cap=2)}), start=NOON
    )
    first, second = demo_keys(world.scenario)
    assert kind(world, FREE, key=first) is kind(world, FREE, key=second) is Kind.OK
    ruling = world.attempt(first, Ask(models=(FREE,)), NOON + 5)
    assert (ruling.kind, ruling.limit, ruling.reset) == (Kind.MODEL_CAPACITY, 2, NOON + 60)
    assert kind(world, PLAIN, key=first) is Kind.OK


def test_a_models_daily_cap_gives_no_reset() -> None:
    world = rich(models={FREE: Behaviour(day_cap=1)})
    kind(world, FREE)
    ruling = world.attempt(KEY, Ask(models=(FREE,)), NOON)
    assert (ruling.kind, ruling.limit, ruling.reset) == (Kind.MODEL_DAY, 1, None)


# --- models[] ------------------------------------------------------------------------------------


def test_a_list_of_models_moves_on_from_a_refusal() -> None:
    world = rich()
    world.script("upstream-pool", model=FREE)
    ruling = world.attempt(KEY, Ask(models=(FREE, PLAIN)), NOON)
    assert ruling.kind is Kind.OK
    assert ruling.model_name == PLAIN


def test_a_list_of_models_does_not_move_on_once_the_status_is_sent() -> None:
    world = rich()
    world.script("error-in-200", model=FREE)
    ruling = world.attempt(KEY, Ask(models=(FREE, PLAIN)), NOON)
    assert (ruling.kind, ruling.model_name) == (Kind.ERROR_IN_200, FREE)


def test_when_all_fail_the_last_refusal_quotes_the_others() -> None:
    world = rich()
    world.script("502", model=PLAIN)
    ruling = world.attempt(KEY, Ask(models=("openchat/openchat-7b:free", PLAIN)), NOON)
    assert ruling.kind is Kind.BAD_GATEWAY
    assert [each.kind for each in ruling.previous] == [Kind.GONE]


# --- scripts -------------------------------------------------------------------------------------


def test_scripts_are_served_in_order_and_used_up() -> None:
    world = rich()
    world.script("502", times=2)
    world.script("empty")
    seen = [kind(world, PLAIN) for _ in range(4)]
    assert seen == [Kind.BAD_GATEWAY, Kind.BAD_GATEWAY, Kind.EMPTY, Kind.OK]


def test_a_script_waits_for_its_key_and_model() -> None:
    world = rich()
    world.script("408", key=KEY, model=FREE)
    assert kind(world, PLAIN) is Kind.OK
    assert kind(world, FREE, key=OTHER) is Kind.OK
    assert kind(world, FREE) is Kind.TIMEOUT


def test_a_script_may_name_the_key_by_its_place() -> None:
    world = World(start=NOON)
    world.script("503", key=2)
    seen = [kind(world, PLAIN, key=key) for key in demo_keys()]
    assert seen == [Kind.OK, Kind.OK, Kind.UNAVAILABLE, Kind.OK]


def test_a_script_may_come_before_the_world_begins() -> None:
    world = World()
    world.script("key-unknown", key=demo_keys()[1])
    assert kind(world, PLAIN, key=demo_keys()[1]) is Kind.KEY_UNKNOWN


def test_a_scripted_ok_beats_chance_and_quota() -> None:
    world = World(Scenario(accounts=(Account(used_today=50),)), start=NOON)
    world.script("ok")
    assert [kind(world, PLAIN), kind(world, PLAIN)] == [Kind.OK, Kind.DAY]


@pytest.mark.parametrize(
    "wrong", [{"kind": "explode"}, {"kind": "502", "times": 0}, {"kind": "502", "key": "sk-x"}]
)
def test_a_script_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"explode|at least once|no such key"):
        World(start=NOON).script(**wrong)


def test_a_scripted_ok_answers_even_for_a_model_that_does_not_exist() -> None:
    world = rich()
    world.script("ok")
    ruling = world.attempt(KEY, Ask(models=("nobody/nothing",)), NOON)
    assert (ruling.kind, ruling.served_as) == (Kind.OK, "nobody/nothing")


# --- chance --------------------------------------------------------------------------------------


def course(seed: int) -> list[tuple[Kind, float]]:
    world = World(replace(SCENARIOS["flood"], accounts=(RICH,)), seed, start=NOON)
    rulings = [world.attempt(KEY, Ask(), NOON + step) for step in range(200)]
    return [(ruling.kind, ruling.seconds) for ruling in rulings]


def test_the_same_seed_gives_the_same_world() -> None:
    assert course(5) == course(5)
    assert course(5) != course(6)


def test_reset_begins_the_same_world_again() -> None:
    world = World(replace(SCENARIOS["flood"], accounts=(RICH,)), 5, start=NOON)
    first = [kind(world, FREE) for _ in range(100)]
    world.reset()
    assert [kind(world, FREE) for _ in range(100)] == first
    assert world.ledgers[0].day.used == 100


def test_faults_come_in_their_shares() -> None:
    world = rich(behaviour=Behaviour(faults={Kind.BAD_GATEWAY: 0.3, Kind.EMPTY: 0.1}))
    seen = Counter(kind(world, PLAIN) for _ in range(4000))
    assert seen[Kind.BAD_GATEWAY] / 4000 == pytest.approx(0.3, abs=0.03)
    assert seen[Kind.EMPTY] / 4000 == pytest.approx(0.1, abs=0.02)


def test_a_full_pool_refuses_by_timetable() -> None:
    law = Saturation(windows=((60.0, 120.0),), refuses=1.0)
    world = rich(models={FREE: Behaviour(saturation=law, hint_share=0.0)})
    seen = [kind(world, FREE, now=NOON + after) for after in (59, 60, 119, 120)]
    assert seen == [Kind.OK, Kind.UPSTREAM_POOL, Kind.UPSTREAM_POOL, Kind.OK]


def test_a_full_pool_comes_and_goes_by_chance_whatever_the_traffic() -> None:
    scenario = SCENARIOS["saturated"]
    busy, idle = (World(scenario, 2, start=NOON) for _ in range(2))
    for second in range(3000):
        busy.attempt(KEY, Ask(models=(FREE,)), NOON + second)
    marks = [NOON + 10 * step for step in range(300, 4000)]
    full = [busy.forecast(FREE, mark).full for mark in marks]
    assert full == [idle.forecast(FREE, mark).full for mark in marks]
    assert full.count(True) / len(full) == pytest.approx(0.4, abs=0.1)


def test_an_outage_takes_every_model_of_the_provider() -> None:
    world = rich(outages=(Outage(provider="Nvidia", after=10, until=20, kind=Kind.PROVIDER_529),))
    assert (
        kind(world, FREE, now=NOON + 15) is kind(world, PLAIN, now=NOON + 15) is Kind.PROVIDER_529
    )
    assert kind(world, "openai/gpt-oss-20b:free", now=NOON + 15) is Kind.OK
    assert kind(world, FREE, now=NOON + 20) is Kind.OK


def test_an_unreliable_key_fails_and_its_siblings_do_not() -> None:
    unreliable = SCENARIOS["unreliable-key"].accounts[2]
    terms = replace(unreliable, day_limit=1000, minute_limit=1000)
    world = World(Scenario(accounts=(RICH, terms)), 1, start=NOON)
    good, bad = demo_keys(world.scenario)
    assert {kind(world, PLAIN, key=good) for _ in range(100)} == {Kind.OK}
    answered = [kind(world, PLAIN, key=bad) for _ in range(300)].count(Kind.OK)
    assert answered / 300 == pytest.approx(0.2, abs=0.07)


def test_the_length_of_an_answer_follows_max_tokens() -> None:
    world = rich()
    short = world.attempt(KEY, Ask(models=(PLAIN,), max_tokens=3), NOON)
    assert (short.completion_tokens, short.finish) == (3, "length")
    long = world.attempt(KEY, Ask(models=(PLAIN,), max_tokens=10_000), NOON)
    assert long.finish == "stop"


def test_speed_drifts_by_the_hour() -> None:
    world = rich(models={FREE: Behaviour(drift=0.5)})
    medians = {world.forecast(FREE, NOON + hour * 3600).ttft for hour in range(5)}
    assert len(medians) == 5
    again = rich(models={FREE: Behaviour(drift=0.5)})
    assert again.forecast(FREE, NOON).ttft == world.forecast(FREE, NOON).ttft


def test_some_answers_name_the_dated_slug() -> None:
    world = rich(dated_slugs=0.5)
    names = {world.attempt(KEY, Ask(models=(FREE,)), NOON).served_as for _ in range(50)}
    assert names == {FREE, "nvidia/nemotron-3-super-120b-a12b-20230311:free"}


# --- the journal ---------------------------------------------------------------------------------


def test_the_journal_notes_every_attempt_and_never_a_key() -> None:
    world = rich(journal=5)
    for key in (KEY, OTHER, "", "sk-or-v1-wrong"):
        for name in ("502", "ok"):
            world.script(name)
            kind(world, PLAIN, key=key)
    assert len(world.journal) == 5
    text = repr(list(world.journal))
    assert "sk-or" not in text
    assert {note.key for note in world.journal} == {"key-2", "unknown"}


@pytest.mark.parametrize("each", Kind)
def test_a_script_can_bring_every_kind(each: Kind) -> None:
    world = rich()
    world.script(each)
    assert kind(world, PLAIN) is each
    assert kind(world, PLAIN) is Kind.OK
