"""Which lane an ask gets (routing A.3 and A.4)."""

from collections import Counter

import pytest

from keywheel.core.policy import Choice, Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import FOREVER, Answered, Ask, Kind, Model, Scope
from tests.core.build import (
    ASK,
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

FOUR = ("k1@a1", "k2@a2", "k3@a3", "k4@a4")


def serve(made: Pool, times: int, now: float = NOON, step: float = 10.0) -> Counter[str]:
    """So many answers one after another; how many each key gave."""
    keys: Counter[str] = Counter()
    for number in range(times):
        lease = take(made, now=now + number * step)
        made.settle(lease, answered(), now + number * step)
        keys[lease.key] += 1
    return keys


# --- keys ------------------------------------------------------------------------------------------


def test_equal_accounts_take_turns() -> None:
    made = pool(FOUR, accounts=[account(f"a{n}") for n in range(1, 5)])
    counts: Counter[str] = Counter()
    for number in range(40):
        counts += serve(made, 1, NOON + number * 5)
        assert max(counts.values()) - min(counts[k] for k in ("k1", "k2", "k3", "k4")) <= 1
    assert set(counts.values()) == {10}


def test_unequal_accounts_run_dry_together() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 50), account("a2", 80)])
    assert serve(made, 30) == {"k2": 30}
    assert serve(made, 90, NOON + 400) == {"k1": 45, "k2": 45}


def test_the_account_with_most_left_today_is_first() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 50), account("a2", 1_000)])
    assert take(made).key == "k2"


def test_unmetered_accounts_come_before_metered_ones() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 50), account("a2", None)])
    assert serve(made, 5) == {"k2": 5}


def test_with_days_alike_the_freer_minute_is_first() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 50, 20), account("a2", 50, 40)])
    assert take(made).key == "k2"


def test_with_quotas_alike_the_account_with_fewest_under_way_is_first() -> None:
    made = pool(
        FOUR[:2],
        [model("m1"), model("p1", free=False)],
        accounts=[account("a1", None), account("a2", None)],
    )
    first = take(made, on("p1"))
    assert take(made, on("m1")).key != first.key


def test_two_keys_of_one_account_take_turns_and_share_its_counters() -> None:
    made = pool(("k1@a1", "k2@a1"), accounts=[account("a1", 10)])
    assert serve(made, 10) == {"k1": 5, "k2": 5}
    assert refusal(made, now=NOON + 200).cause == "day"


def test_the_order_of_the_keys_decides_first_ties_only() -> None:
    """I21."""
    accounts = [account(f"a{n}", 50 + n) for n in range(1, 5)]
    forward = serve(pool(FOUR, accounts=accounts), 60)
    backward = serve(pool(FOUR[::-1], accounts=accounts[::-1]), 60)
    assert forward == backward


def test_a_closed_key_account_or_provider_is_never_chosen() -> None:
    made = pool(FOUR[:2])
    made.operate("disable", Scope(Kind.KEY, "k1"), NOON)
    assert {take(made).key for _ in range(3)} == {"k2"}
    made.operate("disable", Scope(Kind.ACCOUNT, "a2"), NOON)
    assert refusal(made).cause == "disabled"
    made.operate("enable", Scope(Kind.ACCOUNT, "a2"), NOON)
    made.operate("disable", Scope(Kind.PROVIDER, "openrouter"), NOON)
    assert refusal(made).cause == "disabled"


def test_an_account_at_its_cap_is_passed_over() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 10**7, 10**7, cap=1)])
    assert [take(made).key for _ in range(3)] == ["k1", "k2", "k2"]


# --- models ----------------------------------------------------------------------------------------


def test_the_best_model_by_score_is_first_whatever_its_place() -> None:
    made = pool(models=("slow", "fast"))
    for _ in range(20):
        run(made, answered(ttft=12, total=20), on("slow"))
        run(made, answered(ttft=0.3, total=1), on("fast"))
    assert take(made).model == "fast"


