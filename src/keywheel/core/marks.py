"""What workers tell each other, and how it is read (routing rule A.11.2).

Every mark has one writer, so nothing ever conflicts; what holds is computed on reading:

* A scope is closed until the latest end among the blocks decided after its latest clearing.
* A count is the sum over its writers of the largest number each of them told.

So order, repeats and restarts of writers change nothing. What comes from outside is checked field by field: a mark of
an unknown form is no mark, and no block lasts longer than the rules allow for its reason.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, cast

from keywheel.core.rows import ROWS
from keywheel.core.types import DAY, FOREVER, Kind, Length, Provenance, Scope

LONGEST_TEXT = 300  # characters of a name or reason; model ids and labels are far shorter
AHEAD = 60.0  # seconds a writer's clock may be ahead of ours; what comes from later is not believed
TRIP = 330.0  # seconds: disabled for 300, and up to 25 by worker before the probe (rule A.6)
LONGEST: Mapping[
    Length, float
] = {  # how long a block may last whose end the answer or the calendar names
    Length.NONE: 0.0,
    Length.SAID: DAY,  # the longest quota is a day's
    Length.MIDNIGHT: DAY + 60.0,  # and the spread after midnight
    Length.CHECKED: FOREVER,  # until GET /key passes
}
EXACT = 2**53  # below it whole numbers are exact in every format
MONTH = 32 * DAY  # the longest budget a key can have: row 11a names its end


class Reach(StrEnum):
    """What a clearing clears."""

    HEURISTIC = "heuristic"  # a success: our own guesses only
    ALL = "all"  # the operator, or an upstream correction


CLEARED_BY: Mapping[Provenance, tuple[Reach, ...]] = {
    Provenance.HEURISTIC: (Reach.HEURISTIC, Reach.ALL),
    Provenance.AUTHORITATIVE: (Reach.ALL,),
    Provenance.OPERATOR: (Reach.ALL,),
}


@dataclass(frozen=True, slots=True)
class Block:
    """A scope was closed: decided at `at`, until `until` (UTC seconds), for the row or reason `why`."""

    scope: Scope
    writer: str
    at: float
    until: float
    provenance: Provenance
    why: str


@dataclass(frozen=True, slots=True)
class Clear:
    """A scope was opened at `at`."""

    scope: Scope
    writer: str
    at: float
    reach: Reach


@dataclass(frozen=True, slots=True)
class Count:
    """A writer has counted `n` of `name` in the slot of time `slot` (a UTC date or hour as a number)."""

    name: str
    slot: int
    writer: str
    n: int


Mark = Block | Clear | Count


@dataclass(frozen=True, slots=True)
class Reading:
    """What a set of marks says. `blocks`: those that still last, at most one of each provenance, the longest.
    `cleared`: when each scope was last opened, by reach. `counts`: sums by name and slot."""

    blocks: Mapping[Scope, Mapping[Provenance, Block]]
    cleared: Mapping[Scope, Mapping[Reach, float]]
    counts: Mapping[tuple[str, int], int]

    def until(self, scope: Scope) -> float:
        """The moment a scope opens, 0.0 when nothing closes it."""
        return max((block.until for block in self.blocks.get(scope, {}).values()), default=0.0)


def read(
    marks: Iterable[Mark], now: float, known: Callable[[Scope], bool] = lambda _scope: True
) -> Reading:
    """What holds at `now`. Marks of scopes that are not `known` are left out, and so is what lies in the future."""
    told = list(marks)
    cleared = _clearings(m for m in told if isinstance(m, Clear) and _counts(m, now, known))
    blocks: dict[Scope, dict[Provenance, Block]] = defaultdict(dict)
    for mark in told:
        if isinstance(mark, Block) and _counts(mark, now, known):
            block = _clamped(mark)
            if block.until > now and not _overruled(block, cleared):
                standing = blocks[block.scope].get(block.provenance)
                blocks[block.scope][block.provenance] = _longer(block, standing)
    return Reading(dict(blocks), cleared, _sums(m for m in told if isinstance(m, Count)))


def fade(marks: Iterable[Mark], now: float) -> tuple[Mark, ...]:
    """The marks without those that can never matter again, in a fixed order."""
    told = set(marks)
    cleared = _clearings(mark for mark in told if isinstance(mark, Clear))
    counts = sorted((mark.name, mark.slot) for mark in told if isinstance(mark, Count))
    last = dict(counts)  # ascending, so the latest slot of each name stays
    kept = [mark for mark in told if _matters(mark, now, cleared, last)]
    return tuple(sorted(kept, key=repr))


def longest(why: str) -> float:
    """Seconds that a block may last whose reason is the name of a row, or one that is in no table."""
    row = ROWS.get(why)
    if row is None:
        return TRIP if why.startswith("error rate") else DAY
    ladder = row.ladder.cap if row.ladder else 0.0
    said = MONTH if row.name == "key-limit" else LONGEST[row.length]
    return max(row.seconds or 0.0, row.least, ladder, said)


# --- reading ---------------------------------------------------------------------------------------


def _counts(mark: Block | Clear, now: float, known: Callable[[Scope], bool]) -> bool:
    return mark.at <= now + AHEAD and known(mark.scope)


def _clearings(clears: Iterable[Clear]) -> dict[Scope, dict[Reach, float]]:
    found: dict[Scope, dict[Reach, float]] = {}
    for clear in clears:
        reaches = found.setdefault(clear.scope, {})
        reaches[clear.reach] = max(clear.at, reaches.get(clear.reach, clear.at))
    return found


def _overruled(block: Block, cleared: Mapping[Scope, Mapping[Reach, float]]) -> bool:
    reaches = cleared.get(block.scope, {})
    return any(reaches.get(reach, -1.0) >= block.at for reach in CLEARED_BY[block.provenance])


def _longer(block: Block, other: Block | None) -> Block:
    """The one that lasts longer; of two that end together always the same one."""
    if other is None:
        return block
    return max(block, other, key=lambda b: (b.until, b.at, b.why, b.writer))


def _clamped(block: Block) -> Block:
    limit = FOREVER if block.provenance is Provenance.OPERATOR else block.at + longest(block.why)
    if block.until <= limit:
        return block
    return Block(block.scope, block.writer, block.at, limit, block.provenance, block.why)


def _sums(counts: Iterable[Count]) -> dict[tuple[str, int], int]:
    largest: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for count in counts:
        of_writers = largest[count.name, count.slot]
        of_writers[count.writer] = max(count.n, of_writers.get(count.writer, 0))
    return {place: sum(of_writers.values()) for place, of_writers in largest.items()}


# --- fading ----------------------------------------------------------------------------------------


def _matters(
    mark: Mark,
    now: float,
    cleared: Mapping[Scope, Mapping[Reach, float]],
    last: Mapping[str, int],
) -> bool:
    """Clearings outlive every block they could be told after; counts stay for the latest two slots of their name."""
    if isinstance(mark, Block):
        return _clamped(mark).until > now and not _overruled(mark, cleared)
    if isinstance(mark, Clear):
        return mark.at == cleared[mark.scope][mark.reach] and mark.at > now - MONTH
    return mark.slot >= last[mark.name] - 1


# --- from and to plain values ----------------------------------------------------------------------


def pack(mark: Mark) -> tuple[object, ...]:
    """A mark as plain values that any format can carry; a block without end has None there."""
    if isinstance(mark, Count):
        return ("count", mark.name, mark.slot, mark.writer, mark.n)
    if isinstance(mark, Clear):
        return ("clear", *mark.scope, mark.writer, mark.at, mark.reach)
    until = None if mark.until == FOREVER else mark.until
    return ("block", *mark.scope, mark.writer, mark.at, until, mark.provenance, mark.why)


def parse(row: object) -> Mark | None:
    """The mark that `pack` turned into these values; None for anything else."""
    if not isinstance(row, list | tuple) or not row:
        return None
    kind, *values = cast("Sequence[object]", row)
    form = _FORMS.get(kind) if isinstance(kind, str) else None
    if form is None or len(values) != len(form.checks):
        return None
    sound = all(check(value) for check, value in zip(form.checks, values, strict=True))
    return form.build(*values) if sound else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT


def _is_moment(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value < EXACT  # "not a number" is in no range


def _is_end(value: object) -> bool:
    return value is None or _is_moment(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < EXACT


def _is_one_of(words: Iterable[str]) -> Callable[[object], bool]:
    allowed = frozenset(str(word) for word in words)
    return lambda value: isinstance(value, str) and value in allowed


def _block(kind: str, name: str, writer: str, at: float, until: float | None, *rest: str) -> Block:
    end = FOREVER if until is None else float(until)
    provenance, why = rest
    return Block(Scope(Kind(kind), name), writer, float(at), end, Provenance(provenance), why)


def _clear(kind: str, name: str, writer: str, at: float, reach: str) -> Clear:
    return Clear(Scope(Kind(kind), name), writer, float(at), Reach(reach))


class _Form(NamedTuple):
    """What the values of one kind of mark must be, and what is made of them."""

    checks: tuple[Callable[[object], bool], ...]
    build: Callable[..., Mark]


_SCOPE = (_is_one_of(Kind), _is_text)
_FORMS: Mapping[str, _Form] = {
    "block": _Form(
        (*_SCOPE, _is_text, _is_moment, _is_end, _is_one_of(Provenance), _is_text),
        _block,
    ),
    "clear": _Form((*_SCOPE, _is_text, _is_moment, _is_one_of(Reach)), _clear),
    "count": _Form((_is_text, _is_number, _is_text, _is_number), Count),
}
