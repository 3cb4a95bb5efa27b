"""One decision as it was taken, kept small: it is made for every attempt."""

from typing import NamedTuple


class Decision(NamedTuple):
    """Which models were looked at in which order, what kept the first ones back, and what was chosen.

    `ranked`: ids with their score J (smaller is better; None where the order stands in a list). `passed`: ids with the
    reason. `at_home`: the conversation's own account was taken. `no_lane`: the cause when nothing could be chosen.
    """

    at: float
    ranked: tuple[tuple[str, float | None], ...]
    passed: tuple[tuple[str, str], ...]
    key: str | None = None
    account: str | None = None
    model: str | None = None
    at_home: bool = False
    no_lane: str | None = None
