"""One request's life as a generator: it asks the world for three things only (take, send, wait) and is told what came
of them.

The driver runs it under the engine's lock, carries out each step outside the lock, and sends the report back in.
Because deciding is here and doing is there, the library (blocking and asyncio) and the gateway share every rule, and a
test needs neither clock nor network.

    flow = attempts(pool, ask, began)
    step = next(flow)                  → Take | Send | Wait
    step = flow.send(Report(…))        … until StopIteration carries a Served or a Refused
"""

from collections.abc import Generator
from dataclasses import dataclass, field

from keywheel.core.decisions import Decision
from keywheel.core.pool import Pool
from keywheel.core.queue import Ticket
from keywheel.core.rows import ROWS
from keywheel.core.steps import (
    Done,
    Ended,
    Expired,
    Refused,
    Report,
    Result,
    Send,
    Served,
    Step,
    Take,
    Try,
    TurnedDown,
    Wait,
)
from keywheel.core.tried import Tried, ends_model
from keywheel.core.types import (
    Abandoned,
    Answered,
    Ask,
    Event,
    Failed,
    Fault,
    Kind,
    Lease,
    NoLane,
    Retry,
    Verdict,
)

SAME_LANE_PAUSE = 0.5  # seconds before a transient refusal is tried once more
MIN_LEFT = 2.0  # another attempt is not started with less time than this
MIN_WAIT = 0.01  # a wait always lets time pass
FULL = 1.0  # seconds by which an attempt may miss its full time and still be the model's failure
SCARCE = 0.1  # share of the day below which an ask may use only SCARCE_ATTEMPTS
SCARCE_ATTEMPTS = 2
TELLING = frozenset({"day", "minute", "health", "disabled"})  # causes that say when to come back
UNTYPED, UNREACHABLE, UNCLEAR, TOO_LONG = (
    ROWS[name].name for name in ("untyped-400", "unreachable", "unclear-429", "context-too-long")
)


@dataclass(slots=True)
class _Life:
    """What one ask has been through."""

    pool: Pool
    ask: Ask
    events: list[Event]
    now: float
    decisions: list[Decision]
    tried: Tried = field(default_factory=Tried)
    tries: list[Try] = field(default_factory=list[Try])
    charged: int = 0  # attempts that count towards the limit
    owed: bool = False  # the latest one did: the next is paid from the retry budget
    repeated: bool = False
    unreached: bool = False
    # Rows, each with the keys that it refused.
    suspects: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    first_refusal: Verdict | None = None
    last: Verdict | None = None
    waited: float = 0.0

    def end(self, verdict: Verdict | None = None, *, expired: bool = False) -> Refused:
        """The ask ends by a failure: this one, or the one that tells most."""
        telling = verdict or (self.last if expired else self.first_refusal or self.last)
        return Refused(tuple(self.tries), telling, expired=expired)

    def serve(self, lease: Lease) -> Served:
        """The ask has its answer."""
        self.note(lease, "ok", 0.0)
        return Served(lease, tuple(self.tries))

    def wait(self, now: float) -> None:
        """Time went by in the line; one that wants to wait has as much left for its attempts afterwards."""
        waited, self.now = now - self.now, now
        self.waited += waited
        if self.ask.max_wait:
            deadline = min(self.ask.deadline + waited, self.ask.latest)
            self.ask = self.ask._replace(deadline=deadline)

    def note(self, lease: Lease, row: str, elapsed: float) -> None:
        """An attempt is over, or carries on as the answer."""
        self.tries.append(Try(lease.key, lease.account, lease.model, row, elapsed))


def attempts(
    pool: Pool,
    ask: Ask,
    began: float,
    events: list[Event],
    decisions: list[Decision] | None = None,
) -> Generator[Step, Report, Result]:
    """Lead one ask to its end. What happened on the way is appended to `events` and `decisions`."""
    life = _Life(pool, ask, events, began, [] if decisions is None else decisions)
    pool.budget.earn(began)
    result = yield from _live(life)
    if isinstance(result, Refused):
        _take_back(life)
    return result


