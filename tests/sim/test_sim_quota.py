"""The truth about quota: who shares it, what counts, when it comes back."""

from dataclasses import replace

import pytest

from keywheel.sim import SCENARIOS, Account, Ask, Kind, Scenario, World, demo_keys
from tests.sim.client import NOON, PLAIN

ASK = Ask(models=(PLAIN,))
DAY = 86400.0
MIDNIGHT = NOON // DAY * DAY + DAY
KEY = demo_keys()[0]


def world_of(**terms: object) -> World:
    account = Account(**({"day_limit": 1000} | terms))
    return World(Scenario(accounts=(account,), counter_lag=0), start=NOON)


def kinds(world: World, count: int, now: float, key: str = KEY) -> list[Kind]:
    return [world.attempt(key, ASK, now).kind for _ in range(count)]


def test_keys_of_an_account_share_the_minute() -> None:
    world = World(SCENARIOS["shared-account"], start=NOON)
    first, sibling, other, _ = demo_keys(world.scenario)
    assert kinds(world, 12, NOON, first) == [Kind.OK] * 12
    assert kinds(world, 9, NOON, sibling) == [Kind.OK] * 8 + [Kind.MINUTE]
    assert kinds(world, 1, NOON, other) == [Kind.OK]


def test_keys_of_an_account_share_the_day() -> None:
    world = World(Scenario(accounts=(Account(keys=2, used_today=49),)), start=NOON)
    first, sibling = demo_keys(world.scenario)
    assert kinds(world, 1, NOON, first) == [Kind.OK]
    assert kinds(world, 1, NOON, sibling) == [Kind.DAY]


def test_all_free_models_draw_on_one_quota() -> None:
    world = world_of(used_today=999)
    assert world.attempt(KEY, Ask(models=("openai/gpt-oss-20b:free",)), NOON).kind is Kind.OK
    assert world.attempt(KEY, Ask(models=(PLAIN,)), NOON).kind is Kind.DAY
    assert world.attempt(KEY, Ask(models=("openrouter/free",)), NOON).kind is Kind.DAY


@pytest.mark.parametrize("kind", ["502", "upstream-pool", "error-in-200", "gone", "silent"])
def test_failed_attempts_count(kind: str) -> None:
    world = world_of()
    world.script(kind)
    assert kinds(world, 1, NOON) == [Kind(kind)]
    assert world.ledgers[0].day.used == 1


def test_refused_attempts_count_so_used_passes_the_limit() -> None:
    world = world_of(day_limit=50, used_today=50)
    assert kinds(world, 3, NOON) == [Kind.DAY] * 3
    view = world.key(KEY, NOON)
    assert view is not None
    assert (view.used, view.limit) == (53, 50)


def test_a_free_id_that_does_not_exist_counts_and_a_paid_one_does_not() -> None:
    world = world_of()
    world.attempt(KEY, Ask(models=("openchat/openchat-7b:free",)), NOON)
    world.attempt(KEY, Ask(models=("openai/gpt-4o-mini",)), NOON)
    assert world.ledgers[0].day.used == 1


def test_a_request_that_is_no_request_does_not_count() -> None:
    world = world_of()
    assert world.attempt(KEY, Ask(flaw=Kind.NOT_JSON), NOON).kind is Kind.NOT_JSON
    assert world.ledgers[0].day.used == 0


def test_the_fixed_minute_opens_on_the_clock_minute() -> None:
    world, late = world_of(), NOON + 59.0
    assert kinds(world, 21, late)[-1] is Kind.MINUTE
    assert kinds(world, 20, NOON + 60.0) == [Kind.OK] * 20  # 40 within two seconds


def test_the_minute_of_a_refusal_resets_on_the_minute() -> None:
    world = world_of()
    ruling = [world.attempt(KEY, ASK, NOON + 17.5) for _ in range(21)][-1]
    assert (ruling.limit, ruling.reset) == (20, NOON + 60.0)


def variant(window: str) -> World:
    calm = Scenario(accounts=(Account(day_limit=1000),), window=window)
    return World(calm, start=NOON)


def test_the_sliding_minute_forgets_each_attempt_after_sixty_seconds() -> None:
    world = variant("sliding")
    for place in range(20):
        assert kinds(world, 1, NOON + place) == [Kind.OK]
    refused = world.attempt(KEY, ASK, NOON + 59.5)
    assert (refused.kind, refused.reset) == (Kind.MINUTE, NOON + 61.0)  # it weighs itself
    assert kinds(world, 1, NOON + 61.5) == [Kind.OK]


def test_hammering_keeps_the_sliding_minute_shut() -> None:
    world = variant("sliding")
    kinds(world, 20, NOON)
    answers = [kinds(world, 1, NOON + second) for second in range(1, 300)]
    assert answers == [[Kind.MINUTE]] * 299


