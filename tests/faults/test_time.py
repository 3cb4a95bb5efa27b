"""Faults 59-65: clocks that jump, the first seconds of a day, machines that sleep or live by another time."""

import time
from collections import Counter
from dataclasses import replace

import pytest

from keywheel import sim
from keywheel.config import Config
from keywheel.core.policy import Limits
from keywheel.core.steps import Ended, Send
from keywheel.core.types import Answered, Failed
from keywheel.engine import Engine
from keywheel.flow import Terms
from keywheel.wire.ask import read
from keywheel.wire.faults import Phase, Reply, judge
from tests.faults.rig import ShiftedClock, engine_for

MIDNIGHT = 1_795_651_200.0  # 2026-11-26 00:00 UTC
ASK = b'{"messages":[{"role":"user","content":"x"}]}'
ACCOUNTS = 4
PER_MINUTE = 20


class Hand(ShiftedClock):
    """A clock that stands where it is put."""

    now = MIDNIGHT

    def __call__(self) -> float:
        return self.now


def herd(engine: Engine, count: int) -> Counter[str]:
    """So many requests at one moment: how many are sent on each account."""
    sent: Counter[str] = Counter()
    for number in range(count):
        flow = engine.open(read(ASK, "chat"), Terms(f"{engine.clock()}-{number}"))
        step = engine.advance(flow)
        if isinstance(step, Send):
            sent[step.lease.account] += 1
            engine.advance(flow, Ended(engine.clock(), Answered(0.1, 0.1)))
    return sent


@pytest.mark.parametrize("before", [0, 7, PER_MINUTE])
def test_fault_61_a_herd_at_midnight_gets_no_more_than_a_minute_holds(before: int) -> None:
    """What was sent before midnight stays in the minute that is over at 00:00:55."""
    clock = Hand()
    scenario = replace(sim.scenario("calm"), accounts=(sim.Account(),) * ACCOUNTS)
    engine = engine_for(Config(limits=Limits(max_queue=0.0)), scenario, clock)
    clock.now = MIDNIGHT - 5
    earlier = herd(engine, before * ACCOUNTS)
    clock.now = MIDNIGHT + 31  # every account's own delay is over
    now = herd(engine, 1000)
    both = earlier + now
    assert len(both) == ACCOUNTS
    assert PER_MINUTE - 2 <= min(both.values()) <= max(both.values()) <= PER_MINUTE


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "America/St_Johns"])
def test_fault_62_the_day_is_utcs_wherever_the_machine_stands(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hand()
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        engine = engine_for(Config(), sim.scenario("calm"), clock)
        clock.now = MIDNIGHT - 3600
        assert sum(herd(engine, 1).values()) == 1
        assert used(engine) == 1
        clock.now = MIDNIGHT + 3600
        assert used(engine) == 0
        assert 0 <= resets(engine) - (MIDNIGHT + 86_400) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "wall",
    [MIDNIGHT + 3600, MIDNIGHT - 3600, 0.0],
    ids=["59 an hour on", "59 an hour back", "59 to 1970"],
)
def test_a_wall_clock_that_jumps_changes_no_block_and_no_day(
    wall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywheel.flow.time.time", lambda: MIDNIGHT)
    engine = engine_for(Config(), sim.scenario("calm"), ShiftedClock())
    refuse(engine, 50.0)
    before = blocked(engine), resets(engine), used(engine)
    assert before[0] == pytest.approx([50.0], abs=5.0)
    monkeypatch.setattr("keywheel.flow.time.time", lambda: wall)
    assert (resets(engine), used(engine)) == before[1:]
    assert blocked(engine) == pytest.approx(before[0], abs=5.0)


@pytest.mark.parametrize("monotonic", [True, False], ids=["64 goes on", "64 stands still"])
def test_after_a_night_asleep_the_date_is_right_and_no_block_is_shorter(monotonic: bool) -> None:
    """Some systems stop the monotonic clock; then the upstream's `Date` tells of the night."""
    clock = Hand()
    engine = engine_for(Config(), sim.scenario("calm"), clock)
    clock.now = MIDNIGHT - 3600
    under_way = engine.open(read(ASK, "chat"), Terms("before the night"))
    assert isinstance(engine.advance(under_way), Send)
    refuse(engine, 600.0)
    assert (used(engine), blocked(engine)) == (3, [600.0])  # with the one that followed
    if monotonic:
        clock.now += 8 * 3600
        assert blocked(engine) == []
    else:
        engine.note(lambda pool, _now: pool.set_skew(8 * 3600.0))
        assert blocked(engine) == [600.0]
    assert used(engine) == 0
    assert resets(engine) > clock.now + 3600
    engine.advance(under_way, Ended(clock.now, Answered(0.1, 0.1)))
    assert used(engine) == 0  # it was sent on the day before
    assert sum(herd(engine, 3).values()) == 3
    assert used(engine) == 3
    assert engine.pool.open_leases == 0


@pytest.mark.parametrize("ahead", [600.0, -600.0], ids=["65 ahead", "65 behind"])
def test_the_upstreams_clock_decides_the_day_and_the_report_says_so(ahead: float) -> None:
    clock = Hand()
    engine = engine_for(Config(), sim.scenario("calm"), clock)
    clock.now = MIDNIGHT - (300 if ahead > 0 else -300)
    herd(engine, 1)
    engine.note(lambda pool, _now: pool.set_skew(ahead))
    assert used(engine) == 0  # that was another day for the upstream
    herd(engine, 2)
    assert used(engine) == 2
    told = engine.state()
    assert told["clock_skew"] == ahead
    assert "clock-skew" in [trouble["code"] for trouble in told["troubles"]]


SPENT = b'{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-min."}}'


def refuse(engine: Engine, seconds: float) -> None:
    """One request whose first account is closed for so long; the second one answers."""
    now = engine.clock()
    flow = engine.open(read(ASK, "chat"), Terms(f"{now}-refused"))
    assert isinstance(engine.advance(flow), Send)
    reply = Reply(Phase.HEADERS, 429, {"x-ratelimit-reset": f"{now + seconds}"}, SPENT)
    verdict = judge(reply, now=now)
    assert verdict
    assert isinstance(engine.advance(flow, Ended(now, Failed(verdict, 0.1))), Send)
    engine.advance(flow, Ended(now, Answered(0.1, 0.1)))


def blocked(engine: Engine) -> list[float]:
    """Seconds that keys are still closed."""
    now, keys = engine.clock(), engine.report()["keys"]
    return [key["until"] - now for key in keys if key["state"] != "open"]


def used(engine: Engine) -> int:
    return sum(account["day"]["used"] for account in engine.report()["accounts"])


def resets(engine: Engine) -> float:
    return engine.report()["accounts"][0]["day"]["resets_at"]
