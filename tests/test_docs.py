"""The docs say what the code does."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from keywheel import errors
from keywheel.gateway.inference import TooLarge

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/keywheel"
API = (ROOT / "docs/api.md").read_text("utf-8")
DOCS = runpy.run_path(str(ROOT / "scripts" / "docs.py"))


def test_generated_tables_are_fresh() -> None:
    assert DOCS["stale"]() == []


def problems() -> Iterator[tuple[int, str]]:
    """Status and code of every error that is written out in the source."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                match node.args[:2]:
                    case [ast.Constant(value=int(status)), ast.Constant(value=str(code))]:
                        yield status, code
    for kind in (*errors.REFUSALS.values(), TooLarge):
        yield kind.status, kind.code


@pytest.mark.parametrize(("status", "code"), sorted(set(problems())))
def test_every_error_a_client_may_get_is_in_the_docs(status: int, code: str) -> None:
    rows = [line for line in API.splitlines() if f"`{code}`" in line and line.startswith("|")]
    assert any(str(status) in row.split("|")[1] for row in rows), (status, code)


def test_every_header_that_is_read_is_in_the_docs() -> None:
    read = set(re.findall(r'b"(x-[a-z-]+)"', (SOURCE / "hints.py").read_text("utf-8")))
    assert "x-keywheel-max-wait" in read
    told = {name for name in read if f"`{name.rstrip('-')}" not in API}
    assert told == set()
