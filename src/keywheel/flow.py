"""One client request on its way through the engine: its terms, its steps, and the clock they are taken by."""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from keywheel.core.decisions import Decision
from keywheel.core.queue import Ticket
from keywheel.core.steps import Report, Result, Step
from keywheel.core.types import Ask, Event


class Terms(NamedTuple):
    """How one client wants its request treated. Seconds; `patience` None: as configured. `client`: who asks,
    empty where clients cannot be told apart."""

    request_id: str
    patience: float | None = None
    max_wait: float = 0.0
    pinned: bool = False
    client: str = ""


class Clock:
    """UTC seconds that cannot jump: the wall clock once, then the time elapsed."""

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Now."""
        return self._start + time.monotonic()


@dataclass(slots=True)
class Flow:
    """One request under way.

    A driver that carries out a `Wait` sets `wake`, then looks whether it was `woken` already, and only then sleeps;
    `wake` is called from any thread as soon as there is a lane.
    """

    ask: Ask
    dialect: str
    began: float
    steps: Generator[Step, Report, Result]
    events: list[Event] = field(default_factory=list[Event])
    decisions: list[Decision] = field(default_factory=list[Decision])
    started: bool = False
    wake: Callable[[], None] | None = None
    woken: bool = False

    def take_events(self) -> list[Event]:
        """What has happened since the last call."""
        events = self.events.copy()
        self.events.clear()
        return events


def wake(called: Iterable[Ticket]) -> None:
    """Tell the drivers of those who were served."""
    for ticket in called:
        flow = ticket.owner
        if isinstance(flow, Flow):
            flow.woken = True
            if flow.wake:
                flow.wake()
