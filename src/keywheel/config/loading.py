"""Merges sources into one checked configuration that remembers where each value came from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NoReturn, cast

import msgspec

from keywheel.config.sections import Config
from keywheel.config.sources import Source, seal
from keywheel.config.table import ANY, AT_MOST, RANGES, Path, dotted, pattern
from keywheel.config.urls import url_fault
from keywheel.errors import ConfigError

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where each one came from (dotted path → source); what is not named is a default."""

    config: Config
    origins: Mapping[str, str]


def load(sources: Iterable[Source]) -> Loaded:
    """Merge sources, the most important first, and check the result. Raises `ConfigError`."""
    merged: Tree = {}
    origins: dict[str, str] = {}
    for source in sources:
        for path, value in source.values.items():
            if dotted(path) not in origins:
                origins[dotted(path)] = source.name
                _put(merged, path, value)
    config = msgspec.convert(merged, Config, dec_hook=seal)
    _check(config, origins)
    return Loaded(config, origins)


def flatten(config: Config) -> dict[Path, Any]:
    """Every setting in force by its path."""
    return dict(_flatten(config, ()))


def _flatten(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if is_dataclass(node):
        for each in fields(node):
            yield from _flatten(getattr(node, each.name), (*path, each.name))
    elif isinstance(node, dict):
        for name, value in cast("Tree", node).items():
            yield from _flatten(value, (*path, name))
    else:
        yield path, node


def _check(config: Config, origins: Mapping[str, str]) -> None:
    values = {dotted(path): value for path, value in flatten(config).items()}
    for path, value in flatten(config).items():
        allowed = RANGES.get(dotted(pattern(path)), ANY)
        if isinstance(value, int | float) and not allowed.holds(value):
            _refuse(dotted(path), f"must be {allowed}, not {value:g}", origins)
    for path, limit in AT_MOST:
        if values[path] > values[limit]:
            says = f"{values[path]:g} is more than {limit} ({values[limit]:g})"
            _refuse(path, says, origins)
    if fault := url_fault(config.upstream.base_url):
        _refuse("upstream.base_url", fault, origins)
    if "@" in (config.upstream.proxy or ""):
        _refuse("upstream.proxy", "must not hold a user or a password", origins)
    if "gateway.tokens" in origins and not config.gateway.tokens:
        _refuse("gateway.tokens", "is set but holds no token; set one or remove it", origins)


def _refuse(path: str, problem: str, origins: Mapping[str, str]) -> NoReturn:
    origin = origins.get(path)
    raise ConfigError(f"{path}: {problem}" + (f" (from {origin})" if origin else ""))


def _put(tree: Tree, path: Path, value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
