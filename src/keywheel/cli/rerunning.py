"""Decides recorded decisions again, and says which come out differently and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from keywheel.config import Config
from keywheel.core.decisions import Decision
from keywheel.core.differences import reason
from keywheel.core.policy import Policy
from keywheel.core.replay import VERSION, Record, Unusable, chosen, decide, policy_of
from keywheel.wire.models import matches

Json = dict[str, Any]
LONGEST = 16 * 1024 * 1024  # bytes of a line
OTHERWISE = "this version of keywheel decides otherwise than the one that recorded it"


class Broken(NamedTuple):
    """A line that cannot be read."""

    file: str
    line: int
    why: str


class Difference(NamedTuple):
    """A decision that comes out differently. `before`, `after`: key and model, None when nothing could be used."""

    file: str
    line: int
    at: float
    request_id: str
    before: tuple[str, str] | None
    after: tuple[str, str] | None
    why: str


@dataclass(slots=True)
class Outcome:
    """All of it."""

    read: int = 0
    first: float | None = None
    last: float | None = None
    differences: list[Difference] = field(default_factory=list[Difference])
    broken: list[Broken] = field(default_factory=list[Broken])

    @property
    def identical(self) -> int:
        """How many come out as they did."""
        return self.read - len(self.differences)

    def to_dict(self) -> Json:
        """For programs."""
        return {
            "read": self.read,
            "identical": self.identical,
            "different": len(self.differences),
            "first": self.first,
            "last": self.last,
            "differences": [each._asdict() for each in self.differences],
            "broken": [each._asdict() for each in self.broken],
        }

    def moves(self) -> list[tuple[str, str, int]]:
        """From which model to which, and how often; the most frequent first."""
        counted = Counter((_model(d.before), _model(d.after)) for d in self.differences)
        return [(before, after, count) for (before, after), count in counted.most_common()]


def _model(lane: tuple[str, str] | None) -> str:
    return lane[1] if lane else "nothing"


def rerun(paths: Iterable[Path], config: Config | None) -> Outcome:
    """Decide all again, by the recorded policy, or by another configuration."""
    outcome, decoder = Outcome(), msgspec.json.Decoder(Record)
    for path in paths:
        with path.open("rb") as file:
            for number, line in _lines(file):
                try:
                    record = _read(decoder, line)
                    difference = _again(record, config)
                except (msgspec.MsgspecError, UnicodeDecodeError, Unusable) as error:
                    outcome.broken.append(Broken(str(path), number, str(error)))
                    continue
                outcome.read += 1
                outcome.first = record.at if outcome.first is None else outcome.first
                outcome.last = record.at
                if difference:
                    before, after, why = difference
                    outcome.differences.append(
                        Difference(
                            str(path), number, record.at, record.request_id, before, after, why
                        )
                    )
    return outcome


def _lines(file: Any) -> Iterator[tuple[int, bytes]]:
    """Lines by number; of one that is too long the beginning stands for all."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        while not line.endswith(b"\n") and (rest := file.readline(LONGEST)):
            line = line[:1] + rest[-1:]  # too long: what is left of it is no record
        yield number, line


def _read(decoder: msgspec.json.Decoder[Record], line: bytes) -> Record:
    record = decoder.decode(line)
    if record.version != VERSION:
        raise Unusable(f"its version is {record.version}, and {VERSION} can be read")
    return record


Lane = tuple[str, str] | None


def _again(record: Record, config: Config | None) -> tuple[Lane, Lane, str] | None:
    """What was chosen, what is chosen, and why; None when that is the same."""
    policy = policy_of(record)
    if config is None:
        found = decide(record, policy)
        same = chosen(found) == record.chosen
        return None if same else (_recorded(record), _lane(found), OTHERWISE)
    found = decide(record, config.policy, _listed(record, config))
    if _lane(found) == _recorded(record):
        return None
    before = decide(record, policy)
    why = reason(before, found) if _lane(before) == _recorded(record) else OTHERWISE
    return _recorded(record), _lane(found), why


def _listed(record: Record, config: Config) -> Sequence[str]:
    """The recorded models as another configuration would list them: less some, and with its preferred ones first."""
    taste = config.taste
    ids = [
        told.id
        for told in record.models
        if (told.price is None or taste.allow_paid) and not matches(told.id, taste.exclude)
    ]
    wishes = [*taste.preferred]

    def place(id: str) -> int:
        return next((n for n, wish in enumerate(wishes) if matches(id, (wish,))), len(wishes))

    return sorted(ids, key=place)


def _recorded(record: Record) -> Lane:
    key, model, _ = record.chosen
    return None if key is None or model is None else (key, model)


def _lane(decision: Decision) -> Lane:
    return (
        None if decision.key is None or decision.model is None else (decision.key, decision.model)
    )


def is_by_list(policy: Policy) -> bool:
    """Whether the order of a whole list is asked for, which a record cannot tell."""
    return policy.choice.strategy == "smartest"
