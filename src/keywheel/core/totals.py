"""Sums over requests and attempts, whatever the span of time."""

from dataclasses import dataclass, fields

from keywheel.core.types import Attempted, Finished

RATE_LIMITS = frozenset({"18", "19", "20", "20c", "21", "22"})  # rows that are some 429


@dataclass(slots=True)
class Totals:
    """`fallbacks`: requests that needed more than one attempt."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    abandoned: int = 0
    attempts: int = 0
    fallbacks: int = 0
    rate_limited: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0

    def attempted(self, event: Attempted) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.rate_limited += event.row.partition(" ")[0] in RATE_LIMITS
        self.tokens_in += event.tokens_in
        self.tokens_out += event.tokens_out
        self.cost_usd += event.cost

    def finished(self, event: Finished) -> None:
        """Count one request."""
        self.requests += 1
        self.fallbacks += event.attempts > 1
        match event.outcome:
            case "ok":
                self.succeeded += 1
            case "failed":
                self.failed += 1
            case _:
                self.abandoned += 1

    def merge(self, more: "Totals") -> None:
        """Count what another worker counted."""
        for each in fields(Totals):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))
