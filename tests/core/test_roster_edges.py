"""Names with signs in them, and what survives a reload."""

from keywheel.core.pool import Pool
from keywheel.core.types import Blocked, Key, Kind, Scope
from tests.core.build import NOON, account, failed, model, on, pool, run, until


def test_a_models_name_may_contain_the_sign_between_key_and_model() -> None:
    made = pool(("k1@a1",), ("lab/m+1",))
    for kind, name in ((Kind.LANE, "k1+lab/m+1"), (Kind.ACCESS, "a1+lab/m+1")):
        (found,) = made.roster.find(Scope(kind, name))
        assert found.scope == Scope(kind, name)


def closed_access(made: Pool) -> float:
    (found,) = made.roster.find(Scope(Kind.ACCESS, "a1+m1"))
    return found.closed_until(NOON)


def test_what_an_account_may_not_use_survives_a_reload() -> None:
    made = pool(("k1@a1", "k2@a2"))
    run(made, failed("forbidden"), on("m1"))
    made.set_keys([account("a1"), account("a2")], [Key("k1", "a1")])
    assert closed_access(made) > NOON
    made.set_keys([account("a2")], [Key("k2", "a2")])
    made.set_keys([account("a1")], [Key("k1", "a1")])
    assert closed_access(made) == 0.0


def test_a_model_behind_others_in_the_list_is_remembered_too() -> None:
    made = pool()
    run(made, failed("model-gone"), on("m2"))
    made.set_models([model("m1")], NOON)
    made.set_models([model("m1"), model("m2")], NOON)
    assert until(made, Kind.MODEL, "m2") > NOON


def test_a_model_is_remembered_for_a_day_each_time_it_leaves() -> None:
    made = pool()
    run(made, failed("region"), on("m2"))
    for now in (NOON, NOON + 1_000):
        made.set_models([model("m1")], now)
        made.set_models([model("m1"), model("m2")], now + 100)
    assert until(made, Kind.MODEL, "m2") > NOON


def test_the_paid_side_of_an_account_is_told_as_one() -> None:
    made = pool(("k1@a1",))
    events = run(made, failed("no-credits"), on("m1"))
    told = [event.scope for event in events if isinstance(event, Blocked)]
    assert told == [Scope(Kind.ACCOUNT, "a1"), Scope(Kind.ACCOUNT, "a1 (paid)")]
