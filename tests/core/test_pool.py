"""The pool as a whole: leases, reloads, what `GET /key` and the operator say."""

import pytest

from keywheel.core.policy import Limits, Policy
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.tried import Tried
from keywheel.core.types import (
    FOREVER,
    Abandoned,
    Ask,
    Attempted,
    Blocked,
    Key,
    Kind,
    Model,
    Provenance,
    Reopened,
    Scope,
)
from tests.core.build import (
    CONTEXT,
    MIDNIGHT,
    NOON,
    account,
    answered,
    failed,
    model,
    on,
    pool,
    refusal,
    run,
    take,
    until,
)

UNKNOWN = Reading(None, None)


def metered(per_day: int = 50) -> Pool:
    return pool(accounts=[account("a1", per_day), account("a2", per_day)])


# --- leases ----------------------------------------------------------------------------------------


def test_everything_is_reserved_in_the_step_that_decides() -> None:
    made = metered()
    lease = take(made, on("m1"))
    state = made.roster.keys[lease.key]
    assert (state.account.quota.used(NOON), state.account.quota.in_flight) == (1, 1)
    assert made.roster.models["m1"].learnt.in_flight == 1
    assert made.open_leases == 1
    assert lease.days == (int(NOON // 86_400),)
    assert [scope.kind for scope in lease.scopes] == [
        "provider", "account", "key", "model", "account+model", "lane",
    ]  # fmt: skip


def test_a_lease_is_settled_exactly_once() -> None:
    made = metered()
    lease = take(made)
    assert made.settle(lease, answered(), NOON)
    assert made.settle(lease, failed("bad-key"), NOON) == ()
    assert made.fail(lease, failed("bad-key"), NOON)[1] == ()
    made.undo(lease)
    assert made.open_leases == made.roster.accounts["a1"].quota.in_flight == 0
    assert made.roster.accounts["a1"].quota.used(NOON) == 1
    assert until(made, Kind.KEY, lease.key) == 0.0


def test_numbers_grow() -> None:
    made = metered()
    assert [take(made).number for _ in range(3)] == [1, 2, 3]


def test_an_undone_lease_leaves_no_trace() -> None:
    made = metered()
    lease = take(made, on("m1"))
    made.undo(lease)
    quota = made.roster.accounts["a1"].quota
    assert (quota.used(NOON), quota.minute_used(NOON), quota.in_flight) == (0, 0, 0)
    assert made.roster.models["m1"].learnt.in_flight == 0


@pytest.mark.parametrize(
    ("ask", "expires"),
    [
        (Ask(), NOON + 125),
        (Ask(stream=True), NOON + 305),
        (Ask(deadline=NOON + 10), NOON + 15),
    ],
)
def test_a_lease_that_never_came_back_expires_after_its_deadline(ask: Ask, expires: float) -> None:
    made = metered()
    lease = take(made, ask)
    assert lease.expires == expires
    assert made.expire(expires - 0.1) == ()
    (event,) = made.expire(expires)
    assert isinstance(event, Attempted)
    assert event.row == "abandoned"
    assert made.open_leases == made.roster.accounts["a1"].quota.in_flight == 0
    assert made.settle(lease, answered(), expires) == ()


# --- first content -----------------------------------------------------------------------------------


def test_the_time_to_first_content_follows_the_model() -> None:
    made = pool(models=["m1", Model("m2", CONTEXT, reasoning=True)])
    assert made.first_content(take(made, on("m1"))) == 30
    assert made.first_content(take(made, on("m2"))) == 60
    for ttft, expected in ((0.5, 8), (4.0, 12.0), (20.0, 30)):
        made.roster.models["m1"].learnt.at = 0.0
        run(made, answered(ttft=ttft), on("m1"), NOON + 10**6)
        lease = take(made, on("m1"), NOON + 10**6)
        assert made.first_content(lease) == pytest.approx(expected)


# --- reload ------------------------------------------------------------------------------------------


def test_a_reload_keeps_counts_and_blocks_of_surviving_names() -> None:
    """I24."""
    made = metered()
    run(made, answered(), on("m1"))
    made.key_is_bad("k2", "bad-key", NOON)
    run(made, failed("model-gone"), on("m2"))
    made.set_keys([account("a1"), account("a2")], [Key("k2", "a2"), Key("k1", "a1")])
    made.set_models([model("m2"), model("m1")], NOON)
    assert made.roster.accounts["a1"].quota.used(NOON) == 2
    assert until(made, Kind.KEY, "k2") == FOREVER
    assert until(made, Kind.MODEL, "m2") == NOON + 6 * 3_600
    assert made.roster.models["m1"].rank == 1
    assert made.roster.models["m1"].learnt.good == 1


def test_a_removed_key_or_model_gets_no_new_attempt_and_its_open_lease_ends_normally() -> None:
    made = metered()
    lease = take(made, on("m1"))
    made.set_keys([account("a2")], [Key("k2", "a2")])
    made.set_models([model("m2")], NOON)
    assert {take(made).key for _ in range(2)} == {"k2"}
    assert refusal(made, on("m1")).cause == "empty"
    assert made.settle(lease, answered(), NOON + 1)
    made.set_keys([account("a1"), account("a2")], [Key("k1", "a1"), Key("k2", "a2")])
    quota = made.roster.accounts["a1"].quota
    assert (quota.used(NOON), quota.in_flight) == (1, 0)


def test_the_ways_of_a_removed_key_are_forgotten() -> None:
    made = pool()
    run(made, failed("unclear-429"), on("m1"))
    run(made, failed("forbidden"), on("m1"))
    made.set_keys([account("a1"), account("a2")], [Key("k9", "a1")])
    made.set_models([model("m1")], NOON)
    assert made.roster.models["m1"].lanes == {}
    made.set_keys([account("a3")], [Key("k9", "a3")])
    assert made.roster.models["m1"].access == {}


def test_a_model_that_left_the_list_is_remembered_for_a_day() -> None:
    made = pool(models=("m1", "m2"))
    run(made, answered(), on("m1"))
    made.set_models([model("m2")], NOON)
    made.set_models([model("m2")], NOON + 3_600)
    made.set_models([model("m1"), model("m2")], NOON + 86_399)
    assert made.roster.models["m1"].learnt.good == 1
    made.set_models([model("m2")], NOON + 86_399)
    made.set_models([model("m2")], NOON + 2 * 86_400)
    made.set_models([model("m1"), model("m2")], NOON + 2 * 86_400)
    assert made.roster.models["m1"].learnt.good == 0


def test_a_model_may_change_from_paid_to_free() -> None:
    made = pool(("k1@a1",), [model("m1", free=False)])
    lease = take(made, on("m1"))
    assert lease.scopes[1].name == "a1 (paid)"
    made.set_models([model("m1")], NOON)
    assert take(made, on("m1")).scopes[1].name == "a1"


# --- accounts that turn out to be one ------------------------------------------------------------------


def test_a_key_that_joins_another_account_brings_along_what_was_sent() -> None:
    made = metered()
    for _ in range(2):
        run(made, answered(), on("m1"))
    open_lease = take(made, on("m1"))
    assert open_lease.key == "k1"
    made.assign("k1", account("a2"))
    assert list(made.roster.accounts) == ["a2"]
    quota = made.roster.accounts["a2"].quota
    assert (quota.used(NOON), quota.minute_used(NOON), quota.in_flight) == (3, 3, 1)
    assert [key.name for key in made.roster.accounts["a2"].keys] == ["k1", "k2"]
    made.settle(open_lease, answered(), NOON)
    assert quota.in_flight == 0


def test_an_account_that_keeps_other_keys_keeps_its_counts() -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"), accounts=[account("a1"), account("a2")])
    for _ in range(6):
        run(made, answered(), on("m1"))
    before = {name: state.quota.used(NOON) for name, state in made.roster.accounts.items()}
    made.assign("k2", account("a2"))
    after = {name: state.quota.used(NOON) for name, state in made.roster.accounts.items()}
    assert after == {"a1": before["a1"], "a2": before["a1"] + before["a2"]}


def test_a_key_may_move_to_an_account_of_its_own() -> None:
    made = pool(("k1@a1", "k2@a1"), accounts=[account("a1")])
    run(made, answered(), on("m1"))
    made.assign("k2", account("a9"))
    assert made.roster.accounts["a9"].quota.used(NOON) == 1
    made.assign("k2", account("a9"))
    assert made.roster.accounts["a9"].quota.used(NOON) == 1


def test_regrouping_by_a_reload_counts_the_same() -> None:
    made = metered()
    for _ in range(2):
        run(made, answered(), on("m1"))
    made.set_keys([account("a1")], [Key("k1", "a1"), Key("k2", "a1")])
    assert made.roster.accounts["a1"].quota.used(NOON) == 2
    made.set_keys([account("a1"), account("a2")], [Key("k1", "a1"), Key("k2", "a2")])
    assert [s.quota.used(NOON) for s in made.roster.accounts.values()] == [2, 2]


# --- GET /key ------------------------------------------------------------------------------------------


def test_a_key_that_get_key_refuses_is_closed_until_it_passes() -> None:
    made = metered()
    (event,) = made.key_is_bad("k1", "bad-key", NOON)
    assert isinstance(event, Blocked)
    assert (event.until, event.provenance) == (FOREVER, Provenance.AUTHORITATIVE)
    assert made.key_is_bad("k1", "bad-key", NOON + 300) == ()
    assert {take(made).key for _ in range(3)} == {"k2"}
    (opened,) = made.key_is_good("k1", UNKNOWN, NOON + 600)
    assert opened == Reopened(NOON + 600, Scope(Kind.KEY, "k1"), "GET /key")
    assert made.key_is_good("k1", UNKNOWN, NOON + 601) == ()


def test_what_is_said_about_an_unknown_key_is_ignored() -> None:
    made = metered()
    assert made.key_is_bad("k9", "bad-key", NOON) == ()
    assert made.key_is_good("k9", UNKNOWN, NOON) == ()
    assert made.doubt(["k9", "k1"], NOON) == ()
    assert made.account_of("k9") is None
    assert made.account_of("k1") is made.roster.accounts["a1"]


@pytest.mark.parametrize(("room", "opens"), [(True, True), (False, False), (None, False)])
def test_a_spending_limit_is_over_when_there_is_room(room: bool | None, opens: bool) -> None:
    made = metered()
    run(made, failed("key-limit", NOON + 9 * 86_400), on("m1"))
    made.key_is_good("k1", Reading(None, None, room), NOON + 10)
    assert (until(made, Kind.KEY, "k1", NOON + 10) == 0.0) is opens


def test_get_key_opens_no_key_that_an_operator_closed_or_errors_tripped() -> None:
    made = metered()
    made.operate("disable", Scope(Kind.KEY, "k1"), NOON)
    assert made.key_is_good("k1", UNKNOWN, NOON) == ()
    made.roster.keys["k2"].breaker.block(Provenance.HEURISTIC, NOON + 60, "other", NOON, 0)
    assert made.key_is_good("k2", UNKNOWN, NOON) == ()


def test_a_topped_up_account_opens_on_both_sides() -> None:
    made = pool(("k1@a1",), [model("m1"), model("p1", free=False)], accounts=[account("a1")])
    run(made, failed("no-credits"), on("m1"))
    assert made.key_is_good("k1", Reading(1, 50), NOON) == ()
    events = made.key_is_good("k1", Reading(1, 1_000), NOON)
    assert [event.scope.name for event in events if isinstance(event, Reopened)] == [
        "a1",
        "a1 (paid)",
    ]
    assert take(made, on("m1"))


def test_more_for_today_opens_no_account_whose_minute_is_full() -> None:
    made = metered()
    run(made, failed("platform-minute", NOON + 40), on("m1"))
    assert made.key_is_good("k1", Reading(1, 1_000), NOON) == ()
    assert until(made, Kind.ACCOUNT, "a1") == NOON + 40


# --- poison guard --------------------------------------------------------------------------------------


def test_doubted_keys_are_closed_for_five_minutes_only_and_checked_at_once() -> None:
    made = metered()
    for key in ("k1", "k2"):
        made.key_is_good(key, UNKNOWN, NOON)
        made.key_is_bad(key, "bad-key", NOON)
    assert made.due_checks(NOON) == ()
    events = made.doubt(("k1", "k2"), NOON)
    assert [(e.until, e.provenance) for e in events if isinstance(e, Blocked)] == [
        (NOON + 300, Provenance.HEURISTIC)
    ] * 2
    assert made.due_checks(NOON) == ("k1", "k2")
    made.key_is_bad("k1", "bad-key", NOON + 1)
    made.key_is_good("k2", UNKNOWN, NOON + 1)
    assert (until(made, Kind.KEY, "k1"), until(made, Kind.KEY, "k2", NOON + 1)) == (FOREVER, 0.0)


# --- operator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope",
    [
        Scope(Kind.PROVIDER, "openrouter"),
        Scope(Kind.ACCOUNT, "a1"),
        Scope(Kind.KEY, "k1"),
        Scope(Kind.MODEL, "m1"),
        Scope(Kind.LANE, "k1+m1"),
        Scope(Kind.ACCESS, "a1+m1"),
    ],
)
def test_the_operator_closes_and_opens_any_scope(scope: Scope) -> None:
    made = pool(("k1@a1",), ("m1",))
    (event,) = made.operate("disable", scope, NOON) or ()
    assert isinstance(event, Blocked)
    assert (event.scope, event.until, event.provenance) == (scope, FOREVER, "operator")
    assert refusal(made).blocked == {"disabled": 1}
    assert made.operate("enable", scope, NOON) == (Reopened(NOON, scope, "operator: enable"),)
    assert take(made)


@pytest.mark.parametrize(
    "scope",
    [
        Scope(Kind.PROVIDER, "other"),
        Scope(Kind.ACCOUNT, "a9"),
        Scope(Kind.KEY, "k9"),
        Scope(Kind.MODEL, "m9"),
        Scope(Kind.LANE, "k9+m1"),
        Scope(Kind.LANE, "k1+m9"),
        Scope(Kind.ACCESS, "a9+m1"),
    ],
)
def test_there_is_nothing_to_operate_under_an_unknown_name(scope: Scope) -> None:
    assert pool(("k1@a1",), ("m1",)).operate("disable", scope, NOON) is None


def test_a_disabled_account_serves_no_paid_request_either() -> None:
    made = pool(("k1@a1",), [model("p1", free=False)])
    made.operate("disable", Scope(Kind.ACCOUNT, "a1"), NOON)
    assert refusal(made, on("p1")).cause == "disabled"


def test_an_operator_may_reopen_an_account_whose_minute_was_called_full() -> None:
    made = pool(("k1@a1",), accounts=[account("a1")])
    run(made, failed("platform-minute", NOON + 40), on("m1"))
    made.operate("reset", Scope(Kind.ACCOUNT, "a1"), NOON)
    assert take(made)


# --- clock ---------------------------------------------------------------------------------------------


def test_the_upstreams_clock_decides_the_date_of_old_and_new_accounts() -> None:
    made = metered()
    made.set_keys([account("a1")], [Key("k1", "a1")])
    made.set_skew(600.0)
    made.set_keys([account(f"a{n}") for n in (1, 2, 3)], [Key(f"k{n}", f"a{n}") for n in (1, 2, 3)])
    tomorrow = int(MIDNIGHT // 86_400)
    days = [take(made, now=MIDNIGHT - 300).days for _ in range(3)]
    assert days == [(tomorrow,)] * 3


def test_a_wall_clock_that_jumps_shortens_no_block() -> None:
    """I29."""
    made = metered()
    run(made, failed("upstream-pool", NOON + 100), on("m1"))
    made.set_skew(3_600.0)
    assert until(made, Kind.MODEL, "m1") == NOON + 100


def test_settings_may_keep_unsent_quota() -> None:
    made = pool(
        ("k1@a1",), policy=Policy(limits=Limits(refund_unsent=False)), accounts=[account("a1")]
    )
    made.settle(take(made), Abandoned("gone", unsent=True), NOON)
    assert made.roster.accounts["a1"].quota.used(NOON) == 1


def test_the_same_seed_gives_the_same_decisions() -> None:
    def story(seed: str) -> list[object]:
        made = Pool(Policy(), seed)
        made.set_keys([account("a1"), account("a2")], [Key("k1", "a1"), Key("k2", "a2")])
        made.set_models([model("m1"), model("m2")], NOON)
        seen: list[object] = []
        for step in range(60):
            choice = made.select(Ask(), Tried(), NOON + step * 4)
            seen.append(choice)
            if hasattr(choice, "number"):
                outcome = failed("server-error") if step % 3 else answered()
                seen += made.settle(choice, outcome, NOON + step * 4 + 1)  # type: ignore[arg-type]
        return seen

    assert story("s") == story("s")
    assert story("s") != story("t")
