"""The policies that are compared: the real core, and what people write instead.

The rivals know nothing of quotas: they learn by being refused. Each gives up a silent attempt after 30 s.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

from keywheel.core import policy as core
from keywheel.core.attempts import attempts
from keywheel.core.pool import Pool
from keywheel.core.queue import LENGTH, Queue, Ticket
from keywheel.core.quota import Reading
from keywheel.core.selection import choose
from keywheel.core.steps import Ended, Expired, Refused, Report, Result, Send, Served, Step, Try
from keywheel.core.tried import Tried
from keywheel.core.types import (
    DAY,
    Account,
    Answered,
    Ask,
    Event,
    Failed,
    Key,
    Lease,
    Model,
    NoLane,
    Outcome,
    Retry,
    Verdict,
)
from keywheel.sim import World
from keywheel.sim.rulings import KeyView
from scripts.policy.harness import Policy
from scripts.policy.loop import Loop

PATIENCE = 30.0  # seconds a rival waits for the first content
TRIES = 4  # attempts of a rival, as many as keywheel makes
COOL = 60.0  # seconds of a plain cool-down
NEAR = 1.0  # seconds by which a promise may be off

Lane = tuple[Key, Model]


@dataclass(frozen=True, slots=True)
class Setting:
    """What every policy is given. `accounts`: the account of each key, in the world's order. World and loop are
    for the oracle alone."""

    keys: tuple[Key, ...]
    models: tuple[Model, ...]
    seed: str
    world: World
    loop: Loop


class Keywheel:
    """The real core."""

    def __init__(self, setting: Setting) -> None:
        self.events: list[Event] = []
        self.pool = Pool(core.Policy(), setting.seed)
        names = dict.fromkeys(key.account for key in setting.keys)
        self.pool.set_keys([Account(name) for name in names], setting.keys)
        self.pool.set_models(setting.models, setting.loop.now)

    def open(self, ask: Ask, now: float) -> Generator[Step, Report, Result]:
        return attempts(self.pool, ask, now, self.events)

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        self.events.extend(self.pool.settle(lease, outcome, now))

    def called(self, now: float) -> Iterable[Ticket]:
        self.pool.dispatch(now)
        return self.pool.queue.called()

    def due(self, now: float) -> Iterable[str]:
        self.events.extend(self.pool.expire(now))
        return self.pool.due_checks(now)

    def checked(self, key: str, view: KeyView | None, now: float) -> None:
        if view is None:
            self.events.extend(self.pool.key_is_bad(key, "bad-key", now))
            return
        self.events.extend(self.pool.key_is_good(key, Reading(view.used, view.limit), now))

    def set_skew(self, skew: float) -> None:
        self.pool.set_skew(skew)

    def usable(self, now: float, tried: frozenset[str] = frozenset()) -> bool:
        pool, barred = self.pool, Tried(barred=set(tried))
        return choose(pool.roster, pool.policy, Ask(), barred, now) is not None

    def opens(self, now: float, promised: float) -> float | None:
        """To 0.1 s. Copies are asked, for a pool that has seen a later moment forgets what lies behind it."""
        if len(self.pool.queue) >= LENGTH:
            return None  # what is promised is a place in the line
        early, late = max(now, promised - NEAR), promised
        if self._copy().usable(early):
            early, late = now, early
        while not self._copy().usable(late):
            if late > promised + DAY:
                return late
            early, late = late, promised + max(NEAR, 2 * (late - promised))
        while late - early > 0.1:
            middle = (early + late) / 2
            early, late = (early, middle) if self._copy().usable(middle) else (middle, late)
        return late

    def _copy(self) -> Pool:
        """Without those who wait: they are asks under way, which cannot be copied."""
        return deepcopy(self.pool, {id(self.pool.queue): Queue()})


@dataclass(slots=True)
class Rival:
    """What the rivals share: lanes are tried in the order of `plan` until one answers."""

    setting: Setting
    events: list[Event] = field(default_factory=list[Event])
    numbers: int = 0
    now: float = 0.0

    def plan(self, ask: Ask) -> Iterator[Lane]:
        """The lanes to be tried, decided one by one as the failures come."""
        raise NotImplementedError

    def learn(self, lane: Lane, verdict: Verdict | None) -> None:
        """An attempt has ended; None: well."""

    def open(self, ask: Ask, now: float) -> Generator[Step, Report, Result]:
        tries: list[Try] = []
        last: Verdict | None = None
        self.now = now
        for lane in self.plan(ask):
            lease = self._lease(lane)
            report = yield Send(lease, PATIENCE, ask.deadline)
            self.now = report.now
            if isinstance(report, Expired):
                return Refused(tuple(tries), last, expired=True)
            if not isinstance(report, Ended) or not isinstance(report.outcome, Failed):
                self.learn(lane, None)
                return Served(lease, tuple(tries))
            last = report.outcome.verdict
            self.learn(lane, last)
            took = report.now - lease.at
            tries.append(Try(lease.key, lease.account, lease.model, last.label, took))
            if last.passthrough and last.row.retry is Retry.RETURN:
                break
        if last is None:
            return Refused((), None, NoLane(None, "health"))
        return Refused(tuple(tries), last)

    def called(self, now: float) -> Iterable[Ticket]:
        """Nobody waits."""
        return ()

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Answered):
            return
        key = next(key for key in self.setting.keys if key.name == lease.key)
        model = next(model for model in self.setting.models if model.id == lease.model)
        self.now = now
        self.learn((key, model), outcome.verdict if isinstance(outcome, Failed) else None)

    def due(self, now: float) -> Iterable[str]:
        return ()

    def checked(self, key: str, view: KeyView | None, now: float) -> None:
        raise AssertionError("rivals do not ask GET /key")

    def set_skew(self, skew: float) -> None:
        raise AssertionError("rivals do not compare clocks")

    def usable(self, now: float, tried: frozenset[str] = frozenset()) -> bool:
        return False

    def opens(self, now: float, promised: float) -> float | None:
        return None

    def _lease(self, lane: Lane) -> Lease:
        self.numbers += 1
        key, model = lane
        return Lease(self.numbers, key.name, key.account, model.id, self.now, self.now, (), ())


def fitting(models: Sequence[Model], ask: Ask) -> list[Model]:
    """The models whose context holds the prompt."""
    return [model for model in models if ask.tokens + ask.reply_tokens <= model.context]


@dataclass(slots=True)
class RoundRobin(Rival):
    """Keys in turn, models in their order; on a failure the next key and the next model. No memory."""

    turn: int = 0

    def plan(self, ask: Ask) -> Iterator[Lane]:
        keys, models = self.setting.keys, fitting(self.setting.models, ask)
        for number in range(TRIES):
            key = keys[self.turn % len(keys)]
            self.turn += 1
            yield key, models[number % len(models)]


@dataclass(slots=True)
class StrictOrder(Rival):
    """The first key and the first model that are not cooling. A 429 cools the key, another failure the model."""

    cool: dict[str, float] = field(default_factory=dict[str, float])

    def plan(self, ask: Ask) -> Iterator[Lane]:
        tried: set[Lane] = set()
        for _ in range(TRIES):
            lanes = (
                (key, model)
                for model in fitting(self.setting.models, ask)
                for key in self.setting.keys
                if self._warm(key.name) and self._warm(model.id)
            )
            lane = next((lane for lane in lanes if lane not in tried), None)
            if lane is None:
                return
            tried.add(lane)
            yield lane

    def learn(self, lane: Lane, verdict: Verdict | None) -> None:
        if verdict is not None:
            key, model = lane
            self.cool[key.name if verdict.status in (401, 429) else model.id] = self.now + COOL

    def _warm(self, name: str) -> bool:
        return self.cool.get(name, 0.0) <= self.now


@dataclass(slots=True)
class AnyLane(Rival):
    """A key and a model by chance, each time anew."""

    chance: Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = Random(f"{self.setting.seed}/random")

    def plan(self, ask: Ask) -> Iterator[Lane]:
        models = fitting(self.setting.models, ask)
        for _ in range(TRIES):
            yield self.chance.choice(self.setting.keys), self.chance.choice(models)


@dataclass(slots=True)
class Founding(Rival):
    """The founding document taken literally: keys in turn, a key with more than 50 % errors disabled for five
    minutes, models in a fixed order that fit the prompt, fall back over all keys and models until the deadline.

    Its share of errors counts since the key was last enabled, from five requests on.
    """

    turn: int = 0
    good: Counter[str] = field(default_factory=Counter[str])
    bad: Counter[str] = field(default_factory=Counter[str])
    disabled: dict[str, float] = field(default_factory=dict[str, float])

    def plan(self, ask: Ask) -> Iterator[Lane]:
        keys = self.setting.keys
        for model in fitting(self.setting.models, ask):
            for _ in keys:
                key = keys[self.turn % len(keys)]
                self.turn += 1
                if self.disabled.get(key.name, 0.0) <= self.now:
                    yield key, model

    def learn(self, lane: Lane, verdict: Verdict | None) -> None:
        name = lane[0].name
        (self.good if verdict is None else self.bad)[name] += 1
        total = self.good[name] + self.bad[name]
        if total >= 5 and self.bad[name] * 2 > total:
            self.disabled[name] = self.now + 300.0
            del self.good[name], self.bad[name]


POLICIES: Mapping[str, Callable[[Setting], Policy]] = {
    "keywheel": Keywheel,
    "founding": Founding,
    "round-robin": RoundRobin,
    "strict-order": StrictOrder,
    "random": AnyLane,
}
