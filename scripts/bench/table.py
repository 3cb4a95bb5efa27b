"""Shows sections: for people as text, for the docs as Markdown, for programs as one JSON object."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from .figures import Figure, Row, Section, ratios

SCHEMA_VERSION = 1
UPPER, LOWER = "keywheel", "nginx"  # of the ratio
NOT_COUNTED = (
    "What to know before quoting:",
    "- CPU is user and kernel time of all threads of the proxy. On loopback the kernel delivers a packet in the",
    "  sender's time, so each side also pays for part of the other's network stack, alike for both proxies.",
    "- A proxy that is busy all the time finds several requests or events at each look and pays less for each. nginx",
    "  is too fast for the load generator to keep it busy; saturated, it would need less. Judge events by the row with",
    "  a pause, which keeps neither busy: a model's tokens come one by one.",
    "- nginx writes no access log; keywheel writes one line a request, counts, and chooses a lane.",
    "- No TLS on either side, no network, no faults: what they cost comes on top, for both.",
    "- Added latency is the difference of two percentiles, not a percentile of differences.",
    "- In brackets: lowest and highest round. Absolute figures belong to this machine at this hour; ratios travel.",
)


def text(environment: Mapping[str, Any], sections: Iterable[Section]) -> str:
    """The whole report for a person."""
    head = ", ".join(f"{name} {value}" for name, value in environment.items())
    return "\n\n".join([head, *map(_table, sections), "\n".join(NOT_COUNTED)])


def markdown(environment: Mapping[str, Any], sections: Iterable[Section]) -> str:
    """The tables for the docs; where there is a limit beside them, each figure is followed by its multiple of it."""
    head = ", ".join(f"{name} {value}" for name, value in environment.items())
    return "\n\n".join([f"{head}.", *map(_markdown_table, sections)])


def _markdown_table(section: Section) -> str:
    names = _names(section)
    lines = [[section.title, *names, "goal"], ["---", *(["---:"] * len(names)), "---"]]
    for row in section.rows:
        cells = [_with_ratio(section, row, name) for name in names]
        lines.append([row.title, *cells, row.goal])
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _with_ratio(section: Section, row: Row, name: str) -> str:
    figure = row.figures.get(name)
    if figure is None:
        return ""
    ratio = _ratio(section, row, name) if name != LOWER and isfinite(figure.value) else None
    return _number(figure.value) + (f" ({_number(ratio.value)} ×)" if ratio else "")


def _names(section: Section) -> list[str]:
    """Whoever has a column."""
    return list(dict.fromkeys(name for row in section.rows for name in row.figures))


def record(environment: Mapping[str, Any], sections: Iterable[Section]) -> dict[str, Any]:
    """The whole report as one object, with the figures of every round."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": dict(environment),
        "sections": [_section(section) for section in sections],
    }


def _section(section: Section) -> dict[str, Any]:
    rows = [asdict(row) | {"ratio": _ratio_record(section, row)} for row in section.rows]
    return {"title": section.title, "rows": rows}


def _ratio_record(section: Section, row: Row) -> dict[str, Any] | None:
    ratio = _ratio(section, row)
    return asdict(ratio) if ratio else None


def _table(section: Section) -> str:
    names = _names(section)
    ratio = ["ratio"] if section.ratio and LOWER in names else []
    head = [section.title, *names, *ratio, "goal"]
    return "\n".join(_aligned([head, *(_cells(section, row, names) for row in section.rows)]))


def _cells(section: Section, row: Row, names: Sequence[str]) -> list[str]:
    figures = [row.figures.get(name) for name in names]
    if section.ratio and LOWER in names:
        figures.append(_ratio(section, row))
    return [f"  {row.title}", *map(_shown, figures), row.goal]


def _ratio(section: Section, row: Row, name: str = UPPER) -> Figure | None:
    if not section.ratio or LOWER not in row.figures:
        return None
    return ratios(row.figures[name], row.figures[LOWER])


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if not figure.rounds:
        return _number(figure.value)
    return (
        f"{_number(figure.value)} [{_number(min(figure.rounds))} … {_number(max(figure.rounds))}]"
    )


def _number(value: float) -> str:
    if not isfinite(value):
        return "–"
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.2f}"
        if abs(value) < 10
        else f"{value:.1f}"
    )


def _aligned(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "   ".join((first.ljust(widths[0]), *cells)).rstrip()
