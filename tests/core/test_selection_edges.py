"""Last resort and repeated lanes against quota: what may be tried once more, and what may not."""

import pytest

from keywheel.core.policy import Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Kind, Model, Provenance, Scope
from tests.core.build import NOON, account, answered, failed, model, on, pool, refusal, run, take

BIG = Ask(tokens=1_000)


def closed(*models: str | Model, rows: tuple[str, ...], per_day: int = 1_000) -> Pool:
    """A pool of one key whose models are closed by guesses, last resort allowed."""
    roomy = [account("a1", per_day, 1_000)]
    made = pool(("k1@a1",), models, Policy(Health(last_resort=True)), roomy)
    for found, row in zip(made.roster.models, rows, strict=True):
        run(made, failed(row), on(found))
    return made


def test_a_lane_is_repeated_only_while_its_quota_lasts() -> None:
    made = pool(models=("m1",), accounts=[account("a1", 0)])
    assert take(made, on("m1"), tried=Tried(again=("k1", "m1"))).key == "k2"


@pytest.mark.parametrize("rows", [("server-error", "malformed"), ("malformed", "server-error")])
def test_last_resort_is_what_opens_first_wherever_it_stands(rows: tuple[str, ...]) -> None:
    lease = take(closed("m1", "m2", rows=rows))
    assert lease.model == ("m1", "m2")[rows.index("server-error")]


def test_last_resort_passes_over_what_does_not_fit() -> None:
    made = closed(model("m1", context=300), "m2", rows=("server-error", "malformed"))
    assert take(made, Ask(tokens=100)).model == "m1"
    assert take(closed("m1", "m2", rows=("server-error", "malformed")), BIG).model == "m1"
    made = closed(model("m1", context=300), "m2", rows=("server-error", "malformed"))
    assert take(made, BIG).model == "m2"


def test_last_resort_starts_no_more_at_once_than_a_model_takes() -> None:
    made = closed("m1", rows=("server-error",))
    learnt = made.roster.models["m1"].learnt
    learnt.in_flight = int(learnt.limit)
    assert refusal(made).cause == "health"
    learnt.in_flight -= 1
    assert take(made).model == "m1"
    made = closed("m1", "m2", rows=("server-error", "malformed"))
    made.roster.models["m1"].learnt.in_flight = 99
    assert take(made).model == "m2"


def test_last_resort_looks_at_the_quota_of_free_models_only() -> None:
    free = closed("m1", rows=("server-error",), per_day=1)
    assert (refusal(free).cause, refusal(free).blocked) == ("day", {"quota": 1})
    paid = closed("m1", model("p1", free=False), rows=("server-error", "server-error"), per_day=1)
    assert take(paid, on("p1")).model == "p1"


def close(made: Pool, kind: Kind, name: str, seconds: float) -> None:
    for breaker in made.roster.find(Scope(kind, name)):
        breaker.block(Provenance.AUTHORITATIVE, NOON + seconds, "said", NOON, 0)


def test_a_model_whose_lanes_are_all_closed_hides_no_other_one() -> None:
    made = pool()
    close(made, Kind.LANE, "k1+m1", 20)
    close(made, Kind.LANE, "k2+m1", 20)
    assert take(made).model == "m2"


def test_a_scope_may_be_entered_at_the_moment_it_opens() -> None:
    for kind, name in ((Kind.ACCOUNT, "a1"), (Kind.KEY, "k1"), (Kind.MODEL, "m1")):
        made = pool(("k1@a1",), ("m1",))
        close(made, kind, name, 20)
        assert refusal(made, now=NOON + 19.9).at == NOON + 20
        assert take(made, now=NOON + 20).key == "k1"
    made = pool()
    close(made, Kind.MODEL, "m1", 20)
    assert take(made, now=NOON + 20, tried=Tried(again=("k2", "m1"))).key == "k2"


def test_where_nothing_is_metered_the_account_with_less_under_way_is_asked() -> None:
    made = pool(("k1@a1", "k2@a2"), accounts=[account("a1", None), account("a2", None)])
    assert take(made).key == "k1"
    run(made, answered())
    assert take(made).key == "k2"


def test_models_are_ranked_anew_for_prompts_of_another_size() -> None:
    made = pool()
    for name, small, large in (("m1", 1.0, 10.0), ("m2", 100.0, 1.0)):
        learnt = made.roster.models[name].learnt
        learnt.at = NOON
        for _ in range(20):
            learnt.answered(100, small, small, None)
            learnt.answered(20_000, large, large, None)
    assert take(made, Ask(tokens=100)).model == "m1"
    assert take(made, Ask(tokens=20_000)).model == "m2"


def test_a_lane_is_not_repeated_when_its_model_closed_or_went() -> None:
    made = pool()
    run(made, failed("server-error"), on("m1"))
    assert take(made, tried=Tried(again=("k1", "m1"))).model == "m2"
    assert take(made, tried=Tried(again=("k1", "m9"))).model == "m2"
