"""The arithmetic of the benchmark: percentiles, arrivals, costs, and the figures as values."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from statistics import median

Rounds = Sequence[Sequence[float]]  # samples, round by round


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value: the median of the rounds, if there were any. Their spread shows how far to trust it."""

    value: float
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a figure for every target."""

    title: str
    figures: Mapping[str, Figure]
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A table. `ratio`: the first target divided by the last is the point of it."""

    title: str
    rows: tuple[Row, ...]
    ratio: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, between two neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests start, in seconds from now: independent clients (Poisson), `rate` a second on average."""
    chance = random.Random(seed)
    times: list[float] = []
    at = chance.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += chance.expovariate(rate)
    return times


def per_event(long: float, short: float, events: int) -> float:
    """What one event costs, from a request with `events` more of them than the short one has."""
    return (long - short) / events


def middle(rounds: Sequence[float]) -> Figure:
    """The median of the rounds; not a number if one of them is none, because it could not be measured."""
    if not all(map(isfinite, rounds)):
        return Figure(nan)
    return Figure(median(rounds), tuple(rounds))


def ratios(upper: Figure, lower: Figure) -> Figure:
    """One figure in multiples of another, and the same round by round."""
    value = _ratio(upper.value, lower.value)
    if not (upper.rounds and lower.rounds):
        return Figure(value)
    pairs = zip(upper.rounds, lower.rounds, strict=True)
    return Figure(value, tuple(_ratio(a, b) for a, b in pairs))


def level(rounds: Rounds, share: float) -> Figure:
    """A percentile of the samples, by round."""
    return middle([percentile(samples, share) if samples else nan for samples in rounds])


def added(through: Rounds, direct: Rounds, share: float) -> Figure:
    """How much higher a percentile is through a proxy than without one, by round."""
    upper, lower = level(through, share), level(direct, share)
    if not upper.rounds:
        return upper
    return middle([a - b for a, b in zip(upper.rounds, lower.rounds, strict=True)])


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower > 0 else nan
