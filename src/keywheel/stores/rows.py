"""Marks as rows of a store: a key that names the row, a weight that says which of two is newer, the row as text."""

import json
from typing import NamedTuple

from keywheel.core.marks import Block, Clear, Mark, pack, parse

LONGEST = 2_000  # characters of a row as text; ours are far shorter


class MarkRow(NamedTuple):
    """Of two rows with one key the one with the larger weight is kept: both come from the same writer."""

    key: str
    weight: float
    text: str


def to_row(mark: Mark) -> MarkRow:
    """The row of a mark. Every block is a row of its own: none may replace another that lasts longer."""
    text = json.dumps(pack(mark), separators=(",", ":"), ensure_ascii=False)
    if isinstance(mark, Block):
        return MarkRow(text, 0.0, text)
    if isinstance(mark, Clear):
        parts = ("clear", *mark.scope, mark.writer, mark.reach)
        return MarkRow("\x1f".join(parts), mark.at, text)
    parts = ("count", mark.name, str(mark.slot), mark.writer)
    return MarkRow("\x1f".join(parts), float(mark.n), text)


def from_text(text: object) -> Mark | None:
    """The mark of a row's text; None for whatever is none."""
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    try:
        return parse(json.loads(text))
    except (ValueError, RecursionError):
        return None
