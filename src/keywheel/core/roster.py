"""What changes about accounts, keys, models and lanes, built once and looked up by name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from keywheel.core.breaker import Breaker
from keywheel.core.policy import Health
from keywheel.core.quota import Quota
from keywheel.core.ranking import LEARNT_FOR, Learnt
from keywheel.core.types import Account, Key, Kind, Model, Scope

PROVIDER = "openrouter"
KEPT = 86_400.0  # seconds for which the state of a model that left the list is kept


@dataclass(slots=True)
class AccountState:
    """One account: its quota, its health, and the health of its paid requests apart."""

    account: Account
    quota: Quota
    breaker: Breaker
    paid: Breaker
    keys: list["KeyState"] = field(default_factory=list["KeyState"])

    @property
    def name(self) -> str:
        """The account's label."""
        return self.account.name


@dataclass(slots=True)
class KeyState:
    """One key. `last_used` is the number of its latest lease, `in_flight` its open ones."""

    key: Key
    account: AccountState
    breaker: Breaker
    last_used: int = 0
    in_flight: int = 0

    @property
    def name(self) -> str:
        """The key's label."""
        return self.key.name


@dataclass(slots=True)
class ModelState:
    """One model at its place in the list, with what was learnt about it.

    `lanes` and `access` hold only what was used; `troubled` says whether any of them may be closed.
    """

    model: Model
    rank: int
    breaker: Breaker
    learnt: Learnt = field(default_factory=Learnt)
    lanes: dict[str, Breaker] = field(default_factory=dict[str, Breaker])
    access: dict[str, Breaker] = field(default_factory=dict[str, Breaker])
    troubled: bool = False
    smaller: tuple[int, float] | None = None  # learnt context limit and until when it is believed
    gone_at: float = 0.0  # when the catalogue stopped listing it
    lacks: dict[str, float] = field(default_factory=dict[str, float])

    def context(self, now: float) -> int:
        """The context limit believed now."""
        if self.smaller and self.smaller[1] > now:
            return min(self.model.context, self.smaller[0])
        return self.model.context

    def learn_context(self, limit: int, now: float) -> None:
        """Believe a smaller context for a while."""
        self.smaller = (limit, now + LEARNT_FOR)

    def lacking(self, needs: frozenset[str], now: float) -> str | None:
        """A needed capability that an answer denied lately."""
        return next((need for need in needs if self.lacks.get(need, 0.0) > now), None)


class Roster:
    """All states by name. Reloading keeps what survives under the same name."""

    def __init__(self, health: Health, seed: str) -> None:
        self._health = health
        self._seed = seed
        self.provider = self._breaker(Kind.PROVIDER, PROVIDER)
        self.accounts: dict[str, AccountState] = {}
        self.keys: dict[str, KeyState] = {}
        self.models: dict[str, ModelState] = {}
        self._gone: dict[str, ModelState] = {}

    def set_keys(self, accounts: Iterable[Account], keys: Iterable[Key]) -> None:
        """Take a new set of accounts and keys; counters and blocks of surviving names stay."""
        old_accounts, old_keys = self.accounts, self.keys
        self.accounts = {a.name: self._account(a, old_accounts.get(a.name)) for a in accounts}
        self.keys = {k.name: self._key(k, old_keys.get(k.name)) for k in keys}
        for state in self.keys.values():
            state.account.keys.append(state)

    def set_models(self, models: Iterable[Model], now: float) -> None:
        """Take a new list of models in order of preference.

        What was learnt about surviving ids stays; of a model that left it is kept for a day, since lists flicker.
        """
        known = self._gone | self.models
        self.models = {m.id: self._model(m, rank, known.get(m.id)) for rank, m in enumerate(models)}
        self._gone = {}
        for name, state in known.items():
            if name in self.models:
                state.gone_at = 0.0
                continue
            state.gone_at = state.gone_at or now
            if now - state.gone_at < KEPT:
                self._gone[name] = state

    def lane(self, model: ModelState, key: str) -> Breaker:
        """The breaker of (key, model), made at its first use."""
        lane = model.lanes.get(key)
        if lane is None:
            lane = model.lanes[key] = self._breaker(Kind.LANE, f"{key}+{model.model.id}")
        return lane

    def reach(self, model: ModelState, account: str) -> Breaker:
        """The breaker of (account, model), made at its first use."""
        reach = model.access.get(account)
        if reach is None:
            reach = model.access[account] = self._breaker(
                Kind.ACCESS, f"{account}+{model.model.id}"
            )
        return reach

    def breakers(self) -> Iterator[Breaker]:
        """Every breaker there is."""
        yield self.provider
        for account in self.accounts.values():
            yield account.breaker
            yield account.paid
        yield from (key.breaker for key in self.keys.values())
        for model in self.models.values():
            yield model.breaker
            yield from model.lanes.values()
            yield from model.access.values()

    def find(self, scope: Scope) -> Breaker | None:
        """The breaker of a scope by name, None when there is no such thing."""
        match scope.kind:
            case Kind.PROVIDER:
                return self.provider
            case Kind.ACCOUNT:
                account = self.accounts.get(scope.name)
                return account.breaker if account else None
            case Kind.KEY:
                key = self.keys.get(scope.name)
                return key.breaker if key else None
            case Kind.MODEL:
                model = self.models.get(scope.name)
                return model.breaker if model else None
            case Kind.LANE | Kind.ACCESS:
                return self._pair(scope)

    def _pair(self, scope: Scope) -> Breaker | None:
        name, _, model_id = scope.name.partition("+")
        model = self.models.get(model_id)
        if model is None:
            return None
        if scope.kind is Kind.LANE:
            return self.lane(model, name) if name in self.keys else None
        return self.reach(model, name) if name in self.accounts else None

    def _breaker(self, kind: Kind, name: str) -> Breaker:
        return Breaker(Scope(kind, name), self._health, self._seed)

    def _account(self, account: Account, old: AccountState | None) -> AccountState:
        if old is None:
            return AccountState(
                account,
                Quota(account),
                self._breaker(Kind.ACCOUNT, account.name),
                self._breaker(Kind.ACCOUNT, f"{account.name} (paid)"),
            )
        old.account = account
        old.quota.adopt(account)
        old.keys = []
        return old

    def _key(self, key: Key, old: KeyState | None) -> KeyState:
        account = self.accounts[key.account]
        if old is None:
            return KeyState(key, account, self._breaker(Kind.KEY, key.name))
        old.key, old.account = key, account
        return old

    def _model(self, model: Model, rank: int, old: ModelState | None) -> ModelState:
        if old is None:
            return ModelState(model, rank, self._breaker(Kind.MODEL, model.id))
        old.model, old.rank = model, rank
        return old
