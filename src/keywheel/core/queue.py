"""Who waits for a lane that opens soon: a bounded line, first come first served (routing rule A.8).

A place that becomes free goes to the first in the line that it suits, reserved in the same step, so that nobody who
comes later can take it and nobody is woken in vain.
"""

from dataclasses import dataclass, field

from keywheel.core.decisions import Decision
from keywheel.core.tried import Tried
from keywheel.core.types import Ask, Lease

LENGTH = 64  # requests that may wait at once …
PER_CLIENT = 8  # … and how many of one client, where clients can be told apart


@dataclass(slots=True, eq=False)
class Ticket:
    """One place in the line. `lease`: what it was served with, by `decision`. `owner`: who wants to hear of that."""

    ask: Ask
    tried: Tried
    lease: Lease | None = None
    decision: Decision | None = None
    owner: object = None


@dataclass(slots=True)
class Queue:
    """Waiting asks in the order in which they came."""

    _line: dict[Ticket, None] = field(default_factory=dict[Ticket, None])
    _served: list[Ticket] = field(default_factory=list[Ticket])

    def __len__(self) -> int:
        return len(self._line)

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """Those who wait, the first one first."""
        return tuple(self._line)

    def join(self, ask: Ask, tried: Tried) -> Ticket | None:
        """A place at the end; None when the line is full, or the client's share of it."""
        if len(self._line) >= LENGTH:
            return None
        if ask.client and sum(t.ask.client == ask.client for t in self._line) >= PER_CLIENT:
            return None
        ticket = Ticket(ask, tried)
        self._line[ticket] = None
        return ticket

    def serve(self, ticket: Ticket, lease: Lease, decision: Decision) -> None:
        """A lane was reserved for somebody in the line."""
        ticket.lease, ticket.decision = lease, decision
        del self._line[ticket]
        self._served.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Somebody waits no longer."""
        self._line.pop(ticket, None)

    def called(self) -> tuple[Ticket, ...]:
        """Those who were served since the last call, for the drivers to be woken."""
        served, self._served = tuple(self._served), []
        return served
