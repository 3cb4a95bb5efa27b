"""The docs say what the code does."""

import runpy
from pathlib import Path

DOCS = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "docs.py"))


def test_generated_tables_are_fresh() -> None:
    assert DOCS["stale"]() == []
