"""How many lanes keywheel keeps closed although nothing is wrong with them, looked at once a minute."""

from dataclasses import dataclass, field

from keywheel.core.breaker import Breaker
from keywheel.core.types import FOREVER
from scripts.policy.oracle import Truth
from scripts.policy.policies import Keywheel, Setting
from scripts.policy.scenarios import Fault

SICK = 0.5  # chance of failing from which on a model is truly unwell
EVERY = 60.0


@dataclass(slots=True)
class Health:
    """Lane-minutes in which a lane was truly healthy, and those in which it was closed all the same.

    `disabled`: by an error rate or without end; `cooling`: by a block that ends by itself. `lingering`: seconds for
    which a scope stayed closed after its fault had ended.
    """

    healthy: int = 0
    disabled: int = 0
    cooling: int = 0
    lingering: list[float] = field(default_factory=list[float])

    def look(
        self, policy: Keywheel, setting: Setting, truth: Truth, now: float, clock: float
    ) -> None:
        """Count every lane at this moment."""
        roster = policy.pool.roster
        alive = [(key.name, ledger) for _, key, ledger in truth.keys(now)]
        models = [m for m in setting.models if truth.failing(m, now) < SICK]
        for model in models:
            state = roster.models[model.id]
            for name in (name for name, ledger in alive if not ledger.hides(model.id)):
                key = roster.keys[name]
                path = roster.path(state, key).breakers
                closed = [b for b in (*path, roster.outage) if b.until > clock]
                self.healthy += 1
                if closed:
                    off = any(_is_disabled(b, clock) for b in closed)
                    self.disabled += off
                    self.cooling += not off

    def end(self, fault: Fault, policy: Keywheel, clock: float) -> None:
        """A fault is over: see how long its models are still kept closed."""
        breakers = (policy.pool.roster.models[name].breaker for name in sorted(fault.models))
        self.lingering += [max(0.0, breaker.until - clock) for breaker in breakers]


def _is_disabled(breaker: Breaker, clock: float) -> bool:
    tripped = breaker.open_until is not None and breaker.open_until > clock
    return tripped or breaker.until == FOREVER
