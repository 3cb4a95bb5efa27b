"""Writes the tables of the docs from the code, between `<!-- begin NAME -->` and `<!-- end NAME -->` in Markdown files.

`--check` writes nothing and exits 1 when a page is stale.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from click import Command, Context, Group

from keywheel.cli import cli
from keywheel.config.table import NAME, RANGES, SETTINGS, Setting, dotted
from keywheel.core.rows import ROWS
from keywheel.core.troubles import WORDS
from keywheel.core.types import Length, Row
from keywheel.gateway.metrics import FIGURES
from keywheel.gateway.traces import ATTRIBUTES

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
    """Every setting with its default, its environment name, and what it may be."""
    return table(
        ("setting", "default", "environment", "meaning"),
        (
            (
                f"`{dotted(setting.path)}`",
                f"`{_plain(setting.default)}`",
                f"`{setting.variable}`",
                _meaning(setting),
            )
            for setting in SETTINGS.values()
        ),
    )


def _meaning(setting: Setting) -> str:
    allowed = RANGES.get(dotted(setting.path))
    field = next(part for part in reversed(setting.path) if part != NAME)
    parts = [_comments(setting.section).get(field, "")]
    if get_origin(setting.kind) is Literal:
        parts.append(" · ".join(get_args(setting.kind)))
    if allowed:
        parts.append(str(allowed))
    return "; ".join(filter(None, parts))


def _plain(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comments(section: type) -> dict[str, str]:
    """The comment behind each field is its description, on whichever line the formatter left it."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if is_dataclass(kind):
            source = Path(sys.modules[kind.__module__].__file__ or "").read_text("utf-8")
            body = source.partition(f"class {kind.__name__}")[2].partition("\n\n\n")[0]
            for name, text in re.findall(
                r"^    ([a-z_]+): ((?:.+\n?(?!    [a-z_]+:))+)", body, re.M
            ):
                comment = re.search(r"  # (.+)$", text, re.M)
                found[name] = comment[1] if comment else ""
    return found


def commands() -> str:
    """The help of every command."""
    return "\n".join(f"```\n{text.rstrip()}\n```\n" for text in _help(cli, "keywheel", None))


def _help(command: Command, name: str, parent: Context | None) -> Iterable[str]:
    extra = {"terminal_width": 100, "max_content_width": 100} | command.context_settings
    with Context(command, parent, info_name=name, **extra) as context:
        yield command.get_help(context)
        if isinstance(command, Group):
            for child in sorted(command.commands):
                yield from _help(command.commands[child], child, context)


def metrics() -> str:
    """Every metric."""
    head = ("metric", "kind", "labels", "meaning")
    return table(
        head,
        (
            (f"`{f.name}`", f.kind, ", ".join(f"`{label}`" for label in f.labels) or "–", f.help)
            for f in FIGURES
        ),
    )


def traces() -> str:
    """Every attribute of a span."""
    head = ("attribute", "request", "attempt", "meaning")
    marks = {True: "yes", False: "–"}
    return table(
        head,
        (
            (f"`{a.name}`", marks[bool(a.request)], marks[bool(a.attempt)], a.meaning)
            for a in ATTRIBUTES
        ),
    )


def troubles() -> str:
    """Every kind of trouble, with what is said and what can be done."""
    head = ("code", "severity", "cause", "one thing to do")
    return table(head, ((f"`{c}`", w.severity, w.cause, w.action) for c, w in WORDS.items()))


BLOCKS: dict[str, Callable[[], str]] = {
    "classification": classification,
    "settings": settings,
    "commands": commands,
    "metrics": metrics,
    "traces": traces,
    "troubles": troubles,
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
