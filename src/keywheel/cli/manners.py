"""How commands speak and end: exit codes, sentences, JSON and tables, the same for all of them."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from keywheel.errors import ConfigError, Error

EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration or no keys, 4 upstream unreachable, "
    "5 all keys or models exhausted, 130 interrupted."
)
NO_KEYS = (
    "no API key: set OPENROUTER_API_KEY in the environment or in .env.local (further keys: OPENROUTER_API_KEY_2 …); "
    "to try keywheel without a key: keywheel serve --sim, or keywheel chat --sim"
)
SCHEMA_VERSION = 1
UNFOLDED = 10_000  # columns of a table that nobody looks at


class Unreachable(Error):
    """The upstream, or the gateway that was asked for figures, does not answer."""


class Exhausted(Error):
    """Every key or model is closed or used up."""


EXHAUSTED = 5
# What a command raised, and the exit code that follows; the first that fits.
ENDS: Sequence[tuple[type[Error], int]] = (
    (ConfigError, 3),
    (Unreachable, 4),
    (Exhausted, EXHAUSTED),
    (Error, 1),
)
INTERRUPTED = 130


class Polite(click.Group):
    """Ends every command with the right exit code; our own errors are a sentence, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command line and end the program."""
        try:
            code: Any = super().main(*args, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort:  # click's word for an interrupt
            code = INTERRUPTED
        except Error as error:
            say(str(error))
            code = next(code for kind, code in ENDS if isinstance(error, kind))
        sys.exit(code if isinstance(code, int) else 0)


def say(message: str) -> None:
    """Tell the person who runs the command something."""
    click.echo(f"keywheel: {message}", err=True)


def print_json(value: dict[str, Any]) -> None:
    """One object with its schema version."""
    body = {"schema_version": SCHEMA_VERSION} | value
    click.echo(msgspec.json.format(msgspec.json.encode(body, enc_hook=str), indent=2).decode())


def print_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Columns. A narrow terminal folds cells; nothing is ever cut off."""
    table = Table(box=None, pad_edge=False)
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def console() -> Console:
    """Standard output. What comes from outside is never taken for markup; a pipe gets lines that are not folded."""
    folds = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if folds else UNFOLDED
    return Console(width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)
