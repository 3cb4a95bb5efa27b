"""What came of an attempt, entered into breakers, quota and experience (routing rules A.5 and A.6)."""

from dataclasses import dataclass

from keywheel.core import ranking
from keywheel.core.blame import Suspicion
from keywheel.core.breaker import Breaker
from keywheel.core.policy import Policy
from keywheel.core.roster import KeyState, ModelState, Roster
from keywheel.core.types import (
    FOREVER,
    WINDOW_SCOPES,
    Answered,
    Attempted,
    Blocked,
    Charge,
    Entry,
    Event,
    Failed,
    Kind,
    Lease,
    Length,
    Outcome,
    Provenance,
    Reopened,
    Row,
    Verdict,
)


@dataclass(slots=True)
class Seat:
    """An open lease with the objects it entered, so that settling needs no look-up and survives a reload."""

    lease: Lease
    key: KeyState
    model: ModelState
    entered: tuple[tuple[Breaker, Entry], ...]
    tokens: int


class Recorder:
    """Enters outcomes. Success settles every scope the lease entered, a fault only the blamed ones."""

    __slots__ = ("_policy", "_roster", "_suspicion")

    def __init__(self, roster: Roster, policy: Policy) -> None:
        self._roster = roster
        self._policy = policy
        self._suspicion = Suspicion()

    def record(self, seat: Seat, outcome: Outcome, now: float, number: int) -> tuple[Event, ...]:
        """Enter one outcome. `number`: the last lease handed out, which says what began before this moment."""
        lease = seat.lease
        match outcome:
            case Answered():
                events = self._answered(seat, outcome, now)
                done = _attempted(lease, now, outcome.row, outcome.total, answer=outcome)
            case Failed():
                verdict, events = self._failed(seat, outcome, now, number)
                done = _attempted(
                    lease, now, verdict.label, outcome.elapsed, verdict.row.fault or ""
                )
            case _:
                leave(seat, frozenset())
                events = []
                done = _attempted(lease, now, "abandoned", now - lease.at)
        return (*events, done)

    def _answered(self, seat: Seat, outcome: Answered, now: float) -> list[Event]:
        learnt = seat.model.learnt
        learnt.fade(now, self._policy.choice.half_life)
        learnt.answered(seat.tokens, outcome.ttft, outcome.total, outcome.tokens_out)
        self._suspicion.answered(seat.lease, now)
        return [
            Reopened(now, breaker.scope, "answered")
            for breaker, entry in seat.entered
            if breaker.succeed(entry, seat.lease, now)
        ]

    def _failed(
        self, seat: Seat, failed: Failed, now: float, number: int
    ) -> tuple[Verdict, list[Event]]:
        verdict = self._suspicion.refine(seat.lease, failed.verdict, now)
        row = verdict.row
        blamed = frozenset((*WINDOW_SCOPES[row.window], *((row.blocks,) if row.blocks else ())))
        events = self._count(seat, row, now) + self._close(seat, verdict, now, number)
        self._learn(seat, verdict, failed.elapsed, now)
        leave(seat, blamed)
        return verdict, events

    def _count(self, seat: Seat, row: Row, now: float) -> list[Event]:
        """Enter a failure into the error windows; the scopes that trip."""
        events: list[Event] = []
        for breaker, entry in seat.entered:
            kind = entry.scope.kind
            if kind not in WINDOW_SCOPES[row.window]:
                continue
            source, spans = self._evidence(seat, kind)
            if breaker.fail(entry, now, source, spans=spans):
                seat.model.troubled = True
                events.append(blocked(breaker, now))
        return events

    def _evidence(self, seat: Seat, kind: Kind) -> tuple[str, int]:
        """Whose failures a scope counts, and from how many sources they must come: a model is not blamed
        for one key's trouble."""
        if kind is Kind.MODEL:
            return seat.lease.key, min(2, len(self._roster.keys))
        if kind is Kind.KEY:
            return seat.lease.model, min(2, len(self._roster.models))
        return "", 0

    def _close(self, seat: Seat, verdict: Verdict, now: float, number: int) -> list[Event]:
        """Block what the row blames, for as long as the row and the answer say."""
        row = verdict.row
        breaker = _target(seat, row)
        if breaker is None:
            return []
        seat.model.troubled = True
        set_any = False
        until = _until(seat, verdict, now)
        provenance = _provenance(verdict)
        if until > now:
            set_any |= breaker.block(provenance, until, row.name, now, number)
        if row.ladder:
            set_any |= breaker.climb(seat.lease, row.ladder, row.name, now, number) > 0
        return [blocked(breaker, now)] if set_any else []

    def _learn(self, seat: Seat, verdict: Verdict, elapsed: float, now: float) -> None:
        row, model = verdict.row, seat.model
        if verdict.context_limit is not None:
            model.learn_context(verdict.context_limit, now)
        if verdict.lacks is not None:
            model.lacks[verdict.lacks] = now + ranking.LEARNT_FOR
        if row.shrinks:
            model.learnt.shrink()
        if Kind.MODEL in WINDOW_SCOPES[row.window] or row.blocks is Kind.MODEL:
            model.learnt.fade(now, self._policy.choice.half_life)
            model.learnt.failed(seat.tokens, elapsed if row.slow else None)


def leave(seat: Seat, settled: frozenset[Kind]) -> None:
    """Give back the probe places of the scopes that got no result."""
    for breaker, entry in seat.entered:
        if entry.scope.kind not in settled:
            breaker.leave(entry)


def _target(seat: Seat, row: Row) -> Breaker | None:
    for breaker, entry in seat.entered:
        if entry.scope.kind is row.blocks:
            return breaker
    return None


def _until(seat: Seat, verdict: Verdict, now: float) -> float:
    """The end of the block that is not a ladder's; 0.0 for none."""
    row, quota = verdict.row, seat.key.account.quota
    match row.charge:
        case Charge.DAY:
            return quota.spend_day(now, verdict.day_limit)
        case Charge.MINUTE:
            return quota.spend_minute(now, verdict.until)
        case Charge.NOTHING:
            pass
    if row.length is Length.CHECKED:
        return FOREVER
    if row.length is Length.MIDNIGHT:
        return quota.resets_at(now)
    if row.length is Length.SAID and verdict.until is not None:
        return verdict.until
    return now + row.seconds if row.seconds is not None else 0.0


def _provenance(verdict: Verdict) -> Provenance:
    if verdict.row.charge is Charge.MINUTE and verdict.until is None:
        return Provenance.HEURISTIC
    return verdict.row.provenance or Provenance.HEURISTIC


def blocked(breaker: Breaker, now: float) -> Blocked:
    cause = breaker.cause(now)
    if cause is None:  # a block in the past cannot have been set
        raise AssertionError(breaker.scope)
    return Blocked(now, breaker.scope, cause.until, cause.reason, cause.provenance)


def _attempted(
    lease: Lease,
    now: float,
    row: str,
    total: float,
    scope: str = "",
    answer: Answered | None = None,
) -> Attempted:
    return Attempted(
        now,
        lease.request_id,
        lease.key,
        lease.account,
        lease.model,
        row,
        scope,
        answer is not None,
        answer.ttft if answer else None,
        total,
        (answer.tokens_in or 0) if answer else 0,
        (answer.tokens_out or 0) if answer else 0,
        answer.cost if answer else 0.0,
    )
