"""`keywheel chat`."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from keywheel.cli.manners import NO_KEYS, Exhausted, Unreachable, print_json
from keywheel.cli.serving import DEMO
from keywheel.environment import gather
from keywheel.errors import ConfigError, Error

if TYPE_CHECKING:
    from keywheel.engine import Engine

ENDS: dict[str, type[Error]] = {"quota_exhausted": Exhausted, "no_usable_lane": Exhausted}


@click.command()
@click.argument("prompt")
@click.option("--model", default="auto", show_default=True)
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print text, model, key and attempts as one object."
)
@click.option(
    "--sim", "simulated", is_flag=True, help="Ask the built-in simulator; no key is needed."
)
def chat(prompt: str, model: str, stream: bool, as_json: bool, simulated: bool) -> None:
    """Ask once, without a gateway. PROMPT "-" reads standard input."""
    from keywheel.gateway.once import ask  # noqa: PLC0415 - only asking needs the engine

    text = sys.stdin.read() if prompt == "-" else prompt
    show: Callable[[str], None] = _print_piece if stream and not as_json else _ignore
    with _engine(simulated) as engine:
        answer = ask(engine, text, model, show)
    if answer.problem:
        if answer.text:
            _print_end()
        kind = Unreachable if answer.unreachable else ENDS.get(answer.problem.code, Error)
        raise kind(answer.problem.message)
    if as_json:
        print_json(
            {
                "text": answer.text,
                "model": answer.model,
                "key": answer.key,
                "attempts": answer.attempts,
            }
        )
    elif stream:
        _print_end()
    else:
        click.echo(answer.text)


@contextmanager
def _engine(simulated: bool) -> Generator["Engine"]:
    from keywheel.engine import Engine  # noqa: PLC0415 - only asking needs it

    found = gather()
    if simulated:
        from keywheel.cli.launch import Launch, simulator  # noqa: PLC0415

        with simulator(DEMO) as address:
            job = Launch({}, None, DEMO, address).job(found)
            yield Engine(job.config, job.keys)
        return
    if not found.keys:
        raise ConfigError(NO_KEYS)
    yield Engine(found.config, found.keys)


def _print_piece(piece: str) -> None:
    click.echo(piece, nl=False)
    sys.stdout.flush()


def _print_end() -> None:
    click.echo()


def _ignore(_piece: str) -> None:
    """Nothing is shown before the answer is complete."""
