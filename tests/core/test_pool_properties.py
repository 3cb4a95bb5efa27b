"""The invariants of routing B.4 over random stories, with a naive reference in lock-step.

KEYWHEEL_EXAMPLES=N tells N new stories instead of a few that are always the same.
"""

from collections import Counter as Counts

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keywheel.core import ranking
from keywheel.core.policy import Policy
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.rows import ROWS
from keywheel.core.states import STATIONS, KeyState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import (
    FOREVER,
    Abandoned,
    Account,
    Answered,
    Ask,
    Failed,
    Fault,
    Key,
    Kind,
    Lease,
    Model,
    NoLane,
    Outcome,
    Provenance,
    Scope,
    Verdict,
)
from tests.core.build import MIDNIGHT, NOON
from tests.core.reference import AUTHORITATIVE, HEURISTIC, Counter, Health, blames, said_until

ACCOUNTS = (Account("a1", 6, 14), Account("a2", 4, 9, concurrency=2), Account("a3", 6, None))
KEYS = (Key("k1", "a1"), Key("k2", "a1"), Key("k3", "a2"), Key("k4", "a3"))
MODELS = (
    Model("m1", 8_000),
    Model("m2", 32_000, can=frozenset({"tools"})),
    Model("m3", 8_000),
    Model("p1", 32_000, free=False),
)
SIDES = {True: "{}", False: "{} (paid)"}
GRAVITY = ("open", "busy", "health", "minute", "day", "disabled")
GROUP = {
    "busy": "busy",
    "health": "cooling",
    "minute": "quota",
    "day": "quota",
    "disabled": "disabled",
}

