"""What the attempts flow and its drivers say to each other: the steps, the reports, and how an ask ends."""

from typing import NamedTuple

from keywheel.core.queue import Ticket
from keywheel.core.types import Answered, Failed, Lease, NoLane, Verdict

# What is made anew for every request is a NamedTuple here: a frozen dataclass takes five times as long.


class Take(NamedTuple):
    """Reserve the lease's quota in the store, durably."""

    lease: Lease


class Send(NamedTuple):
    """Make the request. First content is due after `first_content` seconds, everything at `deadline`."""

    lease: Lease
    first_content: float
    deadline: float


class Wait(NamedTuple):
    """Do nothing until a moment, or until the ticket is served: then there is a lane already."""

    until: float
    ticket: Ticket | None = None


Step = Take | Send | Wait


class Done(NamedTuple):
    """Report: the step was carried out (taken, waited), or the stream has committed and will be settled at
    its end."""

    now: float


class TurnedDown(NamedTuple):
    """Report: the store refused the reservation."""

    now: float


class Ended(NamedTuple):
    """Report: the attempt is over before any content went to the client."""

    now: float
    outcome: Answered | Failed


class Expired(NamedTuple):
    """Report: the ask's deadline ended the attempt after `elapsed` seconds."""

    now: float
    elapsed: float


Report = Done | TurnedDown | Ended | Expired


class Try(NamedTuple):
    """One attempt as explanations and headers tell it."""

    key: str
    account: str
    model: str
    row: str
    elapsed: float


class Served(NamedTuple):
    """The ask has its answer, or the beginning of one: the lease is settled already when it was not streamed."""

    lease: Lease
    tries: tuple[Try, ...]


class Refused(NamedTuple):
    """The ask ends without an answer: its last attempt failed, it has no lane, its deadline came, or it is `spent`."""

    tries: tuple[Try, ...]
    verdict: Verdict | None = None
    no_lane: NoLane | None = None
    expired: bool = False
    spent: bool = False


Result = Served | Refused
