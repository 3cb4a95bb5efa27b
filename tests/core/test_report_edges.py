"""What people are told about models, and about accounts that nobody meters."""

from typing import Any

from keywheel.core import ranking
from keywheel.core.pool import Pool
from keywheel.core.report import stats_report
from keywheel.core.stats import Stats
from keywheel.core.types import Ask
from tests.core.build import NOON, account, answered, failed, on, pool, run, take


def report(made: Pool, stats: Stats | None = None) -> dict[str, Any]:
    return stats_report(made, stats or Stats(NOON), NOON)


def test_it_says_since_when() -> None:
    assert report(pool(), Stats(NOON - 9))["since"] == NOON - 9


def test_a_model_tells_its_own_success() -> None:
    made, stats = pool(("k1@a1",)), Stats(NOON)
    for outcome, ask in ((answered(), on("m1")), (failed("server-error"), on("m2"))):
        for event in run(made, outcome, ask):
            stats.record(event)
    assert [entry["success_rate"] for entry in report(made, stats)["models"]] == [1, 0]


def test_a_score_has_four_digits() -> None:
    made = pool()
    choice = made.policy.choice
    exact = ranking.score(made.roster.models["m2"].learnt, 1, Ask(tokens=1_000), choice)
    told = report(made)["models"][1]["score"]
    assert told == round(exact, 4)
    assert told not in (round(exact, 3), round(exact, 5))


def test_an_account_that_is_not_metered_has_neither_limit_nor_reset() -> None:
    (entry,) = report(pool(("k1@a1",), accounts=[account("a1", None)]))["accounts"]
    assert entry["day"] == {"used": 0, "limit": None, "remaining": None, "resets_at": None}
    assert entry["minute"] == {"used": 0, "limit": None}


def test_a_busy_account_that_is_not_metered_is_open() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", None, cap=1)])
    take(made)
    assert report(made)["keys"][0]["state"] == "open"
