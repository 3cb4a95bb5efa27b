"""What the rows of the classification table do to scopes, quota and experience (routing A.5 and A.6)."""

import pytest

from keywheel.core.policy import Limits, Policy
from keywheel.core.pool import Pool
from keywheel.core.rows import ROWS
from keywheel.core.types import (
    FOREVER,
    Abandoned,
    Attempted,
    Blocked,
    Event,
    Kind,
    Lease,
    Provenance,
    Reopened,
    Scope,
    Window,
)
from tests.core.build import (
    MIDNIGHT,
    NOON,
    account,
    answered,
    failed,
    heal,
    model,
    on,
    pool,
    refusal,
    run,
    take,
    until,
)

A, H = Provenance.AUTHORITATIVE, Provenance.HEURISTIC
DAY = 86_400.0


def closed(made: Pool, now: float = NOON) -> dict[str, float]:
    """Every scope that is closed, with the seconds it stays so."""
    shut = [b for b in made.roster.breakers() if b.closed_until(now)]
    return {f"{b.scope.kind} {b.scope.name}": b.closed_until(now) - now for b in shut}


def blocks(events: tuple[Event, ...]) -> list[Blocked]:
    return [event for event in events if isinstance(event, Blocked)]


# --- one row, one scope ------------------------------------------------------------------------------

FIXED = {  # row → what it closes for how many seconds, when the answer names no moment
    "bad-certificate": {"provider openrouter": 300},
    "bad-key-400": {"key k1": FOREVER},
    "bad-key": {"key k1": FOREVER},
    "key-limit": {"key k1": 3_600},
    "forbidden": {"account+model a1+m1": DAY},
    "region": {"model m1": DAY},
    "harness-gate": {"model m1": DAY},
    "account-settings": {"account+model a1+m1": DAY},
    "model-gone": {"model m1": 6 * 3_600},
    "wrong-path": {"provider openrouter": 60},
    "unclear-429": {"lane k1+m1": 30},
}
LADDERS = {  # row → scope, first step
    "edge": ("provider openrouter", 10),
    "degraded-400": ("model m1", 15),
    "upstream-pool": ("model m1", 15),
    "model-capacity": ("model m1", 15),
    "server-error": ("model m1", 10),
    "provider-down": ("model m1", 15),
    "overloaded": ("model m1", 15),
    "finish-error": ("model m1", 10),
    "malformed": ("model m1", 15),
    "broken-after-content": ("model m1", 15),
    "untyped-400-model": ("model m1", 60),
}
SECOND_IN_A_ROW = {
    "unreachable": ("provider openrouter", 2),
    "timeout": ("model m1", 15),
    "empty": ("model m1", 15),
}
NOTHING = (
    "own-limit",
    "redirect", "context-too-long", "payload-too-large", "bad-request", "untyped-400", "content-refused",
    "cannot-afford-this", "capability", "transient", "budget-spent-on-reasoning", "other-4xx",
)  # fmt: skip
ELSEWHERE = {"no-credits", "in-flight-budget", "platform-minute", "platform-day", "edge-refusal"}


def test_every_row_is_tested() -> None:
    assert {*FIXED, *LADDERS, *SECOND_IN_A_ROW, *NOTHING, *ELSEWHERE} == set(ROWS)


@pytest.mark.parametrize("row", FIXED)
def test_a_row_with_a_fixed_time_closes_its_scope_for_it(row: str) -> None:
    made = pool()
    events = run(made, failed(row), on("m1"))
    assert closed(made) == pytest.approx(FIXED[row])
    (event,) = blocks(events)
    assert (event.reason, event.provenance) == (row, ROWS[row].provenance)


@pytest.mark.parametrize("row", LADDERS)
def test_a_row_with_a_ladder_closes_its_scope_by_a_growing_guess(row: str) -> None:
    made = pool()
    scope, base = LADDERS[row]
    (event,) = blocks(run(made, failed(row), on("m1")))
    assert event.provenance is H
    assert closed(made) == {scope: pytest.approx(base, rel=0.21)}
    opens = NOON + closed(made)[scope]
    run(made, failed(row), on("m1"), opens)
    assert closed(made, opens) == {scope: pytest.approx(2 * base, rel=0.21)}


@pytest.mark.parametrize("row", SECOND_IN_A_ROW)
def test_some_rows_close_only_at_the_second_in_a_row(row: str) -> None:
    made = pool()
    scope, base = SECOND_IN_A_ROW[row]
    run(made, failed(row), on("m1"))
    assert closed(made) == {}
    run(made, failed(row), on("m1"))
    assert closed(made) == {scope: pytest.approx(base, rel=0.21)}


