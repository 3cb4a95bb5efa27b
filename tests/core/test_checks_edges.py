"""`GET /key` at the edges: another clock, a limit that is over, an account without keys."""

from keywheel.core.quota import Reading
from tests.core.build import MIDNIGHT, NOON, account, failed, on, pool, run

HOUR = 3_600.0
UNKNOWN = Reading(None, None)


def test_the_new_day_begins_by_the_upstreams_clock() -> None:
    made = pool(("k1@a1",))
    made.set_skew(600)
    made.key_is_good("k1", UNKNOWN, MIDNIGHT - 1_000)
    assert made.due_checks(MIDNIGHT - 600) == ()
    assert made.due_checks(MIDNIGHT - 600 + 60) == ("k1",)


def test_a_spending_limit_that_is_over_needs_no_check() -> None:
    made = pool(("k1@a1", "k2@a1"))
    for key in ("k1", "k2"):
        made.key_is_good(key, UNKNOWN, NOON)
    run(made, failed("key-limit", NOON + HOUR), on("m1"))
    made.key_is_good("k2", UNKNOWN, NOON + 1_000)
    assert made.due_checks(NOON + HOUR) == ()


def test_an_account_whose_keys_were_removed_is_not_looked_at() -> None:
    made = pool(("k1@a1",))
    made.key_is_good("k1", UNKNOWN, NOON)
    made.set_keys([account("a1")], [])
    assert made.due_checks(NOON + 2 * HOUR) == ()
