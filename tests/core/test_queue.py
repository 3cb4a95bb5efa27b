"""The line of rule A.8: bounded, first come first served, a freed place reserved for the one it wakes (I11)."""

from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.attempts import attempts
from keywheel.core.pool import Pool
from keywheel.core.queue import LENGTH, PER_CLIENT, Queue
from keywheel.core.steps import Done, Ended, Refused, Report, Result, Send, Step, Take, Wait
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Event, Kind, Lease, Scope
from tests.core.build import NOON, account, answered, pool, take

ONE = account("a1", cap=1)
ASK = Ask(tokens=100, deadline=NOON + 120, request_id="r1")
Steps = Generator[Step, Report, Result]


def busy() -> tuple[Pool, Lease]:
    """A pool with one place, which is taken."""
    made = pool(["k1@a1"], ["m1"], accounts=[ONE])
    return made, take(made)


def begin(made: Pool, ask: Ask = ASK, now: float = NOON) -> tuple[Steps, Step]:
    steps = attempts(made, ask, now, list[Event]())
    return steps, next(steps)


def stand(made: Pool, ask: Ask = ASK) -> tuple[Steps, Wait]:
    steps, step = begin(made, ask)
    assert isinstance(step, Wait)
    return steps, step


def end(steps: Steps, report: Report) -> Result:
    try:
        step = steps.send(report)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(step)


def test_a_freed_place_goes_to_the_first_in_the_line_and_to_nobody_else() -> None:
    made, lease = busy()
    lines = stand(made), stand(made)  # a generator that is dropped leaves the line
    first, second = (wait for _, wait in lines)
    made.settle(lease, answered(), NOON + 1)
    made.dispatch(NOON + 1)
    assert first.ticket is not None
    assert made.queue.called() == (first.ticket,)
    assert isinstance(first.ticket.lease, Lease)
    assert second.ticket is not None
    assert second.ticket.lease is None


def test_who_was_served_goes_on_with_the_lane_that_was_kept() -> None:
    made, lease = busy()
    steps, wait = stand(made)
    made.settle(lease, answered(), NOON + 1)
    made.dispatch(NOON + 1)
    step = steps.send(Done(NOON + 1))
    assert isinstance(step, Take)
    assert wait.ticket is not None
    assert step.lease is wait.ticket.lease


def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    made, lease = busy()
    first = stand(made)
    made.settle(lease, answered(), NOON + 1)
    newcomer = begin(made, now=NOON + 1)
    wait = first[1]
    assert isinstance(newcomer[1], Wait)
    assert wait.ticket is not None
    assert wait.ticket.lease is not None


def test_a_place_that_does_not_suit_the_first_serves_a_later_one() -> None:
    made = pool(["k1@a1"], ["m1", "m2"], accounts=[ONE])
    lease = take(made)
    lines = [stand(made, ASK._replace(models=(name,))) for name in ("m1", "m2")]
    other = lines[1][1]
    made.settle(lease, answered(), NOON + 1)
    made.operate("disable", Scope(Kind.MODEL, "m1"), NOON + 1)
    made.dispatch(NOON + 1)
    assert made.queue.called() == (other.ticket,)


def test_a_client_that_leaves_gives_back_the_lane_that_was_kept_for_it() -> None:
    made, lease = busy()
    steps, _ = stand(made)
    made.settle(lease, answered(), NOON + 1)
    made.dispatch(NOON + 1)
    assert made.open_leases == 1
    steps.close()
    assert made.open_leases == 0
    assert made.roster.accounts["a1"].quota.used(NOON + 1) == 1  # nothing left for it


def test_a_client_that_leaves_frees_its_place_in_the_line_at_once() -> None:
    made, _ = busy()
    steps, _ = stand(made)
    steps.close()
    assert len(made.queue) == 0


def test_the_line_is_bounded_and_who_finds_it_full_is_told_to_come_when_it_has_moved() -> None:
    made, _ = busy()
    waiting = [stand(made) for _ in range(LENGTH)]
    with pytest.raises(StopIteration) as stop:
        next(attempts(made, ASK, NOON, []))
    result = stop.value.value
    assert isinstance(result, Refused)
    assert result.no_lane is not None
    assert result.no_lane.at == NOON + made.policy.limits.max_queue
    assert len(made.queue) == LENGTH == len(waiting)


def test_one_client_has_a_share_of_the_line_where_clients_are_known() -> None:
    line = Queue()
    greedy, polite, unknown = (ASK._replace(client=name) for name in ("greedy", "polite", ""))
    joined = [line.join(greedy, Tried()) for _ in range(PER_CLIENT + 1)]
    assert [ticket is not None for ticket in joined] == [True] * PER_CLIENT + [False]
    assert line.join(polite, Tried())
    assert all(line.join(unknown, Tried()) for _ in range(PER_CLIENT + 1))


def test_a_wait_ends_by_itself_when_nothing_was_freed() -> None:
    made, _ = busy()
    steps, wait = stand(made)
    now, waits = NOON, 0
    step: Step | Result = wait
    while isinstance(step, Wait):
        now = max(now, step.until)
        waits += 1
        try:
            step = steps.send(Done(now))
        except StopIteration as stop:
            step = stop.value
    assert isinstance(step, Refused)
    assert now - NOON <= made.policy.limits.max_queue
    assert len(made.queue) == 0
    assert waits > 1


@given(st.lists(st.sampled_from(["come", "free", "leave", "tick"]), max_size=60))
def test_nobody_waits_while_a_lane_that_suits_is_free(story: list[str]) -> None:
    """No lost wake-up, first come first served, every lease given back."""
    single = [account(name, 10**6, 10**6, 1) for name in ("a1", "a2")]
    made = pool(["k1@a1", "k2@a2"], ["m1"], accounts=single)
    now, running, waiting = NOON, list[tuple[Steps, Lease]](), dict[int, tuple[Steps, Wait]]()
    order = 0

    def go_on(steps: Steps, step: Step) -> None:
        assert isinstance(step, Take)
        sent = steps.send(Done(now))
        assert isinstance(sent, Send)
        running.append((steps, sent.lease))

    def collect() -> None:
        made.dispatch(now)
        served = made.queue.called()
        for number in [n for n, (_, wait) in waiting.items() if wait.ticket in served]:
            steps = waiting.pop(number)[0]
            assert all(number < other for other in waiting)  # all want the same
            go_on(steps, steps.send(Done(now)))

    for event in story:
        now += 0.01
        if event == "come":
            order += 1
            steps, step = begin(made, ASK._replace(deadline=NOON + 1e6), now)
            if isinstance(step, Wait):
                waiting[order] = (steps, step)
            else:
                go_on(steps, step)
        elif event == "free" and running:
            steps, _ = running.pop(0)
            end(steps, Ended(now, answered()))
        elif event == "leave" and waiting:
            waiting.pop(next(iter(waiting)))[0].close()
        collect()
        assert not waiting or len(running) == 2
        assert made.open_leases == len(running)
