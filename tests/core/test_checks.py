"""When `GET /key` is asked (routing A.3 and A.5, rows 10, 11, 11a)."""

import pytest

from keywheel.core.checks import Checks
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.types import Kind, Scope
from tests.core.build import MIDNIGHT, NOON, account, answered, failed, model, on, pool, run

HOUR, DAY = 3_600.0, 86_400.0
UNKNOWN = Reading(None, None)


def looked_at(*keys: str, **more: object) -> Pool:
    """A pool in which every key was checked at noon."""
    made = pool(keys or ("k1@a1", "k2@a2"), **more)  # type: ignore[arg-type]
    pass_all(made, NOON)
    return made


def pass_all(made: Pool, now: float) -> None:
    for key in made.roster.keys:
        made.key_is_good(key, UNKNOWN, now)


def test_a_key_that_was_never_checked_is_due_until_it_is() -> None:
    made = pool()
    assert made.due_checks(NOON) == made.due_checks(NOON) == ("k1", "k2")
    made.key_is_good("k1", UNKNOWN, NOON)
    assert made.due_checks(NOON) == ("k2",)
    made.key_is_bad("k2", "bad-key", NOON)
    assert made.due_checks(NOON) == ()


@pytest.mark.parametrize("row", ["bad-key", "bad-key-400"])
def test_a_refused_key_is_checked_after_5_min_30_min_6_h_then_daily(row: str) -> None:
    made = looked_at()
    run(made, failed(row), on("m1"))
    now = NOON
    for wait in (300, 1_800, 6 * HOUR, DAY, DAY):
        assert "k1" not in made.due_checks(now + wait - 1)
        now += wait
        assert made.due_checks(now)[0] == "k1"
        made.key_is_bad("k1", "bad-key", now)


def test_a_key_that_passes_in_between_begins_anew() -> None:
    made = looked_at("k1@a1")
    for now in (NOON, NOON + 300, NOON + 3_000):
        made.key_is_bad("k1", "bad-key", now)
    assert made.due_checks(NOON + 3_000 + 6 * HOUR - 1) == ()
    made.key_is_good("k1", UNKNOWN, NOON + 3_001)
    made.key_is_bad("k1", "bad-key", NOON + 3_002)
    assert made.due_checks(NOON + 3_002 + 299) == ()
    assert made.due_checks(NOON + 3_002 + 300) == ("k1",)


def test_a_key_at_its_spending_limit_is_checked_hourly() -> None:
    made = looked_at("k1@a1")
    run(made, failed("key-limit", NOON + 5 * DAY), on("m1"))
    for hour in range(1, 4):
        now = NOON + hour * HOUR
        assert made.due_checks(now - 1) == ()
        assert made.due_checks(now) == ("k1",)
        made.key_is_good("k1", Reading(None, None, room=False), now)
    made.key_is_good("k1", Reading(None, None, room=True), now)
    assert made.due_checks(now + HOUR - 1) == ()


def test_an_account_in_use_is_checked_hourly_an_idle_one_is_not() -> None:
    made = looked_at()
    run(made, answered(), on("m1"))
    assert made.due_checks(NOON + HOUR - 1) == ()
    assert made.due_checks(NOON + HOUR) == ("k1",)
    made.key_is_good("k1", UNKNOWN, NOON + HOUR)
    assert made.due_checks(NOON + 2 * HOUR) == ()


def test_an_account_whose_day_is_spent_is_checked_hourly_since_a_top_up_may_raise_its_limit() -> (
    None
):
    made = looked_at("k1@a1", accounts=[account("a1", 50)])
    run(made, failed("platform-day"), on("m1"))
    made.key_is_good("k1", UNKNOWN, NOON)
    for hour in (1, 2):
        assert made.due_checks(NOON + hour * HOUR - 1) == ()
        assert made.due_checks(NOON + hour * HOUR) == ("k1",)
        made.key_is_good("k1", UNKNOWN, NOON + hour * HOUR)
    made.key_is_good("k1", Reading(50, 1000), NOON + 3 * HOUR)
    assert made.usable(NOON + 3 * HOUR)


def test_an_account_out_of_credits_is_checked_hourly_though_nothing_is_sent() -> None:
    made = looked_at("k1@a1", "k2@a1", models=[model("m1"), model("p1", free=False)])
    run(made, failed("no-credits"), on("p1"))
    for hour in range(1, 4):
        assert made.due_checks(NOON + hour * HOUR) == ("k1",)
        made.key_is_good("k1", UNKNOWN, NOON + hour * HOUR)


@pytest.mark.parametrize("row", ["platform-minute", "platform-day", "unclear-429"])
def test_an_account_is_checked_right_after_a_429_that_may_be_its_own(row: str) -> None:
    made = looked_at()
    run(made, failed(row), on("m1"), NOON + 60)
    assert made.due_checks(NOON + 60) == ("k1",)
    made.key_is_good("k1", UNKNOWN, NOON + 60)
    assert made.due_checks(NOON + 60) == ()


def test_a_storm_of_429s_is_asked_about_once_in_ten_seconds() -> None:
    made = looked_at("k1@a1", "k2@a1")
    run(made, failed("unclear-429"), on("m1"), NOON + 5)
    assert made.due_checks(NOON + 9) == ()
    assert made.due_checks(NOON + 10) == ("k1",)


def test_a_models_429_is_no_reason_to_ask() -> None:
    made = looked_at()
    run(made, failed("upstream-pool"), on("m1"))
    assert made.due_checks(NOON + 60) == ()


def test_after_midnight_every_metered_account_is_checked_at_a_time_of_its_own() -> None:
    names = [f"k{n}@a{n}" for n in range(12)]
    made = looked_at(*names, accounts=[account("a0", None)])
    pass_all(made, MIDNIGHT - 60)
    assert made.due_checks(MIDNIGHT + 4.9) == ()
    due = [len(made.due_checks(MIDNIGHT + second)) for second in range(5, 61)]
    assert due == sorted(due)
    assert due[-1] == 11
    assert len(set(due)) > 6
    pass_all(made, MIDNIGHT + 61)
    assert made.due_checks(MIDNIGHT + 62) == ()


def test_a_key_that_the_upstream_accepts_speaks_for_its_account() -> None:
    made = looked_at("k1@a1", "k2@a1")
    made.key_is_bad("k1", "bad-key", NOON)
    run(made, answered(), on("m1"))
    made.key_is_bad("k1", "bad-key", NOON + HOUR)
    assert made.due_checks(NOON + HOUR) == ("k2",)
    made.key_is_bad("k2", "bad-key", NOON + HOUR)
    assert made.due_checks(NOON + HOUR) == ()


def test_an_operator_does_not_stop_checks_of_refused_keys() -> None:
    made = looked_at("k1@a1")
    made.key_is_bad("k1", "bad-key", NOON)
    made.operate("disable", Scope(Kind.KEY, "k1"), NOON)
    assert made.due_checks(NOON + 300) == ("k1",)


def test_checks_of_unknown_keys_are_forgotten() -> None:
    checks = Checks(pool().roster)
    checks.checked("k9", True, NOON)
    checks.urge("k9")
    checks.urge_account("a9")
    assert checks.due(NOON) == ("k1", "k2")
