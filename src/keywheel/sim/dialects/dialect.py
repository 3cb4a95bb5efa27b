"""What a dialect is: how its requests are read, and how answers, errors and streams are written."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from keywheel.sim.composing import Answer
from keywheel.sim.kinds import Kind
from keywheel.sim.refusals import Refusal
from keywheel.sim.replies import encode
from keywheel.sim.requests import Reader, Request
from keywheel.sim.rulings import Ruling

Beat = tuple[int, bytes]  # tokens whose time passes before it, the event
DONE = b"data: [DONE]\n\n"


class Stream(Protocol):
    """One answer as events."""

    def opening(self) -> Iterable[Beat]:
        """What comes before the first token."""
        ...

    def tokens(self, told: Answer) -> Iterator[Beat]:
        """The answer itself."""
        ...

    def closing(self, told: Answer) -> Iterable[Beat]:
        """The end: never nothing, and the last beat is the mark that a stream without end lacks."""
        ...

    def fail(self, kind: Kind) -> Iterable[Beat]:
        """An error inside the stream, of one of the kinds ERROR_IN_200, ERROR_FIRST and BREAK."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API of the service.

    `whole`: an answer in one body, also one that broke off or ended in an error without a word about it.
    `failed`: the body of a 200 that is an error. `envelope`: a refusal's body, from its error object.
    `texts`: where a refusal is worded differently. `softened`: refusals that are answers here, with
    nothing in them and the budget spent.
    """

    path: str
    read: Reader
    whole: Callable[[Ruling, Request, Answer], dict[str, Any]]
    failed: Callable[[Ruling], dict[str, Any]]
    envelope: Callable[[Ruling, Refusal, dict[str, Any]], dict[str, Any]]
    stream: Callable[[Ruling], Stream] | None
    texts: dict[Kind, str]
    softened: frozenset[Kind] = frozenset()


def plain_envelope(ruling: Ruling, row: Refusal, error: dict[str, Any]) -> dict[str, Any]:
    """A refusal as the service words it where nobody else's API is imitated."""
    return {"error": error, "user_id": ruling.user_id} if row.user else {"error": error}


def named_event(kind: str, fields: dict[str, Any]) -> bytes:
    """An event that has its type in its name too."""
    return b"event: " + kind.encode() + b"\ndata: " + encode({"type": kind, **fields}) + b"\n\n"
