"""The numbers that refusals carry: limits, resets, hints. One row a kind; kinds without a row carry none."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from keywheel.sim.accounts import Ledger
from keywheel.sim.endpoints import Endpoint
from keywheel.sim.kinds import Kind
from keywheel.sim.quota import DAY, MINUTE

SHARED_MINUTE, SHARED_DAY = 15, 5000  # caps of a shared model as captured, where none is set
LONGEST_HINT = 20.0  # seconds; captured hints were 1 and 17
OVERLOADED_HINT, IN_FLIGHT_HINT = 60.0, 5.0
KEY_CAP = 20  # USD a week, as in the text of a capped key
MONDAY = 4  # days from 1970-01-01, a Thursday, to the first Monday


class Figures(NamedTuple):
    """Limit, moment of the reset (UTC seconds), seconds to wait."""

    limit: int = 0
    reset: float | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Who asked what, and when."""

    ledger: Ledger
    endpoint: Endpoint | None
    now: float
    chance: Random


def figures(kind: Kind, scene: Scene) -> Figures:
    """What a refusal of this kind says."""
    row = ROWS.get(kind)
    return row(scene) if row else Figures()


def _minute(scene: Scene) -> Figures:
    return Figures(scene.ledger.terms.minute_limit, scene.ledger.minute.reset(scene.now))


def _day(scene: Scene) -> Figures:
    return Figures(scene.ledger.day.limit, scene.ledger.day.reset(scene.now))


def _model_capacity(scene: Scene) -> Figures:
    cap = scene.endpoint.behaviour.minute_cap if scene.endpoint else None
    return Figures(cap or SHARED_MINUTE, (scene.now // MINUTE + 1) * MINUTE)


def _model_day(scene: Scene) -> Figures:
    cap = scene.endpoint.behaviour.day_cap if scene.endpoint else None
    return Figures(cap or SHARED_DAY)


def _key_limit(scene: Scene) -> Figures:
    today = scene.now // DAY
    return Figures(KEY_CAP, (today + 7 - (today - MONDAY) % 7) * DAY)


def _context(scene: Scene) -> Figures:
    return Figures(scene.endpoint.context if scene.endpoint else 0)


def _afford(scene: Scene) -> Figures:
    price = scene.endpoint.model.completion_price if scene.endpoint else 0.0
    return Figures(max(0, int(scene.ledger.balance / price)) if price else 0)


ROWS: dict[Kind, Callable[[Scene], Figures]] = {
    Kind.MINUTE: _minute,
    Kind.DAY: _day,
    Kind.MODEL_CAPACITY: _model_capacity,
    Kind.MODEL_DAY: _model_day,
    Kind.KEY_LIMIT: _key_limit,
    Kind.CONTEXT: _context,
    Kind.AFFORD: _afford,
    Kind.UPSTREAM_HINT: lambda scene: Figures(retry_after=scene.chance.uniform(0.5, LONGEST_HINT)),
    Kind.OVERLOADED: lambda _: Figures(retry_after=OVERLOADED_HINT),
    Kind.IN_FLIGHT: lambda _: Figures(retry_after=IN_FLIGHT_HINT),
}
