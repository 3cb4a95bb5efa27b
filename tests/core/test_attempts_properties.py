"""I7 to I10 over random lives of asks: whatever the upstream does, an ask ends once, in time, and wastes nothing."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keywheel.core.attempts import attempts
from keywheel.core.pool import Pool
from keywheel.core.rows import ROWS
from keywheel.core.steps import (
    Done,
    Ended,
    Expired,
    Refused,
    Report,
    Send,
    Served,
    Take,
    TurnedDown,
    Wait,
)
from keywheel.core.types import Answered, Ask, Event, Failed, Kind, Lease, Scope, Verdict
from tests.core.build import NOON, account, model, pool

ROW_NAMES = list(ROWS)
KEYS = ("k1@a1", "k2@a1", "k3@a2", "k4@a3")


class Life:
    """One ask in a world whose every move is drawn at random."""

    def __init__(self, made: Pool, ask: Ask, data: st.DataObject, now: float) -> None:
        self.pool, self.ask, self.data, self.now = made, ask, data, now
        self.ended: list[tuple[Lease, str]] = []
        self.committed: Lease | None = None
        self.result: Served | Refused | None = None

    def live(self) -> None:
        events: list[Event] = []
        flow = attempts(self.pool, self.ask, self.now, events)
        try:
            step = next(flow)
            while True:
                assert self.committed is None, "I9: after the commit nothing follows"
                assert self.now <= self.ask.deadline, "I10: nothing begins after the deadline"
                step = flow.send(self.carry_out(step))
        except StopIteration as stop:
            self.result = stop.value

    def carry_out(self, step: Take | Send | Wait) -> Report:
        draw = self.data.draw
        match step:
            case Wait():
                assert self.now < step.until <= self.ask.deadline + 1, "I10: a wait ends in time"
                self.now = step.until + draw(st.sampled_from([0.0, 0.0, 0.05]))
                self.meddle()
                return Done(self.now)
            case Take():
                return draw(st.sampled_from([Done, Done, Done, Done, TurnedDown]))(self.now)
            case Send():
                return self.send(step)

    def send(self, step: Send) -> Report:
        draw = self.data.draw
        took = draw(st.sampled_from([0.0, 0.3, 3.0, 20.0]))
        row = draw(st.sampled_from(["ok", "commit", *ROW_NAMES]))
        if self.now + took >= step.deadline:
            elapsed = step.deadline - self.now
            self.now = step.deadline
            self.ended.append((step.lease, "expired"))
            return Expired(self.now, elapsed)
        self.now += took
        if row == "commit":
            self.committed = step.lease
            return Done(self.now)
        self.ended.append((step.lease, row))
        if row == "ok":
            return Ended(self.now, Answered(took, took))
        until = draw(st.sampled_from([None, 5.0, 400.0]))
        verdict = Verdict(ROWS[row], None if until is None else self.now + until)
        return Ended(self.now, Failed(verdict, took, unsent=draw(st.booleans())))

    def meddle(self) -> None:
        """Meanwhile the operator, or another worker, opens something."""
        key = self.data.draw(st.sampled_from([None, None, "k1", "k3"]))
        if key:
            self.pool.operate("enable", Scope(Kind.KEY, key), self.now)


@given(
    st.data(),
    st.sampled_from([2.0, 20.0, 120.0]),
    st.sampled_from([(), ("m1",), ("m3", "m2")]),
    st.booleans(),
)
def test_an_ask_ends_once_in_time_and_wastes_nothing(
    data: st.DataObject, deadline: float, models: tuple[str, ...], scarce: bool
) -> None:
    accounts = [account("a1", 3 if scarce else 50), account("a2", 50, 2), account("a3", None)]
    made = pool(KEYS, ["m1", "m2", "m3", model("p1", free=False)], accounts=accounts)
    now = NOON
    for number in range(3):
        ask = Ask(tokens=100, models=models, deadline=now + deadline, request_id=f"r{number}")
        life = Life(made, ask, data, now)
        life.live()
        check(life)
        now = life.now + data.draw(st.sampled_from([0.0, 1.0, 40.0]))


def check(life: Life) -> None:
    result, rows = life.result, life.ended
    assert result is not None
    assert life.now <= life.ask.deadline + 1, "I10"
    again = {name for name, row in ROWS.items() if row.number == "17"}
    lanes = Counter((ls.key, ls.model) for ls, row in rows if row not in again)
    assert all(count == 1 for count in lanes.values()), "I7"
    assert all(count <= 2 for count in Counter((ls.key, ls.model) for ls, _ in rows).values()), (
        "I7: row 17 is repeated once"
    )
    charged = [ls for ls, row in rows if row not in ROWS or not ROWS[row].rotates]
    assert len(charged) + bool(life.committed) <= 4, "I8"
    rotated = Counter(ls.key for ls, row in rows if row in ROWS and ROWS[row].rotates)
    assert all(count == 1 for count in rotated.values()), "I8"
    assert life.pool.budget.left(life.now) >= 0, "I8"
    assert life.pool.open_leases == bool(life.committed), "I4"
    if life.committed:
        assert isinstance(result, Served)
        assert result.lease == life.committed
        life.pool.settle(life.committed, Answered(1.0, 2.0), life.now)
    for state in life.pool.roster.accounts.values():
        assert state.quota.in_flight == 0
    if isinstance(result, Refused):
        assert result.expired or result.verdict or result.no_lane, "an ending has a reason"
