"""Last resort and repeated lanes against quota: what may be tried once more, and what may not."""

import pytest

from keywheel.core.policy import Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Model
from tests.core.build import account, failed, model, on, pool, refusal, run, take

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


def test_last_resort_looks_at_the_quota_of_free_models_only() -> None:
    free = closed("m1", rows=("server-error",), per_day=1)
    assert (refusal(free).cause, refusal(free).blocked) == ("day", {"quota": 1})
    paid = closed("m1", model("p1", free=False), rows=("server-error", "server-error"), per_day=1)
    assert take(paid, on("p1")).model == "p1"
