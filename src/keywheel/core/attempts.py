"""One request's life as a generator: it asks the world for three things only (take, send, wait) and is told
what came of them.

The driver runs it under the engine's lock, carries out each step outside the lock, and sends the report
back in. Because deciding is
here and doing is there, the library (blocking and asyncio) and the gateway share every rule, and a test
needs neither clock nor network.

    flow = attempts(pool, ask, began)
    step = next(flow)                  → Take | Send | Wait
    step = flow.send(Report(…))        … until StopIteration carries a Served or a Refused
"""

from collections.abc import Generator
from dataclasses import dataclass, field

from keywheel.core.pool import Pool
from keywheel.core.rows import ROWS
from keywheel.core.selection import Tried
from keywheel.core.types import (
    FOREVER,
    Abandoned,
    Answered,
    Ask,
    Event,
    Failed,
    Fault,
    Lease,
    NoLane,
    Retry,
    Verdict,
)

SAME_LANE_PAUSE = 0.5  # seconds before a transient refusal is tried once more
MIN_LEFT = 2.0  # an attempt is not started with less time than this
SCARCE = 0.1  # share of the day below which an ask may use only SCARCE_ATTEMPTS
SCARCE_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Take:
    """Reserve the lease's quota in the store, durably."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Send:
    """Make the request. First content is due after `first_content` seconds, everything at `deadline`."""

    lease: Lease
    first_content: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until a moment."""

    until: float


Step = Take | Send | Wait


@dataclass(frozen=True, slots=True)
class Done:
    """Report: the step was carried out (taken, waited), or the stream has committed and will be settled at
    its end."""

    now: float


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """Report: the store refused the reservation."""

    now: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Report: the attempt is over before any content went to the client."""

    now: float
    outcome: Answered | Failed


@dataclass(frozen=True, slots=True)
class Expired:
    """Report: the ask's deadline ended the attempt after `elapsed` seconds."""

    now: float
    elapsed: float


Report = Done | TurnedDown | Ended | Expired


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt as explanations and headers tell it."""

    key: str
    account: str
    model: str
    row: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class Served:
    """The ask has its answer, or the beginning of one: the lease is settled already when it was not streamed."""

    lease: Lease
    tries: tuple[Try, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The ask ends without an answer, because of the last failure, for want of a lane, or by its deadline."""

    tries: tuple[Try, ...]
    verdict: Verdict | None = None
    no_lane: NoLane | None = None
    expired: bool = False


Result = Served | Refused


@dataclass(slots=True)
class _Ask:
    """What one ask has been through."""

    ask: Ask
    began: float
    tried: Tried = field(default_factory=Tried)
    tries: list[Try] = field(default_factory=list[Try])
    charged: int = 0  # attempts that count towards the limit
    repeated: bool = False
    first_refusal: Verdict | None = None
    last: Verdict | None = None
    waited: float = 0.0


def attempts(
    pool: Pool, ask: Ask, began: float, events: list[Event]
) -> Generator[Step, Report, Result]:
    """Lead one ask to its end. What happened on the way is appended to `events`."""
    state = _Ask(ask, began)
    pool.budget.earn(began)
    now = began
    while True:
        if stop := _may_not_start(pool, state, now):
            return stop
        choice = pool.select(ask, state.tried, now)
        if isinstance(choice, NoLane):
            if not _worth_waiting(pool, state, choice, now):
                return _refused(state, choice)
            until = choice.at or now
            state.waited += until - now
            now = (yield Wait(until)).now
            continue
        report = yield Take(choice)
        now = report.now
        if isinstance(report, TurnedDown):
            pool.undo(choice)
            continue
        report = yield Send(choice, pool.first_content(choice), ask.deadline)
        now = report.now
        if isinstance(report, Done):
            return _served(state, choice)
        if end := _record(pool, state, choice, report, events):
            return end
        if state.last and state.last.row.retry is Retry.SAME and not state.repeated:
            state.repeated = True
            state.tried.lanes.discard((choice.key, choice.model))
            now = (yield Wait(now + SAME_LANE_PAUSE)).now


