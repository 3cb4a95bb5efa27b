"""`keywheel stats`: what was used since the start of the gateway, today, in 7 days, or since any moment."""

import csv
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from keywheel.cli.manners import Unreachable, console, print_json
from keywheel.cli.phrases import DAY, HOUR, count, plain, share, span
from keywheel.cli.reading import line
from keywheel.cli.view import QUIET
from keywheel.environment import gather
from keywheel.errors import Error

Json = dict[str, Any]
BY = ("key", "model", "client", "day", "hour")
UNITS = {"m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY}
WEEK = 7 * DAY
_AGO = re.compile(r"(\d{1,6})([mhdw])")
TOTALS = ("requests", "succeeded", "failed", "attempts", "fallbacks", "rate_limited")
ALWAYS = TOTALS[:4]  # the others when there is something to tell
COLUMNS = (
    "attempts",
    "succeeded",
    "failed",
    "success_rate",
    "tokens_in",
    "tokens_out",
    "latency_ms",
    "ttft_ms",
)


class Since(click.ParamType[float]):
    """A moment of the past as UTC seconds."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """`7d`, `24h`, `today`, or an ISO date or time, UTC where it says no zone."""
        try:
            return _moment(value, time.time())
        except ValueError:
            self.fail(f"{value!r} is not like 7d, 24h, today or 2026-11-25", param, ctx)


def _moment(text: str, now: float) -> float:
    if text == "today":
        return now // DAY * DAY
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * UNITS[ago[2]]
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.command()
@click.option(
    "--since", type=Since(), help="7d, 24h, today, or an ISO date (UTC): from what is kept."
)
@click.option(
    "--by",
    type=click.Choice(BY),
    default="key",
    show_default=True,
    help="With --since: a row for each.",
)
@click.option("--csv", "as_csv", is_flag=True, help="With --since: comma-separated values.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="The whole of GET /admin/stats; with --since, of /admin/history.",
)
def stats(since: float | None, by: str, as_csv: bool, as_json: bool) -> None:
    """Usage figures: of the running gateway since its start, and today and in 7 days per key and model.

    Figures over time are kept in the state file, by the hour, and are there without a gateway, too.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json do not go together.")
    if as_csv or since is not None:
        _print(_history(_today() if since is None else since, by), as_csv=as_csv, as_json=as_json)
    elif as_json:
        print_json(line().get("/admin/stats"))
    else:
        _overview()


def _today() -> float:
    return time.time() // DAY * DAY


# --- where figures come from -----------------------------------------------------------------------


def _history(since: float, by: str) -> Json:
    """From the gateway, which knows the running minute, too; without one from the file."""
    try:
        return line().get(f"/admin/history?since={since:.0f}&by={by}")
    except Unreachable as nobody:
        return _kept(since, by, nobody)


def _kept(since: float, by: str, nobody: Unreachable) -> Json:
    from keywheel.cli import statefile  # noqa: PLC0415 - for those without a gateway
    from keywheel.gateway.history import history  # noqa: PLC0415

    try:
        path = statefile.state_file(gather().config)
    except Error:
        raise nobody from None
    if not path.is_file():
        raise nobody
    now = time.time()
    rows = statefile.history(path, int(since // HOUR), int(now // HOUR) + 1)
    return history(rows, by, since, now)


# --- how they are shown ----------------------------------------------------------------------------


def _print(told: Json, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    by = told["by"]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((by, *COLUMNS))
        writer.writerows((_name(row[by]), *(row[name] for name in COLUMNS)) for row in told["rows"])
        return
    screen = console()
    screen.print(Text(f"Since {_name(int(told['since']))}, by {by}", "bold"))
    screen.print(_table(told) if told["rows"] else Text("Nothing was sent.", QUIET))


def _table(told: Json) -> Table:
    by = told["by"]
    table = Table(box=None, pad_edge=False, header_style=QUIET, show_footer=len(told["rows"]) > 1)
    totals = _cells(told["totals"])
    table.add_column(by, "all", overflow="fold", footer_style="bold")
    for name, title in TITLES.items():
        table.add_column(title, totals[name], justify="right", overflow="fold", footer_style="bold")
    for row in told["rows"]:
        cells = _cells(row)
        table.add_row(_name(row[by]), *(cells[name] for name in TITLES))
    return table


TITLES = {
    "attempts": "tries",
    "success_rate": "success",
    "tokens_in": "tokens in",
    "tokens_out": "tokens out",
    "latency_ms": "took",
    "ttft_ms": "first word",
}


def _cells(row: Json) -> dict[str, str]:
    return {
        "attempts": count(row["attempts"]),
        "success_rate": share(row["success_rate"]),
        "tokens_in": count(row["tokens_in"]),
        "tokens_out": count(row["tokens_out"]),
        "latency_ms": _seconds(row["latency_ms"]),
        "ttft_ms": _seconds(row["ttft_ms"]),
    }


def _seconds(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1e3:.1f} s"


def _name(value: str | int) -> str:
    """A label, or the beginning of an hour or a day."""
    if isinstance(value, str):
        return plain(value)
    moment = datetime.fromtimestamp(value, UTC)
    return f"{moment:%Y-%m-%d}" if value % DAY == 0 else f"{moment:%Y-%m-%d %H:%M} UTC"


def _overview() -> None:
    """Since the start, today, and 7 days."""
    screen = console()
    now, nobody = time.time(), None
    try:
        screen.print(_since_start(line().get("/admin/stats"), now))
    except Unreachable as error:
        nobody = error
    spans = {"today": _today(), "7 days": now - WEEK}
    for by in ("key", "model"):
        found = {title: _history(since, by) for title, since in spans.items()}
        screen.print(Text())
        screen.print(_side_by_side(by, found))
    if nobody:
        screen.print(Text(f"\nFrom the state file: {nobody}", QUIET))


def _since_start(report: Json, now: float) -> Text:
    told = report["totals"]
    names = [name for name in TOTALS if told[name] or name in ALWAYS]
    totals = "  ".join(f"{name.replace('_', ' ')} {told[name]:,}" for name in names)
    return Text(totals).append(f"  in {span(now - report['since'])}", QUIET)


def _side_by_side(by: str, found: dict[str, Json]) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    table.add_column(by, overflow="fold")
    for title in found:
        table.add_column(title, justify="right")
        table.add_column("success", justify="right")
        table.add_column("tokens", justify="right")
    rows = {title: {row[by]: row for row in told["rows"]} for title, told in found.items()}
    for name in [*rows["7 days"]]:
        cells = [cell for each in rows.values() for cell in _short(each.get(name))]
        table.add_row(plain(name), *cells)
    if not rows["7 days"]:
        table.add_row(Text("nothing was sent", QUIET))
    return table


def _short(row: Json | None) -> tuple[str, str, str]:
    if row is None:
        return ("", "", "")
    return (
        count(row["attempts"]),
        share(row["success_rate"]),
        count(row["tokens_in"] + row["tokens_out"]),
    )
