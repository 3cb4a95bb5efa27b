"""Settings as TOML, environment variables and flags spell them, checked one by one against the table."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin

import msgspec

from keywheel.config.table import (
    ALIASES,
    NAME,
    PREFIX,
    SECRETS,
    SECTIONS,
    SETTINGS,
    STRINGS,
    USABLE_NAME,
    Path,
    dotted,
    pattern,
)
from keywheel.errors import ConfigError
from keywheel.secret import Secret

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One place settings come from: values of the right type by path."""

    name: str
    values: Mapping[Path, Any]


def from_toml(text: str, name: str) -> Source:
    """A TOML document as a source. Raises `ConfigError`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from None
    values: dict[Path, Any] = {}
    for path, value in _leaves(tree):
        if value == {} and pattern(path) in SECTIONS:
            continue
        _check_path(path, name)
        values[path] = _convert(path, value, name)
    return Source(name, values)


def from_environment(environment: Mapping[str, str], name: str = "environment") -> Source:
    """The settings among environment variables; a blank one counts as not set, except for tokens.

    Raises `ConfigError`, for an unknown `KEYWHEEL_` name too.
    """
    values: dict[Path, Any] = {}
    named: dict[Path, str] = {}
    for variable, text in environment.items():
        path = _path(variable)
        if path is None:
            continue
        origin = f"variable {variable} in {name}"
        _check_path(path, origin, variable)
        if not text.strip() and SETTINGS[pattern(path)].kind != SECRETS:
            continue
        if path in named:
            raise ConfigError(f"{dotted(path)} is set twice, by {named[path]} and {variable}")
        named[path] = variable
        values[path] = _convert(path, _parse(path, text.strip()), origin, strict=False)
    return Source(name, values)


def from_flags(**flags: Any) -> Source:
    """Command-line flags, named `section__name`; None means not given. Raises `ConfigError`."""
    given = {tuple(flag.split("__")): value for flag, value in flags.items() if value is not None}
    return Source("flag", {path: _convert(path, value, "flag") for path, value in given.items()})


def _path(variable: str) -> Path | None:
    if variable in ALIASES:
        return ALIASES[variable]
    if not variable.startswith(PREFIX):
        return None
    return tuple(variable.removeprefix(PREFIX).lower().split("__"))


def _parse(path: Path, text: str) -> Any:
    """Lists are separated by comma or space, booleans 1/true/yes/on; numbers are left to the conversion."""
    kind = SETTINGS[pattern(path)].kind
    if get_origin(kind) is tuple:
        return [part for part in re.split(r"[,\s]+", text) if part]
    if kind is bool:
        return {"yes": True, "on": True, "no": False, "off": False}.get(text.lower(), text)
    return text.lower() if get_origin(kind) is Literal else text


def _convert(path: Path, value: Any, source: str, *, strict: bool = True) -> Any:
    kind = SETTINGS[pattern(path)].kind
    try:
        return msgspec.convert(value, kind, strict=strict, dec_hook=seal)
    except msgspec.ValidationError:
        wanted = f"{dotted(path)}: {_expected(kind)} is expected (from {source})"
        raise ConfigError(wanted) from None


def seal(kind: type, value: Any) -> Any:
    """Secrets are wrapped as soon as they are read."""
    if isinstance(value, Secret):
        return value
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError("unexpected type")


_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Secret: "a text",
    STRINGS: "a list of texts",
    SECRETS: "a list of texts",
}


def _expected(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    options = [option for option in get_args(kind) or (kind,) if option is not NoneType]
    return _WORDS.get(kind) or _WORDS[options[0]]


# --- paths -----------------------------------------------------------------------------------------


def _check_path(path: Path, source: str, variable: str | None = None) -> None:
    """Refuse a path that is no setting; `variable` is how the environment spells it."""
    known = pattern(path)
    if known in SETTINGS:
        if NAME in known and not USABLE_NAME.fullmatch(path[1]):
            allowed = "a name has up to 64 letters, digits, dots, dashes and underscores"
            raise ConfigError(f"{dotted(path)} in {source}: {allowed}")
        return
    if known in SECTIONS:
        raise ConfigError(f"{dotted(path)} in {source}: a table of settings is expected")
    if any(known[:depth] in SETTINGS for depth in range(len(known))):
        raise ConfigError(f"{dotted(path[:-1])} in {source}: a value is expected, not a table")
    if variable:
        raise ConfigError(f"unknown {source}; {_near_variable(variable)}")
    raise ConfigError(f"unknown setting {dotted(path)} in {source}; {_near_path(path)}")


def _near_path(path: Path) -> str:
    depth = next(d for d in range(len(path)) if pattern(path[: d + 1]) not in SECTIONS)
    head = path[:depth]
    names = sorted({known[depth] for known in SETTINGS if known[:depth] == pattern(head)})
    near = get_close_matches(path[depth], names, n=1)
    return f"did you mean {dotted((*head, *near))}?" if near else f"known: {', '.join(names)}"


def _near_variable(variable: str) -> str:
    """One underscore where two belong is the most frequent slip, so their number is not looked at."""
    known = [*ALIASES, *(PREFIX + "__".join(path).upper() for path in SETTINGS)]
    words = {name.removeprefix(PREFIX).replace("__", "_"): name for name in known}
    wanted = variable.removeprefix(PREFIX).replace("__", "_")
    near = get_close_matches(wanted, words, n=1)
    return (
        f"did you mean {words[near[0]]}?" if near else "`keywheel config show` lists all there are"
    )


def _leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(cast("Tree", value), (*path, name))
        else:
            yield (*path, name), value
