"""`keywheel chat`."""

import sys
from collections.abc import Callable

import click

from keywheel.cli.manners import NO_KEYS, Exhausted, Unreachable, print_json
from keywheel.environment import gather
from keywheel.errors import ConfigError, Error

ENDS: dict[str, type[Error]] = {"quota_exhausted": Exhausted, "no_usable_lane": Exhausted}


@click.command()
@click.argument("prompt")
@click.option("--model", default="auto", show_default=True)
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print text, model, key and attempts as one object."
)
def chat(prompt: str, model: str, stream: bool, as_json: bool) -> None:
    """Ask once, without a gateway. PROMPT "-" reads standard input."""
    from keywheel.engine import Engine  # noqa: PLC0415 - only asking needs the engine
    from keywheel.gateway.once import ask  # noqa: PLC0415

    text = sys.stdin.read() if prompt == "-" else prompt
    found = gather()
    if not found.keys:
        raise ConfigError(NO_KEYS)
    show: Callable[[str], None] = _print_piece if stream and not as_json else _ignore
    answer = ask(Engine(found.config, found.keys), text, model, show)
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


def _print_piece(piece: str) -> None:
    click.echo(piece, nl=False)
    sys.stdout.flush()


def _print_end() -> None:
    click.echo()


def _ignore(_piece: str) -> None:
    """Nothing is shown before the answer is complete."""
