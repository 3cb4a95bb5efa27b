"""What must hold, each line with its measured figure (routing rule B.3, design §5). A gate is never loosened: one that
does not hold is shown as such."""

from collections.abc import Iterable
from typing import NamedTuple

from scripts.policy.measures import Figures, percentile


class Gate(NamedTuple):
    """One line: the figure of keywheel, what is wanted, and whether it holds."""

    name: str
    wanted: str
    figure: str
    holds: bool


def reference(ours: Figures, oracle: Figures) -> tuple[Gate, ...]:
    """The gates of the reference scenario."""
    points = 100 * (oracle.success - ours.success)
    slower = percentile(ours.totals, 0.95) / percentile(oracle.totals, 0.95)
    regret = oracle.worth - ours.worth
    return (
        _least("success, points below the oracle", points, 0.3, 2),
        _least("attempts in vain a request", ours.wasted, 0.10, 3),
        _most("answers for one unit of quota", ours.efficiency, 0.92, 3),
        _least("p95 of the whole answer, times the oracle's", slower, 1.15, 3),
        _most("Jain's index of the accounts (equal ones)", ours.accounts, 0.99, 4),
        _least("regret", regret, 0.02, 4),
        _least("healthy lanes disabled, %", 100 * ours.disabled, 0.5, 3),
    )


def top_up(ours: Figures, oracle: Figures) -> Gate:
    """50 → 1,000 a day is learnt within the hour, which is a sixth of what the scenario has left."""
    share = ours.count("answered") / oracle.count("answered")
    return _most("a raised day limit is learnt: answers, share of the oracle's", share, 0.75, 2)


def greedy(ours: Figures) -> Gate:
    """A greedy client takes nothing from nine polite ones."""
    return _most("Jain's index of the clients beside a greedy one", ours.clients, 0.95, 3)


def everywhere(figures: Iterable[Figures]) -> tuple[Gate, ...]:
    """The gates of every scenario, each by its worst case."""
    every = tuple(figures)
    return (
        _none("429s of the platform by our own counting", sum(f.platform("self") for f in every)),
        _none("sends beyond a limit, 61 s after a kill left out", sum(f.over_limit for f in every)),
        _none("attempts on a scope declared closed", sum(f.count("on_closed") for f in every)),
        _none(
            "errors after one attempt or none while a lane was usable",
            sum(f.count("idle_lane") for f in every),
        ),
        _least("Retry-After, worst error in s", max(f.promise for f in every), 1.0, 2),
        _none("faults noticed after 3 attempts and 30 s", sum(f.slowly for f in every)),
        _least("closed after the end of a fault, s", max(f.lingering for f in every), 330, 0),
        _least("requests that wait at once", max(f.most("queue") for f in every), 64, 0),
        _least("deadline passed by, worst in s", max(f.most("late") for f in every), 1.0, 2),
    )


def _least(name: str, figure: float, bound: float, digits: int) -> Gate:
    return Gate(name, f"≤ {bound:g}", f"{figure:.{digits}f}", figure <= bound)


def _most(name: str, figure: float, bound: float, digits: int) -> Gate:
    return Gate(name, f"≥ {bound:g}", f"{figure:.{digits}f}", figure >= bound)


def _none(name: str, figure: float) -> Gate:
    return Gate(name, "0", f"{figure:.0f}", figure == 0)