def test_equal_scores_go_to_the_better_place() -> None:
    made = pool(models=("m1", "m2", "m3"), policy=Policy(choice=Choice("fastest")))
    assert take(made).model == "m1"


def test_ordered_means_the_list() -> None:
    made = pool(models=("slow", "fast"), policy=Policy(choice=Choice("ordered")))
    for _ in range(20):
        run(made, answered(ttft=12, total=20), on("slow"))
    assert take(made).model == "slow"


def test_a_bad_model_is_forgotten_and_tried_again() -> None:
    made = pool(models=("m1", "m2"))
    for _ in range(4):
        run(made, failed("server-error"), on("m1"))
        heal(made, Kind.MODEL, "m1")
    assert take(made).model == "m2"
    assert take(made, now=NOON + 4 * 3_600).model == "m1"


def test_the_score_follows_what_happens_at_once() -> None:
    made = pool(models=("m1", "m2"))
    for _ in range(2):
        run(made, failed("server-error"), on("m1"))
        heal(made, Kind.MODEL, "m1")
    assert take(made).model == "m2"


def test_a_score_worked_out_before_is_not_used_after_an_attempt_ended() -> None:
    made = pool(models=("m1", "m2"))
    leases = [take(made, on("m1")) for _ in range(2)]
    for lease in leases:
        made.usable(NOON)
        made.settle(lease, failed("server-error"), NOON)
        heal(made, Kind.MODEL, "m1")
    assert take(made).model == "m2"


def test_an_ask_that_names_a_model_gets_it_first_then_the_rest() -> None:
    made = pool(models=("m1", "m2", "m3"))
    ask = Ask(first="m3")
    assert take(made, ask).model == "m3"
    made.operate("disable", Scope(Kind.MODEL, "m3"), NOON)
    assert take(made, ask).model == "m1"


def test_a_pinned_ask_gets_its_model_or_nothing() -> None:
    made = pool(models=("m1", "m2"))
    assert take(made, Ask(first="m2", pinned=True)).model == "m2"
    assert refusal(made, Ask(first="m9", pinned=True)).cause == "empty"
    made.operate("disable", Scope(Kind.MODEL, "m2"), NOON)
    assert refusal(made, Ask(first="m2", pinned=True)).cause == "disabled"


def test_an_ask_with_a_list_gets_exactly_these_in_this_order() -> None:
    made = pool(models=("m1", "m2", "m3"))
    ask = Ask(models=("m3", "m9", "m1", "m3"))
    for _ in range(20):
        run(made, answered(ttft=20, total=30), on("m3"))
    assert take(made, ask).model == "m3"
    made.operate("disable", Scope(Kind.MODEL, "m3"), NOON)
    assert take(made, ask).model == "m1"
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON)
    assert refusal(made, ask).blocked == {"disabled": 4}


@pytest.mark.parametrize(
    ("ask", "missing"),
    [
        (Ask(tokens=8_000, reply_tokens=1), ("context",)),
        (Ask(tokens=1, reply_tokens=1_001), ("max_output",)),
        (Ask(needs=frozenset({"tools", "image"})), ("image",)),
    ],
)
def test_what_no_model_offers_is_said(ask: Ask, missing: tuple[str, ...]) -> None:
    small = Model("m1", 8_000, max_output=1_000, can=frozenset({"tools"}))
    found = refusal(pool(models=[small]), ask)
    assert (found.cause, found.missing, found.at) == ("unfit", missing, None)
    assert found.blocked == {missing[0]: 1}


def test_what_fits_exactly_is_served() -> None:
    small = Model("m1", 8_000, max_output=1_000, can=frozenset({"tools"}))
    ask = Ask(tokens=7_000, reply_tokens=1_000, needs=frozenset({"tools"}))
    assert take(pool(models=[small]), ask).model == "m1"