seconds = st.sampled_from([0.0, 0.3, 1.0, 4.0, 16.0, 31.0, 61.0, 301.0, 3_700.0])
asks = st.builds(
    # not the NamedTuple itself: its fields with defaults would be made up, too
    lambda **given: Ask(**given),  # noqa: PLW0108
    tokens=st.sampled_from([100, 2_000, 9_000]),
    reply_tokens=st.sampled_from([0, 100]),
    needs=st.sampled_from([frozenset[str](), frozenset({"tools"})]),
    models=st.sampled_from([(), (), (), ("m3", "m1"), ("m1",), ("p1",)]),
    first=st.sampled_from([None, None, "m3"]),
    request_id=st.sampled_from(["r1", "r2", "r3", "r4"]),
)
lanes = st.tuples(st.sampled_from([k.name for k in KEYS]), st.sampled_from([m.id for m in MODELS]))
histories = st.one_of(
    st.just(Tried()),
    st.builds(
        Tried,
        lanes=st.sets(lanes, min_size=1, max_size=4),
        keys=st.sets(st.sampled_from(["k1", "k3"]), max_size=1),
        accounts=st.sets(st.sampled_from(["a1", "a3"]), max_size=1),
        last_attempt=st.booleans(),
    ),
)
outcomes = st.one_of(
    st.builds(
        lambda **given: Answered(**given),  # noqa: PLW0108
        ttft=st.floats(0.1, 30),
        total=st.floats(30, 60),
        tokens_out=st.integers(0, 900),
    ),
    st.builds(Abandoned, st.just("client gone"), unsent=st.booleans()),
    st.builds(
        Failed,
        st.builds(Verdict, st.sampled_from(list(ROWS.values())), st.none()),
        elapsed=st.floats(0, 60),
        unsent=st.booleans(),
    ),
)
scopes = st.sampled_from(
    [
        Scope(Kind.PROVIDER, "openrouter"),
        *(Scope(Kind.ACCOUNT, a.name) for a in ACCOUNTS),
        *(Scope(Kind.KEY, k.name) for k in KEYS),
        *(Scope(Kind.MODEL, m.id) for m in MODELS),
        Scope(Kind.LANE, "k1+m1"),
        Scope(Kind.LANE, "k3+m2"),
        Scope(Kind.ACCESS, "a1+m2"),
    ]
)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.pool = Pool(Policy(), "seed")
        self.pool.set_keys(ACCOUNTS, KEYS)
        self.pool.set_models(MODELS, self.now)
        self.health: dict[tuple[Kind, str], Health] = {}
        self.counters = {a.name: Counter(a, a.per_day or 0) for a in ACCOUNTS}
        self.open: dict[int, Lease] = {}
        self.paths: dict[int, list[Health]] = {}  # of the open leases
        self.gone: dict[str, float] = {}  # since when a model is not listed
        self.sent: list[tuple[str, float, int]] = []  # truly sent: account, moment, date
        self.others: Counts[tuple[str, int]] = Counts()  # sent by others on the account
        self.last = 0
        self.skewed = False  # a date that was read off a wrong clock cannot be put right afterwards

    # --- reading the reference -------------------------------------------------------------------

    def of(self, kind: Kind, name: str) -> Health:
        return self.health.setdefault((kind, name), Health())

    def path(self, key: KeyState, model: ModelState) -> list[Health]:
        names = (
            "openrouter",
            SIDES[model.model.free].format(key.account.name),
            key.name,
            model.model.id,
            f"{key.account.name}+{model.model.id}",
            f"{key.name}+{model.model.id}",
        )
        return [self.of(kind, name) for kind, name in zip(STATIONS, names, strict=True)]

    def closures(self, key: KeyState, model: ModelState, tried: Tried) -> list[tuple[float, str]]:
        """Everything that keeps a lane closed."""
        now = self.now
        found = self.counters[key.account.name].closures(now, model.model.free)
        for health in self.path(key, model):
            if end := health.blocked(now):
                found.append((end, "disabled" if end == FOREVER else "health"))
            elif health.closed(now):
                found.append((now + 0.25, "busy"))
        if model.learnt.in_flight >= model.learnt.limit:
            found.append((now + 0.25, "busy"))
        outage = self.pool.roster.outage.closed_until(now)  # tested by itself
        return [*found, (outage, "health")] if outage and not tried.any else found

    def fitting(self, ask: Ask) -> list[ModelState]:
        listed = self.pool.roster.models
        chosen = (
            [listed[name] for name in ask.models if name in listed]
            if ask.models
            else listed.values()
        )
        return [
            m
            for m in chosen
            if ask.tokens + ask.reply_tokens <= m.model.context and ask.needs <= m.model.can
        ]

    def considered(self, ask: Ask, tried: Tried) -> dict[tuple[str, str], list[tuple[float, str]]]:
        """What closes each lane that the ask allows and has not tried."""
        return {
            (key.name, model.model.id): self.closures(key, model, tried)
            for model in self.fitting(ask)
            for key in self.pool.roster.keys.values()
            if key.name not in tried.keys and (key.name, model.model.id) not in tried.lanes
        }

    # --- rules -----------------------------------------------------------------------------------

    @rule(ask=asks, tried=histories)
    def request(self, ask: Ask, tried: Tried) -> None:
        before = self.considered(ask, tried)
        usable = {lane for lane, closures in before.items() if not closures}
        choice = self.pool.select(ask, tried, self.now)
        if isinstance(choice, NoLane):
            assert not usable, "I18: a usable lane was there"
            self.check_refusal(choice, before)
            return
        assert (choice.key, choice.model) in usable, "I6: the lane was closed"
        self.check_choice(choice, usable, ask, tried)
        self.enter(choice)

    def check_refusal(
        self, refusal: NoLane, lanes: dict[tuple[str, str], list[tuple[float, str]]]
    ) -> None:
        """I23: the promise is that of the earliest lane, and lanes are counted by the gravest of their causes."""
        if not lanes:
            assert refusal.at is None
            return
        causes = [max((why for _, why in found), key=GRAVITY.index) for found in lanes.values()]
        assert dict(refusal.blocked) == Counts(GROUP[cause] for cause in causes)
        first = min(max(end for end, _ in found) for found in lanes.values())
        assert refusal.at == (None if first == FOREVER else first)
        assert refusal.at is None or refusal.at > self.now

    def check_choice(
        self, lease: Lease, usable: set[tuple[str, str]], ask: Ask, tried: Tried
    ) -> None:
        """The model is the best by J, the key the best by merit, both worked out anew."""
        roster, policy = self.pool.roster, self.pool.policy
        free = roster.models[lease.model].model.free
        if not tried.last_attempt:
            models = [m for m in self.fitting(ask) if any(name == m.model.id for _, name in usable)]
            if not ask.models:
                state = roster.models[lease.model]
                state.learnt.in_flight -= 1
                models.sort(key=lambda m: ranking.score(m.learnt, m.rank, ask, policy.choice))
                state.learnt.in_flight += 1
            models.sort(
                key=lambda m: bool(ask.first and not ask.models and m.model.id != ask.first)
            )
            assert lease.model == models[0].model.id
            merits = {
                key: self.merit(roster.keys[key], free, tried, lease)
                for key, name in usable
                if name == lease.model
            }
            assert merits[lease.key] == max(merits.values())

    def merit(self, key: KeyState, free: bool, tried: Tried, lease: Lease) -> tuple[float, ...]:
        counter = self.counters[key.account.name]
        metered = free and counter.account.per_day is not None
        left = counter.limit - counter.used[counter.date(self.now)]
        cap = max(1, int(counter.account.per_minute * 0.95))
        last = max((n for n, one in self.used_by(key.name) if n != lease.number), default=0)
        return (
            key.account.name not in tried.accounts,
            left if metered else FOREVER,
            cap - len(counter.recent(self.now)) if metered else FOREVER,
            -counter.open,
            -last,
        )

    def used_by(self, key: str) -> list[tuple[int, str]]:
        return [(number, name) for number, name in self.uses if name == key]

    def enter(self, lease: Lease) -> None:
        self.last = lease.number
        self.uses.append((lease.number, lease.key))
        self.open[lease.number] = lease
        roster = self.pool.roster
        key, model = roster.keys[lease.key], roster.models[lease.model]
        path = self.paths[lease.number] = self.path(key, model)
        assert lease.epochs == tuple(health.epoch for health in path)
        for health in path:
            if health.open_until is not None and health.open_until <= self.now:
                health.probe, health.probe_until = lease.number, lease.expires
        counter = self.counters[lease.account]
        counter.send(self.now, model.model.free)
        if lease.days:
            self.sent.append((lease.account, self.now, counter.date(self.now)))

    @property
    def uses(self) -> list[tuple[int, str]]:
        if not hasattr(self, "_uses"):
            self._uses: list[tuple[int, str]] = []
        return self._uses

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=outcomes, until=st.sampled_from([None, None, 5.0, 90.0]))
    def settle(self, data: st.DataObject, outcome: Outcome, until: float | None) -> None:
        lease = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
        verdict: Verdict | None = None
        if isinstance(outcome, Failed):
            end = None if until is None else self.now + until
            outcome = Failed(Verdict(outcome.verdict.row, end), outcome.elapsed, outcome.unsent)
            verdict, _ = self.pool.fail(lease, outcome, self.now)
        else:
            self.pool.settle(lease, outcome, self.now)
        self.leave(lease, outcome, verdict)

    def leave(self, lease: Lease, outcome: Outcome, verdict: Verdict | None) -> None:
        path = self.paths.pop(lease.number)
        counter = self.counters[lease.account]
        counter.open -= 1
        if not isinstance(outcome, Answered) and outcome.unsent:
            counter.refund(lease)
            if lease.days:
                self.sent.remove(next(s for s in self.sent if s[:2] == (lease.account, lease.at)))
        if isinstance(outcome, Answered):
            for health, epoch in zip(path, lease.epochs, strict=True):
                health.answer(lease.number, epoch, self.now)
        elif verdict:
            self.blame(lease, verdict, path, counter)
        for health in path:
            if health.probe == lease.number:
                health.probe, health.probe_until = 0, 0.0

    def blame(self, lease: Lease, verdict: Verdict, path: list[Health], counter: Counter) -> None:
        row, now = verdict.row, self.now
        end = said_until(verdict, counter, now)
        guess = row.charge.value == "minute" and verdict.until is None
        provenance = HEURISTIC if guess else row.provenance or HEURISTIC
        if row.blocks:
            place = STATIONS.index(row.blocks)
            if path[place].epoch == lease.epochs[place]:
                path[place].block(provenance, end, now, self.last)
                if row.ladder:
                    spans = row.ladder.first if row.blocks is Kind.PROVIDER else 1
                    path[place].climb(lease.scopes[place], lease, row, now, self.last, spans)
                if row.paid_too:
                    self.of(Kind.ACCOUNT, f"{lease.account} (paid)").block(
                        provenance, end, now, self.last
                    )
        for kind in blames(row):
            place = STATIONS.index(kind)
            source = lease.model if kind is Kind.KEY else lease.key
            path[place].fail(lease.number, lease.epochs[place], now, source, self.spans(kind))

    def spans(self, kind: Kind) -> int:
        roster = self.pool.roster
        names = {Kind.MODEL: roster.keys, Kind.KEY: roster.models}.get(kind)
        if names is None:
            return 1
        other = Kind.KEY if kind is Kind.MODEL else Kind.MODEL
        return min(2, sum(self.of(other, name).closed(self.now) != FOREVER for name in names))

    @rule(dt=seconds)
    def tick(self, dt: float) -> None:
        self.now += dt
        expired = [lease for lease in self.open.values() if lease.expires <= self.now]
        self.pool.expire(self.now)
        for lease in expired:
            del self.open[lease.number]
            self.leave(lease, Abandoned("lost"), None)

    @rule(offset=st.sampled_from([-31.0, -29.0, -1.0, 1.0, 6.0, 29.0, 31.0]))
    def midnight(self, offset: float) -> None:
        days = max(0, int((self.now - MIDNIGHT - offset) // 86_400) + 1)
        self.tick(max(0.0, MIDNIGHT + days * 86_400 + offset - self.now))

    @rule(skew=st.sampled_from([0.0, 90.0, -90.0, 3_600.0, -3_600.0]))
    def wall_clock(self, skew: float) -> None:
        """I29: what is compared afterwards shows that no block moved."""
        self.skewed = True
        self.pool.set_skew(skew)
        for counter in self.counters.values():
            counter.skew = skew
        self.sent = [(a, at, self.counters[a].date(at)) for a, at, _ in self.sent]

    @rule(
        key=st.sampled_from(KEYS),
        lag=st.sampled_from([0.0, 59.0]),
        more=st.sampled_from([0, 0, 0, 1, 5]),
        limit=st.sampled_from([None, None, 9, 14, 30]),
        unknown=st.booleans(),
    )
    def reconcile(self, key: Key, lag: float, more: int, limit: int | None, unknown: bool) -> None:
        """`GET /key`, truthful but up to a minute old; others may use the account, too."""
        counter = self.counters[key.account]
        today = counter.date(self.now)
        self.others[key.account, today] += more
        seen = sum(
            s[0] == key.account and s[2] == today and s[1] <= self.now - lag for s in self.sent
        )
        used = None if unknown else seen + self.others[key.account, today]
        before = counter.limit - counter.used[today]
        if key.name not in self.pool.roster.keys:
            return
        self.pool.key_is_good(key.name, Reading(used, limit), self.now)
        counter.read(used, limit, self.now)
        health = self.of(Kind.KEY, key.name)
        state = self.pool.roster.keys[key.name].breaker
        for provenance in (AUTHORITATIVE, HEURISTIC):
            if provenance not in state.blocks:
                health.drop(provenance)  # which reasons it clears is tested by itself
        if max(0, counter.limit - counter.used[today]) > max(0, before):
            account = self.pool.roster.accounts[key.account]
            for side, breaker in (("{}", account.breaker), ("{} (paid)", account.paid)):
                if AUTHORITATIVE not in breaker.blocks:
                    self.of(Kind.ACCOUNT, side.format(key.account)).drop(AUTHORITATIVE)

    @rule(key=st.sampled_from(["k1", "k3"]))
    def refuse_key(self, key: str) -> None:
        if key in self.pool.roster.keys:
            self.pool.key_is_bad(key, "bad-key", self.now)
            self.of(Kind.KEY, key).block(AUTHORITATIVE, FOREVER, self.now, self.last)

    @rule(scope=scopes, action=st.sampled_from(["disable", "enable", "enable", "reset"]))
    def operate(self, scope: Scope, action: str) -> None:
        if self.pool.operate(action, scope, self.now) is None:
            return
        names = [scope.name, *([f"{scope.name} (paid)"] if scope.kind is Kind.ACCOUNT else [])]
        for name in names:
            if action == "disable":
                self.of(scope.kind, name).block(Provenance.OPERATOR, FOREVER, self.now, self.last)
            else:
                self.of(scope.kind, name).reset()
        if scope.kind is Kind.ACCOUNT and action != "disable":
            self.counters[scope.name].full_until = 0.0

    @rule(
        without=st.sampled_from(["", "k1", "k3"]),
        models=st.permutations(MODELS),
        drop=st.booleans(),
    )
    def reload(self, without: str, models: list[Model], drop: bool) -> None:
        """I24: counts and blocks of surviving names stay; who left gets no new attempt."""
        keys = [key for key in KEYS if key.name != without]
        used = {key.account for key in keys}
        gone = [name for name in self.pool.roster.keys if name == without]
        self.pool.set_keys([a for a in ACCOUNTS if a.name in used], keys)
        self.pool.set_models(models[:-1] if drop else models, self.now)
        self._uses = [use for use in self.uses if use[1] not in gone]
        for kind, name in list(self.health):
            lane_of_gone = kind is Kind.LANE and name.partition("+")[0] in gone
            access_of_gone = kind is Kind.ACCESS and name.partition("+")[0] not in used
            if (kind is Kind.KEY and name in gone) or lane_of_gone or access_of_gone:
                del self.health[kind, name]
        self.forget_models()

    def forget_models(self) -> None:
        """What is known about a model that left the list is kept for a day."""
        listed = self.pool.roster.models
        missing = [m.id for m in MODELS if m.id not in listed]
        self.gone = {name: self.gone.get(name, self.now) for name in missing}
        old = {name for name, since in self.gone.items() if self.now - since >= 86_400}
        for kind, name in list(self.health):
            model = name.rpartition("+")[2] if kind in (Kind.LANE, Kind.ACCESS) else name
            if kind in (Kind.MODEL, Kind.LANE, Kind.ACCESS) and model in old:
                del self.health[kind, name]

    # --- invariants --------------------------------------------------------------------------------

    @invariant()
    def the_minute_and_the_day_are_kept(self) -> None:
        """I1, I2, I3: by what was truly sent."""
        for name, counter in self.counters.items():
            mine = [(at, day) for account, at, day in self.sent if account == name]
            times = [at for at, _ in mine]
            last_minute = [at for at in times if self.now - 60 <= at]
            assert len(last_minute) <= counter.account.per_minute
            quota = self.quota(name)
            today = counter.date(self.now)
            if quota and not self.skewed and counter.account.per_day is not None:
                assert quota.used_on(today) >= sum(day == today for _, day in mine)

    def quota(self, account: str) -> object:
        state = self.pool.roster.accounts.get(account)
        return state.quota if state else None

    @invariant()
    def counts_are_those_of_the_reference(self) -> None:
        """I3, I4."""
        for name, state in self.pool.roster.accounts.items():
            counter = self.counters[name]
            for day in (counter.date(self.now), counter.date(self.now) - 1):
                assert state.quota.used_on(day) == counter.used[day], name
            assert state.quota.in_flight == counter.open >= 0
            full = counter.full_until > self.now
            cap = max(1, int(counter.account.per_minute * 0.95))
            assert state.quota.minute_used(self.now) == (
                cap if full else len(counter.recent(self.now))
            )
        by_model = Counts(lease.model for lease in self.open.values())
        assert self.pool.open_leases == len(self.open)
        for model in self.pool.roster.models.values():
            assert model.learnt.in_flight == by_model[model.model.id]

    @invariant()
    def scopes_are_closed_as_in_the_reference(self) -> None:
        """I5, I14, I15, I16, I17."""
        for breaker in self.pool.roster.breakers():
            if breaker is self.pool.roster.outage:
                continue
            health = self.of(breaker.scope.kind, breaker.scope.name)
            assert breaker.closed_until(self.now) == health.closed(self.now), breaker.scope
            assert breaker.epoch == health.epoch, breaker.scope

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        """I16."""
        probes = Counts(scope for lease in self.open.values() for scope in lease.probes)
        for scope, number in probes.items():
            current = self.of(scope.kind, scope.name)
            live = [
                lease
                for lease in self.open.values()
                if scope in lease.probes
                and self.paths[lease.number][lease.scopes.index(scope)] is current
                and lease.epochs[lease.scopes.index(scope)] == current.epoch
            ]
            assert len(live) <= 1, (scope, number)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(stateful_step_count=40)


def test_client_faults_are_no_health() -> None:
    """I13 as a fact of the table the reference shares with the pool."""
    assert all(
        not blames(row) and not row.blocks for row in ROWS.values() if row.fault is Fault.CLIENT
    )
