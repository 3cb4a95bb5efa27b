"""What paid models may cost: nothing, unless `models.allow_paid` says otherwise, and then up to a daily sum.

The most that a request can cost is set aside before it is sent and replaced by its real cost afterwards, so that
requests under way at the same time cannot pass the sum together.
"""

from dataclasses import dataclass, field

from keywheel.core.types import DAY, Ask, Model

MEDIA = frozenset({"image", "audio", "video", "file"})
LONG_REPLY = 4_096  # tokens of an answer when neither the request nor the model has a limit


def at_most(model: Model, ask: Ask, stretch: float) -> float | None:
    """USD that an answer can cost by the listed prices; None when nobody can tell."""
    price = model.price
    if price.media and ask.needs & MEDIA:
        return None
    reply = ask.reply_tokens or model.max_output or LONG_REPLY
    return ask.tokens * stretch * price.prompt + reply * price.completion + price.request


@dataclass(slots=True)
class Purse:
    """The money of one UTC day. `cap` in USD."""

    cap: float = 0.0
    spent: float = 0.0
    _day: int = 0
    _aside: dict[int, float] = field(default_factory=dict[int, float])

    def left(self, now: float) -> float:
        """USD that may still be spent today."""
        if int(now // DAY) != self._day:
            self._day, self.spent = int(now // DAY), 0.0
        return self.cap - self.spent - sum(self._aside.values())

    def spent_on(self, now: float) -> float:
        """USD spent today, with what is set aside: after a restart nobody would know how that ended."""
        return self.cap - self.left(now)

    def recall(self, now: float, usd: float) -> None:
        """So much was spent today before a restart."""
        self.left(now)
        self.spent = max(self.spent, usd)

    def set_aside(self, number: int, usd: float) -> None:
        """A request is about to be sent that can cost as much."""
        self._aside[number] = usd

    def pay(self, number: int, usd: float | None, now: float) -> None:
        """It is over. None: nobody said what it cost, so it counts as what was set aside."""
        aside = self._aside.pop(number, 0.0)
        self.left(now)
        self.spent += aside if usd is None else usd
