"""Gathers settings and keys from where this process runs: flags, environment, `.env` files, TOML files.

Files are read here and nowhere else, so that who else can read them is looked at in one place.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from platformdirs import user_config_path

from keywheel import config as settings
from keywheel.config import Config, Loaded, Source
from keywheel.errors import ConfigError
from keywheel.keys import FILE, KeyEntry, find, overlooked

ENV_FILES = (".env.local", ".env")
GUARDED = Path("/run/secrets")  # the system itself guards what it mounts there


@dataclass(frozen=True, slots=True)
class Environment:
    """What was found. `origins`: dotted path → source. `warnings` are sentences for a person."""

    config: Config
    origins: Mapping[str, str]
    keys: tuple[KeyEntry, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """A file as read; `exposed`: other users of this machine can read it."""

    name: str
    text: str
    exposed: bool


def gather(
    flags: Source | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Environment:
    """Read everything once, the most important source first. Raises `ConfigError`.

    `.env.local` and `.env` are read from the working folder only. A variable that is set, be it to nothing, hides
    the same variable of a less important source.
    """
    try:
        return _gather(flags, config_file, environment, folder or Path.cwd())
    except ConfigError as error:
        sentence = str(error)
    raise ConfigError(sentence)  # anew: the frames behind the first one hold keys in plain text


def _gather(
    flags: Source | None,
    config_file: Path | None,
    environment: Mapping[str, str] | None,
    folder: Path,
) -> Environment:
    env_files = [_read(folder / name) for name in ENV_FILES if (folder / name).is_file()]
    variables = {"environment": dict(os.environ if environment is None else environment)}
    variables |= {file.name: _variables(file) for file in env_files}
    _hide(variables.values())
    sources = [flags] if flags else []
    sources += [settings.from_environment(values, name) for name, values in variables.items()]
    sources += [_toml(path) for path in _toml_files(config_file, folder)]
    loaded = settings.load(sources)
    keys = find(variables.items(), _key_file)
    _check_labels(loaded, keys)
    warnings = (*_exposed(env_files), *_overlooked(variables))
    return Environment(loaded.config, loaded.origins, keys, warnings)


def _variables(file: _File) -> dict[str, str]:
    values = dotenv_values(stream=StringIO(file.text))
    return {name: value for name, value in values.items() if value is not None}


def _hide(sources: Iterable[dict[str, str]]) -> None:
    """Remove from each source the variables that a more important one sets."""
    seen: set[str] = set()
    for variables in sources:
        for name in seen & variables.keys():
            del variables[name]
        seen.update(variables)


def _toml_files(config_file: Path | None, folder: Path) -> list[Path]:
    if config_file:
        return [config_file]
    places = (folder / "keywheel.toml", user_config_path("keywheel") / "config.toml")
    return [path for path in places if path.is_file()]


def _toml(path: Path) -> Source:
    file = _read(path)
    source = settings.from_toml(file.text, str(path))
    if file.exposed and ("gateway", "tokens") in source.values:
        raise ConfigError(f"{path} holds gateway.tokens and can be read by others; chmod 600 it")
    return source


def _key_file(name: str) -> str:
    path = Path(name).expanduser()
    file = _read(path)
    if file.exposed and not path.resolve().is_relative_to(GUARDED):
        raise ConfigError(f"{FILE}: {path} can be read by others; chmod 600 it")
    return file.text


def _read(path: Path) -> _File:
    """A text file, with or without a byte order mark. Raises `ConfigError`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
        foreign = os.name == "posix" and path.lstat().st_uid not in (0, os.geteuid())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8") from None
    if path.is_symlink() and foreign:
        raise ConfigError(f"{path} is a link that another user made; it is not followed")
    others = stat.S_IRWXG | stat.S_IRWXO
    return _File(path.name, text, os.name == "posix" and bool(mode & others))


def _check_labels(loaded: Loaded, keys: tuple[KeyEntry, ...]) -> None:
    """Accounts name keys that exist, each in one account. Without any key there is nothing to name."""
    known = [entry.label for entry in keys]
    homes: dict[str, str] = {}
    for account, entry in loaded.config.accounts.items():
        path = f"accounts.{account}.keys"
        origin = loaded.origins.get(path)
        for name in entry.keys if keys else ():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise ConfigError(f"{path}: there is no key {name!r} (from {origin}); {hint}")
            if homes.setdefault(name, account) != account:
                raise ConfigError(f"{path}: {name!r} is in account {homes[name]!r} already")


def _exposed(files: Iterable[_File]) -> Iterator[str]:
    for file in files:
        if file.exposed:
            yield f"{file.name} can be read by other users of this machine; chmod 600 {file.name}"


def _overlooked(sources: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for source, variables in sources.items():
        for name in overlooked(variables):
            yield f"{name} in {source} is not read; further keys are OPENROUTER_API_KEY_2, _3 …"
