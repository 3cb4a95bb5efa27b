"""`keywheel status` and `keywheel top`: the running gateway at a glance, once or for as long as one looks."""

import sys
from functools import partial
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from keywheel.cli import view
from keywheel.cli.manners import EXHAUSTED, console, print_json
from keywheel.cli.reading import line

Json = dict[str, Any]
LAST = 12  # requests that `top` shows
FEW = 3  # troubles that it shows; `status` has them all


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole of GET /admin/state.")
@click.option("--watch", "stays", is_flag=True, help="Stay, and keep it fresh; q ends it.")
@click.pass_context
def status(context: click.Context, as_json: bool, stays: bool) -> None:
    """The running gateway: what is wrong, until when, what to do; requests left; every key and model.

    Ends with 0 when something can be served, 5 when all is exhausted, 4 when no gateway answers.
    """
    if as_json and stays:
        raise click.UsageError("--json and --watch do not go together.")
    to = line()
    if stays:
        from keywheel.cli.watching import watch  # noqa: PLC0415 - for those who stay

        watch(to, partial(view.status, address=to.address), screen=False)
        return
    state = to.get("/admin/state")
    if as_json:
        print_json(state)
    else:
        console().print(view.status(state, state["now"], to.address))
    if state["pool"]["state"] == "exhausted":
        context.exit(EXHAUSTED)


@click.command()
def top() -> None:
    """The running gateway, live: requests left, keys, models, traffic and the last requests; q ends it."""
    from keywheel.cli.watching import watch  # noqa: PLC0415 - for those who stay

    if not sys.stdout.isatty():
        raise click.UsageError("top needs a terminal; for programs: keywheel status --json")
    to = line()
    watch(to, partial(_screen, address=to.address), screen=True)


def _screen(state: Json, now: float, address: str) -> RenderableType:
    """Ordered by what one wants to keep when the screen is small: the rest falls off its lower end."""
    parts: list[RenderableType] = [
        view.headline(state, now, address),
        view.glance(state, now),
        view.traffic(state),
    ]
    if state["troubles"]:
        parts += [Text(), view.causes(state, now, FEW)]
    for table in (
        view.accounts(state, now),
        view.keys(state, now),
        view.models(state, now, LAST),
        view.requests(state, LAST),
    ):
        parts += [Text(), table]
    return Group(*parts)
