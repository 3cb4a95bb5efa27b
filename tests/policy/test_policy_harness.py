"""The bench itself: does it measure what it says?"""

from dataclasses import replace
from random import Random

import pytest

from keywheel.core.rows import ROWS
from keywheel.core.types import Answered, Failed, Key, Kind, Lease, Model, Verdict
from keywheel.core.types import Ask as WheelAsk
from keywheel.problems import Problem
from keywheel.sim import Ask, Ruling, World, demo_keys
from keywheel.sim import Kind as Ruled
from scripts.policy.audit import Audit, Rules
from scripts.policy.bench import run
from scripts.policy.harness import Reply, Weather
from scripts.policy.judging import Course, Judge, Patience
from scripts.policy.loop import Loop
from scripts.policy.measures import jain, measure, percentile
from scripts.policy.policies import Founding, Setting
from scripts.policy.scenarios import DATE, MODELS, SCENARIOS
from scripts.policy.workloads import sdk_wait

REFUSALS = {Ruled.MINUTE, Ruled.DAY, Ruled.KEY_UNKNOWN, Ruled.CREDITS}
ROOMY = Patience(30.0, 300.0)


# --- time ----------------------------------------------------------------------------------------


def test_events_happen_in_the_order_of_time_and_then_of_planning() -> None:
    loop, seen = Loop(100.0), list[str]()
    for when, name in ((102.0, "c"), (101.0, "a"), (101.0, "b"), (50.0, "now")):
        loop.at(when, lambda name=name: seen.append(f"{name}{loop.now:g}"))
    loop.run()
    assert seen == ["now100", "a101", "b101", "c102"]


# --- judging -------------------------------------------------------------------------------------


def ruling(kind: str, ask: Ask) -> Ruling:
    world = World(start=DATE)
    world.script(kind)
    return world.attempt(demo_keys()[0], ask, DATE)


def course(kind: str, *, stream: bool, patience: Patience = ROOMY) -> Course:
    ask = Ask((MODELS[0],), 100, 64, stream)
    return Judge().course(ruling(kind, ask), ask, patience, DATE, DATE)


@pytest.mark.parametrize(
    ("kind", "stream", "commits", "row"),
    [
        ("ok", True, True, "ok"),
        ("ok", False, False, "ok"),
        ("no-done", True, True, "ok"),
        ("upstream-pool", True, False, "upstream-pool"),
        ("minute", False, False, "platform-minute"),
        ("error-in-200", True, False, "provider-down"),
        ("error-in-200", False, False, "provider-down"),
        ("error-first", True, False, "provider-down"),
        ("empty", True, False, "empty"),
        ("empty", False, False, "empty"),
        ("break-after-content", True, True, "broken-after-content"),
        ("stall-after-content", True, True, "broken-after-content"),
        ("reset-after-content", True, True, "broken-after-content"),
        ("truncated", False, False, "malformed"),
        ("reset", False, False, "malformed"),
        ("silent", True, False, "timeout"),
        ("silent", False, False, "timeout"),
    ],
)
def test_an_answer_is_judged_as_the_gateway_would(
    kind: str, stream: bool, commits: bool, row: str
) -> None:
    found = course(kind, stream=stream)
    assert (found.first is not None) is commits
    if row == "ok":
        assert isinstance(found.outcome, Answered)
        assert found.outcome.tokens_out
    else:
        assert isinstance(found.outcome, Failed)
        assert found.outcome.verdict.row.name == row


def test_times_come_from_the_ruling_of_each_attempt() -> None:
    judge, ask = Judge(), Ask((MODELS[0],), 100, 64, stream=True)
    world = World(start=DATE)
    rulings = [world.attempt(demo_keys()[0], ask, DATE + n) for n in range(5)]
    found = [judge.course(each, ask, ROOMY, DATE, DATE) for each in rulings]
    assert [each.first for each in found] == [each.seconds for each in rulings]
    assert len({each.end for each in found}) == 5


def test_a_named_moment_is_read_anew_each_time() -> None:
    judge, ask = Judge(), Ask((MODELS[0],), 100, 64)
    untils: list[float | None] = []
    for now in (DATE + 10.0, DATE + 130.0):
        world = World(start=DATE)
        world.script("minute")
        found = judge.course(world.attempt(demo_keys()[0], ask, now), ask, ROOMY, now, now)
        assert isinstance(found.outcome, Failed)
        untils.append(found.outcome.verdict.until)
    assert untils == [DATE + 60.0, DATE + 180.0]


def test_a_deadline_that_comes_first_blames_nobody() -> None:
    assert course("silent", stream=True, patience=Patience(5.0, 5.0)) == Course(None, 5.0, None)


# --- truth ---------------------------------------------------------------------------------------


def audit(shared: bool = False) -> Audit:
    return Audit({"a": Rules(2, lambda _: 3, shared)}, lambda _: False)