def test_a_model_at_its_limit_of_requests_at_once_is_skipped() -> None:
    made = pool(models=("m1", "m2"))
    for _ in range(8):
        take(made, on("m1"))
    assert take(made, Ask(models=("m1", "m2"))).model == "m2"
    found = refusal(made, on("m1"))
    assert (found.cause, found.at) == ("busy", NOON + 0.25)


# --- lanes -----------------------------------------------------------------------------------------


def test_a_closed_lane_or_access_leaves_the_other_keys() -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"), ("m1",))
    made.operate("disable", Scope(Kind.ACCESS, "a1+m1"), NOON)
    assert {take(made).key for _ in range(3)} == {"k3"}
    made.operate("disable", Scope(Kind.LANE, "k3+m1"), NOON)
    assert refusal(made).cause == "disabled"
    made.operate("reset", Scope(Kind.LANE, "k3+m1"), NOON)
    assert take(made).key == "k3"


def test_an_access_is_closed_for_a_key_that_never_used_it() -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"), ("m1",))
    made.settle(take(made), failed("forbidden"), NOON)
    assert {take(made).key for _ in range(3)} == {"k3"}


def test_a_lane_opens_when_its_time_is_over() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    run(made, failed("unclear-429"), on("m1"))
    assert {take(made).key for _ in range(3)} == {"k2"}
    assert until(made, Kind.LANE, "k1+m1") == NOON + 30
    assert take(made, now=NOON + 30).key == "k1"


# --- what was tried --------------------------------------------------------------------------------


def test_a_lane_is_not_tried_twice() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",))
    assert take(made, tried=Tried(lanes={("k1", "m1")})).key == "k2"
    both = Tried(lanes={("k1", "m1"), ("k2", "m1")})
    assert refusal(made, tried=both).cause == "tried"


def test_a_spent_key_is_not_tried_with_another_model() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    assert take(made, tried=Tried(keys={"k1"})).key == "k2"
    assert refusal(made, tried=Tried(keys={"k1", "k2"})).cause == "tried"


def test_two_attempts_on_one_model_are_enough() -> None:
    made = pool(models=("m1", "m2"))
    tried = Tried(lanes={("k1", "m1"), ("k2", "m1")}, models={"m1": 2})
    assert take(made, tried=tried).model == "m2"


def test_an_account_better_avoided_is_taken_only_for_want_of_another() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 1_000), account("a2", 50)])
    tried = Tried(lanes={("k1", "m9")}, accounts={"a1"})
    assert take(made, tried=tried).key == "k2"
    assert take(made, tried=Tried(lanes={("k2", "m1")}, keys={"k2"}, accounts={"a1"})).key == "k1"


def test_after_a_prompt_that_was_too_long_only_a_larger_context_helps() -> None:
    made = pool(models=[model("m1", 8_000), model("m2", 8_000), model("m3", 32_000)])
    tried = Tried(lanes={("k1", "m1")}, barred={"m1"}, larger_than=8_000)
    assert take(made, tried=tried).model == "m3"
    made.operate("disable", Scope(Kind.MODEL, "m3"), NOON)
    assert refusal(made, tried=tried).cause == "disabled"
    assert refusal(made, on("m2"), tried=tried).missing == ("context",)


def test_after_a_missing_capability_only_a_model_that_has_it_helps() -> None:
    made = pool(models=[model("m1"), model("m2"), model("m3", can=("tools",))])
    tried = Tried(lanes={("k1", "m1")}, barred={"m1"}, needs={"tools"})
    assert take(made, tried=tried).model == "m3"
    assert refusal(made, on("m2"), tried=tried).missing == ("tools",)


def test_with_little_time_left_a_model_known_to_be_slow_is_not_begun() -> None:
    made = pool(models=("m1", "m2"))
    for _ in range(9):
        run(made, answered(ttft=20, total=21), on("m1"))
    ask = Ask(tokens=100, models=("m1", "m2"))
    assert take(made, ask, tried=Tried(lanes={("k1", "m9")}, left=11)).model == "m1"
    assert take(made, ask, tried=Tried(lanes={("k1", "m9")}, left=9)).model == "m2"
    assert refusal(made, on("m1"), tried=Tried(lanes={("k1", "m9")}, left=9)).cause == "tried"


