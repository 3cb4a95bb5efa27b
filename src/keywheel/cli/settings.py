"""`keywheel config show` and `keywheel completion`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from click.shell_completion import get_completion_class

from keywheel.cli.manners import print_json
from keywheel.config import flatten
from keywheel.environment import Environment, gather
from keywheel.secret import Secret

DEFAULT = "default"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@click.group()
def config() -> None:
    """Settings."""


@config.command()
@click.option("--origin", is_flag=True, help="Also where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file to use instead of the usual places.",
)
def show(origin: bool, as_json: bool, config_file: Path | None) -> None:
    """The settings in force, as TOML; keys and tokens are shown as ***."""
    found = gather(config_file=config_file)
    if as_json:
        print_json(_as_object(found, origin))
        return
    for line in _as_toml(found, origin):
        click.echo(line)


def _as_object(found: Environment, origin: bool) -> dict[str, Any]:
    body = {
        "settings": msgspec.to_builtins(found.config, enc_hook=str),
        "keys": {entry.label: entry.secret for entry in found.keys},
    }
    if not origin:
        return body
    paths = [".".join(path) for path in flatten(found.config)]
    origins = {path: found.origins.get(path, DEFAULT) for path in paths}
    return body | {"origins": origins | {f"keys.{e.label}": e.origin for e in found.keys}}


def _as_toml(found: Environment, origin: bool) -> Iterator[str]:
    for path, value in flatten(found.config).items():
        name = ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path)
        if value in (None, ()):
            yield f"# {name} is not set"
            continue
        source = found.origins.get(".".join(path), DEFAULT)
        yield f"{name} = {_toml(value)}" + (f"  # {source}" if origin else "")
    for entry in found.keys:
        yield f"# key {entry.label} is {entry.secret}" + (f"  # {entry.origin}" if origin else "")


def _toml(value: Any) -> str:
    """A value as TOML; its strings and lists are written like JSON's."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, str | Secret):
        return json.dumps(str(value), ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script; for bash: eval "$(keywheel completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above names what click has
    root = context.find_root().command
    click.echo(kind(root, {}, "keywheel", "_KEYWHEEL_COMPLETE").source())