def _live(life: _Life) -> Generator[Step, Report, Result]:
    pool, tried = life.pool, life.tried
    while True:
        if end := _may_not_start(life):
            return end
        choice = yield from _find(life)
        if isinstance(choice, NoLane):
            return _without_lane(life, choice)
        report = yield Take(choice)
        life.now = report.now
        if isinstance(report, TurnedDown):
            _turn_away(life, choice)
            continue
        _pay(life)
        tried.again = None
        report = yield Send(choice, pool.first_content(choice), life.ask.deadline)
        life.now = report.now
        assert not isinstance(report, TurnedDown)  # noqa: S101 - a request is not turned down once taken
        if isinstance(report, Done):
            return life.serve(choice)
        if end := _judge(life, choice, report):
            return end
        if tried.again:
            life.now = (yield Wait(life.now + SAME_LANE_PAUSE)).now


# --- before an attempt ---------------------------------------------------------------------------


def _may_not_start(life: _Life) -> Refused | None:
    left = life.ask.deadline - life.now
    if left <= 0 or (life.tries and left < MIN_LEFT):
        return life.end(expired=True)
    allowed = _allowed(life)
    if life.charged >= allowed or (life.owed and life.pool.budget.left(life.now) < 1):
        return life.end()._replace(spent=True)
    if life.tries:
        life.tried.left = left
    life.tried.last_attempt = life.charged + 1 >= allowed
    return None


def _allowed(life: _Life) -> int:
    """How many attempts an ask may use; fewer when the day is nearly spent everywhere."""
    limit = life.pool.policy.limits.attempts
    if life.charged + 1 < SCARCE_ATTEMPTS:
        return limit  # not looked at before it can matter
    quotas = [a.quota for a in life.pool.roster.accounts.values()]
    if not all(q.metered for q in quotas):
        return limit
    left, total = sum(q.day_remaining(life.now) for q in quotas), sum(q.limit for q in quotas)
    return min(limit, SCARCE_ATTEMPTS) if left < SCARCE * total else limit


def _find(life: _Life) -> Generator[Step, Report, Lease | NoLane]:
    """A lane, now or after a wait; whoever came earlier chooses first."""
    pool = life.pool
    pool.dispatch(life.now)
    choice = pool.select(life.ask, life.tried, life.now)
    life.decisions.append(pool.decision)
    if isinstance(choice, Lease) or not _is_worth_waiting(life, choice):
        return choice
    ticket = pool.queue.join(life.ask, life.tried)
    if ticket is None:  # by then all who are in the line have been served, or have given up
        behind = life.now + pool.policy.limits.max_queue
        return choice._replace(at=max(choice.at or behind, behind))
    return (yield from _stand_in_line(life, ticket, choice))


def _stand_in_line(
    life: _Life, ticket: Ticket, choice: NoLane
) -> Generator[Step, Report, Lease | NoLane]:
    """Wait for as long as it is worth it. Whoever is interrupted leaves the line, and gives back what was kept."""
    pool = life.pool
    try:
        while _is_worth_waiting(life, choice):
            report = yield Wait(max(choice.at or 0.0, life.now + MIN_WAIT), ticket)
            life.wait(report.now)
            if ticket.lease is None:
                pool.dispatch(life.now)
            if ticket.lease and ticket.decision:
                life.decisions.append(ticket.decision)
                return ticket.lease
            choice = pool.obstacle(life.ask, life.tried, life.now)
    except GeneratorExit:
        if ticket.lease:
            gone = Abandoned("client gone", unsent=True)
            life.events.extend(pool.settle(ticket.lease, gone, life.now))
        raise
    finally:
        pool.queue.leave(ticket)
    return choice


def _is_worth_waiting(life: _Life, choice: NoLane) -> bool:
    if choice.at is None:
        return False
    ask = life.ask
    patience = max(life.pool.policy.limits.max_queue, ask.max_wait) - life.waited
    end = ask.latest if ask.max_wait else ask.deadline
    return choice.at <= min(life.now + patience, end - MIN_LEFT)


def _without_lane(life: _Life, choice: NoLane) -> Refused:
    """With failures behind it an ask ends by the failure that tells most; when it only ran out of keys and
    accounts, what closes the lanes says more."""
    telling = life.first_refusal or life.last
    if telling and telling.row.rotates:
        telling = None
    if telling is None and choice.cause == "tried":  # what closes the lanes for everybody
        common = life.pool.obstacle(life.ask, Tried(), life.now)
        choice = common if common.cause in TELLING else choice
    return Refused(tuple(life.tries), telling, choice)


