"""Every fault of the catalogue's groups connection, slow, content, time and clients has a test, here or elsewhere."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.test_answers import FAULTS

HERE = Path(__file__).parent
NUMBERS = [*range(1, 46), *range(59, 66), 75, *range(86, 91)]
# Faults that need no gateway, or had their test before this catalogue.
ELSEWHERE = {
    12: ("journeys/test_time.py", "test_a_full_connection_pool_closes_nothing"),
    14: ("gateway/test_upstream_dial.py", "test_proxy_variables_are_ignored"),
    60: ("core/test_quota.py", "test_a_send_around_midnight_is_charged_to_both_dates"),
    63: ("core/test_quota.py", "test_leap_days_and_year_ends_are_ordinary_dates"),
}


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def covered() -> set[int]:
    """The numbers in the names of tests, in the ids of their cases and in the table."""
    texts = [path.read_text("utf-8") for path in HERE.glob("test_*.py")]
    named = (
        re.findall(r'def test_fault_(\d+)_|"(\d+) [a-zA-Z]|^"""Fault (\d+):', text, re.M)
        for text in texts
    )
    found = {int(number) for text in named for groups in text for number in groups if number}
    return found | {int(fault.number) for fault in FAULTS}


def test_every_fault_has_a_test() -> None:
    assert [number for number in NUMBERS if number not in covered() | set(ELSEWHERE)] == []


@pytest.mark.parametrize("number", ELSEWHERE)
def test_a_test_elsewhere_is_still_there(number: int) -> None:
    place, name = ELSEWHERE[number]
    assert name in functions(HERE.parent / place)
