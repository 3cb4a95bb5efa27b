"""All accounts, keys and models by name, and the breakers between them. Reloading keeps what survives."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from keywheel.core.breaker import Breaker
from keywheel.core.policy import Health
from keywheel.core.purse import Purse
from keywheel.core.quota import Quota
from keywheel.core.ranking import FADE_STEP, share_prior
from keywheel.core.states import AccountState, KeyState, ModelState, Path
from keywheel.core.types import FOREVER, Account, Key, Kind, Model, Scope

PROVIDER = "openrouter"
KEPT = 86_400.0  # seconds for which the state of a model that left the list is kept


class Roster:
    """All states by name.

    `outage` is the provider's guessed trouble (rule 25 by correlation), apart from what was said or seen outright.
    """

    def __init__(self, health: Health, seed: str) -> None:
        self._health = health
        self._seed = seed
        self.provider = self._breaker(Kind.PROVIDER, PROVIDER, window=False)
        self.outage = self._breaker(Kind.PROVIDER, PROVIDER, window=False)
        self.purse = Purse()
        self.skew = 0.0
        self._fade_at = 0.0
        self.accounts: dict[str, AccountState] = {}
        self.keys: dict[str, KeyState] = {}
        self.models: dict[str, ModelState] = {}
        self.listed: tuple[ModelState, ...] = ()  # the same in their order …
        self.talking: tuple[ModelState, ...] = ()  # … those that answer in words …
        self.embedding: tuple[ModelState, ...] = ()  # … and those that answer in vectors
        self.all_free = True
        self.costly: frozenset[str] = frozenset()  # ids that must not answer for a free one
        self._left: dict[
            str, AccountState
        ] = {}  # accounts without keys: their counts must not be lost
        self._gone: dict[str, ModelState] = {}

    # --- what there is ---------------------------------------------------------------------------

    def set_keys(self, accounts: Iterable[Account], keys: Iterable[Key]) -> None:
        """Take a new set of accounts and keys; counters and blocks of surviving names stay.

        A key that moves to another account brings along what its old account has sent: nobody knows whose
        requests those were, and counting too much is safe.
        """
        old_keys, known = self.keys, self._left | self.accounts
        homes = {name: state.account for name, state in old_keys.items()}
        self.accounts = {a.name: self._account(a, known.get(a.name)) for a in accounts}
        self.keys = {k.name: self._key(k, n, old_keys.get(k.name)) for n, k in enumerate(keys)}
        moved = {
            (homes[name].name, key.account.name): homes[name].quota.copy()
            for name, key in self.keys.items()
            if name in homes and homes[name] is not key.account
        }
        for (_, name), counts in moved.items():
            self.accounts[name].quota.absorb(counts)
        absorbed = {name for name, _ in moved}
        self._left = {
            n: a for n, a in known.items() if n not in self.accounts and n not in absorbed
        }
        self._prune_lanes()

    def assign(self, key: str, account: Account) -> None:
        """Put one key into another account. Accounts left without a key disappear."""
        keys = [s.key for s in self.keys.values()]
        keys = [replace(k, account=account.name) if k.name == key else k for k in keys]
        used = {k.account for k in keys}
        accounts = {s.name: s.account for s in self.accounts.values()} | {account.name: account}
        self.set_keys([a for name, a in accounts.items() if name in used], keys)

    def set_models(self, models: Iterable[Model], now: float) -> None:
        """Take a new list of models in order of preference.

        What was learnt about surviving ids stays; of a model that left it is kept for a day, since lists flicker.
        """
        known = self._gone | self.models
        self.models = {m.id: self._model(m, rank, known.get(m.id)) for rank, m in enumerate(models)}
        self.listed = tuple(self.models.values())
        self.talking = tuple(state for state in self.listed if not state.model.embeds)
        self.embedding = tuple(state for state in self.listed if state.model.embeds)
        self._fade_at = 0.0  # newcomers take part in what is expected
        self.all_free = all(state.model.free for state in self.listed)
        self._gone = {}
        for name, state in known.items():
            if name in self.models:
                state.gone_at = 0.0
                continue
            state.gone_at = state.gone_at or now
            if now - state.gone_at < KEPT:
                self._gone[name] = state
        self._prune_lanes()

    def fade(self, now: float, half_life: float) -> None:
        """Forget, in steps, what time has made old about the models."""
        if now < self._fade_at:
            return
        self._fade_at = now + FADE_STEP
        for model in self.listed:
            model.learnt.fade(now, half_life)
        for kind in (self.talking, self.embedding):
            share_prior([model.learnt for model in kind])
        for model in self.listed:
            model.score_anew()

    def set_skew(self, skew: float) -> None:
        """The upstream's clock differs from ours by this many seconds."""
        self.skew = skew
        for account in (*self.accounts.values(), *self._left.values()):
            account.quota.set_skew(skew)

    # --- breakers --------------------------------------------------------------------------------

    def path(self, model: ModelState, key: KeyState) -> Path:
        """The breakers an attempt on (key, model) goes through, made at its first use."""
        path = model.paths.get(key.name)
        if path is None:
            breakers = (
                self.provider,
                key.account.side(model.model.free),
                key.breaker,
                model.breaker,
                self.reach(model, key.account.name),
                self.lane(model, key.name),
            )
            path = model.paths[key.name] = Path(breakers, tuple(b.scope for b in breakers))
        return path

    def lane(self, model: ModelState, key: str) -> Breaker:
        """The breaker of (key, model), made at its first use."""
        lane = model.lanes.get(key)
        if lane is None:
            scope = Scope(Kind.LANE, f"{key}+{model.model.id}")
            lane = Breaker(scope, self._health, self._seed, pairs=model.pairs)
            model.lanes[key] = lane
        return lane

    def reach(self, model: ModelState, account: str) -> Breaker:
        """The breaker of (account, model), made at its first use."""
        reach = model.access.get(account)
        if reach is None:
            scope = Scope(Kind.ACCESS, f"{account}+{model.model.id}")
            reach = Breaker(scope, self._health, self._seed, window=False, pairs=model.pairs)
            model.access[account] = reach
        return reach

    def closed_pairs(self, model: ModelState, now: float) -> dict[str, float]:
        """The keys whose lane or access to a model is closed, with the moment it may be entered again.

        Kept until one of these breakers changes or the first of them opens.
        """
        if now >= model.pairs.until:
            self._summarise(model, now)
        return model.pairs.closed

    def _summarise(self, model: ModelState, now: float) -> None:
        closed = {name: lane.until for name, lane in model.lanes.items() if lane.until > now}
        shut = [(name, reach) for name, reach in model.access.items() if reach.until > now]
        for name, reach in shut:
            for key in self.accounts[name].keys:
                closed[key.name] = max(reach.until, closed.get(key.name, 0.0))
        breakers = (*model.lanes.values(), *(reach for _, reach in shut))
        model.pairs.odd = FOREVER in closed.values() or any(
            b.until > now and not b.blocked_until(now) for b in breakers
        )
        model.pairs.closed = closed
        model.pairs.until = min(closed.values(), default=FOREVER)

    def breakers(self) -> Iterator[Breaker]:
        """Every breaker there is."""
        yield self.provider
        yield self.outage
        for account in self.accounts.values():
            yield account.breaker
            yield account.paid
        yield from (key.breaker for key in self.keys.values())
        for model in self.models.values():
            yield model.breaker
            yield from model.lanes.values()
            yield from model.access.values()

    def any_offers(self, capability: str) -> bool:
        """Whether the list names a capability at all: of price or allowed providers it tells nothing."""
        return any(capability in state.model.can for state in self.models.values())

    def find(self, scope: Scope) -> tuple[Breaker, ...]:
        """The breakers of a scope by name: two for the provider and an account, none if there is no such thing."""
        match scope.kind:
            case Kind.PROVIDER:
                return (self.provider, self.outage) if scope.name == PROVIDER else ()
            case Kind.ACCOUNT:
                account = self.accounts.get(scope.name)
                return (account.breaker, account.paid) if account else ()
            case Kind.KEY:
                key = self.keys.get(scope.name)
                return (key.breaker,) if key else ()
            case Kind.MODEL:
                model = self.models.get(scope.name)
                return (model.breaker,) if model else ()
            case _:
                return self._pair(scope)

    def _pair(self, scope: Scope) -> tuple[Breaker, ...]:
        name, _, model_id = scope.name.partition("+")
        model = self.models.get(model_id)
        if model is None:
            return ()
        if scope.kind is Kind.LANE:
            return (self.lane(model, name),) if name in self.keys else ()
        return (self.reach(model, name),) if name in self.accounts else ()

    # --- inner -----------------------------------------------------------------------------------

    def _breaker(self, kind: Kind, name: str, *, window: bool = True) -> Breaker:
        return Breaker(Scope(kind, name), self._health, self._seed, window=window)

    def _account(self, account: Account, old: AccountState | None) -> AccountState:
        if old is None:
            return AccountState(
                account,
                Quota(account, self.skew),
                self._breaker(Kind.ACCOUNT, account.name, window=False),
                self._breaker(Kind.ACCOUNT, f"{account.name} (paid)", window=False),
            )
        old.account = account
        old.quota.adopt(account)
        old.keys = []
        return old

    def _key(self, key: Key, place: int, old: KeyState | None) -> KeyState:
        account = self.accounts[key.account]
        if old is None:
            old = KeyState(key, account, self._breaker(Kind.KEY, key.name), place)
        old.key, old.account, old.place = key, account, place
        account.keys.append(old)
        return old

    def _model(self, model: Model, rank: int, old: ModelState | None) -> ModelState:
        if old is None:
            return ModelState(model, rank, self._breaker(Kind.MODEL, model.id))
        old.list_as(model, rank)
        return old

    def _prune_lanes(self) -> None:
        """Forget the ways of keys and accounts that are no more."""
        for model in (*self.models.values(), *self._gone.values()):
            model.paths.clear()
            model.lanes = {k: b for k, b in model.lanes.items() if k in self.keys}
            model.access = {a: b for a, b in model.access.items() if a in self.accounts}
            model.pairs.until = 0.0