def test_a_lane_is_tried_again_only_where_the_ask_says_so() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    tried = Tried(lanes={("k2", "m2")}, again=("k2", "m2"))
    assert (take(made, tried=tried).key, take(made, tried=tried).model) == ("k2", "m2")
    made.operate("disable", Scope(Kind.LANE, "k2+m2"), NOON)
    assert take(made, tried=tried).model == "m1"
    made.operate("disable", Scope(Kind.MODEL, "m2"), NOON)
    assert take(made, tried=tried).model == "m1"


def test_a_lane_whose_model_is_at_its_limit_or_whose_key_is_closed_is_not_tried_again() -> None:
    tried = Tried(lanes={("k2", "m2")}, again=("k2", "m2"))
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    for _ in range(8):
        take(made, on("m2"))
    assert take(made, tried=tried).model == "m1"
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"))
    made.key_is_bad("k2", "bad-key", NOON)
    assert take(made, tried=tried).key == "k1"


# --- half-open -------------------------------------------------------------------------------------


def tripped_key() -> Pool:
    """Two keys, the first tripped at noon."""
    made = pool(
        ("k1@a1", "k2@a2"),
        [f"m{n}" for n in range(1, 8)],
        accounts=[account("a1", None), account("a2", None)],
    )
    made.operate("disable", Scope(Kind.KEY, "k2"), NOON)
    for number in range(1, 6):
        run(made, failed("server-error"), on(f"m{number}"))
    made.operate("enable", Scope(Kind.KEY, "k2"), NOON)
    assert until(made, Kind.KEY, "k1") == NOON + 300
    return made


def test_a_half_open_key_takes_one_probe_and_others_pass_it_by() -> None:
    made = tripped_key()
    now = NOON + 301
    ask = Ask(models=("m6", "m7"))
    keys = [take(made, ask, now).key for _ in range(4)]
    assert Counter(keys) == {"k1": 1, "k2": 3}


def test_the_last_attempt_of_an_ask_is_not_a_probe_if_there_is_another_lane() -> None:
    made = tripped_key()
    now = NOON + 301
    last = Tried(lanes={("k1", "m9")}, last_attempt=True)
    assert {take(made, on("m6"), now, last).key for _ in range(2)} == {"k2"}
    made.operate("disable", Scope(Kind.KEY, "k2"), now)
    assert take(made, on("m6"), now, last).key == "k1"


# --- last resort -----------------------------------------------------------------------------------


def closed_by_guesses(last_resort: bool = True) -> Pool:
    made = pool(("k1@a1", "k2@a2"), ("m1", "m2"), Policy(Health(last_resort=last_resort)))
    run(made, failed("server-error"), on("m2"))
    run(made, failed("malformed"), on("m1"))
    return made


def test_with_every_lane_closed_by_guesses_nothing_is_tried_by_default() -> None:
    assert refusal(closed_by_guesses(last_resort=False)).cause == "health"


def test_last_resort_lets_one_ask_at_a_time_try_what_opens_first() -> None:
    made = closed_by_guesses()
    assert until(made, Kind.MODEL, "m2") < until(made, Kind.MODEL, "m1")
    lease = take(made)
    assert lease.model == "m2"
    assert refusal(made).cause == "health"
    made.settle(lease, failed("server-error"), NOON)
    assert take(made).model == "m2"


def test_last_resort_overrides_no_quota_and_nothing_that_was_said() -> None:
    made = closed_by_guesses()
    made.operate("disable", Scope(Kind.MODEL, "m2"), NOON)
    assert take(made).model == "m1"
    made = closed_by_guesses()
    for key in ("k1", "k2"):
        made.key_is_bad(key, "bad-key", NOON)
    assert refusal(made).cause == "disabled"
    spent = pool(("k1@a1",), ("m1",), Policy(Health(last_resort=True)), [account("a1", 0)])
    assert refusal(spent).cause == "day"


