from keywheel.core.tried import Tried
from tests.core.build import ASK, NOON, answered, model, on, pool, run


def test_a_new_ask_has_tried_nothing() -> None:
    assert not Tried().any
    assert Tried(lanes={("k1", "m1")}).any
    assert Tried(keys={"k1"}).any


def test_what_rules_a_model_out() -> None:
    made = pool(models=[model("m1", 8_000, can=("tools",))])
    for _ in range(5):
        run(made, answered(ttft=10, total=11), on("m1"))
    state = made.roster.models["m1"]
    state.misfit(ASK, NOON)
    for tried, why in (
        (Tried(), None),
        (Tried(barred={"m1"}), "tried"),
        (Tried(models={"m1": 2}), "tried"),
        (Tried(models={"m1": 1}), None),
        (Tried(larger_than=8_000), "context"),
        (Tried(larger_than=7_999), None),
        (Tried(needs={"image", "tools"}), "image"),
        (Tried(needs={"tools"}), None),
        (Tried(left=4.9), "tried"),
        (Tried(left=5.1), None),
    ):
        assert state_is(state, tried) == why


def state_is(state: object, tried: Tried) -> str | None:
    return tried.rules_out(state, ASK, 2)  # type: ignore[arg-type]
