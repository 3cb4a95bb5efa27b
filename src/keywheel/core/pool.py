"""The one mutable object: chooses a lane and records what came of it. The caller guards it with one lock.

`select` answers with a lease (reserved at once, so that two callers cannot take the same place) or says when a lane
opens. `settle` takes each lease back exactly once and returns what happened as events.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from keywheel.core import openings, selection
from keywheel.core.affinity import Affinity
from keywheel.core.budget import Budget
from keywheel.core.checks import SCHEDULES, Checks, believe, reopen
from keywheel.core.decisions import Decision
from keywheel.core.marks import Reach
from keywheel.core.marks import Reading as MarkReading
from keywheel.core.policy import Policy
from keywheel.core.purse import at_most
from keywheel.core.queue import Queue
from keywheel.core.quota import Reading
from keywheel.core.roster import Roster
from keywheel.core.selection import Pick
from keywheel.core.settlement import Recorder, Seat, blocked
from keywheel.core.states import AccountState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import (
    DAY,
    FOREVER,
    Abandoned,
    Account,
    Answered,
    Ask,
    Event,
    Failed,
    Key,
    Kind,
    Lease,
    Model,
    NoLane,
    Outcome,
    Provenance,
    Reopened,
    Scope,
    Verdict,
)

GRACE = 5.0  # seconds after its deadline until a lease that was never settled is taken for lost
DOUBT = 300.0  # seconds a key stays closed that several keys' equal fault made suspect, if no check is possible
VISIBLE = "GET /models/user"
SETTINGS = "account-settings"
CLEARS = {
    Reach.HEURISTIC: (Provenance.HEURISTIC,),
    Reach.ALL: tuple(Provenance),
}
SMALL = Ask()
UNTRIED = Tried()


class Pool:
    """Accounts, keys and models, and all that changes about them."""

    def __init__(self, policy: Policy, seed: str = "") -> None:
        self.policy = policy
        self.roster = Roster(policy.health, seed)
        self.roster.purse.cap = policy.choice.paid_per_day if policy.choice.allow_paid else 0.0
        self.budget = Budget()
        self.queue = Queue()
        self.affinity = Affinity()
        self.decision = Decision(0.0, (), ())  # the latest one
        # told of every decision, before a lease changes what it was made from
        self.watch: Callable[[Pool, Ask, Tried, Decision], object] | None = None
        self._checks = Checks(self.roster)
        self._recorder = Recorder(self.roster, policy, self._checks)
        self._seats: dict[int, Seat] = {}
        self._number = 0
        self._last_resort = 0  # the lease that may ignore our guesses; one at a time

    # --- what there is ---------------------------------------------------------------------------

    def set_keys(self, accounts: Iterable[Account], keys: Iterable[Key]) -> None:
        """Take a new set of accounts and keys; what is known about surviving names stays."""
        self.roster.set_keys(accounts, keys)
        self._move_seats()

    def assign(self, key: str, account: Account) -> None:
        """A key turned out to belong to another account, which from now on counts what the old one sent, too."""
        self.roster.assign(key, account)
        self._move_seats()

    def set_models(
        self, models: Iterable[Model], now: float, costly: frozenset[str] = frozenset()
    ) -> None:
        """Take a new list of models in order of preference; what is known about surviving ids stays. `costly`: ids
        that must not answer for a free one."""
        self.roster.set_models(models, now)
        self.roster.costly = costly

    @property
    def open_leases(self) -> int:
        """Leases handed out and not settled yet."""
        return len(self._seats)

    def _move_seats(self) -> None:
        """What is under way counts for the account its key belongs to now."""
        for seat in self._seats.values():
            if seat.account is not seat.key.account:
                seat.account.quota.in_flight -= 1
                seat.account = seat.key.account
                seat.account.quota.in_flight += 1

    # --- choosing --------------------------------------------------------------------------------

    def select(self, ask: Ask, tried: Tried, now: float) -> Lease | NoLane:
        """The best usable lane for an ask, reserved, or what stands in the way."""
        search = self._search(ask, tried, now)
        pick = search.pick()
        resort = None if pick else self._resort(ask, tried, now)
        self.decision = search.decision(pick or resort)  # before a lease changes what it tells of
        if choice := pick or resort:
            self._show(ask, tried, self.decision)
            lease = self._lease(choice, ask, now)
            if resort:
                self._last_resort = lease.number
            return lease
        found = self.obstacle(ask, tried, now)
        self.decision = self.decision._replace(no_lane=found.cause)
        self._show(ask, tried, self.decision)
        return found

    def _show(self, ask: Ask, tried: Tried, decision: Decision) -> None:
        if self.watch:
            self.watch(self, ask, tried, decision)

    @property
    def resorting(self) -> bool:
        """Whether somebody tries a lane against our own guesses."""
        return self._last_resort in self._seats

    def _resort(self, ask: Ask, tried: Tried, now: float) -> Pick | None:
        """With every lane closed by our own guesses, one ask at a time may try the first to open."""
        if not self.policy.health.last_resort or self.resorting:
            return None
        return selection.last_resort(self.roster, self.policy, ask, tried, now)

    def obstacle(self, ask: Ask, tried: Tried, now: float) -> NoLane:
        """What stands in the way of an ask that found no lane, and when the earliest one opens."""
        fitting, unfit = selection.sort_out(self.roster, self.policy, ask, tried, now)
        found = openings.no_lane(self.roster, fitting, unfit, tried, now)
        if found.cause != "unfit":
            return found
        room = selection.room(self.roster, ask, now) if "context" in found.missing else 0
        tokens = ask.tokens + ask.reply_tokens if room else 0
        others = selection.others(self.roster, ask, now)
        return found._replace(others=others, tokens=tokens, room=room)

    def survey(self, ask: Ask, now: float) -> list[tuple[ModelState, str | None]]:
        """Every model that an ask allows, best first, each with what keeps it from being sent to now."""
        return selection.survey(self.roster, self.policy, ask, now)

    def dispatch(self, now: float) -> None:
        """Give what is free to those who wait for it, first come first served."""
        for ticket in self.queue.tickets:
            search = self._search(ticket.ask, ticket.tried, now)
            if pick := search.pick():
                decision = search.decision(pick)
                self._show(ticket.ask, ticket.tried, decision)
                self.queue.serve(ticket, self._lease(pick, ticket.ask, now), decision)

    def usable(self, now: float) -> bool:
        """Whether at least one lane could take a small ask now. Reserves nothing."""
        return selection.choose(self.roster, self.policy, SMALL, UNTRIED, now) is not None

    def _search(self, ask: Ask, tried: Tried, now: float) -> selection.Search:
        home = None
        if ask.follow_up and ask.conversation and self.policy.choice.affinity:
            home = self.affinity.account(ask.conversation, now)
        return selection.Search(self.roster, self.policy, ask, tried, now, home)

    def _lease(self, pick: Pick, ask: Ask, now: float) -> Lease:
        """Reserve: every count and every probe place is taken here, in the same step as the decision."""
        key, model = pick
        account, free = key.account, model.model.free
        path = self.roster.path(model, key)
        self._number = number = self._number + 1
        expires = self._expiry(ask, now)
        epochs = tuple([breaker.epoch for breaker in path.breakers])  # of a list: twice as fast
        probes: tuple[Scope, ...] = ()
        for breaker in path.breakers:
            if breaker.open_until is not None and breaker.enter(number, now, expires):
                probes = (*probes, breaker.scope)
        lease = Lease(
            number,
            key.key.name,
            account.account.name,
            model.model.id,
            now,
            expires,
            path.scopes,
            epochs,
            probes,
            account.quota.reserve(now, free),
            ask.request_id,
        )
        if not free:
            usd = at_most(model.model, ask, model.stretch)
            self.roster.purse.set_aside(number, usd or 0.0)
        key.last_used = number
        model.learnt.in_flight += 1
        model.scores.clear()
        self._seats[number] = Seat(lease, key, account, model, path.breakers, ask)
        return lease

    def _expiry(self, ask: Ask, now: float) -> float:
        limits = self.policy.limits
        usual = now + (limits.stream_deadline if ask.stream else limits.deadline)
        return (usual if ask.max_wait or ask.deadline == FOREVER else ask.deadline) + GRACE

    # --- recording -------------------------------------------------------------------------------

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> tuple[Event, ...]:
        """Take a lease back and record what came of it. A second settlement of the same lease changes nothing."""
        if isinstance(outcome, Failed):
            return self.fail(lease, outcome, now)[1]
        return self._settle(lease, outcome, now)

    def fail(self, lease: Lease, failed: Failed, now: float) -> tuple[Verdict, tuple[Event, ...]]:
        """As `settle`, with the verdict in the light of earlier failures."""
        verdict = failed.verdict
        if lease.number in self._seats:
            verdict = self._recorder.refine(lease, verdict, now)
        return verdict, self._settle(lease, replace(failed, verdict=verdict), now)

    def undo(self, lease: Lease) -> None:
        """The shared store refused the reservation: nothing was sent, nothing is to be learnt."""
        seat = self._seats.pop(lease.number, None)
        if seat is None:
            return
        self._free(seat)
        if not seat.model.model.free:
            self.roster.purse.pay(lease.number, 0.0, lease.at)
        seat.account.quota.refund(lease.days, lease.at)
        seat.leave()

    def expire(self, now: float) -> tuple[Event, ...]:
        """Take back the leases of tasks that were lost, so that their places do not stay taken."""
        lost = [seat.lease for seat in self._seats.values() if seat.lease.expires <= now]
        events = [self.settle(lease, Abandoned("lost"), now) for lease in lost]
        return tuple(event for some in events for event in some)

    def _settle(self, lease: Lease, outcome: Outcome, now: float) -> tuple[Event, ...]:
        seat = self._seats.pop(lease.number, None)
        if seat is None:
            return ()
        self._free(seat)
        unsent = not isinstance(outcome, Answered) and outcome.unsent
        if unsent and self.policy.limits.refund_unsent:
            seat.account.quota.refund(lease.days, lease.at)
        if not seat.model.model.free:
            self.roster.purse.pay(lease.number, _cost(outcome), now)
        if isinstance(outcome, Answered) and seat.ask.conversation:
            self.affinity.remember(seat.ask.conversation, seat.account.name, now)
        return self._recorder.record(seat, outcome, now, self._number)

    def _free(self, seat: Seat) -> None:
        seat.account.quota.release()
        seat.model.learnt.in_flight -= 1
        seat.model.score_anew()

    # --- what other workers say ------------------------------------------------------------------

    def adopt(self, reading: MarkReading, now: float) -> None:
        """Take over what workers of the same store know. What is known here already stays as it is."""
        for scope, reaches in reading.cleared.items():
            for breaker in self.roster.find(scope):
                for reach, at in reaches.items():
                    breaker.forget(CLEARS[reach], at, now)
        for scope, blocks in reading.blocks.items():
            breakers = self.roster.find(scope)
            for provenance, block in blocks.items():
                both = provenance is Provenance.OPERATOR
                for breaker in breakers if both else breakers[:1]:
                    end, why, at = block.until, block.why, block.at
                    breaker.block(provenance, end, why, now, self._number, at)

    def urge_all(self) -> None:
        """Look at every account as soon as possible."""
        for account in self.roster.accounts:
            self._checks.urge_account(account)

    # --- what others say -------------------------------------------------------------------------

    def due_checks(self, now: float) -> tuple[str, ...]:
        """The keys for which `GET /key` is to be asked now. They stay due until the answer is told."""
        return self._checks.due(now)

    def key_is_bad(self, key: str, reason: str, now: float) -> tuple[Event, ...]:
        """`GET /key` refused the key: closed until it passes."""
        state = self.roster.keys.get(key)
        if state is None:
            return ()
        self._checks.checked(key, False, now)
        known = Provenance.AUTHORITATIVE
        if not state.breaker.block(known, FOREVER, reason, now, self._number):
            return ()
        return (blocked(state.breaker, now),)

    def key_is_good(self, key: str, reading: Reading, now: float) -> tuple[Event, ...]:
        """`GET /key` passed: the key is valid, and the account's counter is known."""
        state = self.roster.keys.get(key)
        if state is None:
            return ()
        self._checks.checked(key, True, now)
        account = state.account
        more = account.quota.reconcile(reading, now)
        events = believe(state, reading, now)
        if more:
            events += reopen(account, now)
        return tuple(events)

    def see_models(self, key: str, visible: frozenset[str], now: float) -> tuple[Event, ...]:
        """Which models the settings of a key's account allow (`GET /models/user`)."""
        account = self.account_of(key)
        if account is None:
            return ()
        known = Provenance.AUTHORITATIVE
        events: list[Event] = []
        for model in self.roster.talking:  # lists of what an account may use leave the others out
            reach = self.roster.reach(model, account.name)
            block = reach.blocks.get(known)
            hidden = block is not None and block.reason == SETTINGS and block.until > now
            if model.model.id not in visible:
                reach.block(known, now + DAY, SETTINGS, now, self._number)
                events += () if hidden else (blocked(reach, now),)
            elif hidden and reach.clear(known, now):
                events.append(Reopened(now, reach.scope, VISIBLE))
        return tuple(events)

    def doubt(self, keys: Iterable[str], now: float) -> tuple[Event, ...]:
        """Several keys were refused in the same way within one ask: perhaps it was the ask (poison guard).

        They are looked at by `GET /key` at once, and until then stay closed for a short while only.
        """
        events: list[Event] = []
        for name in keys:
            state = self.roster.keys.get(name)
            block = state and state.breaker.blocks.get(Provenance.AUTHORITATIVE)
            if not state or not block or block.reason not in SCHEDULES:
                continue
            state.breaker.clear(Provenance.AUTHORITATIVE, now)
            guess = Provenance.HEURISTIC
            state.breaker.block(guess, now + DOUBT, block.reason, now, self._number)
            self._checks.urge(name)
            events.append(blocked(state.breaker, now))
        return tuple(events)

    def operate(self, action: str, scope: Scope, now: float) -> tuple[Event, ...] | None:
        """Operator's hand: `enable`, `disable` or `reset` a scope. None when there is no such scope."""
        breakers = self.roster.find(scope)
        if not breakers:
            return None
        if action == "disable":
            operator = Provenance.OPERATOR
            for breaker in breakers:
                breaker.block(operator, FOREVER, "disabled by operator", now, self._number)
            return (blocked(breakers[0], now),)
        for breaker in breakers:
            breaker.reset()
        if scope.kind is Kind.ACCOUNT:
            self.roster.accounts[scope.name].quota.reopen_minute()
        return (Reopened(now, scope, f"operator: {action}"),)

    def set_skew(self, skew: float) -> None:
        """The upstream's clock differs from ours by this many seconds; decides which UTC date a send belongs to."""
        self.roster.set_skew(skew)

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
        p95 = seat.model.learnt.ttft_p95(seat.ask.tokens)
        usual = limits.first_content_max if p95 is None else 3 * p95
        return min(max(usual, limits.first_content_min), limits.first_content_max)


def _cost(outcome: Outcome) -> float | None:
    """What a paid attempt has cost, None when nobody said: a refusal costs nothing, an answer cut short may."""
    if isinstance(outcome, Answered):
        return outcome.cost or None
    refused = isinstance(outcome, Failed) and outcome.verdict.status >= 400
    return 0.0 if outcome.unsent or refused else None