@pytest.mark.parametrize("row", SECOND_IN_A_ROW)
def test_an_answer_in_between_makes_it_the_first_again(row: str) -> None:
    made = pool()
    for outcome in (failed(row), answered(), failed(row)):
        run(made, outcome, on("m1"))
    assert closed(made) == {}


def test_one_lane_that_cannot_be_reached_says_nothing_about_the_provider_if_there_are_others() -> (
    None
):
    made = pool(("k1@a1", "k2@a2"))
    made.operate("disable", Scope(Kind.KEY, "k2"), NOON)
    for _ in range(5):
        run(made, failed("unreachable"), on("m1"))
    assert until(made, Kind.PROVIDER, "openrouter") == 0.0
    run(made, failed("unreachable"), on("m2"))
    assert 1.6 <= until(made, Kind.PROVIDER, "openrouter") - NOON <= 2.4


def test_the_only_lane_there_is_says_it_all() -> None:
    made = pool(("k1@a1",), ("m1",))
    for _ in range(2):
        run(made, failed("unreachable"), on("m1"))
    assert 1.6 <= until(made, Kind.PROVIDER, "openrouter") - NOON <= 2.4


@pytest.mark.parametrize("row", NOTHING)
def test_some_rows_close_nothing(row: str) -> None:
    made = pool()
    assert blocks(run(made, failed(row), on("m1"))) == []
    assert closed(made) == {}


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.fault == "client"])
def test_a_fault_of_the_ask_changes_no_health(row: str) -> None:
    """I13."""
    made = pool()
    for _ in range(12):
        run(made, failed(row), on("m1"))
    assert closed(made) == {}
    assert all(b.calm and not b.counts(NOON).total for b in made.roster.breakers())


@pytest.mark.parametrize("row", [n for n, r in ROWS.items() if "429" in r.signal])
def test_a_models_429_closes_no_key_and_an_accounts_429_no_model(row: str) -> None:
    """I14."""
    made = pool()
    for number in range(12):
        lease = take(made, on("m1"), NOON) if not closed(made) else None
        if lease:
            made.settle(lease, failed(row, NOON + number), NOON)
    shut = {name.split()[0] for name in closed(made)}
    assert shut in ({"model"}, {"account"}, {"lane"}, {"provider"})
    assert all(not k.breaker.counts(NOON).total for k in made.roster.keys.values())


# --- what the answer says ----------------------------------------------------------------------------


def test_a_moment_said_and_a_ladder_are_two_blocks() -> None:
    made = pool()
    run(made, failed("upstream-pool", NOON + 5), on("m1"))
    breaker = made.roster.models["m1"].breaker
    assert breaker.blocks[A].until == NOON + 5
    assert 12 <= breaker.blocks[H].until - NOON <= 18


def test_a_longer_moment_said_wins_over_the_ladder() -> None:
    made = pool()
    (event,) = blocks(run(made, failed("provider-down", NOON + 120), on("m1")))
    assert (event.until, event.provenance) == (NOON + 120, A)
    made.settle(take(made, on("m2")), answered(), NOON)
    assert until(made, Kind.MODEL, "m1") == NOON + 120


def test_the_edge_closes_for_a_minute_at_least() -> None:
    made = pool()
    run(made, failed("edge-refusal", NOON + 5), on("m1"))
    assert made.roster.provider.blocks[A].until == NOON + 60
    made = pool()
    run(made, failed("edge-refusal", NOON + 90), on("m1"))
    assert made.roster.provider.blocks[A].until == NOON + 90


def test_a_key_at_its_limit_waits_for_the_date_it_was_told() -> None:
    made = pool()
    run(made, failed("key-limit", NOON + 9 * DAY), on("m1"))
    assert closed(made) == {"key k1": 9 * DAY}


# --- quota -------------------------------------------------------------------------------------------


def metered() -> Pool:
    return pool(("k1@a1", "k2@a1", "k3@a2"), accounts=[account("a1"), account("a2")])


def test_a_full_minute_closes_the_account_with_all_its_keys() -> None:
    made = metered()
    (event,) = blocks(run(made, failed("platform-minute", NOON + 33), on("m1")))
    assert (event.scope, event.until, event.provenance) == (Scope(Kind.ACCOUNT, "a1"), NOON + 33, A)
    assert {take(made, on("m1")).key for _ in range(4)} == {"k3"}
    assert made.roster.accounts["a1"].quota.day_remaining(NOON) == 49
    assert until(made, Kind.ACCOUNT, "a1", NOON + 33) == 0.0
    assert made.roster.accounts["a1"].quota.shut(NOON + 33) is None


