"""Faults 61 and 62: the first seconds of a day, and machines that live by another time."""

import time
from collections import Counter
from dataclasses import replace

import pytest

from keywheel import sim
from keywheel.config import Config
from keywheel.core.attempts import Ended, Send
from keywheel.core.policy import Limits
from keywheel.core.types import Answered
from keywheel.engine import Engine, Terms
from keywheel.wire.ask import read
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


def used(engine: Engine) -> int:
    return sum(account["day"]["used"] for account in engine.report()["accounts"])


def resets(engine: Engine) -> float:
    return engine.report()["accounts"][0]["day"]["resets_at"]
