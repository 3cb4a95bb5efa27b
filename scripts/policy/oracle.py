"""The best that can be done without seeing the dice: it knows the true state of the world, but not what chance brings.

It never sends what would be refused, and among what remains it takes the model with the greatest expected utility
and the account with most requests left. What separates a policy from it is the price of not knowing.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from math import inf, log

from keywheel.core.queue import Ticket
from keywheel.core.steps import (
    Ended,
    Expired,
    Refused,
    Report,
    Result,
    Send,
    Served,
    Step,
    Try,
    Wait,
)
from keywheel.core.types import (
    Ask,
    Event,
    Failed,
    Key,
    Lease,
    Model,
    NoLane,
    Outcome,
    Verdict,
)
from keywheel.sim import World
from keywheel.sim.accounts import Ledger
from keywheel.sim.rulings import KeyView
from scripts.policy.policies import Setting

TRIES = 4
QUEUE = 10.0  # seconds it waits for a lane, as keywheel does
LOOK = 1.0  # seconds until it looks again when the models are down
PATIENCE = 30.0
HOPELESS = 0.9  # chance of failing from which on a model counts as down
FAILURE = 0.25  # what an attempt in vain costs
STEP = 0.04  # what one place in the list is worth
SLOWNESS = 0.15


def utility(rank: int, seconds: float) -> float:
    """What an answer is worth: the place of its model in the list, less its slowness."""
    return 1.0 - STEP * rank - SLOWNESS * log(1 + seconds / 2)


class Truth:
    """What is really usable."""

    def __init__(self, world: World, keys: Iterable[Key], models: Iterable[Model]) -> None:
        """`keys` in the world's order."""
        self._world = world
        self._models = tuple(models)
        records = zip(keys, world.keys, strict=True)
        self._ledgers = [(key, record.number, record.ledger) for key, record in records]

    def keys(self, now: float) -> list[tuple[int, Key, Ledger]]:
        """The keys whose next request on a free model would not be refused, with what is left of their day."""
        found: list[tuple[int, Key, Ledger]] = []
        for key, number, ledger in self._ledgers:
            ledger.settle(now)
            left = ledger.day.limit - ledger.day.used
            free = ledger.minute.used(now) < ledger.terms.minute_limit
            if number not in self._world.dead and left > 0 and free and ledger.balance >= 0:
                found.append((left, key, ledger))
        return found

    def failing(self, model: Model, now: float) -> float:
        """The chance that an attempt fails on this model."""
        endpoint = self._world.endpoints[model.id]
        if not endpoint.listed(now) or self._is_out(endpoint.model.provider, now):
            return 1.0
        return self._world.forecast(model.id, now).failing

    def _is_out(self, provider: str, now: float) -> bool:
        passed = now - (self._world.start or 0.0)
        outages = self._world.scenario.outages
        return any(o.provider == provider and o.after <= passed < o.until for o in outages)

    def worth(self, model: Model, rank: int, ask: Ask, now: float) -> float:
        """The expected utility of an attempt; -inf where there is no hope."""
        failing = self.failing(model, now)
        if failing >= HOPELESS or ask.tokens + ask.reply_tokens > model.context:
            return -inf
        forecast = self._world.forecast(model.id, now)
        usual = self._world.endpoints[model.id].behaviour.answer_tokens
        tokens = min(usual, ask.reply_tokens or usual)
        seconds = forecast.ttft + tokens / forecast.speed
        return (1 - failing) * utility(rank, seconds) - FAILURE * failing

    def best(self, ask: Ask, barred: set[str], now: float) -> Model | None:
        """The model of the greatest worth."""
        worths = [
            (self.worth(model, rank, ask, now), -rank, model)
            for rank, model in enumerate(self._models)
            if model.id not in barred
        ]
        worth, _, model = max(worths, default=(-inf, 0, None))
        return model if worth > -inf else None

    def opens(self, now: float) -> float:
        """When the first account takes a request again."""
        moments = [
            ledger.day.reset(now)
            if ledger.day.used >= ledger.day.limit
            else ledger.minute.reset(now)
            for _, number, ledger in self._ledgers
            if number not in self._world.dead and ledger.balance >= 0
        ]
        return min(moments, default=inf)

    def usable(self, now: float) -> bool:
        """Whether a small ask would probably be answered on some lane now."""
        return bool(self.keys(now)) and self.best(Ask(), set(), now) is not None


@dataclass(slots=True)
class Oracle:
    """Decides by the truth."""

    setting: Setting
    truth: Truth
    events: list[Event] = field(default_factory=list[Event])
    numbers: int = 0

    def open(self, ask: Ask, now: float) -> Generator[Step, Report, Result]:
        tries: list[Try] = []
        barred: set[str] = set()
        last: Verdict | None = None
        until = now + QUEUE
        while len(tries) < TRIES and now < ask.deadline:
            lane = self._lane(ask, barred)
            if lane is None:
                opens = self._opens(now)
                if opens > min(until, ask.deadline):
                    return Refused(tuple(tries), last, NoLane(opens, "minute"))
                now = (yield Wait(opens)).now
                continue
            lease = self._lease(*lane, now)
            report = yield Send(lease, PATIENCE, ask.deadline)
            now = report.now
            if isinstance(report, Expired):
                return Refused(tuple(tries), last, expired=True)
            if not isinstance(report, Ended) or not isinstance(report.outcome, Failed):
                return Served(lease, ())
            last = report.outcome.verdict
            tries.append(Try(lease.key, lease.account, lease.model, last.label, now - lease.at))
            barred.add(lease.model)
        return Refused(tuple(tries), last, expired=now >= ask.deadline)

    def _lane(self, ask: Ask, barred: set[str]) -> tuple[Key, Model] | None:
        now = self.setting.loop.now
        keys = self.truth.keys(now)
        model = self.truth.best(ask, barred, now) if keys else None
        if model is None:
            return None
        open_keys = [k for k in keys if not k[2].hides(model.id)] or keys
        _, key, _ = max(open_keys, key=lambda k: (-k[2].faults.total, k[0], k[1].name))
        return key, model

    def _opens(self, now: float) -> float:
        true = self.setting.loop.now
        wait = LOOK if self.truth.keys(true) else self.truth.opens(true) - true
        return now + max(0.01, wait)

    def _lease(self, key: Key, model: Model, now: float) -> Lease:
        self.numbers += 1
        return Lease(self.numbers, key.name, key.account, model.id, now, now, (), ())

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Nothing to learn."""

    def called(self, now: float) -> Iterable[Ticket]:
        """Whoever waits wakes by itself."""
        return ()

    def due(self, now: float) -> Iterable[str]:
        """Nothing to ask."""
        return ()

    def checked(self, key: str, view: KeyView | None, now: float) -> None:
        """Never asked."""

    def set_skew(self, skew: float) -> None:
        """Never asked."""

    def usable(self, now: float, tried: frozenset[str] = frozenset()) -> bool:
        """Not asked: the oracle is not held against itself."""
        return False

    def opens(self, now: float, promised: float) -> float | None:
        """Makes no promises."""
        return None
