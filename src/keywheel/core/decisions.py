"""One decision as it was taken, kept small: it is made for every attempt."""

from typing import NamedTuple

from keywheel.core.ranking import Score

# A model that was looked at and not used, why, and when it opens if it is closed. (No NamedTuple: dozens are made where
# everything is closed.)
Passed = tuple[str, str, float]


class Decision(NamedTuple):
    """Which models were looked at in which order, what kept the first ones back, and what was chosen.

    `ranked`: ids with their score J (smaller is better; None where the order stands in a list). `ways`: how many keys
    could have been used with the model, of which the one whose account has most `left` (requests today, this minute)
    was taken. `at_home`: the conversation's own account was taken. `no_lane`: the cause when nothing could be chosen.
    """

    at: float
    ranked: tuple[tuple[str, Score | None], ...]
    passed: tuple[Passed, ...]
    key: str | None = None
    account: str | None = None
    model: str | None = None
    at_home: bool = False
    ways: int = 0
    left: tuple[float, float] | None = None
    no_lane: str | None = None