def test_last_resort_respects_what_was_tried_and_requests_at_once() -> None:
    made = closed_by_guesses()
    tried = Tried(lanes={("k1", "m1"), ("k1", "m2"), ("k2", "m2")})
    assert (take(made, tried=tried).key, made.open_leases) == ("k2", 1)
    made = closed_by_guesses()
    assert refusal(made, tried=Tried(keys={"k1", "k2"})).cause == "tried"
    made.roster.models["m2"].learnt.in_flight = 99
    assert take(made).model == "m1"
    assert refusal(closed_by_guesses(), Ask(tokens=10**9)).cause == "unfit"


# --- paid ------------------------------------------------------------------------------------------


def test_paid_models_use_no_quota_and_have_a_health_of_their_own() -> None:
    made = pool(("k1@a1",), [model("m1"), model("p1", free=False)], accounts=[account("a1", 1)])
    run(made, answered(), on("m1"))
    assert refusal(made, on("m1")).cause == "day"
    run(made, answered(), on("p1"))
    run(made, failed("in-flight-budget"), on("p1"))
    assert refusal(made, on("p1")).cause == "health"
    found = refusal(made, Ask(models=("m1", "p1")))
    assert (found.cause, found.blocked) == ("health", {"quota": 1, "cooling": 1})


def test_what_costs_money_is_chosen_only_by_name() -> None:
    made = pool(("k1@a1",), [model("p1", free=False), model("m1")])
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON)
    assert refusal(made).cause == "disabled"
    assert take(made, Ask(first="p1")).model == "p1"
    assert take(made, on("p1")).model == "p1"


# --- pools -----------------------------------------------------------------------------------------


def learn(made: Pool, name: str, seconds: float) -> None:
    for _ in range(8):
        run(made, answered(seconds, seconds + 0.5), on(name))


def test_a_pool_ranks_its_models_by_its_own_strategy() -> None:
    made = pool(("k1@a1",), ("m1", "m2", "m3"))
    learn(made, "m1", 1.5)
    learn(made, "m2", 1.5)
    learn(made, "m3", 0.2)
    assert take(made).model == "m1"
    assert take(made, Ask(strategy="fastest")).model == "m3"
    assert take(made, Ask(models=("m2", "m1"), strategy="balanced")).model == "m2"
    assert take(made, Ask(models=("m2", "m3"), strategy="fastest")).model == "m3"
    assert take(made, Ask(models=("m2", "m3"), strategy="ordered")).model == "m2"


# --- conversations ---------------------------------------------------------------------------------

TALK = Ask(tokens=100, conversation="talk", follow_up=True)


def talk(made: Pool, now: float, ask: Ask = TALK) -> str:
    """One turn; the account that answered it."""
    lease = take(made, ask, now)
    made.settle(lease, answered(), now)
    return lease.account


def test_a_conversation_stays_with_its_account() -> None:
    made = pool(FOUR, accounts=[account(f"a{n}", 1_000) for n in range(1, 5)])
    assert len({talk(made, NOON + 10 * turn) for turn in range(20)}) == 1
    others = {talk(made, NOON + 300 + 10 * turn, ASK) for turn in range(20)}
    assert len(others) == 3  # those that have more left


def test_the_first_request_of_a_conversation_goes_where_most_is_left() -> None:
    """Many conversations may begin with the same words."""
    made = pool(FOUR, accounts=[account(f"a{n}", 1_000) for n in range(1, 5)])
    opening = Ask(tokens=100, conversation="talk")
    assert len({talk(made, NOON + 10 * turn, opening) for turn in range(8)}) == 4


def test_a_conversation_leaves_an_account_that_has_less_than_half_of_what_others_have() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 100), account("a2", 99)])
    homes = [talk(made, NOON + 10 * turn) for turn in range(60)]
    assert homes[0] == "a1"
    assert homes.index("a2") == 51  # 100 - 51 = 49 is below half of 99