def test_a_full_minute_without_a_moment_is_our_own_guess() -> None:
    made = metered()
    (event,) = blocks(run(made, failed("platform-minute"), on("m1")))
    assert (event.until, event.provenance) == (NOON + 61, H)


def test_a_spent_day_closes_the_accounts_free_models_until_after_midnight() -> None:
    made = pool(("k1@a1",), [model("m1"), model("p1", free=False)], accounts=[account("a1")])
    (event,) = blocks(run(made, failed("platform-day"), on("m1")))
    assert event.scope == Scope(Kind.ACCOUNT, "a1")
    assert MIDNIGHT + 5 <= event.until < MIDNIGHT + 30
    assert made.roster.accounts["a1"].quota.day_remaining(NOON) == 0
    assert refusal(made, on("m1")).cause == "day"
    assert take(made, on("p1"))


def test_no_credits_on_a_free_ask_closes_both_sides_of_the_account() -> None:
    made = pool(("k1@a1",), [model("m1"), model("p1", free=False)], accounts=[account("a1")])
    events = blocks(run(made, failed("no-credits"), on("m1")))
    assert [event.scope.name for event in events] == ["a1", "a1 (paid)"]
    assert refusal(made, on("m1")).cause == refusal(made, on("p1")).cause == "health"
    assert refusal(made, on("p1")).at == pytest.approx(MIDNIGHT + 17, abs=13)


@pytest.mark.parametrize("row", ["no-credits", "in-flight-budget"])
def test_no_credits_on_a_paid_ask_closes_the_paid_side_only(row: str) -> None:
    made = pool(("k1@a1",), [model("m1"), model("p1", free=False)], accounts=[account("a1")])
    (event,) = blocks(run(made, failed(row, NOON + 60), on("p1")))
    assert event.scope.name == "a1 (paid)"
    assert take(made, on("m1"))
    assert refusal(made, on("p1")).cause == "health"


def test_other_accounts_are_untouched() -> None:
    made = pool(("k1@a1", "k2@a2"))
    run(made, failed("no-credits"), on("m1"))
    assert take(made, on("m1")).key == "k2"


@pytest.mark.parametrize(("refund", "used"), [(True, 0), (False, 1)])
def test_an_unsent_request_gives_its_quota_back_if_so_set(refund: bool, used: int) -> None:
    policy = Policy(limits=Limits(refund_unsent=refund))
    for outcome in (failed("unreachable", unsent=True), Abandoned("client gone", unsent=True)):
        made = pool(("k1@a1",), policy=policy, accounts=[account("a1")])
        run(made, outcome, on("m1"))
        assert made.roster.accounts["a1"].quota.used(NOON) == used


@pytest.mark.parametrize("outcome", [answered(), failed("server-error"), Abandoned("client gone")])
def test_whatever_was_sent_stays_charged(outcome: object) -> None:
    made = pool(("k1@a1",), accounts=[account("a1")])
    run(made, outcome, on("m1"))  # type: ignore[arg-type]
    quota = made.roster.accounts["a1"].quota
    assert (quota.used(NOON), quota.in_flight) == (1, 0)


# --- error windows and who is blamed -----------------------------------------------------------------


def fail(
    made: Pool, model_id: str, row: str = "server-error", key: str = "k1"
) -> tuple[Event, ...]:
    """One failure on (key, model), with the model's ladder out of the way."""
    others = [name for name in made.roster.keys if name != key]
    for name in others:
        made.operate("disable", Scope(Kind.KEY, name), NOON)
    lease = take(made, on(model_id))
    for name in others:
        made.roster.keys[name].breaker.clear(Provenance.OPERATOR, NOON)
    events = made.settle(lease, failed(row), NOON)
    heal(made, Kind.MODEL, model_id)
    made.roster.outage.clear(H, NOON)
    return events


def test_failures_on_one_lane_trip_only_the_lane() -> None:
    made = pool()
    for _ in range(5):
        fail(made, "m1")
    assert closed(made) == {"lane k1+m1": 300}


def test_failures_from_two_keys_trip_the_model_but_no_key() -> None:
    made = pool()
    for number in range(5):
        fail(made, "m1", key=f"k{number % 2 + 1}")
    assert closed(made) == {"model m1": 300}


def test_failures_on_two_models_trip_the_key_but_no_model() -> None:
    made = pool()
    for number in range(5):
        fail(made, f"m{number % 2 + 1}")
    assert closed(made) == {"key k1": 300}


def test_the_only_key_is_no_excuse_for_a_model_nor_the_only_model_for_a_key() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for _ in range(5):
        fail(made, "m1")
    assert set(closed(made)) == {"lane k1+m1", "model m1"}
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    for _ in range(5):
        fail(made, "m1")
    assert set(closed(made)) == {"lane k1+m1", "key k1"}


