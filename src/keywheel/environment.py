"""Gathers settings and keys from where this process runs: flags, environment, `.env` files, TOML files."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from platformdirs import user_config_path

from keywheel import config as settings
from keywheel.config import Config, Source
from keywheel.keys import KeyEntry, find

ENV_FILES = (".env.local", ".env")


@dataclass(frozen=True, slots=True)
class Environment:
    """What was found. `warnings` are sentences for a person."""

    config: Config
    origins: Mapping[str, str]
    keys: tuple[KeyEntry, ...]
    warnings: tuple[str, ...]


def gather(
    flags: Source | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Environment:
    """Read everything once, the most important source first. Raises `ConfigError`.

    `.env.local` and `.env` are read from the working folder only and never override a variable that is set.
    """
    folder = folder or Path.cwd()
    variables = {"environment": dict(os.environ if environment is None else environment)}
    variables |= {name: _env_file(folder / name) for name in ENV_FILES}
    sources = [flags] if flags else []
    sources += [settings.from_environment(values, name) for name, values in variables.items()]
    sources += [settings.from_toml(path) for path in _toml_files(config_file, folder)]
    loaded = settings.load(sources)
    keys = find(variables.items())
    return Environment(loaded.config, loaded.origins, keys, tuple(_warnings(folder)))


def _env_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _toml_files(config_file: Path | None, folder: Path) -> list[Path]:
    if config_file:
        return [config_file]
    places = (folder / "keywheel.toml", user_config_path("keywheel") / "config.toml")
    return [path for path in places if path.is_file()]


def _warnings(folder: Path) -> Iterator[str]:
    for name in ENV_FILES:
        path = folder / name
        if path.is_file() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield f"{name} can be read by other users of this machine; chmod 600 {name}"
