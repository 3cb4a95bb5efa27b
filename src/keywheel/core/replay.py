"""Decisions taken down with all that they were made from, and made again, by the same or by another policy.

A record holds of a pool what choosing reads, as figures; nothing about it is decided here. To decide again, a pool is
put together from these figures and asked as any other is.

What cannot be made again is what led to the figures: with another policy other requests would have been sent. What a
policy says about half-lives, windows and deadlines is therefore in the figures already, and only what it says about
the choice itself makes a difference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from keywheel.core.breaker import Breaker
from keywheel.core.decisions import Decision
from keywheel.core.policy import Choice, Health, Limits, Policy
from keywheel.core.pool import UNTRIED, Pool
from keywheel.core.quota import Quota, Room, Shut
from keywheel.core.ranking import Learnt, bucket
from keywheel.core.tried import Tried
from keywheel.core.types import (
    FOREVER,
    NOTHING_TO_PAY,
    Account,
    Ask,
    Key,
    Kind,
    Model,
    Price,
    Provenance,
    Scope,
)

VERSION = 1
CHOICE = tuple(each.name for each in fields(Choice))
HOME = "its own"  # what a conversation is called here
Moment = float | None  # None: without end


class Side(NamedTuple):
    """What an account lets free or paid requests do. `room`: requests left today and this minute, None: none; within
    it None is without limit. `shut`: until when and by what it is closed."""

    room: tuple[Moment, Moment] | None
    shut: tuple[Moment, str] | None


class AccountFigures(NamedTuple):
    """One account."""

    name: str
    in_flight: int
    free: Side
    paid: Side


class KeyFigures(NamedTuple):
    """One key. `last_used`: the number of its latest lease."""

    name: str
    account: str
    last_used: int


class ModelFigures(NamedTuple):
    """One model at its place, as it is believed to be. `answer`: seconds to an answer with the crowd; `odds`: failures
    for each success; `first`: the usual seconds to the first content, None where nobody asks for that."""

    id: str
    context: int
    max_output: int | None
    can: tuple[str, ...]
    price: Price | None  # None: free
    stretch: float
    answer: float
    odds: float
    first: float | None
    in_flight: int
    limit: float


class Closure(NamedTuple):
    """A breaker that is not simply open. `twin`: of the two that the provider and an account have, the one for its
    guessed trouble, or for paid requests. `blocks`: until when, by who says so; `tripped`: until when its error rate
    closes it, half-open from then on; `probe`: until when a probe is awaited."""

    kind: Kind
    name: str
    twin: bool
    blocks: tuple[tuple[Provenance, Moment], ...]
    tripped: float | None
    probe: float | None


class Trials(NamedTuple):
    """What the request had been through; see `keywheel.core.tried.Tried`."""

    lanes: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    models: Mapping[str, int]
    barred: tuple[str, ...]
    accounts: tuple[str, ...]
    needs: tuple[str, ...]
    larger_than: int
    left: Moment
    last_attempt: bool
    again: tuple[str, str] | None


class Chosen(NamedTuple):
    """What came of it: a key and a model, or the cause why nothing."""

    key: str | None
    model: str | None
    no_lane: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One decision with all it was made from. `home`: the account that the conversation used last. `purse`: USD that
    may still be spent today. `policy`: what it says about the choice, by name. `resorting`: a last resort was under
    way, and another not allowed."""

    version: int
    request_id: str
    at: float
    chosen: Chosen
    ask: Ask
    trials: Trials | None
    home: str | None
    policy: Mapping[str, Any]
    resorting: bool
    purse: float
    accounts: tuple[AccountFigures, ...]
    keys: tuple[KeyFigures, ...]
    models: tuple[ModelFigures, ...]
    closures: tuple[Closure, ...]


class Unusable(ValueError):
    """A record does not hold together."""


# --- taking down -----------------------------------------------------------------------------------


