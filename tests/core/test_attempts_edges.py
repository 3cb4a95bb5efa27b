"""One request's life at its edges: what is told of each attempt, and the moments at which a rule begins to hold."""

import pytest

from keywheel.core.policy import Limits, Policy
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.steps import Expired, Refused, Served, Try
from keywheel.core.types import Ask, Kind, Provenance, Scope
from tests.core.build import NOON, account, failed, on, pool
from tests.core.test_attempts import World, always, script


def close(made: Pool, kind: Kind, name: str, seconds: float) -> None:
    for breaker in made.roster.find(Scope(kind, name)):
        breaker.block(Provenance.AUTHORITATIVE, NOON + seconds, "said", NOON, 0)


def refused(world: World, ask: Ask | None = None) -> Refused:
    result = world.live(ask)
    assert isinstance(result, Refused)
    return result


def told(result: Refused) -> str:
    assert result.verdict is not None
    return result.verdict.row.name


def test_every_attempt_is_told_with_its_lane_and_time() -> None:
    result = World(pool(("k1@a1",)), script("server-error", "ok")).live()
    assert isinstance(result, Served)
    assert result.tries == (
        Try("k1", "a1", "m1", "23 server-error", 0.5),
        Try("k1", "a1", "m2", "ok", 0.0),
    )


def test_an_ask_that_ran_out_of_time_tells_its_last_failure() -> None:
    world = World(pool(), script("untyped-400", "server-error"))
    result = refused(world, Ask(tokens=100, deadline=NOON + 3.5))
    assert (result.expired, told(result)) == (True, "server-error")


@pytest.mark.parametrize("last", ["bad-request", "unreachable"])
def test_a_failure_that_ends_the_ask_is_told_rather_than_an_earlier_refusal(last: str) -> None:
    world = World(pool(models=("m1", "m2", "m3")), script("untyped-400", last, last))
    assert told(refused(world)) == last


def test_an_unreachable_upstream_is_not_tried_a_third_time() -> None:
    world = World(pool(), always("unreachable"))
    assert told(refused(world)) == "unreachable"
    assert len(world.leases) == 2


def test_a_lane_is_waited_for_as_long_as_the_queue_allows_and_no_longer() -> None:
    for seconds, waits in ((10.0, [10.0]), (10.1, [])):
        made = pool()
        close(made, Kind.PROVIDER, "openrouter", seconds)
        world = World(made, script("ok"))
        world.live()
        assert world.waits == waits


def test_an_account_that_the_store_refuses_is_left_with_all_its_keys() -> None:
    world = World(pool(("k1@a1", "k2@a1", "k3@a2")), script("ok"), turned_down=["a1"])
    result = world.live(on("m1"))
    assert isinstance(result, Served)
    assert (result.lease.key, result.lease.number) == ("k3", 2)


def test_a_model_that_had_all_but_a_second_of_the_time_is_to_blame() -> None:
    for elapsed, row in ((118.9, "abandoned"), (119.0, "16 timeout")):
        world = World(pool(), lambda _, t=elapsed: Expired(NOON + t, t))
        result = refused(world)
        assert [t.row for t in result.tries] == [row]
        assert result.tries[0].elapsed == pytest.approx(elapsed)


def test_a_deadline_is_told_in_words() -> None:
    result = refused(World(pool(), lambda _: Expired(NOON + 120, 120)))
    assert result.verdict is not None
    assert result.verdict.message == "no answer before the deadline"


def test_only_an_unclear_429_makes_another_account_better() -> None:
    for row, second in (("server-error", "k1+m2"), ("unclear-429", "k2+m2")):
        roomy = [account("a1", 1_000, 1_000), account("a2", 50, 1_000)]
        world = World(pool(accounts=roomy), script(row, "ok"))
        world.live()
        assert world.lanes == ["k1+m1", second]


def test_two_keys_refused_alike_are_enough_for_doubt() -> None:
    made = pool()
    world = World(made, always("bad-key"))
    refused(world)
    assert set(made.due_checks(NOON + 10)) == {"k1", "k2"}
    blocks = [made.roster.keys[key].breaker.blocks for key in ("k1", "k2")]
    assert [list(block) for block in blocks] == [[Provenance.HEURISTIC]] * 2


def half_open(made: Pool, name: str) -> None:
    breaker = made.roster.models[name].breaker
    for number in range(5):
        breaker.fail(0, breaker.epoch, NOON - 400, f"k{number}", 1)
    assert breaker.is_half_open(NOON)


@pytest.mark.parametrize(("limit", "second"), [(2, "m3"), (3, "m2"), (4, "m2")])
def test_only_the_last_attempt_is_no_probe(limit: int, second: str) -> None:
    made = pool(models=("m1", "m2", "m3"), policy=Policy(limits=Limits(attempts=limit)))
    half_open(made, "m2")
    world = World(made, script("server-error", "ok"))
    world.live()
    assert [lease.model for lease in world.leases] == ["m1", second]


def nearly_spent(used: int) -> Pool:
    """A day of 200 requests, of which the second account has 10 left."""
    made = pool(models=("m1", "m2", "m3", "m4"), accounts=[account("a1", 100), account("a2", 100)])
    made.key_is_good("k1", Reading(used, 100), NOON)
    made.key_is_good("k2", Reading(90, 100), NOON)
    return made


def test_on_a_scarce_day_the_second_attempt_is_the_last_and_no_probe() -> None:
    made = nearly_spent(95)
    half_open(made, "m2")
    world = World(made, script("server-error", "ok"))
    world.live()
    assert [lease.model for lease in world.leases] == ["m1", "m3"]


@pytest.mark.parametrize(("used", "attempts"), [(80, 4), (87, 4), (88, 3), (89, 2)])
def test_a_day_is_scarce_with_less_than_a_tenth_left(used: int, attempts: int) -> None:
    world = World(nearly_spent(used), always("server-error"))
    refused(world)
    assert len(world.leases) == attempts


def test_two_seconds_are_enough_for_another_attempt() -> None:
    for deadline, attempts in ((NOON + 3, 2), (NOON + 2.9, 1)):
        world = World(pool(), script("server-error", "ok"))
        world.live(Ask(tokens=100, deadline=deadline))
        assert len(world.leases) == attempts


def test_the_last_extra_attempt_of_the_budget_may_be_made() -> None:
    made = pool()
    for _ in range(19):
        made.budget.spend(NOON)
    world = World(made, script("server-error", "ok"))
    assert isinstance(world.live(), Served)


def test_only_the_attempt_after_a_counted_one_is_paid_for() -> None:
    made = pool(("k1@a1", "k2@a2", "k3@a3"), ("m1", "m2", "m3"))
    world = World(made, script("server-error", "server-error", "no-credits", "ok"))
    assert isinstance(world.live(), Served)
    assert made.budget.left(world.now) == pytest.approx(19 + 2 / 6, abs=0.2)


def test_a_model_too_slow_for_the_time_left_is_passed_over() -> None:
    made = pool()
    slow = made.roster.models["m2"].learnt
    slow.at = NOON
    slow.answered(100, 100.0, 100.0, None)
    world = World(made, script("server-error", "ok"))
    assert isinstance(world.live(Ask(tokens=100, deadline=NOON + 41)), Refused)
    assert world.lanes == ["k1+m1"]


def test_a_model_that_is_gone_bars_no_other_by_its_size() -> None:
    made = pool(models=("m1",))

    def vanish(_: object) -> object:
        made.set_models([], NOON)
        return failed("context-too-long")

    assert told(refused(World(made, vanish))) == "context-too-long"  # type: ignore[arg-type]
