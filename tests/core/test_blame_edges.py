"""Evidence counts to the last moment of its span."""

from keywheel.core.blame import Suspicion
from keywheel.core.rows import ROWS
from keywheel.core.types import Lease, Verdict
from tests.core.build import NOON, lease


def refused(suspicion: Suspicion, seconds: float) -> str:
    asked: Lease = lease(at=NOON + seconds)
    sight = Lease(1, "k1", "a1", "m1", asked.at, asked.expires, (), (), request_id=f"r{seconds}")
    return suspicion.refine(sight, Verdict(ROWS["untyped-400"]), NOON + seconds).row.name


def test_three_refusals_within_ten_minutes_name_the_model_to_the_second() -> None:
    for last, row in ((600.0, "untyped-400-model"), (600.1, "untyped-400")):
        suspicion = Suspicion()
        suspicion.answered("m2", NOON + 1)
        assert refused(suspicion, 0.0) == refused(suspicion, 300.0) == "untyped-400"
        assert refused(suspicion, last) == row


def test_another_models_answer_counts_for_ten_minutes() -> None:
    for last, row in ((600.0, "untyped-400-model"), (600.1, "untyped-400")):
        suspicion = Suspicion()
        suspicion.answered("m2", NOON)
        refused(suspicion, 100.0)
        refused(suspicion, 300.0)
        assert refused(suspicion, last) == row


def outage(row: str, last: float) -> bool:
    suspicion = Suspicion()
    found = False
    for number, seconds in enumerate((0.0, 10.0, last)):
        at = NOON + seconds
        sight = Lease(number, "k1", "a1", f"m{number}", at, at + 9, (), (), request_id=f"r{number}")
        found = suspicion.is_outage(sight, ROWS[row], at)
    return found


def test_three_models_failing_within_30_s_are_an_outage_to_the_second() -> None:
    assert outage("server-error", 30.0)
    assert not outage("server-error", 30.1)


def test_a_model_that_refuses_is_no_sign_of_an_outage() -> None:
    assert not outage("upstream-pool", 20.0)
    assert not outage("model-gone", 20.0)
