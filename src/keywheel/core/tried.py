"""What one ask has used up, and what a later attempt of it must offer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keywheel.core.states import ModelState
from keywheel.core.types import FOREVER, Ask, Fault, Kind, Retry, Row

HALF = 0.5  # share of a model's usual time to first content that must be left for an attempt to make sense


@dataclass(slots=True)
class Tried:
    """Grows with every failed attempt of one ask."""

    lanes: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    keys: set[str] = field(
        default_factory=set[str]
    )  # spent on this ask by their own or account's fault
    models: dict[str, int] = field(default_factory=dict[str, int])  # attempts by model
    barred: set[str] = field(default_factory=set[str])  # models that cannot help this ask
    accounts: set[str] = field(default_factory=set[str])  # better another one, if there is one
    needs: set[str] = field(default_factory=set[str])
    larger_than: int = 0  # context
    left: float = FOREVER  # seconds to the deadline
    last_attempt: bool = False
    again: tuple[str, str] | None = None  # the lane to be tried once more

    @property
    def any(self) -> bool:
        """Whether an attempt was made at all."""
        return bool(self.lanes or self.keys)

    def rules_out(self, model: ModelState, ask: Ask, per_model: int) -> str | None:
        """Why a model that fits the ask is no longer of use: `context`, a capability, or `tried`."""
        name = model.model.id
        if name in self.barred or self.models.get(name, 0) >= per_model:
            return "tried"
        if model.room <= self.larger_than:
            return "context"
        if not self.needs <= model.offers:
            return min(self.needs - model.offers)
        usual = model.learnt.ttft_mean(ask.tokens)
        return "tried" if usual is not None and self.left < HALF * usual else None


def ends_model(row: Row, name: str, models: Mapping[str, ModelState], ask: Ask, now: float) -> bool:
    """Whether a failure of this row rules its model out for the ask.

    Where there is no other model to go to, another key may try the same one, as long as the failure has not closed it.
    """
    if row.retry is not Retry.NEXT_MODEL or row.blocks is Kind.PROVIDER:
        return False
    alone = ask.pinned or len(ask.models) == 1 or len(models) == 1
    model = models.get(name)
    return not alone or row.fault is Fault.CLIENT or model is None or model.breaker.until > now
