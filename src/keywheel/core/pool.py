"""The one mutable object: chooses a lane and records what came of it. The caller guards it with one lock.

`select` answers with a lease (reserved at once, so that two callers cannot take the same place) or says
when a lane opens.
`settle` takes each lease back exactly once and returns what happened as events.
"""

from collections.abc import Iterable

from keywheel.core import openings, selection
from keywheel.core.budget import Budget
from keywheel.core.policy import Policy
from keywheel.core.quota import Reading
from keywheel.core.roster import AccountState, KeyState, ModelState, Roster
from keywheel.core.selection import Tried
from keywheel.core.settlement import Recorder, Seat, blocked, leave
from keywheel.core.types import (
    FOREVER,
    Account,
    Answered,
    Ask,
    Event,
    Key,
    Lease,
    Model,
    NoLane,
    Outcome,
    Provenance,
    Reopened,
    Scope,
)

PROBE_GRACE = (
    5.0  # seconds after the attempt's time-out until a probe that never reported loses its place
)


class Pool:
    """Accounts, keys and models, and all that changes about them."""

    def __init__(self, policy: Policy, seed: str = "") -> None:
        self.policy = policy
        self.roster = Roster(policy.health, seed)
        self.budget = Budget()
        self._recorder = Recorder(self.roster, policy)
        self._seats: dict[int, Seat] = {}
        self._number = 0

    # --- what there is ---------------------------------------------------------------------------

    def set_keys(self, accounts: Iterable[Account], keys: Iterable[Key]) -> None:
        """Take a new set of accounts and keys; what is known about surviving names stays."""
        self.roster.set_keys(accounts, keys)

    def set_models(self, models: Iterable[Model], now: float) -> None:
        """Take a new list of models in order of preference; what is known about surviving ids stays."""
        self.roster.set_models(models, now)

    @property
    def open_leases(self) -> int:
        """Leases handed out and not settled yet."""
        return len(self._seats)

    # --- choosing --------------------------------------------------------------------------------

    def select(self, ask: Ask, tried: Tried, now: float) -> Lease | NoLane:
        """The best usable lane for an ask, reserved, or what stands in the way."""
        pick = selection.choose(self.roster, self.policy, ask, tried, now)
        if pick:
            return self._lease(pick.key, pick.model, ask, now)
        candidates = selection.candidates(self.roster, self.policy, ask, tried, now)
        return openings.no_lane(self.roster, candidates, tried.lanes, now)

    def _lease(self, key: KeyState, model: ModelState, ask: Ask, now: float) -> Lease:
        """Reserve: every count and every probe place is taken here, in the same step as the decision."""
        self._number += 1
        account = key.account
        free = model.model.free
        probe_until = now + self.policy.limits.first_content_reasoning + PROBE_GRACE
        breakers = (
            self.roster.provider,
            account.breaker if free else account.paid,
            key.breaker,
            model.breaker,
            self.roster.reach(model, account.name),
            self.roster.lane(model, key.name),
        )
        entered = tuple((b, b.enter(now, probe_until)) for b in breakers)
        days = account.quota.reserve(now) if free and account.quota.metered else ()
        if not days:
            account.quota.in_flight += 1
        key.in_flight += 1
        key.last_used = self._number
        model.learnt.in_flight += 1
        lease = Lease(
            self._number,
            key.name,
            account.name,
            model.model.id,
            now,
            tuple(entry for _, entry in entered),
            days,
            ask.request_id,
        )
        self._seats[lease.number] = Seat(lease, key, model, entered, ask.tokens)
        return lease

    # --- recording -------------------------------------------------------------------------------

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> tuple[Event, ...]:
        """Take a lease back and record what came of it. A second settlement of the same lease changes nothing."""
        seat = self._seats.pop(lease.number, None)
        if seat is None:
            return ()
        self._free(seat)
        unsent = not isinstance(outcome, Answered) and outcome.unsent
        if unsent and self.policy.limits.refund_unsent:
            seat.key.account.quota.refund(lease.days, lease.at)
        return self._recorder.record(seat, outcome, now, self._number)

    def undo(self, lease: Lease) -> None:
        """The shared store refused the reservation: nothing was sent, nothing is to be learnt."""
        seat = self._seats.pop(lease.number, None)
        if seat is None:
            return
        self._free(seat)
        seat.key.account.quota.refund(lease.days, lease.at)
        leave(seat, frozenset())

    def _free(self, seat: Seat) -> None:
        seat.key.account.quota.release()
        seat.key.in_flight -= 1
        seat.model.learnt.in_flight -= 1

    # --- what others say -------------------------------------------------------------------------

    def key_is_bad(self, key: str, reason: str, now: float) -> tuple[Event, ...]:
        """`GET /key` refused the key: closed until it passes."""
        state = self.roster.keys.get(key)
        if state is None or not state.breaker.block(
            Provenance.AUTHORITATIVE, FOREVER, reason, now, self._number
        ):
            return ()
        return (blocked(state.breaker, now),)

    def key_is_good(self, key: str, reading: Reading, now: float) -> tuple[Event, ...]:
        """`GET /key` passed: the key is valid, and the account's counter is known."""
        state = self.roster.keys.get(key)
        if state is None:
            return ()
        account = state.account
        more = account.quota.reconcile(reading, now)
        events: list[Event] = []
        if state.breaker.clear(Provenance.AUTHORITATIVE):
            events.append(Reopened(now, state.breaker.scope, "GET /key"))
        if more and account.breaker.clear(Provenance.AUTHORITATIVE):
            events.append(Reopened(now, account.breaker.scope, "GET /key"))
        return tuple(events)

    def operate(self, action: str, scope: Scope, now: float) -> tuple[Event, ...] | None:
        """Operator's hand: `enable`, `disable` or `reset` a scope. None when there is no such scope."""
        breaker = self.roster.find(scope)
        if breaker is None:
            return None
        if action == "disable":
            breaker.block(Provenance.OPERATOR, FOREVER, "disabled by operator", now, self._number)
            return (blocked(breaker, now),)
        breaker.reset()
        return (Reopened(now, scope, f"operator: {action}"),)

    def set_skew(self, skew: float) -> None:
        """The upstream's clock differs from ours by this many seconds; decides which UTC date a send belongs to."""
        for account in self.roster.accounts.values():
            account.quota.skew = skew

    def account_of(self, key: str) -> AccountState | None:
        """The account a key belongs to."""
        state = self.roster.keys.get(key)
        return state.account if state else None

    def first_content(self, lease: Lease) -> float:
        """Seconds to wait for the first content of an attempt (routing rule A.7)."""
        limits = self.policy.limits
        seat = self._seats[lease.number]
        if seat.model.model.reasoning:
            return limits.first_content_reasoning
        p95 = seat.model.learnt.ttft_p95(seat.tokens)
        usual = limits.first_content_max if p95 is None else 3 * p95
        return min(max(usual, limits.first_content_min), limits.first_content_max)
