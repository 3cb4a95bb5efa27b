"""What a check of a key opens, told in full."""

from keywheel.core.quota import Reading
from keywheel.core.types import Attempted, Kind, Reopened, Scope
from tests.core.build import NOON, account, failed, on, pool, run, take

GOOD = Reading(0, 1_000)


def test_one_check_may_open_a_key_and_its_account() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", 50)])
    run(made, failed("platform-day"), on("m1"))
    made.key_is_bad("k1", "bad-key", NOON)
    assert made.key_is_good("k1", GOOD, NOON + 9) == (
        Reopened(NOON + 9, Scope(Kind.KEY, "k1"), "GET /key"),
        Reopened(NOON + 9, Scope(Kind.ACCOUNT, "a1"), "GET /key"),
    )


def test_a_key_that_was_not_refused_keeps_no_other_out_of_doubt() -> None:
    made = pool()
    made.key_is_bad("k2", "bad-key", NOON)
    scopes = [event.scope for event in made.doubt(["k1", "k2"], NOON)]  # type: ignore[union-attr]
    assert scopes == [Scope(Kind.KEY, "k2")]


def test_a_doubt_that_is_over_hides_no_reopening() -> None:
    made = pool(("k1@a1",))
    made.key_is_bad("k1", "bad-key", NOON)
    made.doubt(["k1"], NOON)
    made.key_is_bad("k1", "bad-key", NOON + 10)
    assert made.key_is_good("k1", Reading(None, None), NOON + 400) == (
        Reopened(NOON + 400, Scope(Kind.KEY, "k1"), "GET /key"),
    )


def test_what_is_recorded_is_the_refined_verdict() -> None:
    made = pool()
    run(made, failed("unclear-429"), on("m1"))
    events = run(made, failed("unclear-429"), on("m1"))
    told = [event.row for event in events if isinstance(event, Attempted)]
    assert told == ["20 upstream-pool"]


def test_an_unsent_request_leaves_the_minute_as_it_was() -> None:
    made = pool(("k1@a1",))
    run(made, failed("unreachable", unsent=True), on("m1"))
    assert made.roster.accounts["a1"].quota.minute_used(NOON) == 0


def test_requests_under_way_move_with_their_key() -> None:
    made = pool(("k1@a1", "k2@a1", "k3@a2"))
    keys = [take(made).key for _ in range(8)]
    moving = keys.count("k1")
    assert 0 < moving < len(keys)
    made.assign("k1", account("a2"))
    told = {name: state.quota.in_flight for name, state in made.roster.accounts.items()}
    assert told == {"a1": keys.count("k2"), "a2": moving + keys.count("k3")}
