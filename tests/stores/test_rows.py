"""Marks as rows of text: what is read back is a mark or nothing."""

import pytest

from keywheel.core.marks import Count
from keywheel.stores.rows import LONGEST, from_text, to_row


def test_a_row_comes_back_as_its_mark() -> None:
    mark = Count("attempts", 7, "a/0@1", 3)
    assert from_text(to_row(mark).text) == mark


@pytest.mark.parametrize(
    "text",
    [None, 7, b"[]", "", "[", "[]", "{}", '["count"]', "[" * LONGEST, '["' + "x" * LONGEST + '"]'],
)
def test_whatever_else_is_there_is_no_mark(text: object) -> None:
    assert from_text(text) is None