def test_without_a_floor_a_conversation_stays_while_its_account_is_usable() -> None:
    anywhere = Policy(choice=Choice(affinity_floor=0.0))
    made = pool(FOUR[:2], policy=anywhere, accounts=[account("a1", 30), account("a2", 29)])
    assert {talk(made, NOON + 10 * turn) for turn in range(30)} == {"a1"}


def test_affinity_can_be_switched_off() -> None:
    made = pool(FOUR, policy=Policy(choice=Choice(affinity=False)))
    assert len({talk(made, NOON + 10 * turn) for turn in range(8)}) == 4


def test_a_conversation_never_waits_for_its_account_and_moves_with_the_one_that_answers() -> None:
    made = pool(FOUR[:2])
    first = talk(made, NOON)
    made.operate("disable", Scope(Kind.ACCOUNT, first), NOON)
    second = talk(made, NOON + 10)
    assert second != first
    made.operate("enable", Scope(Kind.ACCOUNT, first), NOON + 20)
    assert talk(made, NOON + 20) == second


def test_a_metered_account_is_below_any_floor_while_an_unmetered_one_is_usable() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", None), account("a2", 1_000)])
    made.affinity.remember("talk", "a2", NOON)
    assert take(made, TALK).account == "a1"


# --- tokens ----------------------------------------------------------------------------------------


def test_a_model_whose_tokenizer_needs_more_gets_only_what_fits_by_its_own_count() -> None:
    made = pool(("k1@a1",), [model("m1", context=8_000), model("m2", context=16_000)])
    ask = Ask(tokens=6_000, models=("m1", "m2"))
    assert take(made, ask).model == "m1"
    for _ in range(20):
        run(made, Answered(0.1, 0.2, 200, 10), on("m1"))  # twice what was estimated
    assert take(made, ask).model == "m2"


def test_the_tokens_of_pictures_teach_nothing_about_text() -> None:
    made = pool(("k1@a1",), [model("m1", can=["image"])])
    picture = Ask(tokens=100, needs=frozenset({"image"}))
    run(made, Answered(0.1, 0.2, 700, 10), picture)
    assert made.roster.models["m1"].stretch == 1.0


# --- the answer when nothing can be tried ------------------------------------------------------------


def test_without_keys_or_models_there_is_nothing() -> None:
    assert refusal(pool((), ("m1",))).cause == "empty"
    assert refusal(pool(("k1@a1",), ())).cause == "empty"


def test_usable_tells_without_reserving() -> None:
    made = pool(("k1@a1",), ("m1",))
    assert made.usable(NOON)
    assert made.open_leases == 0
    made.key_is_bad("k1", "bad-key", NOON)
    assert not made.usable(NOON)


def test_a_lane_closed_without_end_has_no_opening() -> None:
    made = pool(("k1@a1",), ("m1",))
    made.key_is_bad("k1", "bad-key", NOON)
    assert refusal(made).at is None
    assert until(made, Kind.KEY, "k1") == FOREVER


def test_after_the_day_everything_opens_by_itself() -> None:
    made = pool(FOUR[:2], accounts=[account("a1", 1), account("a2", 1)])
    serve(made, 2)
    found = refusal(made, now=NOON + 70)
    assert found.at is not None
    assert MIDNIGHT < found.at < MIDNIGHT + 30
    assert take(made, ASK, found.at)


# --- what stands in the way ------------------------------------------------------------------------


def test_models_that_would_do_are_named_when_those_allowed_do_not() -> None:
    made = pool(("k1@a1",), [model("m1"), model("m2", can=["tools"]), model("p1", free=False)])
    tools = Ask(tokens=100, needs=frozenset({"tools"}))
    found = refusal(made, Ask(tokens=100, models=("m1",), needs=tools.needs))
    assert (found.cause, found.missing, found.others) == ("unfit", ("tools",), ("m2",))
    pinned = refusal(made, Ask(tokens=100, first="m1", pinned=True, needs=tools.needs))
    assert pinned.others == ("m2",)
    images = refusal(made, Ask(tokens=100, needs=frozenset({"image"})))
    assert images.others == ()


