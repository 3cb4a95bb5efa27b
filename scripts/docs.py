"""Writes the tables of the docs from the code, between `<!-- begin NAME -->` and `<!-- end NAME -->` in Markdown files.

`--check` writes nothing and exits 1 when a page is stale.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from click import Command, Context, Group

from keywheel.cli import cli
from keywheel.config import ALIASES, AccountSettings, Config
from keywheel.core.rows import ROWS
from keywheel.core.types import Length, Row

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(<!-- begin (?P<name>[a-z-]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def classification() -> str:
    """The classification table."""
    head = ("#", "name", "signal", "at fault", "closes", "for", "error window", "then")
    return table(head, [_row(row) for row in ROWS.values()])


def _row(row: Row) -> tuple[str, ...]:
    return (
        row.number,
        row.name,
        row.signal,
        row.fault or "nobody",
        row.blocks or "nothing",
        _length(row),
        row.window,
        row.retry.replace("_", " "),
    )


def _length(row: Row) -> str:
    parts: list[str] = []
    if row.length is not Length.NONE:
        parts.append(row.length.value)
    if row.seconds is not None:
        parts.append(f"{row.seconds:g} s" + (" if it names none" if parts else ""))
    if row.ladder:
        first = "" if row.ladder.first == 1 else f", from the {row.ladder.first}nd in a row"
        parts.append(f"at least {row.ladder.base:g} s, doubling to {row.ladder.cap:g} s{first}")
    return "; ".join(parts) or "–"


def settings() -> str:
    """Every setting with its default and its environment name."""
    names = {path: name for name, path in ALIASES.items()}
    rows: list[tuple[str, ...]] = []
    for path, default, comment in _settings(Config, ()):
        variable = names.get(path, "KEYWHEEL_" + "__".join(path).upper())
        rows.append((f"`{'.'.join(path)}`", default, f"`{variable}`", comment))
    return table(("setting", "default", "environment", "meaning"), rows)


def _settings(section: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str, str]]:
    comments = _comments(section)
    hints = get_type_hints(section)
    for field in fields(section):
        kind, here = hints[field.name], (*path, field.name)
        if is_dataclass(kind):
            yield from _settings(kind, here)
        elif kind == dict[str, AccountSettings]:
            yield from _settings(AccountSettings, (*here, "<name>"))
        else:
            default = "" if field.default is MISSING else f"`{_plain(field.default)}`"
            yield here, default, comments.get(field.name, "")


def _plain(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _comments(section: Any) -> dict[str, str]:
    """The comment behind each field is its description."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if is_dataclass(kind):
            source = Path(sys.modules[kind.__module__].__file__ or "").read_text("utf-8")
            body = source.partition(f"class {kind.__name__}")[2].partition("\n\n\n")[0]
            found |= dict(re.findall(r"^    ([a-z_]+): .*?  # (.+)$", body, re.MULTILINE))
    return found


def commands() -> str:
    """The help of every command."""
    return "\n".join(f"```\n{text.rstrip()}\n```\n" for text in _help(cli, "keywheel"))


def _help(command: Command, name: str) -> Iterable[str]:
    with Context(command, info_name=name, terminal_width=100, max_content_width=100) as context:
        yield command.get_help(context)
    if isinstance(command, Group):
        for child in sorted(command.commands):
            yield from _help(command.commands[child], f"{name} {child}")


BLOCKS: dict[str, Callable[[], str]] = {
    "classification": classification,
    "settings": settings,
    "commands": commands,
}


def render(text: str) -> str:
    """A page with its blocks as the code has them now."""
    return _BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m['name']]()}\n{m[3]}", text)


def stale() -> list[Path]:
    """The pages whose blocks differ from the code."""
    return [page for page in PAGES if render(page.read_text("utf-8")) != page.read_text("utf-8")]


def main() -> None:
    """Write, or with `--check` only look."""
    pages = stale()
    if "--check" in sys.argv:
        sys.exit(
            "\n".join(f"stale: {page.relative_to(ROOT)}; run make docs" for page in pages) or 0
        )
    for page in pages:
        page.write_text(render(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