def send(book: Audit, at: float, kind: str = "ok") -> None:
    lease = Lease(1, "k", "a", MODELS[0], at, at, (), ())
    book.attempt(lease, ruling(kind, Ask((MODELS[0],))), at, at)


def test_sends_beyond_a_limit_are_counted_by_any_minute_and_by_the_date() -> None:
    book = audit()
    for at in (0.0, 30.0, 59.0, 120.0):
        send(book, DATE + at)
    assert (book.over_minute, book.over_day) == (1, 1)


@pytest.mark.parametrize(
    ("shared", "crash", "expected"),
    [(False, None, "self"), (True, None, "others"), (False, DATE - 30, "restart"), (False, DATE - 90, "self")],
)  # fmt: skip
def test_a_full_minute_has_a_culprit(shared: bool, crash: float | None, expected: str) -> None:
    book = audit(shared)
    if crash:
        book.crashed(crash)
    send(book, DATE, "minute")
    assert book.platform == {expected: 1}


def test_jain_says_one_for_equal_shares_and_a_fraction_for_one_winner() -> None:
    assert jain([0.4, 0.4, 0.4]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([0.0, 0.0]) == 1.0


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile(tuple(map(float, range(100))), 0.95) == 95.0


# --- clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry_after", "final", "asks", "expected"),
    [
        (502, None, False, 1, 0.5),
        (502, None, False, 2, 1.0),
        (502, None, False, 3, None),
        (400, None, True, 1, None),
        (404, None, False, 1, None),
        (500, 7.0, False, 1, 7.0),
        (500, 130.0, False, 1, None),
    ],
)
def test_an_sdk_comes_back_as_it_was_told(
    status: int, retry_after: float | None, final: bool, asks: int, expected: float | None
) -> None:
    problem = Problem(status, "code", "message", retry_after=retry_after, final=final)
    reply = Reply(0.0, False, status, 1, problem=problem)
    wait = sdk_wait(reply, asks, Random(1))
    assert wait == (pytest.approx(expected, rel=0.25) if expected else None)


# --- policies ------------------------------------------------------------------------------------


def test_the_oracle_is_never_refused_by_a_limit_and_never_meets_a_full_pool() -> None:
    for name, hours in (("bursts", 4.0), ("keys", 1.0), ("crowd-sliding", 0.05)):
        sent = run(SCENARIOS[name], "oracle", 0, hours).audit.sent
        kinds = {each.kind for each in sent}
        assert kinds.isdisjoint(REFUSALS | {Ruled.UPSTREAM_POOL, Ruled.UPSTREAM_HINT})
        assert Ruled.OK in kinds


@pytest.mark.parametrize("policy", ["founding", "round-robin", "strict-order", "random"])
def test_every_rival_answers_most_requests_of_a_quiet_hour(policy: str) -> None:
    sample = measure(run(SCENARIOS["reference"], policy, 0, 1.0))
    assert sample.asks > 200
    assert sample.answered > 0.9 * sample.asks


def test_the_founding_rules_disable_a_key_that_fails_most_of_the_time() -> None:
    keys, models = (Key("k1", "a1"), Key("k2", "a2")), (Model("m1", 1_000), Model("m2", 10_000))
    rules = Founding(Setting(keys, models, "seed", World(start=DATE), Loop(DATE)))
    rules.now = DATE
    bad = Verdict(ROWS["server-error"])
    for verdict in (None, None, bad, bad, bad):
        rules.learn((keys[0], models[0]), verdict)
    small, large = WheelAsk(tokens=500), WheelAsk(tokens=5_000)
    assert list(rules.plan(small)) == [(keys[1], models[0]), (keys[1], models[1])]
    assert list(rules.plan(large)) == [(keys[1], models[1])]
    rules.now = DATE + 300.0
    assert set(rules.plan(large)) == {(keys[0], models[1]), (keys[1], models[1])}


def test_requests_under_way_are_lost_in_a_crash_and_nothing_remains_open() -> None:
    scenario = replace(
        SCENARIOS["crowd-sliding"], crashes=((20.0, 3.0),), traffic=SCENARIOS["reference"].traffic
    )
    calls = run(scenario, "keywheel", 0, 0.2).calls
    assert all(call.finish < float("inf") for call in calls)
    down = [call for call in calls if DATE + 80.0 <= call.arrival < DATE + 83.0]
    assert all(call.status == 0 and not call.ok for call in down)


def test_a_network_that_refuses_connections_costs_no_quota() -> None:
    weather = Weather(refused=((DATE, DATE + 600.0),))
    scenario = replace(SCENARIOS["reference"], weather=weather)
    found = run(scenario, "keywheel", 0, 0.1)
    assert found.audit.sent == []
    assert not any(call.ok for call in found.calls)


def test_scopes_declared_closed_are_remembered() -> None:
    found = run(SCENARIOS["saturated"], "keywheel", 0, 1.0)
    closed = found.audit.closed
    assert {scope.kind for scope in closed} >= {Kind.MODEL}
    assert found.audit.on_closed == 0