def test_a_disabled_key_is_none_to_compare_with() -> None:
    made = pool()
    made.key_is_bad("k2", "bad-key", NOON)
    for _ in range(5):
        run(made, failed("server-error"), on("m1"))
        heal(made, Kind.MODEL, "m1")
    assert until(made, Kind.MODEL, "m1") == NOON + 300


def test_a_redirect_counts_for_model_and_lane_a_transient_refusal_for_the_lane() -> None:
    made = pool()
    fail(made, "m1", "redirect")
    fail(made, "m2", "transient")
    counts = {b.scope.name: b.counts(NOON).failed for b in made.roster.breakers()}
    assert {name: n for name, n in counts.items() if n} == {"m1": 1, "k1+m1": 1, "k1+m2": 1}


def test_rows_without_a_window_entry_never_trip_anything() -> None:
    for row in ROWS.values():
        if row.window is Window.NO:
            made = pool()
            fail(made, "m1", row.name)
            assert all(not b.counts(NOON).total for b in made.roster.breakers()), row


def test_a_trip_is_told_with_its_rate() -> None:
    made = pool()
    for _ in range(2):
        run(made, answered(), on("m1"))
    for key in ("k1", "k1"):
        fail(made, "m1", key=key)
    trip = blocks(fail(made, "m1", key="k2"))[0]
    assert (trip.scope, trip.until) == (Scope(Kind.MODEL, "m1"), NOON + 300)
    assert trip.reason == "error rate 3/5"


# --- probes ------------------------------------------------------------------------------------------


def half_open_model() -> tuple[Pool, Lease]:
    made = pool()
    for number in range(5):
        fail(made, "m1", key=f"k{number % 2 + 1}")
    lease = take(made, on("m1"), NOON + 300)
    assert lease.probes == (Scope(Kind.MODEL, "m1"),)
    assert lease.epochs == (0, 0, 0, 1, 0, 0)
    return made, lease


def test_a_probe_that_answers_opens_the_model() -> None:
    made, lease = half_open_model()
    events = made.settle(lease, answered(), NOON + 301)
    assert Reopened(NOON + 301, Scope(Kind.MODEL, "m1"), "answered") in events
    assert closed(made, NOON + 301) == {}


def test_a_probe_that_fails_closes_it_again() -> None:
    made, lease = half_open_model()
    made.settle(lease, failed("server-error"), NOON + 301)
    assert closed(made, NOON + 301) == {"model m1": 300}


@pytest.mark.parametrize(
    "outcome",
    [Abandoned("client gone"), failed("bad-request"), failed("bad-key"), failed("upstream-pool")],
)
def test_a_probe_that_says_nothing_about_errors_gives_its_place_back(outcome: object) -> None:
    made, lease = half_open_model()
    made.settle(lease, outcome, NOON + 301)  # type: ignore[arg-type]
    breaker = made.roster.models["m1"].breaker
    assert breaker.is_half_open(NOON + 301)
    assert breaker.closed_until(NOON + 340) == 0.0


def test_a_late_result_of_an_older_epoch_closes_and_opens_nothing() -> None:
    made = pool()
    late = [take(made, on("m1")) for _ in range(3)]
    made.operate("reset", Scope(Kind.MODEL, "m1"), NOON)
    made.operate("reset", Scope(Kind.LANE, "k1+m1"), NOON)
    made.settle(late[0], failed("upstream-pool", NOON + 60), NOON + 1)
    assert closed(made, NOON + 1) == {}
    assert made.roster.models["m1"].learnt.bad == 1


# --- nobody's fault ----------------------------------------------------------------------------------


def test_an_abandoned_attempt_changes_no_health() -> None:
    """I12."""
    made = pool()
    for _ in range(12):
        events = run(made, Abandoned("client gone"), on("m1"), NOON)
    assert closed(made) == {}
    assert all(b.calm and not b.counts(NOON).total for b in made.roster.breakers())
    assert made.roster.models["m1"].learnt.bad == 0
    (event,) = events
    assert isinstance(event, Attempted)
    assert (event.row, event.ok, event.total) == ("abandoned", False, 0.0)


# --- experience --------------------------------------------------------------------------------------


def test_an_answer_teaches_speed_and_success() -> None:
    made = pool()
    (event,) = run(made, answered(ttft=0.7, total=3), on("m1"))
    learnt = made.roster.models["m1"].learnt
    assert (learnt.good, learnt.ttft_mean(100)) == (1, pytest.approx(0.7))
    assert isinstance(event, Attempted)
    assert (event.ok, event.ttft, event.total, event.tokens_out) == (True, 0.7, 3, 100)


