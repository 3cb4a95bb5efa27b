"""The honest answer at its edges: lanes that look alike, are compared closely, or opened meanwhile."""

from keywheel.core import openings
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import Kind, NoLane, Provenance, Scope
from tests.core.build import MIDNIGHT, NOON, account, on, pool, refusal, take


def close(made: Pool, kind: Kind, name: str, seconds: float) -> None:
    for breaker in made.roster.find(Scope(kind, name)):
        breaker.block(Provenance.AUTHORITATIVE, NOON + seconds, "said", NOON, 0)


def why(made: Pool, now: float = NOON) -> NoLane:
    return openings.no_lane(made.roster, [*made.roster.models.values()], [], Tried(), now)


def test_a_model_with_some_lanes_closed_is_counted_lane_by_lane() -> None:
    made = pool(models=("m1",), accounts=[account("a2", 1_000, 1_000, cap=1)])
    close(made, Kind.LANE, "k1+m1", 50)
    take(made, on("m1"))
    assert refusal(made, on("m1")).blocked == {"cooling": 1, "busy": 1}


def test_models_whose_lanes_open_together_are_compared() -> None:
    made = pool(("k1@a1",))
    close(made, Kind.LANE, "k1+m1", 50)
    close(made, Kind.LANE, "k1+m2", 50)
    assert (refusal(made).at, refusal(made).blocked) == (NOON + 50, {"cooling": 2})


def test_a_model_that_seemed_to_open_earlier_hides_no_other_one() -> None:
    made = pool()
    close(made, Kind.MODEL, "m2", 40)
    close(made, Kind.KEY, "k1", 90)
    close(made, Kind.LANE, "k1+m1", 30)
    close(made, Kind.LANE, "k2+m1", 60)
    assert refusal(made).at == NOON + 40


def test_a_lane_that_opened_meanwhile_may_be_asked_at_once() -> None:
    assert why(pool(("k1@a1",), ("m1",))) == NoLane(NOON, "busy", {"busy": 1})
    made = pool(("k1@a1",), ("m1",))
    close(made, Kind.MODEL, "m1", 20)
    assert why(made, NOON + 20).at == NOON + 20


def test_a_free_models_lane_is_bound_by_its_quota_however_closely_it_is_looked_at() -> None:
    made = pool(models=("m1",), accounts=[account("a1", 0), account("a2", 0)])
    found = refusal(made, on("m1"), tried=Tried(lanes={("k2", "m1")}))
    assert (found.cause, found.blocked) == ("day", {"quota": 1})
    assert found.at is not None
    assert found.at > MIDNIGHT


def test_a_lane_that_was_tried_neither_counts_nor_opens() -> None:
    made = pool(models=("m1",))
    close(made, Kind.LANE, "k1+m1", 20)
    close(made, Kind.LANE, "k2+m1", 50)
    found = refusal(made, on("m1"), tried=Tried(lanes={("k1", "m1")}))
    assert (found.at, found.blocked) == (NOON + 50, {"cooling": 1})


def test_a_disabled_model_is_disabled_whatever_else_closes_its_lanes() -> None:
    made = pool(models=("m1",))
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON)
    close(made, Kind.LANE, "k1+m1", 20)
    close(made, Kind.LANE, "k2+m1", 20)
    assert refusal(made) == NoLane(None, "disabled", {"disabled": 2})


def test_lanes_closed_for_themselves_wait_for_their_quota_too() -> None:
    made = pool(models=("m1",), accounts=[account("a1", 0), account("a2", 0)])
    close(made, Kind.LANE, "k1+m1", 20)
    close(made, Kind.LANE, "k2+m1", 20)
    opens = refusal(made).at
    assert opens is not None
    assert opens > MIDNIGHT


def test_a_lane_opens_with_its_model_when_its_key_opens_earlier() -> None:
    made = pool(models=("m1",))
    close(made, Kind.MODEL, "m1", 60)
    close(made, Kind.KEY, "k1", 20)
    assert refusal(made, on("m1"), tried=Tried(lanes={("k2", "m1")})).at == NOON + 60