def take_down(pool: Pool, ask: Ask, tried: Tried, decision: Decision) -> Record:
    """A decision that has just been made, before a lease changes what it was made from."""
    now, roster = decision.at, pool.roster
    home = None
    if ask.follow_up and ask.conversation:
        home = pool.affinity.account(ask.conversation, now)
    return Record(
        VERSION,
        ask.request_id,
        now,
        Chosen(decision.key, decision.model, decision.no_lane),
        ask._replace(
            deadline=now, max_wait=0.0, latest=now, conversation=None, client="", request_id=""
        ),
        None if tried == UNTRIED else _trials(tried),
        home,
        _choice(pool.policy),
        pool.resorting,
        roster.purse.left(now),
        tuple([_account(state.name, state.quota, now) for state in roster.accounts.values()]),
        tuple([KeyFigures(k.name, k.account.name, k.last_used) for k in roster.keys.values()]),
        tuple(_models(pool, ask, now, later=tried.any)),
        tuple(_closures(pool, now)),
    )


def _choice(policy: Policy) -> dict[str, Any]:
    choice = policy.choice
    told = {name: getattr(choice, name) for name in CHOICE}
    told["attempts_per_model"] = policy.limits.attempts_per_model
    told["last_resort"] = policy.health.last_resort
    return told


def _trials(tried: Tried) -> Trials:
    return Trials(
        tuple(sorted(tried.lanes)),
        tuple(sorted(tried.keys)),
        dict(tried.models),
        tuple(sorted(tried.barred)),
        tuple(sorted(tried.accounts)),
        tuple(sorted(tried.needs)),
        tried.larger_than,
        _moment(tried.left),
        tried.last_attempt,
        tried.again,
    )


def _account(name: str, quota: Quota, now: float) -> AccountFigures:
    return AccountFigures(name, quota.in_flight, _side(quota, now, True), _side(quota, now, False))


def _side(quota: Quota, now: float, free: bool) -> Side:
    room, shut = quota.room(now, free), quota.shut(now, free)
    return Side(
        room and (_moment(room[0]), _moment(room[1])),
        shut and (_moment(shut.until), shut.cause),
    )


def _models(pool: Pool, ask: Ask, now: float, *, later: bool) -> Iterable[ModelFigures]:
    """`later`: the request has tried something, so the time left may matter."""
    kind = (bucket(ask.tokens), ask.reply_tokens)
    for state in pool.roster.listed:
        model, learnt, kept = state.model, state.learnt, state.scores.get(kind)
        yield ModelFigures(
            model.id,
            state.context(now),
            model.max_output,
            tuple(state.offers),
            None if model.free else model.price,
            state.stretch,
            kept.answer if kept and kept.answer else learnt.answer(ask),
            learnt.odds,
            learnt.ttft_mean(ask.tokens) if later else None,
            learnt.in_flight,
            learnt.limit,
        )


def _closures(pool: Pool, now: float) -> Iterable[Closure]:
    """Most breakers are calm, and there are thousands of them."""
    roster = pool.roster
    pairs = [(roster.provider, roster.outage)]
    pairs += [(account.breaker, account.paid) for account in roster.accounts.values()]
    for pair in pairs:
        for twin, breaker in enumerate(pair):
            if not breaker.calm:
                yield from _closure(breaker, pair[0].scope, now, twin=bool(twin))
    single = [key.breaker for key in roster.keys.values()]
    for model in roster.listed:
        single += (model.breaker, *model.lanes.values(), *model.access.values())
    for breaker in single:
        if not breaker.calm:
            yield from _closure(breaker, breaker.scope, now)


def _closure(
    breaker: Breaker, scope: Scope, now: float, *, twin: bool = False
) -> Iterable[Closure]:
    blocks = tuple(
        [(who, _moment(block.until)) for who, block in breaker.blocks.items() if block.until > now]
    )
    probe = breaker.until if breaker.until > max(now, breaker.blocked_until(now)) else None
    if blocks or breaker.open_until is not None:
        yield Closure(scope.kind, scope.name, twin, blocks, breaker.open_until, probe)


# --- deciding again --------------------------------------------------------------------------------


def policy_of(record: Record) -> Policy:
    """The policy by which it was decided, as far as it matters. Raises `Unusable`."""
    told = dict(record.policy)
    try:
        health = Health(last_resort=told.pop("last_resort"))
        limits = Limits(attempts_per_model=told.pop("attempts_per_model"))
        return Policy(health, limits, Choice(**told))
    except (KeyError, TypeError) as error:
        raise Unusable(f"its policy is not one: {error}") from None


