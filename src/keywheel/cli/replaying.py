"""`keywheel replay`: decide recorded decisions again, by the policy they were made by or by another."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from keywheel.cli.manners import console, print_json, say
from keywheel.cli.phrases import clock, count, plain
from keywheel.cli.view import QUIET
from keywheel.environment import gather
from keywheel.errors import Error

if TYPE_CHECKING:
    from keywheel.cli.rerunning import Outcome

MOVES = 12  # kinds of differences that are shown
LATEST = 20  # single ones
NAMED = 10  # lines that could not be read


@click.command()
@click.argument(
    "logs",
    metavar="LOG...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file with other settings to decide by.",
)
@click.option("--json", "as_json", is_flag=True, help="All differences, as one object.")
@click.pass_context
def replay(
    context: click.Context, logs: tuple[Path, ...], config_file: Path | None, as_json: bool
) -> None:
    """Decide recorded decisions again (see the setting log.decisions), and print what comes out differently.

    By the recorded settings all must be the same: ends with 1 if not. With --config the differences are told with
    their reasons, and it ends with 0. Lines that cannot be read are named and passed over.
    """
    from keywheel.cli import rerunning  # noqa: PLC0415 - other commands do without

    config = gather(config_file=config_file).config if config_file else None
    if config and rerunning.is_by_list(config.policy):
        say("smartest: a record does not tell models' qualities, so their order stays as recorded")
    outcome = rerunning.rerun(logs, config)
    _complain(outcome)
    if not outcome.read:
        raise Error(f"no decision in {', '.join(map(str, logs))}")
    if as_json:
        print_json(outcome.to_dict())
    else:
        _print(outcome, str(config_file) if config_file else None)
    if outcome.differences and config is None:
        context.exit(1)


def _complain(outcome: "Outcome") -> None:
    if not outcome.broken:
        return
    lines = [f"{each.file}:{each.line}" for each in outcome.broken]
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    why = plain(outcome.broken[0].why)
    say(
        f"{count(len(lines))} lines cannot be read: {', '.join(lines[:NAMED])}{more}; the first: {why}"
    )


def _print(outcome: "Outcome", by: str | None) -> None:
    screen = console()
    first, last = outcome.first or 0.0, outcome.last or 0.0
    now = time.time()
    text = Text(f"{count(outcome.read)} decisions", "bold")
    text.append(f" from {clock(first, now)} to {clock(last, now)}", QUIET)
    text.append(f", by {by}" if by else ", by the recorded settings", QUIET)
    text.append(
        f"\n{count(outcome.identical)} identical, {count(len(outcome.differences))} different"
    )
    screen.print(text)
    if not outcome.differences:
        return
    screen.print(Text())
    screen.print(_moves(outcome))
    screen.print(Text())
    screen.print(_latest(outcome))


def _moves(outcome: "Outcome") -> Table:
    table = _table(("recorded", "now", "decisions"), "decisions")
    moves = outcome.moves()
    for before, after, number in moves[:MOVES]:
        again = before == after
        table.add_row(plain(before), "another key" if again else plain(after), count(number))
    if more := moves[MOVES:]:
        table.add_row(Text(f"{len(more)} more kinds", QUIET), "", count(sum(n for *_, n in more)))
    return table


def _latest(outcome: "Outcome") -> Table:
    table = _table(("at", "request", "recorded", "now", "why"))
    for each in outcome.differences[:LATEST]:
        table.add_row(
            clock(each.at, each.at).removesuffix(" UTC"),
            plain(each.request_id),
            _lane(each.before),
            _lane(each.after),
            Text(plain(each.why), QUIET),
        )
    if (more := len(outcome.differences) - LATEST) > 0:
        table.add_row("", Text(f"{count(more)} more: --json", QUIET))
    return table


def _lane(lane: tuple[str, str] | None) -> str:
    return f"{plain(lane[1])}, {plain(lane[0])}" if lane else "nothing"


def _table(head: tuple[str, ...], *right: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    for title in head:
        table.add_column(title, overflow="fold", justify="right" if title in right else "left")
    return table
