"""The page that a run in full rewrites, part by part: `docs/performance.md`."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def write(block: str, text: str, path: Path = PAGE) -> None:
    """Put tables between the marks of a block. Raises ValueError where the page has no such block."""
    marks = re.compile(
        rf"(<!-- begin bench:{block} -->\n).*?(<!-- end bench:{block} -->)", re.DOTALL
    )
    page, count = marks.subn(lambda m: f"{m[1]}{text}\n{m[2]}", path.read_text("utf-8"))
    if not count:
        raise ValueError(f"{path} has no block {block}")
    path.write_text(page, "utf-8")
