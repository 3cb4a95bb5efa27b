"""One request's life (routing A.7)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from keywheel.core.attempts import attempts
from keywheel.core.policy import Health, Limits, Policy
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.steps import (
    Done,
    Ended,
    Expired,
    Refused,
    Report,
    Result,
    Send,
    Served,
    Take,
    TurnedDown,
    Wait,
)
from keywheel.core.types import (
    Answered,
    Ask,
    Attempted,
    Event,
    Failed,
    Kind,
    Lease,
    NoLane,
    Provenance,
    Scope,
)
from tests.core.build import (
    NOON,
    account,
    answered,
    failed,
    heal,
    model,
    on,
    pool,
    run,
    take,
    until,
)

Script = Callable[[Lease], Report | Answered | Failed]


@dataclass
class World:
    """Carries out the steps of one ask by a script: what each attempt comes to, one second later."""

    pool: Pool
    script: Script
    now: float = NOON
    leases: list[Lease] = field(default_factory=list[Lease])
    waits: list[float] = field(default_factory=list[float])
    events: list[Event] = field(default_factory=list[Event])
    turned_down: list[str] = field(default_factory=list[str])  # accounts the store refuses
    patience: list[float] = field(default_factory=list[float])
    deadlines: list[float] = field(default_factory=list[float])

    def live(self, ask: Ask | None = None) -> Result:
        ask = ask or Ask(tokens=100, deadline=self.now + 120, request_id="r1")
        flow = attempts(self.pool, ask, self.now, self.events)
        try:
            step = next(flow)
            while True:
                step = flow.send(self.carry_out(step))
        except StopIteration as stop:
            return stop.value

    def carry_out(self, step: Take | Send | Wait) -> Report:
        match step:
            case Wait():
                self.waits.append(step.until - self.now)
                self.now = step.until
                return Done(self.now)
            case Take():
                refused = step.lease.account in self.turned_down
                return TurnedDown(self.now) if refused else Done(self.now)
            case Send():
                self.leases.append(step.lease)
                self.patience.append(step.first_content)
                self.deadlines.append(step.deadline)
                self.now += 1
                said = self.script(step.lease)
                return Ended(self.now, said) if isinstance(said, Answered | Failed) else said

    @property
    def lanes(self) -> list[str]:
        return [f"{lease.key}+{lease.model}" for lease in self.leases]


def script(*outcomes: str) -> Script:
    """Rows one after another; `ok` answers."""
    left = iter(outcomes)

    def play(_: Lease) -> Answered | Failed:
        row = next(left)
        return answered() if row == "ok" else failed(row)

    return play


def always(row: str) -> Script:
    return lambda _: failed(row)


def served(result: Result) -> Served:
    assert isinstance(result, Served), result
    return result


def refused(result: Result) -> Refused:
    assert isinstance(result, Refused), result
    return result


def rows(result: Result) -> list[str]:
    return [tried.row.partition(" ")[2] or tried.row for tried in result.tries]


MANY = [f"m{n}" for n in range(1, 7)]
KEYS = [f"k{n}@a{n}" for n in range(1, 5)]


# --- answers -----------------------------------------------------------------------------------------


def test_the_first_answer_ends_it() -> None:
    world = World(pool(KEYS, MANY), script("ok"))
    result = served(world.live())
    assert rows(result) == ["ok"]
    assert result.lease == world.leases[0]
    assert world.pool.open_leases == 0
    assert [type(event) for event in world.events] == [Attempted]


def test_a_committed_stream_ends_it_and_its_lease_stays_open() -> None:
    """I9: after the commit there is no further attempt; the last byte settles the lease."""
    world = World(pool(KEYS, MANY), lambda _: Done(NOON + 1))
    result = served(world.live())
    assert world.pool.open_leases == 1
    assert len(world.leases) == 1
    assert world.pool.settle(result.lease, failed("broken-after-content"), NOON + 9)


def test_the_time_to_first_content_and_the_deadline_are_handed_to_the_driver() -> None:
    made = pool(KEYS, MANY)
    flow = attempts(made, Ask(deadline=NOON + 50), NOON, [])
    assert isinstance(next(flow), Take)
    step = flow.send(Done(NOON))
    assert isinstance(step, Send)
    assert (step.first_content, step.deadline) == (30, NOON + 50)


# --- fallback ----------------------------------------------------------------------------------------


def test_a_failing_model_is_followed_by_another_one() -> None:
    world = World(pool(KEYS, MANY), script("server-error", "upstream-pool", "ok"))
    result = served(world.live())
    assert rows(result) == ["server-error", "upstream-pool", "ok"]
    assert [lease.model for lease in world.leases] == ["m1", "m2", "m3"]
    assert world.waits == []


def test_a_models_429_is_never_tried_with_another_key() -> None:
    world = World(pool(KEYS, ("m1",)), always("upstream-pool"))
    result = refused(world.live())
    assert world.lanes == ["k1+m1"]
    assert result.verdict is not None
    assert result.verdict.row.name == "upstream-pool"


ALONE = {
    "pinned": (MANY, {"first": "m1", "pinned": True}),
    "listed": (MANY, {"models": ("m1",)}),
    "only one there": (("m1",), {}),
}


@pytest.mark.parametrize("row", ["timeout", "unclear-429", "empty"])
@pytest.mark.parametrize("case", ALONE)
def test_without_another_model_another_account_tries_the_one_that_is_still_open(
    case: str, row: str
) -> None:
    models, wish = ALONE[case]
    ask = Ask(tokens=100, deadline=NOON + 120, request_id="r1", **wish)
    world = World(pool(KEYS, models), script(row, "ok"))
    served(world.live(ask))
    assert world.lanes == ["k1+m1", "k2+m1"]


@pytest.mark.parametrize("row", ["timeout", "unclear-429", "empty"])
def test_a_model_without_another_one_is_tried_twice_at_most(row: str) -> None:
    world = World(pool(KEYS, ("m1",)), always(row))
    assert refused(world.live()).verdict is not None
    assert world.lanes == ["k1+m1", "k2+m1"]


@pytest.mark.parametrize("row", ["server-error", "upstream-pool", "malformed", "capability"])
def test_without_another_model_a_failure_that_closes_it_or_is_the_asks_own_ends_the_ask(
    row: str,
) -> None:
    ask = Ask(tokens=100, deadline=NOON + 120, request_id="r1", first="m1", pinned=True)
    world = World(pool(KEYS, MANY), always(row))
    assert refused(world.live(ask)).verdict is not None
    assert world.lanes == ["k1+m1"]


@pytest.mark.parametrize("row", ["forbidden", "account-settings"])
def test_a_refused_access_is_followed_by_another_account(row: str) -> None:
    world = World(pool(KEYS, ("m1",)), script(row, "ok"))
    served(world.live())
    assert world.lanes == ["k1+m1", "k2+m1"]


def test_after_an_unclear_429_both_model_and_account_change() -> None:
    world = World(pool(("k1@a1", "k2@a1", "k3@a2"), MANY), script("unclear-429", "ok"))
    served(world.live())
    assert world.lanes == ["k1+m1", "k3+m2"]


@pytest.mark.parametrize(
    "row",
    ["bad-request", "content-refused", "cannot-afford-this", "payload-too-large", "other-4xx",
     "bad-certificate", "wrong-path", "edge-refusal", "edge", "budget-spent-on-reasoning"],
)  # fmt: skip
def test_some_failures_end_the_ask_at_once(row: str) -> None:
    world = World(pool(KEYS, MANY), always(row))
    result = refused(world.live())
    assert len(world.leases) == 1
    assert result.verdict is not None
    assert result.verdict.row.name == row


def test_a_transient_refusal_is_tried_once_more_on_the_same_lane_after_half_a_second() -> None:
    world = World(pool(KEYS, MANY), script("transient", "transient", "ok"))
    served(world.live())
    assert world.lanes[0] == world.lanes[1] == "k1+m1"
    assert world.lanes[2] != "k1+m1"
    assert world.waits == [0.5]


def test_only_one_lane_of_an_ask_is_repeated() -> None:
    world = World(pool(KEYS, MANY), script("transient", "server-error", "transient", "ok"))
    served(world.live())
    assert len(set(world.lanes)) == 3


def test_a_prompt_that_was_too_long_goes_only_to_a_larger_context() -> None:
    models = [model("m1", 8_000), model("m2", 8_000), model("m3", 32_000)]
    world = World(pool(KEYS, models), script("context-too-long", "ok"))
    served(world.live())
    assert [lease.model for lease in world.leases] == ["m1", "m3"]


def test_the_context_limit_told_is_what_must_be_larger() -> None:
    models = [model("m1", 32_000), model("m2", 16_000), model("m3", 4_000)]
    told = failed("context-too-long", context_limit=8_000)
    world = World(pool(KEYS, models), lambda lease: told if lease.model == "m1" else answered())
    served(world.live())
    assert [lease.model for lease in world.leases] == ["m1", "m2"]


def test_a_prompt_too_long_for_every_model_ends_with_that_error() -> None:
    world = World(pool(KEYS, [model("m1", 8_000), model("m2", 8_000)]), always("context-too-long"))
    result = refused(world.live())
    assert len(world.leases) == 1
    assert result.verdict is not None
    assert result.verdict.row.code == "context_too_long"


def test_a_prompt_too_long_for_a_model_that_is_gone_still_ends() -> None:
    made = pool(KEYS, MANY)

    def leave(_: Lease) -> Failed:
        made.set_models([model("m9")], NOON)
        return failed("context-too-long")

    assert rows(World(made, lambda ls: answered() if ls.model == "m9" else leave(ls)).live()) == [
        "context-too-long",
        "ok",
    ]


def test_a_missing_capability_is_followed_by_a_model_that_has_it() -> None:
    models = [model("m1", can=("tools",)), model("m2"), model("m3", can=("tools",))]
    told = failed("capability", lacks="tools")
    world = World(pool(KEYS, models), lambda lease: told if lease.model == "m1" else answered())
    served(world.live())
    assert [lease.model for lease in world.leases] == ["m1", "m3"]


@pytest.mark.parametrize("lack", ["providers", "price", "parameters"])
def test_what_the_list_tells_of_no_model_does_not_rule_the_others_out(lack: str) -> None:
    told = failed("capability", lacks=lack)
    world = World(pool(KEYS, MANY), lambda lease: told if lease.model == "m1" else answered())
    served(world.live())
    assert [lease.model for lease in world.leases] == ["m1", "m2"]


def test_an_untyped_400_is_asked_of_one_other_model_and_then_returned() -> None:
    said = iter((failed("untyped-400", message="first"), failed("untyped-400", message="second")))
    world = World(pool(KEYS, MANY), lambda _: next(said))
    result = refused(world.live())
    assert len(world.leases) == 2
    assert result.verdict is not None
    assert result.verdict.message == "first"


def test_an_unreachable_upstream_is_tried_once_more() -> None:
    world = World(pool(KEYS, ("m1",)), always("unreachable"))
    result = refused(world.live())
    assert world.lanes == ["k1+m1", "k2+m1"]
    assert result.verdict is not None
    assert result.verdict.row.name == "unreachable"


def test_a_verdict_is_read_in_the_light_of_earlier_asks() -> None:
    """The second unclear 429 of an account names its minute: no attempt of the ask is charged for it."""
    made = pool(("k1@a1",), MANY)
    World(made, always("unclear-429")).live(on("m1"))
    world = World(made, script("unclear-429"))
    result = refused(world.live(on("m2")))
    assert rows(result) == ["platform-minute"]
    assert result.verdict is None
    assert result.no_lane is not None


# --- limits ------------------------------------------------------------------------------------------


def test_an_ask_may_use_four_attempts() -> None:
    world = World(pool(KEYS, MANY), always("server-error"))
    result = refused(world.live())
    assert len(world.leases) == 4
    assert result.verdict is not None
    assert (result.expired, result.spent) == (False, True)


def test_the_number_of_attempts_is_a_setting() -> None:
    for limit in (1, 2, 6):
        policy = Policy(limits=Limits(attempts=limit))
        world = World(pool(KEYS, MANY, policy), always("server-error"))
        world.live()
        assert len(world.leases) == limit


def test_two_attempts_on_one_model_are_enough() -> None:
    world = World(pool(KEYS, ("m1",)), always("transient"))
    world.live()
    assert len(world.leases) == 2
    world = World(pool(KEYS, ("m1",)), always("forbidden"))
    world.live()
    assert len(world.leases) == 2


@pytest.mark.parametrize("row", ["bad-key", "bad-key-400", "key-limit"])
def test_ten_keys_nine_of_them_dead_the_tenth_answers(row: str) -> None:
    made = pool([f"k{n}@a{n}" for n in range(10)], ("m1",))
    world = World(made, lambda lease: answered() if lease.key == "k9" else failed(row))
    result = served(world.live())
    assert len({lease.key for lease in world.leases}) == len(world.leases) == 10
    assert result.lease.key == "k9"
    assert made.budget.left(NOON) == 20


@pytest.mark.parametrize(
    "row", ["no-credits", "in-flight-budget", "platform-minute", "platform-day"]
)
def test_accounts_rotate_without_counting_towards_the_limit(row: str) -> None:
    names = [f"k{n}@a{n}" for n in range(10)]
    made = pool(names, ("m1",), accounts=[account(f"a{n}") for n in range(10)])
    world = World(made, lambda lease: answered() if lease.key == "k9" else failed(row))
    served(world.live())
    assert len(world.leases) == 10


def test_a_key_or_account_fault_ends_a_keys_part_in_the_ask() -> None:
    """I8, though the operator opens every key again at once."""
    made = pool(("k1@a1", "k2@a2"), MANY)

    class Reopening(World):
        def carry_out(self, step: Take | Send | Wait) -> Report:
            for key in ("k1", "k2"):
                made.operate("enable", Scope(Kind.KEY, key), self.now)
            return super().carry_out(step)

    world = Reopening(made, always("bad-key"))
    refused(world.live())
    assert [lease.key for lease in world.leases] == ["k1", "k2"]


def test_extra_attempts_are_paid_from_the_budget_and_an_empty_one_ends_the_ask() -> None:
    made = pool(KEYS, MANY)
    for _ in range(2):
        World(made, script("server-error", "server-error", "ok")).live()
        for name in ("m1", "m2", "m3"):
            made.operate("enable", Scope(Kind.MODEL, name), NOON)
    assert made.budget.left(NOON + 1) == pytest.approx(20 - 2 + 0.2 + 1 / 6, abs=0.35)
    while made.budget.spend(NOON + 1):
        pass
    world = World(made, always("server-error"), now=NOON + 1)
    result = refused(world.live())
    # the first fallback is free: a usable lane is used before an error is returned
    assert 2 <= len(world.leases) < 4
    assert result.verdict is not None


def test_an_outage_is_met_with_the_budget_from_the_first_fallback_on() -> None:
    made = pool(KEYS, MANY)
    while made.budget.spend(NOON + 1):
        pass
    world = World(made, always("unreachable"), now=NOON + 1)
    refused(world.live())
    assert len(world.leases) == 1


def test_waiting_costs_no_budget() -> None:
    made = pool(KEYS, ("m1", "m2"))
    made.roster.models["m2"].breaker.block(Provenance.HEURISTIC, NOON + 4, "r", NOON, 0)
    world = World(made, script("server-error", "ok"))
    served(world.live())
    assert world.waits == [3.0]
    assert made.budget.left(NOON + 1) == pytest.approx(20, abs=0.3)


def test_with_less_than_a_tenth_of_the_day_left_everywhere_two_attempts_are_enough() -> None:
    made = pool(KEYS[:2], MANY, accounts=[account("a1", 50), account("a2", 50)])
    for name, used in (("a1", 40), ("a2", 40)):
        made.key_is_good("k" + name[1], Reading(used, None), NOON)
    world = World(made, always("server-error"))
    world.live()
    assert len(world.leases) == 4
    for name in ("a1", "a2"):
        made.key_is_good("k" + name[1], Reading(47, None), NOON)
    for m in MANY:
        made.operate("reset", Scope(Kind.MODEL, m), NOON)
    made.operate("reset", Scope(Kind.PROVIDER, "openrouter"), NOON)
    world = World(made, always("server-error"))
    world.live()
    assert len(world.leases) == 2


def test_an_unmetered_account_is_never_scarce() -> None:
    made = pool(KEYS[:2], MANY, accounts=[account("a1", None), account("a2", 0)])
    world = World(made, always("server-error"))
    world.live()
    assert len(world.leases) == 4


# --- deadline ----------------------------------------------------------------------------------------


def test_no_further_attempt_begins_with_less_than_two_seconds_left() -> None:
    world = World(pool(KEYS, MANY), always("server-error"))
    result = refused(world.live(Ask(deadline=NOON + 3.5)))
    assert len(world.leases) == 2
    assert result.expired
    assert result.verdict is not None


def test_a_first_attempt_is_made_however_short_the_time() -> None:
    assert served(World(pool(KEYS, MANY), script("ok")).live(Ask(deadline=NOON + 1)))


def test_nothing_begins_after_the_deadline() -> None:
    world = World(pool(KEYS, MANY), script())
    result = refused(world.live(Ask(deadline=NOON)))
    assert (result.expired, result.tries, result.verdict) == (True, (), None)


def test_the_deadline_blames_a_model_only_if_it_had_all_the_time() -> None:
    for stream, elapsed, blamed in (
        (False, 120.0, True), (False, 60.0, False), (True, 120.0, False), (True, 299.5, True),
    ):  # fmt: skip
        made = pool(KEYS, MANY)
        world = World(made, lambda _, e=elapsed: Expired(NOON + e, e))
        result = refused(world.live(Ask(stream=stream, deadline=NOON + elapsed)))
        assert result.expired
        assert made.roster.models["m1"].learnt.bad == int(blamed)
        assert (rows(result) == ["timeout"]) is blamed
        assert made.open_leases == 0


# --- waiting -----------------------------------------------------------------------------------------


def closed_for(seconds: float, policy: Policy | None = None) -> Pool:
    made = pool(KEYS, ("m1",), policy)
    run(made, failed("provider-down", NOON + seconds), on("m1"))
    heal(made, Kind.MODEL, "m1")
    return made


def test_a_lane_that_opens_soon_is_waited_for() -> None:
    world = World(closed_for(9.0), script("ok"))
    served(world.live())
    assert world.waits == [9.0]


def test_a_lane_that_opens_late_is_not() -> None:
    world = World(closed_for(11.0), script())
    result = refused(world.live())
    assert result.no_lane is not None
    assert (result.no_lane.at, result.no_lane.cause) == (NOON + 11, "health")


def test_an_explicit_batch_client_waits_longer() -> None:
    ask = Ask(deadline=NOON + 900, max_wait=600)
    assert served(World(closed_for(590.0), script("ok")).live(ask))


def test_what_a_batch_client_waits_is_not_taken_from_its_deadline() -> None:
    ask = Ask(deadline=NOON + 120, max_wait=600)
    world = World(closed_for(590.0), script("ok"))
    served(world.live(ask))
    assert world.deadlines == [NOON + 120 + 590]
    assert world.leases[0].expires > world.now


def test_a_batch_client_that_leaves_earlier_is_not_waited_for() -> None:
    ask = Ask(deadline=NOON + 120, max_wait=600, latest=NOON + 500)
    assert refused(World(closed_for(510.0), script()).live(ask)).no_lane
    world = World(closed_for(490.0), script("ok"))
    served(world.live(ask))
    assert world.deadlines == [NOON + 500]


def test_nobody_waits_beyond_the_deadline() -> None:
    ask = Ask(deadline=NOON + 8)
    assert refused(World(closed_for(7.0), script()).live(ask)).no_lane


def test_waiting_is_bounded_in_all() -> None:
    made = pool(("k1@a1",), ("m1",), accounts=[account("a1", cap=1)])
    take(made)
    world = World(made, script())
    result = refused(world.live())
    assert result.no_lane is not None
    assert result.no_lane.cause == "busy"
    assert sum(world.waits) == pytest.approx(10, abs=0.5)
    assert set(world.waits) == {0.25}


def test_a_wait_always_lets_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pool(KEYS, MANY)
    for name in ("select", "obstacle"):
        monkeypatch.setattr(made, name, lambda _ask, _tried, now: NoLane(now, "busy"))
    monkeypatch.setattr(made, "dispatch", lambda _now: None)
    world = World(made, script())
    refused(world.live())
    assert min(world.waits) >= 0.0099


# --- the store ---------------------------------------------------------------------------------------


def test_an_account_the_store_refuses_is_left_for_another_one() -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"), MANY, accounts=[account("a1"), account("a2")])
    world = World(made, script("ok"), turned_down=["a1"])
    result = served(world.live())
    assert rows(result) == ["ok"]
    assert world.lanes == ["k3+m1"]
    assert made.roster.accounts["a1"].quota.used(NOON) == 0
    assert made.budget.left(NOON) == 20


def test_with_every_account_refused_by_the_store_nothing_is_left() -> None:
    world = World(pool(KEYS, MANY), script(), turned_down=["a1", "a2", "a3", "a4"])
    result = refused(world.live())
    assert result.no_lane is not None
    assert result.no_lane.cause == "tried"


def test_a_key_that_was_removed_meanwhile_is_left_too() -> None:
    made = pool(("k1@a1", "k2@a2"), MANY)
    flow = attempts(made, Ask(), NOON, [])
    step = next(flow)
    assert isinstance(step, Take)
    made.set_keys([account("a2")], [k.key for k in made.roster.keys.values() if k.name == "k2"])
    step = flow.send(TurnedDown(NOON))
    assert isinstance(step, Take)
    assert step.lease.key == "k2"


# --- endings -----------------------------------------------------------------------------------------


def test_when_only_keys_ran_out_what_closes_the_lanes_is_told() -> None:
    result = refused(World(pool(KEYS, MANY), always("bad-key")).live())
    assert (len(result.tries), result.verdict) == (4, None)
    assert result.no_lane is not None


def test_an_earlier_failure_of_a_model_is_told_rather_than_closed_lanes() -> None:
    result = refused(World(pool(KEYS, MANY[:2]), always("server-error")).live())
    assert result.verdict is not None
    assert result.no_lane is not None


def test_keys_refused_alike_in_one_ask_without_an_answer_are_in_doubt() -> None:
    """Poison guard: the ask may be what every key is refused for."""
    made = pool(KEYS, MANY)
    world = World(made, always("bad-key"))
    world.live()
    assert {until(made, Kind.KEY, f"k{n}", world.now) - world.now for n in range(1, 5)} == {300}
    assert made.due_checks(world.now) == ("k1", "k2", "k3", "k4")


def test_one_refused_key_or_an_answer_in_the_end_is_no_doubt() -> None:
    made = pool(KEYS, MANY)
    World(made, script("bad-key", "key-limit", "content-refused")).live()
    assert until(made, Kind.KEY, "k1") == float("inf")
    made = pool(KEYS, MANY)
    World(made, script("bad-key", "bad-key", "ok")).live()
    assert until(made, Kind.KEY, "k1") == float("inf")


def test_an_outage_guessed_meanwhile_does_not_cut_an_ask_short() -> None:
    """P5 and I18 win over rule 25 by correlation."""
    made = pool(KEYS, MANY)
    run(made, failed("server-error"), on("m6", "other"))
    guessed: list[float] = []

    def play(lease: Lease) -> Answered | Failed:
        guessed.append(made.roster.outage.closed_until(world.now))
        return answered() if lease.model == "m4" else failed("server-error")

    world = World(made, play)
    served(world.live())
    assert [bool(until) for until in guessed] == [False, False, True, True]
    assert made.roster.outage.closed_until(world.now) == 0.0


def test_last_resort_is_part_of_an_asks_life() -> None:
    made = pool(KEYS, ("m1",), Policy(Health(last_resort=True), Limits(max_queue=0)))
    run(made, failed("server-error"), on("m1"))
    assert served(World(made, script("ok")).live())
    assert until(made, Kind.MODEL, "m1") == 0.0