def test_a_survey_tells_of_every_model_what_keeps_it_from_being_used() -> None:
    small = model("m2", context=300)
    made = pool(("k1@a1",), [model("m1"), small, model("m3"), model("m4"), model("m5"), "m6"])
    made.operate("disable", Scope(Kind.MODEL, "m3"), NOON)
    made.operate("disable", Scope(Kind.LANE, "k1+m4"), NOON)
    made.roster.models["m5"].learnt.in_flight = 99
    found = {state.model.id: why for state, why in made.survey(Ask(tokens=1_000), NOON)}
    assert found == {"m1": None, "m2": "context", "m3": "closed", "m4": "no way", "m5": "busy", "m6": None}  # fmt: skip
    made.operate("disable", Scope(Kind.KEY, "k1"), NOON)
    assert dict(made.survey(Ask(), NOON))[made.roster.models["m1"]] == "no key"


def test_a_survey_has_the_order_in_which_requests_are_served() -> None:
    made = pool(("k1@a1",), ("m1", "m2", "m3"))
    learn(made, "m1", 25.0)
    first, _ = made.survey(ASK, NOON)[0]
    assert first.model.id == take(made).model != "m1"


# --- embeddings ------------------------------------------------------------------------------------

VECTORS = Ask(tokens=100, needs=frozenset({"embeddings"}))


def mixed(*more: Model) -> Pool:
    return pool(models=[model("m1"), model("v1", can=["embeddings"]), *more])


def test_words_never_come_from_an_embedding_model_and_vectors_from_no_other() -> None:
    made = mixed(model("v2", can=["embeddings"]))
    both = ("v1", "m1")
    for ask in (ASK, ASK._replace(models=both), ASK._replace(first="v1")):
        assert take(made, ask).model == "m1"
    assert refusal(made, ASK._replace(first="v1", pinned=True)).cause == "empty"
    for ask in (VECTORS, VECTORS._replace(models=both), VECTORS._replace(first="m1")):
        assert take(made, ask).model == "v1"
    assert take(made, VECTORS._replace(first="v2", pinned=True)).model == "v2"


def test_a_list_without_embedding_models_says_what_is_missing() -> None:
    found = refusal(pool(models=("m1", "m2")), VECTORS)
    assert (found.cause, found.missing) == ("unfit", ("embeddings",))
    named = refusal(pool(models=("m1", "m2")), VECTORS._replace(models=("m1",)))
    assert (named.cause, named.missing) == ("unfit", ("embeddings",))


def test_embedding_models_are_not_offered_to_those_who_chat_nor_the_other_way_round() -> None:
    made = mixed(model("m2", can=["tools"]))
    wants = ASK._replace(needs=frozenset({"tools"}), models=("m1",))
    found = refusal(made, wants)
    assert (found.missing, found.others) == (("tools",), ("m2",))
    assert refusal(made, ASK._replace(tokens=10**7)).missing == ("context",)
    assert refusal(made, ASK._replace(tokens=10**7)).others == ()


def test_what_an_account_sees_of_the_list_of_text_models_says_nothing_of_the_others() -> None:
    made = mixed()
    made.see_models("k1", frozenset({"m1"}), NOON)
    made.see_models("k2", frozenset({"m1"}), NOON)
    assert take(made, VECTORS).model == "v1"


def test_how_fast_vectors_come_says_nothing_of_words() -> None:
    made, plain = mixed(), pool(models=["m1"])
    for _ in range(20):
        run(made, answered(ttft=0.01, total=0.01), VECTORS)
    for each in (made, plain):
        each.roster.fade(NOON + 3_600, 1e9)
    first, second = (each.roster.models["m1"].learnt.prior for each in (made, plain))
    assert first == second