def _may_not_start(pool: Pool, state: _Ask, now: float) -> Refused | None:
    left = state.ask.deadline - now
    if left <= 0 or (state.tries and left < MIN_LEFT):
        return Refused(tuple(state.tries), state.last, expired=True)
    if state.charged >= _allowed(pool, now):
        return Refused(tuple(state.tries), _telling(state))
    if state.charged and not pool.budget.spend(now):
        return Refused(tuple(state.tries), _telling(state))
    state.tried.last_attempt = state.charged + 1 == pool.policy.limits.attempts
    return None


def _allowed(pool: Pool, now: float) -> int:
    """How many attempts an ask may use; fewer when the day is nearly spent everywhere."""
    limit = pool.policy.limits.attempts
    quotas = [a.quota for a in pool.roster.accounts.values()]
    if any(not q.metered for q in quotas):
        return limit
    left, total = sum(q.day_remaining(now) for q in quotas), sum(q.limit for q in quotas)
    return min(limit, SCARCE_ATTEMPTS) if left < SCARCE * total else limit


def _worth_waiting(pool: Pool, state: _Ask, choice: NoLane, now: float) -> bool:
    if choice.at is None or choice.at == FOREVER:
        return False
    patience = max(pool.policy.limits.max_queue, state.ask.max_wait) - state.waited
    return choice.at - now <= min(patience, state.ask.deadline - now - MIN_LEFT)


def _refused(state: _Ask, choice: NoLane) -> Refused:
    """With failures behind it an ask ends by the failure that tells most; otherwise by what closes the lanes."""
    telling = _telling(state)
    if telling is None or telling.row.rotates:
        return Refused(tuple(state.tries), no_lane=choice)
    return Refused(tuple(state.tries), telling, no_lane=choice)


def _telling(state: _Ask) -> Verdict | None:
    return state.first_refusal or state.last


def _served(state: _Ask, lease: Lease) -> Served:
    return Served(lease, (*state.tries, Try(lease.key, lease.account, lease.model, "ok", 0.0)))


def _record(
    pool: Pool, state: _Ask, lease: Lease, report: Report, events: list[Event]
) -> Result | None:
    """Settle an attempt that is over; the end of the ask, or None when another attempt may help."""
    now = report.now
    outcome = _outcome(state, report)
    events.extend(pool.settle(lease, outcome, now))
    if isinstance(outcome, Answered):
        return _served(state, lease)
    if isinstance(outcome, Abandoned):
        return Refused(tuple(state.tries), state.last, expired=True)
    verdict = outcome.verdict
    state.tries.append(Try(lease.key, lease.account, lease.model, verdict.label, outcome.elapsed))
    state.last = verdict
    return _consequence(pool, state, lease, verdict)


def _outcome(state: _Ask, report: Report) -> Answered | Failed | Abandoned:
    if isinstance(report, Ended):
        return report.outcome
    elapsed = report.elapsed if isinstance(report, Expired) else 0.0
    if state.tries or state.waited:
        return Abandoned("deadline")
    timeout = Verdict(ROWS["timeout"], message="no answer before the deadline")
    return Failed(timeout, elapsed)


def _consequence(pool: Pool, state: _Ask, lease: Lease, verdict: Verdict) -> Refused | None:
    """What a failure means for the rest of the ask."""
    row, tried = verdict.row, state.tried
    tried.lanes.add((lease.key, lease.model))
    if not row.rotates:
        state.charged += 1
        tried.models[lease.model] = tried.models.get(lease.model, 0) + 1
    if row.retry is Retry.RETURN:
        return Refused(tuple(state.tries), verdict)
    if row.name == "untyped-400":
        if state.first_refusal:
            return Refused(tuple(state.tries), state.first_refusal)
        state.first_refusal = verdict
    if row.fault is Fault.CLIENT:
        _narrow(pool, state, lease, verdict)
    elif row.retry is Retry.NEXT_MODEL:
        tried.barred.add(lease.model)
    if row.name == "unclear-429":
        tried.accounts.add(lease.account)
    return None


def _narrow(pool: Pool, state: _Ask, lease: Lease, verdict: Verdict) -> None:
    """The ask itself was the trouble for this model: only a model that differs in that respect can help."""
    tried = state.tried
    tried.barred.add(lease.model)
    if verdict.lacks is not None:
        tried.needs.add(verdict.lacks)
    if verdict.row.name == "context-too-long":
        model = pool.roster.models.get(lease.model)
        tried.larger_than = max(tried.larger_than, model.model.context if model else 0)
