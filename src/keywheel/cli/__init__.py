"""The command line. Data goes to standard output, talk to standard error."""

import click

import keywheel
from keywheel.cli.asking import chat
from keywheel.cli.credentials import keys
from keywheel.cli.doctor import check_keys, doctor
from keywheel.cli.explaining import explain
from keywheel.cli.manners import EXIT_CODES, Polite
from keywheel.cli.models import models
from keywheel.cli.replaying import replay
from keywheel.cli.serving import serve, simulate
from keywheel.cli.settings import completion, config
from keywheel.cli.state import state
from keywheel.cli.stats import stats
from keywheel.cli.status import status, top

COMMANDS = (
    chat,
    completion,
    config,
    doctor,
    explain,
    keys,
    models,
    replay,
    serve,
    simulate,
    state,
    stats,
    status,
    top,
)


def main() -> None:
    """The entry point of the `keywheel` command."""
    cli(prog_name="keywheel")


@click.group(
    cls=Polite, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES
)
@click.version_option(keywheel.__version__, prog_name="keywheel")
def cli() -> None:
    """One dependable, free LLM endpoint out of your OpenRouter keys."""


keys.add_command(check_keys)
for command in COMMANDS:
    cli.add_command(command)