def decide(record: Record, policy: Policy, ids: Sequence[str] | None = None) -> Decision:
    """Decide again by a policy. `ids`: the models that may be used, in another order of preference.

    Raises `Unusable` for a record that names what it does not hold.
    """
    try:
        pool = _pool(record, policy, ids)
        ask = record.ask._replace(conversation=HOME if record.home else None)
        pool.select(ask, _tried(record.trials), record.at)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise Unusable(f"it does not hold together: {error!r}") from None
    return pool.decision


def chosen(decision: Decision) -> Chosen:
    """What came of a decision."""
    return Chosen(decision.key, decision.model, decision.no_lane)


class _Told(Learnt):
    """What was learnt about a model as the figures tell it."""

    __slots__ = ("_answer", "_first", "_odds")

    def __init__(self, told: ModelFigures) -> None:
        super().__init__(in_flight=told.in_flight, limit=told.limit)
        self._answer, self._odds, self._first = told.answer, told.odds, told.first

    def answer(self, ask: Ask) -> float:
        return self._answer

    @property
    def odds(self) -> float:
        return self._odds

    def ttft_mean(self, tokens: int) -> float | None:
        return self._first


class _Counted(Quota):
    """The counters of an account as the figures tell them."""

    __slots__ = ("_free", "_paid")

    def __init__(self, told: AccountFigures) -> None:
        super().__init__(Account(told.name, per_day=None))
        self.in_flight = told.in_flight
        self._free, self._paid = told.free, told.paid

    def room(self, now: float, free: bool) -> Room | None:
        room = (self._free if free else self._paid).room
        return room and (_forever(room[0]), _forever(room[1]))

    def shut(self, now: float, free: bool = True) -> Shut | None:
        shut = (self._free if free else self._paid).shut
        return shut and Shut(_forever(shut[0]), shut[1])


def _pool(record: Record, policy: Policy, ids: Sequence[str] | None) -> Pool:
    alone = policy.health.last_resort and not record.resorting
    pool = Pool(replace(policy, health=replace(policy.health, last_resort=alone)))
    roster, now = pool.roster, record.at
    pool.set_keys(
        [Account(told.name, per_day=None) for told in record.accounts],
        [Key(told.name, told.account) for told in record.keys],
    )
    for told in record.accounts:
        roster.accounts[told.name].quota = _Counted(told)
    for told in record.keys:
        roster.keys[told.name].last_used = told.last_used
    figures = {told.id: told for told in record.models}
    listed = figures if ids is None else ids
    pool.set_models([_listed(figures[id]) for id in listed], now)
    for state in roster.listed:
        told = figures[state.model.id]
        state.learnt, state.stretch = _Told(told), told.stretch
    for closure in record.closures:
        _close(pool, closure, now)
    roster.purse.cap = record.purse
    if record.home:
        pool.affinity.remember(HOME, record.home, now)
    return pool


def _listed(told: ModelFigures) -> Model:
    price, can = told.price or NOTHING_TO_PAY, frozenset(told.can)
    return Model(told.id, told.context, told.max_output, can, told.price is None, price=price)


def _close(pool: Pool, closure: Closure, now: float) -> None:
    found = pool.roster.find(Scope(closure.kind, closure.name))
    for breaker in found[int(closure.twin) :][:1]:  # none of a model that another list leaves out
        breaker.open_until = closure.tripped
        breaker.leave(0)  # brings it up to date
        for who, until in closure.blocks:
            breaker.block(who, _forever(until), "", now, 0)
        if closure.probe is not None:
            breaker.enter(1, now, closure.probe)


def _tried(trials: Trials | None) -> Tried:
    if trials is None:
        return Tried()
    return Tried(
        set(trials.lanes),
        set(trials.keys),
        dict(trials.models),
        set(trials.barred),
        set(trials.accounts),
        set(trials.needs),
        trials.larger_than,
        _forever(trials.left),
        trials.last_attempt,
        trials.again,
    )


def _moment(value: float) -> Moment:
    return None if value == FOREVER else value


def _forever(value: Moment) -> float:
    return FOREVER if value is None else value
