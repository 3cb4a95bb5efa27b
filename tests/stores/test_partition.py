"""I34: the store lost, slow or partitioned, for any workers at any times: true sends keep the minute and the day.

A few random lives in every run, always the same; with KEYWHEEL_EXAMPLES=N so many. The rules left out one by one must
break a limit, so that the model can fail.
"""

import os

import pytest

from keywheel.core import share
from keywheel.core.share import Share
from keywheel.stores.book import Book
from tests.stores.partition import ACCOUNT, CAP, excess, run

LIVES = int(os.environ.get("KEYWHEEL_EXAMPLES", "12"))


@pytest.mark.parametrize("seed", range(LIVES))
def test_true_sends_keep_every_limit(seed: int) -> None:
    world = run(seed)
    assert world.sends
    assert excess(world) == [], f"seed {seed}"


def broken(seeds: range) -> bool:
    return any(excess(run(seed)) for seed in seeds)


def test_without_the_waiting_time_a_limit_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "WAITING", 10.0)
    assert broken(range(12))


def test_without_rooms_a_limit_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "_fix_rooms", lambda *_args: 0)
    assert broken(range(12))


@pytest.mark.parametrize(("minutes", "kept"), [(2, True), (0, False)])
def test_without_the_two_minutes_a_limit_breaks(
    minutes: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three workers go silent at one moment; the third sends a full minute before it notices."""
    monkeypatch.setattr(share, "MINUTES", minutes)
    limit, slots = 60, 3
    silent = [Share(slots) for _ in range(2)]
    for each in silent:
        each.answered(0.0, {(ACCOUNT, 1): (limit, CAP)})
    room = (limit - CAP) // slots
    third = limit - room * len(silent)  # what `take` permits it in all
    assert (third + sum(map(used_up, silent)) <= limit) is kept


def used_up(each: Share) -> int:
    """How many sends a share has."""
    sends = 0
    while each.send(ACCOUNT, {1: 60}, CAP, 0, 80.0):
        sends += 1
    return sends