def _turn_away(life: _Life, lease: Lease) -> None:
    """Another worker was faster: this ask looks elsewhere. It was no attempt."""
    life.pool.undo(lease)
    account = life.pool.account_of(lease.key)
    siblings = [key.name for key in account.keys] if account else []
    life.tried.keys.update((lease.key, *siblings))


def _pay(life: _Life) -> None:
    if life.owed:
        life.pool.budget.spend(life.now)
        life.owed = False


# --- after an attempt ----------------------------------------------------------------------------


def _judge(life: _Life, lease: Lease, report: Ended | Expired) -> Result | None:
    """Settle an attempt that is over; the end of the ask, or None when another attempt may help."""
    outcome = report.outcome if isinstance(report, Ended) else _cut_off(life, report)
    if isinstance(outcome, Failed):
        return _fall_back(life, lease, outcome)
    life.events.extend(life.pool.settle(lease, outcome, life.now))
    if isinstance(outcome, Answered):
        return life.serve(lease)
    life.note(lease, "abandoned", life.now - lease.at)
    return life.end(expired=True)


def _cut_off(life: _Life, report: Expired) -> Failed | Abandoned:
    """The deadline ended an attempt: the model's fault only if it had all the time there is (row 16)."""
    limits = life.pool.policy.limits
    full = limits.stream_deadline if life.ask.stream else limits.deadline
    if report.elapsed < full - FULL:
        return Abandoned("deadline")
    timeout = Verdict(ROWS["timeout"], message="no answer before the deadline")
    return Failed(timeout, report.elapsed)


def _fall_back(life: _Life, lease: Lease, failed: Failed) -> Refused | None:
    verdict, events = life.pool.fail(lease, failed, life.now)
    life.events.extend(events)
    life.last = verdict
    life.note(lease, verdict.label, failed.elapsed)
    _use_up(life, lease, verdict)
    row = verdict.row
    if row.retry is Retry.RETURN:
        return life.end(verdict)
    if row.name == UNTYPED:
        if life.first_refusal:
            return life.end()
        life.first_refusal = verdict
    if row.name == UNREACHABLE:
        if life.unreached:
            return life.end(verdict)
        life.unreached = True
    _narrow(life, lease, verdict)
    return None


def _use_up(life: _Life, lease: Lease, verdict: Verdict) -> None:
    """Count the attempt: against the limit, or against the rotation of keys."""
    row, tried = verdict.row, life.tried
    tried.lanes.add((lease.key, lease.model))
    if row.fault is Fault.KEY:
        life.suspects.setdefault(row.name, set()).add(lease.key)
    if row.rotates:
        tried.keys.add(lease.key)
        return
    life.charged += 1
    # The first fallback is free unless everything may be down: a usable lane is used before an error is returned.
    life.owed = life.charged > 1 or row.blocks is Kind.PROVIDER
    tried.models[lease.model] = tried.models.get(lease.model, 0) + 1


def _narrow(life: _Life, lease: Lease, verdict: Verdict) -> None:
    """What the next attempt must avoid, and what its model must offer."""
    row, tried = verdict.row, life.tried
    if row.retry is Retry.SAME and not life.repeated:
        life.repeated = True
        tried.again = (lease.key, lease.model)
    if ends_model(row, lease.model, life.pool.roster.models, life.ask, life.now):
        tried.barred.add(lease.model)
    if row.name == UNCLEAR:
        tried.accounts.add(lease.account)
    if verdict.lacks and life.pool.roster.any_offers(verdict.lacks):
        tried.needs.add(verdict.lacks)
    if row.name == TOO_LONG:
        model = life.pool.roster.models.get(lease.model)
        tried.larger_than = max(tried.larger_than, model.context(life.now) if model else 0)


def _take_back(life: _Life) -> None:
    """Poison guard: when several keys were refused in the same way and the ask got no answer, it may have been
    the ask."""
    for keys in life.suspects.values():
        if len(keys) > 1:
            life.events.extend(life.pool.doubt(sorted(keys), life.now))
