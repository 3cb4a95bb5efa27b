"""What rules a model out, to the edge of each rule."""

from keywheel.core.tried import Tried
from tests.core.build import ASK, NOON, pool


def test_a_model_that_was_not_tried_may_be_tried_once() -> None:
    model = pool().roster.models["m1"]
    assert Tried().rules_out(model, ASK, 1) is None
    assert Tried(models={"m1": 1}).rules_out(model, ASK, 1) == "tried"


def test_half_a_models_usual_time_is_enough() -> None:
    model = pool().roster.models["m1"]
    model.learnt.at = NOON
    model.learnt.answered(100, 1.0, 1.0, None)
    assert Tried(left=0.5).rules_out(model, ASK, 2) is None
    assert Tried(left=0.49).rules_out(model, ASK, 2) == "tried"
