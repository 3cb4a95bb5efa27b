"""How the models' endpoints behave: full pools, drifting speed, faults by chance, own caps."""

from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp, inf
from random import Random

from keywheel.sim.catalogue import Model
from keywheel.sim.kinds import Kind
from keywheel.sim.quota import Day, FixedMinute
from keywheel.sim.rulings import Ask, Forecast
from keywheel.sim.spec import Behaviour, Saturation

HOUR = 3600.0


class Faults:
    """Faults by chance, each with its share."""

    def __init__(self, shares: Mapping[Kind, float]) -> None:
        self._kinds = list(shares)
        self._bounds = list(accumulate(shares.values()))
        self.total = self._bounds[-1] if self._bounds else 0.0

    def draw(self, chance: Random) -> Kind | None:
        """One of the kinds, or none."""
        if not self._bounds:
            return None
        place = bisect(self._bounds, chance.random())
        return self._kinds[place] if place < len(self._kinds) else None


class Fullness:
    """Whether a provider's pool is full. Its chance is its own: traffic does not change it."""

    def __init__(self, law: Saturation, seed: str, start: float) -> None:
        self._law = law
        self._chance = Random(seed)
        self._start = start
        self._full = self._chance.random() < law.mean_on / (law.mean_on + law.mean_off)
        self._until = start + self._stay()

    def at(self, now: float) -> bool:
        """Whether it is full at this moment."""
        if self._law.windows:
            passed = now - self._start
            return any(after <= passed < until for after, until in self._law.windows)
        while now >= self._until:
            self._full = not self._full
            self._until += self._stay()
        return self._full

    def _stay(self) -> float:
        mean = self._law.mean_on if self._full else self._law.mean_off
        return self._chance.expovariate(1 / mean)


@dataclass(frozen=True, slots=True)
class Course:
    """How an answer comes about when nothing goes wrong."""

    seconds: float
    tokens_per_second: float
    completion_tokens: int
    reasoning_tokens: int
    finish: str


REFUSED = Course(0.0, 0.0, 0, 0, "error")


def _wordless(finish: str) -> Callable[[Course], Course]:
    return lambda course: replace(course, completion_tokens=0, reasoning_tokens=0, finish=finish)


# How a fault changes the course that the answer would have taken.
COURSES: dict[Kind, Callable[[Course], Course]] = {
    Kind.EMPTY: _wordless("stop"),
    Kind.FINISH_ERROR: _wordless("error"),
    Kind.ALL_REASONING: lambda course: replace(
        course, reasoning_tokens=course.completion_tokens, finish="length"
    ),
    Kind.SILENT: lambda course: replace(course, seconds=inf),
}


class Endpoint:
    """One model, live."""

    def __init__(self, model: Model, behaviour: Behaviour, seed: str, start: float) -> None:
        self.model = model
        self.behaviour = behaviour
        self.context = behaviour.context or model.context
        self._start = start
        self._seed = f"{seed}/{model.id}"
        self._faults = Faults(behaviour.faults)
        law = behaviour.saturation
        self._fullness = Fullness(law, f"{self._seed}/full", start) if law else None
        self._minute = FixedMinute(behaviour.minute_cap) if behaviour.minute_cap else None
        self._day = Day(behaviour.day_cap, 0.0) if behaviour.day_cap else None
        self._hour, self._slowness = -1.0, 1.0

    def listed(self, now: float) -> bool:
        """Whether the catalogue has it at this moment."""
        passed, rules = now - self._start, self.behaviour
        joined = rules.joins_after is None or passed >= rules.joins_after
        return joined and (rules.leaves_after is None or passed < rules.leaves_after)

    def capped(self, now: float) -> Kind | None:
        """Count an attempt on the model's own caps; the one that is spent, if any."""
        if self._minute and not self._minute.take(now):
            return Kind.MODEL_CAPACITY
        if self._day and not self._day.take(now):
            return Kind.MODEL_DAY
        return None

    def refuse(self, chance: Random, now: float) -> Kind | None:
        """What the provider does instead of answering, if anything."""
        if self.full(now) and chance.random() < self._law.refuses:
            hint = chance.random() < self.behaviour.hint_share
            return Kind.UPSTREAM_HINT if hint else Kind.UPSTREAM_POOL
        return self._faults.draw(chance)

    def full(self, now: float) -> bool:
        """Whether the provider's pool is full at this moment."""
        return self._fullness is not None and self._fullness.at(now)

    def course(self, chance: Random, ask: Ask, now: float) -> Course:
        """Draw the course of an answer."""
        rules, slowness = self.behaviour, self.slowness(now)
        wanted = int(rules.answer_tokens * _spread(chance, rules.answer_spread)) + 1
        allowed = min(ask.max_tokens or wanted, self.model.max_output)
        tokens = max(1, min(wanted, allowed))
        thinks = self.model.reasons and not ask.reasoning_off
        return Course(
            seconds=rules.ttft * slowness * _spread(chance, rules.ttft_spread),
            tokens_per_second=rules.speed / slowness * _spread(chance, rules.speed_spread),
            completion_tokens=tokens,
            reasoning_tokens=int(tokens * rules.reasoning_share) if thinks else 0,
            finish="length" if allowed < wanted else "stop",
        )

    def slowness(self, now: float) -> float:
        """This hour's factor on times."""
        hour = now // HOUR
        if self.behaviour.drift and hour != self._hour:
            weather = Random(f"{self._seed}/{hour}")
            self._hour, self._slowness = hour, exp(self.behaviour.drift * weather.gauss(0, 1))
        return self._slowness

    def forecast(self, now: float) -> Forecast:
        """The true state, without changing it."""
        full, slowness, faults = self.full(now), self.slowness(now), self._faults.total
        refused = self._law.refuses if full else 0.0
        return Forecast(
            full=full,
            ttft=self.behaviour.ttft * slowness,
            speed=self.behaviour.speed / slowness,
            failing=refused + (1 - refused) * faults,
        )

    @property
    def _law(self) -> Saturation:
        return self.behaviour.saturation or Saturation()


def _spread(chance: Random, sigma: float) -> float:
    return exp(sigma * chance.gauss(0, 1)) if sigma else 1.0