def test_the_bucket_gives_one_token_every_three_seconds() -> None:
    world = variant("bucket")
    assert kinds(world, 21, NOON) == [Kind.OK] * 20 + [Kind.MINUTE]
    assert kinds(world, 1, NOON + 2.9) == [Kind.MINUTE]
    assert kinds(world, 2, NOON + 3.0) == [Kind.OK, Kind.MINUTE]


def test_the_bucket_tells_when_the_next_token_comes() -> None:
    world = variant("bucket")
    kinds(world, 20, NOON)
    assert world.attempt(KEY, ASK, NOON).reset == pytest.approx(NOON + 3.0)


@pytest.mark.parametrize("window", ["fixed", "sliding", "bucket"])
def test_no_variant_admits_more_than_its_limit_in_a_clock_minute(window: str) -> None:
    world = variant(window)
    admitted = [world.attempt(KEY, ASK, NOON + tenth / 10).kind for tenth in range(600)]
    most = 40 if window == "bucket" else 20  # a full bucket and what flows in
    assert admitted.count(Kind.OK) <= most


def test_the_day_ends_at_midnight_utc() -> None:
    world = world_of(day_limit=50, used_today=50)
    refused = world.attempt(KEY, ASK, MIDNIGHT - 0.5)
    assert (refused.kind, refused.limit, refused.reset) == (Kind.DAY, 50, MIDNIGHT)
    assert kinds(world, 1, MIDNIGHT) == [Kind.OK]


def test_a_top_up_raises_the_day_while_running() -> None:
    world = world_of(day_limit=50, used_today=50, raised_after=600.0)
    assert kinds(world, 1, NOON) == [Kind.DAY]
    assert kinds(world, 1, NOON + 601) == [Kind.OK]
    view = world.key(KEY, NOON + 601)
    assert view is not None
    assert view.limit == 1000


def test_others_spend_on_a_leaking_account() -> None:
    world = world_of(leak_per_minute=2.0)
    world.attempt(KEY, ASK, NOON + 600)
    assert world.ledgers[0].day.used == 1 + 20
    assert world.ledgers[0].attempts == 1


def test_a_leak_begins_anew_at_midnight() -> None:
    world = world_of(leak_per_minute=1.0)
    world.attempt(KEY, ASK, MIDNIGHT + 300)
    assert world.ledgers[0].day.used == 1 + 5


def test_others_can_be_made_to_spend_by_hand() -> None:
    world = world_of()
    world.ledgers[0].spend(20, NOON)
    assert kinds(world, 1, NOON) == [Kind.MINUTE]
    assert world.ledgers[0].day.used == 21


def test_the_counter_of_get_key_is_late_by_up_to_its_lag() -> None:
    world = World(Scenario(accounts=(Account(),), counter_lag=60), start=NOON)
    kinds(world, 5, NOON + 10)
    seen = [world.key(KEY, NOON + after) for after in (20, 59, 60)]
    assert [view.used for view in seen if view] == [0, 0, 5]


def test_the_late_counter_starts_the_new_day_at_zero() -> None:
    world = World(Scenario(accounts=(Account(used_today=30),), counter_lag=500), start=NOON)
    before, after = world.key(KEY, MIDNIGHT - 1), world.key(KEY, MIDNIGHT)
    assert before is not None
    assert after is not None
    assert (before.used, after.used) == (30, 0)


def test_without_lag_the_counter_is_true() -> None:
    world = world_of()
    kinds(world, 3, NOON)
    view = world.key(KEY, NOON)
    assert view is not None
    assert view.used == 3


def test_reading_the_key_costs_nothing() -> None:
    world = world_of()
    for _ in range(50):
        world.key(KEY, NOON)
    assert world.ledgers[0].day.used == 0


def test_a_negative_balance_stops_free_models_too() -> None:
    world = world_of(credits=10.0, usage=10.5)
    assert kinds(world, 1, NOON) == [Kind.CREDITS]


def test_money_comes_before_the_minute_and_the_minute_before_the_day() -> None:
    world = world_of(day_limit=50, used_today=50)
    assert kinds(world, 21, NOON)[-1] is Kind.MINUTE
    poor = World(replace(world.scenario, accounts=(Account(usage=1.0, used_today=50),)), start=NOON)
    assert kinds(poor, 21, NOON)[-1] is Kind.CREDITS


def test_models_of_one_request_count_once_or_each() -> None:
    ask = Ask(models=("openchat/openchat-7b:free", "google/gemma-2-9b-it:free", PLAIN))
    for each, expected in ((False, 1), (True, 3)):
        scenario = Scenario(accounts=(Account(),), count_each_model=each)
        world = World(scenario, start=NOON)
        assert world.attempt(KEY, ask, NOON).kind is Kind.OK
        assert world.ledgers[0].day.used == expected
