"""What came of an attempt, entered into breakers, quota and experience (routing rules A.5 and A.6)."""

from collections.abc import Iterable
from dataclasses import dataclass

from keywheel.core.blame import Suspicion
from keywheel.core.breaker import Breaker
from keywheel.core.checks import Checks
from keywheel.core.policy import Policy
from keywheel.core.purse import MEDIA
from keywheel.core.roster import Roster
from keywheel.core.rows import ROWS
from keywheel.core.states import STATIONS, AccountState, KeyState, ModelState
from keywheel.core.types import (
    DAY,
    FOREVER,
    WINDOW_SCOPES,
    Answered,
    Ask,
    Attempted,
    Blocked,
    Charge,
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

STATION = {kind: place for place, kind in enumerate(STATIONS)}
OUTAGE = ROWS["edge"]
CHARGED = "charged"  # the reason that stands beside such a model


@dataclass(slots=True)
class Seat:
    """An open lease with the objects it entered, so that settling needs no look-up and survives a reload."""

    lease: Lease
    key: KeyState
    account: AccountState
    model: ModelState
    breakers: tuple[Breaker, ...]
    ask: Ask

    def leave(self) -> None:
        """Give back the probe places that got no result."""
        if self.lease.probes:
            for breaker in self.breakers:
                breaker.leave(self.lease.number)


class Recorder:
    """Enters outcomes. Success settles every scope the lease entered, a fault only the blamed ones."""

    __slots__ = ("_checks", "_policy", "_roster", "_suspicion")

    def __init__(self, roster: Roster, policy: Policy, checks: Checks) -> None:
        self._roster = roster
        self._policy = policy
        self._checks = checks
        self._suspicion = Suspicion()

    def refine(self, lease: Lease, verdict: Verdict, now: float) -> Verdict:
        """The verdict in the light of earlier failures. To be asked once for each failure."""
        return self._suspicion.refine(lease, verdict, now)

    def record(self, seat: Seat, outcome: Outcome, now: float, number: int) -> tuple[Event, ...]:
        """Enter one outcome, its verdict refined. `number`: the last lease handed out, which says what began
        before this moment."""
        match outcome:
            case Answered():
                events = self._answered(seat, outcome, now)
            case Failed():
                events = self._failed(seat, outcome, now, number)
            case _:
                events = []
        seat.leave()
        return (*events, attempted(seat.lease, outcome, now, seat.ask.client))

    # --- answers ---------------------------------------------------------------------------------

    def _answered(self, seat: Seat, outcome: Answered, now: float) -> list[Event]:
        lease, model = seat.lease, seat.model
        model.learnt.fade(now, self._policy.choice.half_life)
        model.learnt.answered(seat.ask.tokens, outcome.ttft, outcome.total, outcome.tokens_out)
        if outcome.tokens_in and not seat.ask.needs & MEDIA:  # pictures are no text to count
            model.learn_tokens(seat.ask.tokens, outcome.tokens_in)
        self._suspicion.answered(lease.model, now)
        number = lease.number
        paid = outcome.cost > 0 or outcome.model in self._roster.costly
        if paid and model.model.free:
            return [self._charged(model, now, number)]
        events: list[Event] = [
            Reopened(now, breaker.scope, "answered")
            for breaker, epoch in zip(seat.breakers, lease.epochs, strict=True)
            if breaker.succeed(number, epoch, now)
        ]
        outage = self._roster.outage
        if not outage.calm and outage.succeed(lease.number, outage.epoch, now):
            events.append(Reopened(now, outage.scope, "answered"))
        return events

    def _charged(self, model: ModelState, now: float, number: int) -> Event:
        """A model that is listed as free has cost money, or one that costs money answered: closed, however well it
        answered."""
        model.breaker.block(Provenance.AUTHORITATIVE, now + DAY, CHARGED, now, number)
        return blocked(model.breaker, now)

    # --- failures --------------------------------------------------------------------------------

    def _failed(self, seat: Seat, failed: Failed, now: float, number: int) -> list[Event]:
        verdict = failed.verdict
        changed = [
            *self._close(seat, verdict, now, number),
            *self._count(seat, verdict.row, now),
            *self._suspect(seat, verdict.row, now, number),
        ]
        self._learn(seat, verdict, failed.elapsed, now)
        return [blocked(breaker, now) for breaker in dict.fromkeys(changed)]

    def _count(self, seat: Seat, row: Row, now: float) -> Iterable[Breaker]:
        """Enter a failure into the error windows; the scopes that trip."""
        lease = seat.lease
        for kind in WINDOW_SCOPES[row.window]:
            place = STATION[kind]
            source, spans = self._evidence(lease, kind, now)
            if seat.breakers[place].fail(lease.number, lease.epochs[place], now, source, spans):
                yield seat.breakers[place]

    def _evidence(self, lease: Lease, kind: Kind, now: float) -> tuple[str, int]:
        """Whose failures a scope counts, and from how many sources they must come: a model is not blamed for
        one key's trouble, if there is another key to compare with."""
        if kind is Kind.MODEL:
            return lease.key, _at_most_two(k.breaker for k in self._roster.keys.values())
        if kind is Kind.KEY:
            return lease.model, _at_most_two(m.breaker for m in self._roster.models.values())
        return lease.key, 1

    def _close(self, seat: Seat, verdict: Verdict, now: float, number: int) -> Iterable[Breaker]:
        """Block what the row blames, for as long as the row and the answer say."""
        row = verdict.row
        until = _until(seat, verdict, now)
        if verdict.row.charge is not Charge.NOTHING or row.name == "unclear-429":
            self._checks.urge_account(seat.account.name)
        if row.blocks is None or _is_late(seat, row.blocks):
            return
        breaker = seat.breakers[STATION[row.blocks]]
        closed = breaker.block(_provenance(verdict), until, row.name, now, number)
        if row.ladder:
            spans = min(row.ladder.first, self._lanes()) if row.blocks is Kind.PROVIDER else 1
            closed |= breaker.climb(seat.lease, row.ladder, row.name, now, number, spans)
        if closed:
            yield breaker
        paid = seat.account.paid
        if row.paid_too and paid.block(_provenance(verdict), until, row.name, now, number):
            yield paid

    def _suspect(self, seat: Seat, row: Row, now: float, number: int) -> Iterable[Breaker]:
        """Close the provider when several models fail at once (rule 25 by correlation)."""
        if OUTAGE.ladder and self._suspicion.is_outage(seat.lease, row, now):
            outage = self._roster.outage
            if outage.climb(seat.lease, OUTAGE.ladder, OUTAGE.name, now, number):
                yield outage

    def _learn(self, seat: Seat, verdict: Verdict, elapsed: float, now: float) -> None:
        row, model = verdict.row, seat.model
        if verdict.context_limit is not None:
            model.learn_context(verdict.context_limit, now)
        if verdict.lacks is not None:
            model.learn_lack(verdict.lacks, now)
        if row.shrinks:
            model.learnt.shrink()
        if Kind.MODEL in WINDOW_SCOPES[row.window] or row.blocks is Kind.MODEL:
            model.learnt.fade(now, self._policy.choice.half_life)
            model.learnt.failed(seat.ask.tokens, elapsed if row.slow else None)

    def _lanes(self) -> int:
        return len(self._roster.keys) * len(self._roster.models)


def _at_most_two(breakers: Iterable[Breaker]) -> int:
    """How many of these are in use, disabled ones not counted; two are enough to know."""
    return min(2, sum(breaker.until != FOREVER for breaker in breakers))


def _is_late(seat: Seat, kind: Kind) -> bool:
    """Whether the scope was opened or reset since the attempt began: its result says nothing any more."""
    place = STATION[kind]
    return seat.lease.epochs[place] != seat.breakers[place].epoch


def _until(seat: Seat, verdict: Verdict, now: float) -> float:
    """The end of the block that is not a ladder's, 0.0 for none. What is said about quota is counted here."""
    row, quota = verdict.row, seat.account.quota
    if row.charge is Charge.DAY:
        return quota.spend_day(now, verdict.day_limit)
    if row.charge is Charge.MINUTE:
        return quota.spend_minute(now, verdict.until)
    if row.length is Length.CHECKED:
        return FOREVER
    if row.length is Length.MIDNIGHT:
        return quota.resets_at(now)
    said = verdict.until if row.length is Length.SAID else None
    fixed = now + row.seconds if row.seconds is not None else 0.0
    return max(fixed if said is None else said, now + row.least)


def _provenance(verdict: Verdict) -> Provenance:
    if verdict.row.charge is Charge.MINUTE and verdict.until is None:
        return Provenance.HEURISTIC
    return verdict.row.provenance or Provenance.HEURISTIC


def blocked(breaker: Breaker, now: float) -> Blocked:
    """The event of a scope that was closed just now."""
    cause = breaker.cause(now)
    assert cause is not None, breaker.scope  # noqa: S101 - what was closed cannot be open
    return Blocked(now, breaker.scope, cause.until, cause.reason, cause.provenance)


def attempted(lease: Lease, outcome: Outcome, now: float, client: str = "") -> Attempted:
    """The event of an attempt that ended."""
    if isinstance(outcome, Answered):
        return Attempted(
            now,
            lease.request_id,
            lease.key,
            lease.account,
            lease.model,
            outcome.row,
            "",
            True,
            outcome.ttft,
            outcome.total,
            outcome.tokens_in or 0,
            outcome.tokens_out or 0,
            outcome.cost,
            client,
        )
    row, scope, total = "abandoned", "", now - lease.at
    if isinstance(outcome, Failed):
        fault = outcome.verdict.row.fault
        row, scope, total = outcome.verdict.label, fault or "", outcome.elapsed
    return Attempted(
        now, lease.request_id, lease.key, lease.account, lease.model, row, scope, False, None, total,
        client=client,
    )  # fmt: skip
