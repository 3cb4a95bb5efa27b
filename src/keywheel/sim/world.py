"""The simulated service as a pure world: every call takes `now`, chance comes from one seed.

The order of checks is not documented upstream; this is a plausible one: who calls → is the request
sound → money → the platform's minute → its day → routing (model, privacy, capability, context) →
the model's own cap → the provider.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from random import Random
from re import compile as pattern

from keywheel.sim.accounts import KeyRecord, Ledger
from keywheel.sim.catalogue import Model, fixture_models, model_of
from keywheel.sim.endpoints import COURSES, REFUSED, Course, Endpoint
from keywheel.sim.figures import Figures, Scene, figures
from keywheel.sim.kinds import COMMITTED, FINAL, UPSTREAM, Kind
from keywheel.sim.routing import obstacle
from keywheel.sim.rulings import Ask, Forecast, KeyView, Note, Ruling
from keywheel.sim.scenarios import CALM, account_keys, demo_keys
from keywheel.sim.spec import Behaviour, Scenario

WELL_FORMED = pattern("sk-or-v1-[0-9a-f]{64}")


@dataclass(slots=True)
class Script:
    """A fault to be served before chance."""

    kind: Kind
    key: int | None
    model: str | None
    times: int

    def fits(self, key: int, asked: str, model: str) -> bool:
        """Whether this one is meant for an attempt."""
        return self.key in {None, key} and self.model in {None, asked, model}


class World:
    """Accounts, keys and models with their true state. Not safe for threads."""

    def __init__(
        self,
        scenario: Scenario = CALM,
        seed: int = 0,
        *,
        start: float | None = None,
        models: Iterable[Model] | None = None,
    ) -> None:
        """Without `start` the world begins with the first call. `models`: the bundled list.

        The scenario's extra models stand behind them.
        """
        self.scenario = scenario
        self.seed = seed
        listed = fixture_models() if models is None else models
        self._rows = (*listed, *(model_of(row) for row in scenario.extra_models))
        self._given_start = start
        self.reset()

    def reset(self) -> None:
        """Begin again: same scenario, same seed, nothing used, nothing scripted."""
        self.start: float | None = None
        self.scripts: list[Script] = []
        self.journal: deque[Note] = deque(maxlen=self.scenario.journal)
        self.kinds: Counter[Kind] = Counter()
        self.ledgers: list[Ledger] = []
        self.keys: list[KeyRecord] = []
        self.dead: set[int] = set()  # numbers of revoked keys
        self.endpoints: dict[str, Endpoint] = {}
        self._by_key: dict[str, KeyRecord] = {}
        self._chance = Random(f"{self.seed}")
        self._number = 0
        if self._given_start is not None:
            self._begin(self._given_start)

    # --- asking ----------------------------------------------------------------------------------

    def attempt(self, key: str, ask: Ask, now: float) -> Ruling:
        """Decide one request: counts it, draws its course, notes it."""
        self._begin(now)
        self._number += 1
        ruling = self._judge(key, ask, now)
        self.journal.append(
            Note(now, ruling.key, ruling.account, ruling.model_name, ruling.kind, ask.stream)
        )
        self.kinds[ruling.kind] += 1
        return ruling

    def key(self, key: str, now: float) -> KeyView | None:
        """What `GET /key` tells; None for an unknown key. Costs no quota."""
        record = self._valid(key, now)
        return record.view(now, counter=self.scenario.daily_counter) if record else None

    def models(self, now: float) -> list[Model]:
        """The catalogue of this moment."""
        self._begin(now)
        return [each.model for each in self.endpoints.values() if each.listed(now)]

    def models_for(self, key: str, now: float) -> list[Model] | None:
        """What the key's account may call of the catalogue; None for an unknown key."""
        record = self._valid(key, now)
        if record is None:
            return None
        return [model for model in self.models(now) if not record.ledger.hides(model.id)]

    def forecast(self, model: str, now: float) -> Forecast:
        """The true state of a model, for oracles. Raises KeyError."""
        self._begin(now)
        return self.endpoints[model].forecast(now)

    # --- changing the world ----------------------------------------------------------------------

    def script(
        self, kind: str, key: str | int | None = None, model: str | None = None, times: int = 1
    ) -> None:
        """Serve `kind` to the next `times` attempts that fit, before chance; first script first.

        `key` is a key or its place in `demo_keys`, `model` an id as asked or as chosen. Such an
        attempt counts as any other. Raises ValueError: unknown kind or key, or no times.
        """
        if times < 1:
            raise ValueError("a script is served at least once")
        number = self._place(key) if isinstance(key, str) else key
        self.scripts.append(Script(Kind(kind), number, model, times))

    def _place(self, key: str) -> int:
        if key in self._by_key:
            return self._by_key[key].number
        listed = demo_keys(self.scenario)
        if key not in listed:
            raise ValueError("no such key in this world")
        return listed.index(key)

    def _begin(self, now: float) -> None:
        if self.start is not None:
            return
        self.start = now
        for place, keys in enumerate(account_keys(self.scenario)):
            terms = self.scenario.accounts[place]
            ledger = Ledger(terms, terms.name or f"account-{place + 1}", self.scenario, now)
            self.ledgers.append(ledger)
            self.dead.update(len(self.keys) + position for position in terms.dead_keys)
            for key in keys:
                self._admit(key, ledger)
        for model in self._rows:
            behaviour = self._behaviour(model.id)
            self.endpoints[model.id] = Endpoint(model, behaviour, f"{self.seed}", now)

    def _admit(self, key: str, ledger: Ledger) -> KeyRecord:
        mask = f"{key[:12]}...{key[-3:]}"  # as the service labels keys
        record = KeyRecord(ledger, len(self.keys), mask)
        self.keys.append(record)
        self._by_key[key] = record
        return record

    def _behaviour(self, model: str) -> Behaviour:
        for name, behaviour in self.scenario.models.items():
            if fnmatchcase(model, name):
                return behaviour
        return self.scenario.behaviour

    # --- deciding --------------------------------------------------------------------------------

    def _record(self, key: str, now: float) -> KeyRecord | None:
        """The state behind a key. A well-formed key that nobody listed may open an account."""
        self._begin(now)
        known = self._by_key.get(key)
        if known or not self.scenario.open_keys or not WELL_FORMED.fullmatch(key):
            return known
        name = f"account-{len(self.ledgers) + 1}"
        ledger = Ledger(self.scenario.open_account, name, self.scenario, now)
        self.ledgers.append(ledger)
        return self._admit(key, ledger)

    def _valid(self, key: str, now: float) -> KeyRecord | None:
        record = self._record(key, now)
        return None if record is None or record.number in self.dead else record

    def _judge(self, key: str, ask: Ask, now: float) -> Ruling:
        record = self._record(key, now)
        names = ask.models or (self.scenario.default_model,)
        if record is None or record.number in self.dead:
            kind = Kind.KEY_UNKNOWN if key else Kind.NO_KEY
            return self._rule(kind, record, ask, now, names[0], None)
        if ask.flaw:
            return self._rule(ask.flaw, record, ask, now, names[0], None)
        return self._walk(record, ask, now, names)

    def _walk(self, record: KeyRecord, ask: Ask, now: float, names: tuple[str, ...]) -> Ruling:
        """Try the models in turn; the first that is not refused ends it, else the last refusal."""
        refused: list[Ruling] = []
        counted, shut = False, None
        for asked in names:
            model = self._choose(asked, record.ledger, ask, now)
            free = model.free if model else asked.endswith(":free")
            if free and (self.scenario.count_each_model or not counted):
                counted, shut = True, record.ledger.count(now)
            kind = (
                self._scripted(record, asked, model)
                or record.ledger.charge(paid=model is not None and not model.free)
                or (shut if free else None)
                or self._route(asked, model, record.ledger, ask, now)
                or self._send(model, record.ledger, ask, now)
            )
            ruling = self._rule(kind, record, ask, now, asked, model)
            if kind in COMMITTED or kind in FINAL:
                return ruling
            refused.append(ruling)
        *previous, last = refused
        return replace(last, previous=tuple(previous)) if previous else last

    def _choose(self, asked: str, ledger: Ledger, ask: Ask, now: float) -> Model | None:
        """The model of that id; for a router one of those it may choose, else the router itself."""
        endpoint = self.endpoints.get(asked)
        if endpoint is None:
            return None
        router = endpoint.model
        if not router.router:
            return router
        fitting = [
            each.model
            for each in self.endpoints.values()
            if each.model.free == router.free
            and each.model.text_only
            and self._route(each.model.id, each.model, ledger, ask, now) is None
        ]
        return self._chance.choice(fitting) if fitting else router

    def _scripted(self, record: KeyRecord, asked: str, model: Model | None) -> Kind | None:
        for script in self.scripts:
            if script.fits(record.number, asked, model.id if model else asked):
                script.times -= 1
                if script.times == 0:
                    self.scripts.remove(script)
                return script.kind
        return None

    def _route(
        self, asked: str, model: Model | None, ledger: Ledger, ask: Ask, now: float
    ) -> Kind | None:
        if model is None:
            return Kind.GONE if asked in self.scenario.gone else Kind.BAD_MODEL
        endpoint = self.endpoints[model.id]
        if not endpoint.listed(now):
            paid = model.id.removesuffix(":free")
            return Kind.ENDED if paid != model.id and paid in self.endpoints else Kind.GONE
        return Kind.NO_FALLBACK if model.router else obstacle(endpoint, ledger, ask)

    def _send(self, model: Model | None, ledger: Ledger, ask: Ask, now: float) -> Kind:
        if model is None:
            raise AssertionError("a model that does not exist has been routed")
        endpoint = self.endpoints[model.id]
        if (ask.max_tokens or 0) * model.completion_price > max(0.0, ledger.balance):
            return Kind.AFFORD
        return (
            endpoint.capped(now)
            or self._outage(model.provider, now)
            or endpoint.refuse(self._chance, now)
            or ledger.faults.draw(self._chance)
            or Kind.OK
        )

    def _outage(self, provider: str, now: float) -> Kind | None:
        passed = now - (self.start or 0.0)
        for outage in self.scenario.outages:
            if outage.provider == provider and outage.after <= passed < outage.until:
                return outage.kind
        return None

    # --- the ruling ------------------------------------------------------------------------------

    def _rule(
        self,
        kind: Kind,
        record: KeyRecord | None,
        ask: Ask,
        now: float,
        asked: str,
        model: Model | None,
    ) -> Ruling:
        course = self._course(kind, model, ask, now)
        told = self._figures(kind, record, model, now)
        return Ruling(
            kind=kind,
            at=now,
            number=self._number,
            stream=ask.stream,
            key=record.label if record else "unknown",
            account=record.ledger.name if record else "",
            user_id=record.ledger.user_id if record else "",
            asked=asked,
            model=model,
            served_as=self._served_as(kind, asked, model),
            seconds=course.seconds,
            tokens_per_second=course.tokens_per_second,
            prompt_tokens=ask.prompt_tokens,
            completion_tokens=course.completion_tokens,
            reasoning_tokens=course.reasoning_tokens,
            finish=course.finish,
            cost=_charge(kind, record, model, ask, course),
            limit=told.limit,
            reset=told.reset,
            retry_after=told.retry_after,
        )

    def _course(self, kind: Kind, model: Model | None, ask: Ask, now: float) -> Course:
        if model is None or kind not in UPSTREAM:
            return replace(REFUSED, seconds=self.scenario.refusal_seconds)
        course = self.endpoints[model.id].course(self._chance, ask, now)
        change = COURSES.get(kind)
        return change(course) if change else course

    def _served_as(self, kind: Kind, asked: str, model: Model | None) -> str:
        if model is None:
            return asked
        dated = kind in COMMITTED and self._chance.random() < self.scenario.dated_slugs
        return model.slug + model.suffix if dated else model.id

    def _figures(
        self, kind: Kind, record: KeyRecord | None, model: Model | None, now: float
    ) -> Figures:
        if record is None:
            return Figures()
        endpoint = self.endpoints[model.id] if model else None
        return figures(kind, Scene(record.ledger, endpoint, now, self._chance))


def _charge(
    kind: Kind, record: KeyRecord | None, model: Model | None, ask: Ask, course: Course
) -> float:
    """Take the price of an answer from the account; what it was, USD."""
    if model is None or record is None or model.free or kind not in COMMITTED:
        return 0.0
    cost = model.prompt_price * ask.prompt_tokens
    cost += model.completion_price * course.completion_tokens
    record.ledger.usage += cost
    return cost
