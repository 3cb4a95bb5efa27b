"""What other workers, or a former run, know is taken over."""

import pytest

from keywheel.core.marks import Block, Clear, Mark, Reach, read
from keywheel.core.pool import Pool
from keywheel.core.report import stats_report
from keywheel.core.stats import Stats
from keywheel.core.sums import Part, add_minutes
from keywheel.core.types import Kind, Provenance, Scope
from tests.core.build import NOON, account, failed, on, pool, run, until

KEY, MODEL, ACCOUNT = Scope(Kind.KEY, "k1"), Scope(Kind.MODEL, "m1"), Scope(Kind.ACCOUNT, "a1")


def adopt(made: Pool, *marks: Mark, now: float = NOON) -> None:
    made.adopt(read(marks, now), now)


def block(
    scope: Scope, provenance: Provenance = Provenance.AUTHORITATIVE, at: float = NOON
) -> Block:
    return Block(scope, "w2", at, NOON + 100, provenance, "told")


@pytest.mark.parametrize("scope", [KEY, MODEL, ACCOUNT])
def test_what_another_worker_closed_is_closed_here(scope: Scope) -> None:
    made = pool()
    adopt(made, block(scope))
    assert until(made, scope.kind, scope.name) == NOON + 100


def test_the_operators_hand_at_another_worker_closes_an_account_for_paid_models_too() -> None:
    made = pool()
    adopt(made, block(ACCOUNT, Provenance.OPERATOR))
    shut = made.roster.accounts["a1"]
    assert [side.blocked_until(NOON) for side in (shut.breaker, shut.paid)] == [NOON + 100] * 2


def test_what_another_worker_found_open_is_open_here_if_it_was_closed_before() -> None:
    for closed_at, open_at, is_open in ((NOON, NOON + 1, True), (NOON + 1, NOON, False)):
        made = pool()
        run(made, failed("server-error"), on("m1"), closed_at)
        assert until(made, Kind.MODEL, "m1", NOON + 1)
        adopt(made, Clear(MODEL, "w2", open_at, Reach.ALL), now=NOON + 1)
        assert (not until(made, Kind.MODEL, "m1", NOON + 1)) is is_open


def test_a_scope_that_is_not_known_here_is_nobodys() -> None:
    made = pool()
    adopt(made, block(Scope(Kind.KEY, "k9")), Clear(Scope(Kind.MODEL, "m9"), "w2", NOON, Reach.ALL))
    assert made.usable(NOON)


def test_every_account_is_looked_at_when_counters_were_lost() -> None:
    made = pool()
    for key in made.due_checks(NOON):
        made._checks.checked(key, True, NOON)  # pyright: ignore[reportPrivateUsage]
    assert not made.due_checks(NOON + 20)
    made.urge_all()
    assert len(made.due_checks(NOON + 20)) == 2


def test_what_a_former_run_sent_counts() -> None:
    quota = pool(accounts=[account("a1", 50)]).roster.accounts["a1"].quota
    today = quota.day(NOON)
    quota.raise_used(today, 7)
    quota.raise_used(today, 3)
    assert quota.used(NOON) == 7
    quota.restore_minute([NOON - 2, NOON - 70])
    assert quota.minute_used(NOON) == 1


def test_a_minute_that_others_filled_opens_a_moment_later() -> None:
    quota = pool(accounts=[account("a1", 50)]).roster.accounts["a1"].quota
    quota.crowd(NOON)
    assert quota.shut(NOON)
    assert quota.shut(NOON + 1.1) is None


def test_the_short_report_has_the_minute_of_all_workers() -> None:
    made = pool(accounts=[account("a1", 50)])
    told = stats_report(made, Stats(NOON), NOON)
    add_minutes(told["accounts"], [Part(Stats(NOON), minutes={"a1": 4})])
    assert told["accounts"][0]["minute"] == {"used": 4, "limit": 19}