def test_only_a_failure_of_the_model_counts_against_it_and_only_a_timeout_by_its_time() -> None:
    made = pool()
    for row in ("bad-key-400", "unclear-429", "bad-request"):
        fail(made, "m1", row)
        made.operate("reset", Scope(Kind.KEY, "k1"), NOON)
        made.operate("reset", Scope(Kind.LANE, "k1+m1"), NOON)
    learnt = made.roster.models["m1"].learnt
    assert learnt.bad == 0
    fail(made, "m1", "upstream-pool")
    assert (learnt.bad, learnt.ttft_mean(100)) == (1, None)
    fail(made, "m1", "timeout")
    assert (learnt.bad, learnt.ttft_mean(100)) == (2, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("row", "limit"), [("upstream-pool", 5.6), ("overloaded", 5.6), ("server-error", 8)]
)
def test_a_crowded_upstream_gets_fewer_requests_at_once(row: str, limit: float) -> None:
    made = pool()
    run(made, failed(row), on("m1"))
    assert made.roster.models["m1"].learnt.limit == pytest.approx(limit)


def test_a_context_limit_told_is_believed_for_half_an_hour() -> None:
    made = pool()
    run(made, failed("context-too-long", context_limit=4_000), on("m1"))
    state = made.roster.models["m1"]
    assert state.context(NOON + 1_799) == 4_000
    assert state.context(NOON + 1_800) == 131_072
    assert state.misfit(on("m1"), NOON) is None


def test_a_missing_capability_told_is_believed_for_half_an_hour() -> None:
    made = pool(models=[model("m1", can=("tools",))])
    run(made, failed("capability", lacks="tools"), on("m1"))
    wanting = on("m1")
    wanting = type(wanting)(needs=frozenset({"tools"}))
    assert refusal(made, wanting).missing == ("tools",)
    assert take(made, wanting, NOON + 1_800)


# --- rule 25 by correlation --------------------------------------------------------------------------


def fail_each(made: Pool, models: str, asks: str, now: float = NOON) -> tuple[Event, ...]:
    events: tuple[Event, ...] = ()
    for name, ask in zip(models.split(), asks.split(), strict=True):
        events = run(made, failed("server-error"), on(name, ask), now)
    return events


def test_three_models_failing_on_two_requests_close_the_provider_for_new_asks() -> None:
    made = pool(models=("m1", "m2", "m3", "m4"))
    events = fail_each(made, "m1 m2 m3", "r1 r1 r2")
    assert [event.scope.kind for event in blocks(events)] == [Kind.MODEL, Kind.PROVIDER]
    found = refusal(made, on("m4"))
    assert found.cause == "health"
    assert found.at == pytest.approx(NOON + 10, abs=2)


@pytest.mark.parametrize(
    ("models", "asks"), [("m1 m2 m3", "r1 r1 r1"), ("m1 m2", "r1 r2"), ("m1 m2 m4 m3", "")]
)
def test_one_request_or_two_models_close_no_provider(models: str, asks: str) -> None:
    made = pool(models=("m1", "m2", "m3", "m4"))
    fail_each(made, models, asks or "r1 r1 r1 r1")
    assert made.roster.outage.closed_until(NOON) == 0.0


def test_an_answer_in_between_disproves_an_outage() -> None:
    made = pool(models=("m1", "m2", "m3", "m4"))
    fail_each(made, "m1 m2", "r1 r2")
    run(made, answered(), on("m4"))
    fail_each(made, "m3", "r3")
    assert made.roster.outage.closed_until(NOON) == 0.0


def test_failures_half_a_minute_apart_are_no_outage() -> None:
    made = pool(models=("m1", "m2", "m3", "m4"))
    fail_each(made, "m1 m2", "r1 r2")
    fail_each(made, "m3", "r3", NOON + 31)
    assert made.roster.outage.closed_until(NOON + 31) == 0.0


def test_an_answer_ends_a_guessed_outage() -> None:
    made = pool(models=("m1", "m2", "m3", "m4"))
    fail_each(made, "m1 m2 m3", "r1 r2 r3")
    opens = made.roster.outage.closed_until(NOON)
    lease = take(made, on("m4"), opens)
    fresh = fail_each(made, "m4", "r4", opens)
    assert [event.scope.kind for event in blocks(fresh)] == [Kind.MODEL, Kind.PROVIDER]
    assert made.settle(lease, answered(), opens) != ()
    assert made.roster.outage.closed_until(opens) > opens  # that attempt began before the block
