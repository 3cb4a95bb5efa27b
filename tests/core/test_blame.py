"""What several ambiguous failures tell together (routing A.5, rows 6 and 21)."""

from keywheel.core.blame import Suspicion
from keywheel.core.rows import ROWS
from keywheel.core.types import Lease, Verdict
from tests.core.build import NOON


def lease(account: str = "a1", model: str = "m1", ask: str = "r1") -> Lease:
    return Lease(1, "k1", account, model, NOON, NOON + 125, (), (), request_id=ask)


def read(suspicion: Suspicion, row: str, seen: Lease, now: float = NOON) -> str:
    return suspicion.refine(seen, Verdict(ROWS[row], message="kept"), now).row.name


# --- row 21 ----------------------------------------------------------------------------------------


def test_one_unclear_429_names_nobody() -> None:
    assert read(Suspicion(), "unclear-429", lease()) == "unclear-429"


def test_a_second_on_another_account_names_the_model() -> None:
    suspicion = Suspicion()
    read(suspicion, "unclear-429", lease("a1", "m1"))
    assert read(suspicion, "unclear-429", lease("a2", "m1"), NOON + 30) == "upstream-pool"


def test_a_second_on_another_model_names_the_account() -> None:
    suspicion = Suspicion()
    read(suspicion, "unclear-429", lease("a1", "m1"))
    assert read(suspicion, "unclear-429", lease("a1", "m2"), NOON + 30) == "platform-minute"


def test_a_second_on_the_same_lane_or_one_that_shares_nothing_names_nobody() -> None:
    suspicion = Suspicion()
    read(suspicion, "unclear-429", lease("a1", "m1"))
    assert read(suspicion, "unclear-429", lease("a1", "m1")) == "unclear-429"
    assert read(suspicion, "unclear-429", lease("a2", "m2")) == "unclear-429"


def test_after_half_a_minute_it_is_the_first_again() -> None:
    suspicion = Suspicion()
    read(suspicion, "unclear-429", lease("a1", "m1"))
    assert read(suspicion, "unclear-429", lease("a2", "m1"), NOON + 30.1) == "unclear-429"


def test_what_the_answer_said_is_kept() -> None:
    suspicion = Suspicion()
    suspicion.refine(lease("a1"), Verdict(ROWS["unclear-429"]), NOON)
    refined = suspicion.refine(lease("a2"), Verdict(ROWS["unclear-429"], message="m"), NOON)
    assert (refined.row.name, refined.message) == ("upstream-pool", "m")


# --- row 6 -----------------------------------------------------------------------------------------


def refuse(suspicion: Suspicion, asks: str, now: float = NOON) -> str:
    return [read(suspicion, "untyped-400", lease(ask=ask), now) for ask in asks.split()][-1]


def test_three_requests_refused_while_another_model_answers_are_the_models_fault() -> None:
    suspicion = Suspicion()
    suspicion.answered("m2", NOON)
    assert refuse(suspicion, "r1 r2") == "untyped-400"
    assert refuse(suspicion, "r3") == "untyped-400-model"


def test_one_request_refused_three_times_is_its_own_fault() -> None:
    suspicion = Suspicion()
    suspicion.answered("m2", NOON)
    assert refuse(suspicion, "r1 r1 r1") == "untyped-400"


def test_without_another_model_that_answers_there_is_no_standard() -> None:
    suspicion = Suspicion()
    suspicion.answered("m1", NOON)
    assert refuse(suspicion, "r1 r2 r3") == "untyped-400"


def test_what_is_older_than_ten_minutes_does_not_count() -> None:
    suspicion = Suspicion()
    suspicion.answered("m2", NOON + 601)
    refuse(suspicion, "r1 r2")
    assert refuse(suspicion, "r3", NOON + 601) == "untyped-400"
    suspicion = Suspicion()
    suspicion.answered("m2", NOON)
    assert refuse(suspicion, "r1 r2 r3", NOON + 601) == "untyped-400"


def test_clear_verdicts_are_left_alone() -> None:
    suspicion = Suspicion()
    for row in ROWS:
        if row not in ("unclear-429", "untyped-400"):
            assert [read(suspicion, row, lease(f"a{n}", ask=f"r{n}")) for n in range(4)] == [
                row
            ] * 4
