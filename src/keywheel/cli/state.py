"""`keywheel state`: what is kept, a copy of it, another file instead, a new beginning."""

import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from keywheel.cli.manners import console, print_json, say
from keywheel.cli.phrases import DAY, HOUR, count, plain, size
from keywheel.cli.view import QUIET
from keywheel.environment import gather
from keywheel.errors import Error

Json = dict[str, Any]
KEPT = {
    "day": "requests sent, by account and UTC day",
    "send": "requests sent in the last minute",
    "mark": "blocks, with reason and end",
    "snapshot": "what was learnt",
    "history": "statistics, by hour, key and model",
}
LEARNT = {
    "learnt": "speed, errors and token ratios of models, ends of blocks",
    "models": "the last good model list",
    "groups": "which keys share an account (hashes)",
    "salt": "what the hashes are made with",
}


@click.group()
def state() -> None:
    """The state file: counters, blocks, statistics and what was learnt; no key and no prompt."""


@state.command()
@click.option("--json", "as_json", is_flag=True, help="One object.")
def show(as_json: bool) -> None:
    """What is in it: names, counts and sizes. A gateway may be using it meanwhile."""
    told = _told()
    if as_json:
        print_json(told)
        return
    screen = console()
    screen.print(_head(told))
    screen.print(_contents(told))
    if told["days"]:
        screen.print(Text("\nRequests by day", "bold"))
        screen.print(_days(told))


@state.command()
@click.argument("file", type=click.Path(path_type=Path))
def export(file: Path) -> None:
    """Write a copy to FILE, which only you can read. A gateway may be using the state meanwhile."""
    from keywheel.cli.statefile import copy, existing, state_file  # noqa: PLC0415 - needs sqlite3

    source = existing(state_file(gather().config))
    copy(source, file)
    say(f"copied {source} to {file} ({size(file.stat().st_size)})")


@state.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(file: Path, yes: bool) -> None:
    """Use a copy of FILE from now on; what is there is put aside, not deleted. No gateway may be using it."""
    from keywheel.cli import statefile  # noqa: PLC0415 - needs sqlite3

    path = statefile.state_file(gather().config)
    with statefile.reading(file) as connection:
        statefile.check_version(connection, file)
    with statefile.taken(path):
        if path.exists():
            _insist(f"Put {path} aside and use a copy of {file}?", yes)
            say(f"put aside: {_put_aside(path)}")
        statefile.copy(file, path)
    say(
        f"{path} is a copy of {file}; counts of today are brought up to what OpenRouter says at the next start"
    )


@state.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Begin with an empty state; the old file is put aside, not deleted. No gateway may be using it."""
    from keywheel.cli import statefile  # noqa: PLC0415 - needs sqlite3

    path = statefile.existing(statefile.state_file(gather().config))
    with statefile.taken(path):
        _insist(f"Put {path} aside and begin with an empty state?", yes)
        aside = _put_aside(path)
    say(f"put aside: {aside}; to have it back: keywheel state import {aside}")


def _insist(question: str, yes: bool) -> None:
    if not yes and not click.confirm(question, err=True):
        raise Error("nothing was changed")


def _put_aside(path: Path) -> Path:
    from keywheel.stores import set_aside  # noqa: PLC0415 - needs sqlite3

    return set_aside(path, time.time())


# --- show ------------------------------------------------------------------------------------------


def _told() -> Json:
    from keywheel.cli import statefile  # noqa: PLC0415 - needs sqlite3

    config = gather().config
    path = statefile.state_file(config)
    with statefile.reading(path) as db:
        tables = {name: statefile.rows(db, name) for name in KEPT}
        snapshots = db.execute("SELECT name, length(data) FROM snapshot ORDER BY name").fetchall()
        days = db.execute(
            "SELECT account, date, sum(n) FROM day GROUP BY account, date ORDER BY date DESC, account"
        ).fetchall()
        first, last = db.execute("SELECT min(hour), max(hour) FROM history").fetchone()
        return {
            "path": str(path),
            "size": path.stat().st_size,
            "format": statefile.version(db),
            "in_use": statefile.is_used(path),
            "shared_with": statefile.shared_with(config),
            "tables": tables,
            "snapshots": dict(snapshots),
            "days": [{"account": a, "date": _date(d), "used": n} for a, d, n in days],
            "history": {"since": first and first * HOUR, "until": last and (last + 1) * HOUR},
        }


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


def _head(told: Json) -> Text:
    use = "in use by a gateway" if told["in_use"] else "not in use"
    parts = [told["path"], size(told["size"]), f"format {told['format']}", use]
    if told["shared_with"]:
        parts.append(f"counters and blocks shared at {told['shared_with']}")
    return Text(" · ".join(parts) + "\n", QUIET)


def _contents(told: Json) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("what", overflow="fold")
    for name, number in told["tables"].items():
        table.add_row(name, count(number), Text(KEPT[name] + _span_of(name, told)))
    for name, length in told["snapshots"].items():
        table.add_row(f"  {plain(name)}", size(length), Text(LEARNT.get(name, ""), QUIET))
    return table


def _span_of(name: str, told: Json) -> str:
    since = told["history"]["since"]
    return f", since {_date(since // DAY)}" if name == "history" and since else ""


def _days(told: Json) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    table.add_column("date")
    table.add_column("account", overflow="fold")
    table.add_column("sent", justify="right")
    for row in told["days"]:
        table.add_row(row["date"], plain(row["account"]), count(row["used"]))
    return table
