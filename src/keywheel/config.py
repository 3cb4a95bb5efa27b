"""Settings and keys from flags, environment, `.env` files and TOML, in this order of precedence.

Each section is a frozen dataclass; the core's policies are sections themselves, so a number is spelled once.
An unknown or ill-typed setting is refused with its path and the nearest known name.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from keywheel.core.policy import Choice, Health, Limits, Policy
from keywheel.errors import ConfigError

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """[upstream]: where requests go."""

    base_url: str = "https://openrouter.ai/api/v1"
    ca_file: str | None = None  # certificates to trust instead of the system's
    proxy: str | None = (
        None  # http://host:port of a CONNECT proxy; never taken from the environment
    )
    allow_private: bool = False  # permit an upstream in a private network
    connections: int = 512  # open at once


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """[accounts.NAME]: keys that share limits, when `GET /key` should not decide."""

    keys: tuple[str, ...] = ()  # labels
    per_minute: int = 20
    per_day: int | None = None  # None: as `GET /key` says, 50 until it says more
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSettings(Choice):
    """[models]: which models, in which order."""

    preferred: tuple[str, ...] = ()  # ids or globs that come first, in this order
    exclude: tuple[str, ...] = ()  # ids or globs never used
    refresh: float = 900.0  # seconds between two looks at the catalogue


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]: what `keywheel serve` offers, and to whom."""

    host: str = "127.0.0.1"
    port: int = 8787
    tokens: tuple[str, ...] = ()  # clients must send one of these as a bearer token
    require_token: bool = False
    hosts: tuple[str, ...] = ()  # further names that may stand in the Host header
    max_body: int = 10 * 1024 * 1024  # bytes
    drain: float = 30.0  # seconds that running streams get at the end


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


@dataclass(frozen=True, slots=True)
class Config:
    """All settings."""

    upstream: UpstreamSettings = UpstreamSettings()
    accounts: dict[str, AccountSettings] = field(default_factory=dict[str, AccountSettings])
    models: ModelSettings = ModelSettings()
    health: Health = Health()
    limits: Limits = Limits()
    gateway: GatewaySettings = GatewaySettings()
    log: LogSettings = LogSettings()

    @property
    def policy(self) -> Policy:
        """What the core needs of it."""
        return Policy(self.health, self.limits, self.models)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where each one came from (path → source)."""

    config: Config
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """One place settings come from."""

    name: str
    tree: Tree


# Environment names that do not follow the pattern KEYWHEEL_<SECTION>__<NAME>.
ALIASES = {
    "OPENROUTER_BASE_URL": ("upstream", "base_url"),
    "KEYWHEEL_HOST": ("gateway", "host"),
    "KEYWHEEL_PORT": ("gateway", "port"),
    "KEYWHEEL_TOKENS": ("gateway", "tokens"),
}
PREFIX = "KEYWHEEL_"


def load(sources: Iterable[Source]) -> Loaded:
    """Merge sources, the most important first, and check the result. Raises `ConfigError`."""
    merged: Tree = {}
    origins: dict[str, str] = {}
    for source in sources:
        for path, value in _leaves(source.tree):
            if ".".join(path) in origins:
                continue
            origins[".".join(path)] = source.name
            _put(merged, path, value)
    return Loaded(_convert(merged, origins), origins)


def from_toml(path: Path) -> Source:
    """A TOML file as a source. Raises `ConfigError` when it cannot be read."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    _refuse_unknown(tree, str(path))
    return Source(str(path), tree)


def from_environment(environment: Mapping[str, str], name: str = "environment") -> Source:
    """The settings among environment variables. Raises `ConfigError` on an unknown `KEYWHEEL_` name."""
    tree: Tree = {}
    for variable, value in environment.items():
        path = ALIASES.get(variable) or _path(variable)
        if path and value.strip():
            _refuse_unknown_variable(variable, path)
            _put(tree, path, _typed(path, value.strip()))
    return Source(name, tree)


def from_flags(**flags: Any) -> Source:
    """Command-line flags, named `section__name`; None means not given."""
    tree: Tree = {}
    for flag, value in flags.items():
        if value is not None:
            _put(tree, tuple(flag.split("__")), value)
    return Source("flag", tree)


# --- checking --------------------------------------------------------------------------------------


def _convert(tree: Tree, origins: Mapping[str, str]) -> Config:
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        place = path.rstrip("`")
        origin = origins.get(place)
        raise ConfigError(f"{place or 'settings'}: {message}{_from(origin)}") from error
    _check(config, origins)
    return config


def _check(config: Config, origins: Mapping[str, str]) -> None:
    rules = {
        "limits.deadline": 0 < config.limits.deadline <= config.health.window,
        "limits.stream_deadline": 0 < config.limits.stream_deadline <= config.health.window,
        "limits.attempts": 1 <= config.limits.attempts <= 16,
        "models.preference_step": config.models.preference_step >= 1,
        "health.min_samples": config.health.min_samples >= 1,
        "gateway.port": 0 <= config.gateway.port <= 65535,
    }
    remedies = {
        "limits.deadline": f"must be above 0 and at most health.window ({config.health.window:g} s)",
        "limits.stream_deadline": f"must be above 0 and at most health.window ({config.health.window:g} s)",
        "limits.attempts": "must lie between 1 and 16",
        "models.preference_step": "must be 1 or more",
        "health.min_samples": "must be 1 or more",
        "gateway.port": "must lie between 0 and 65535",
    }
    for path, holds in rules.items():
        if not holds:
            raise ConfigError(f"{path}: {remedies[path]}{_from(origins.get(path))}")


def _from(origin: str | None) -> str:
    return f" (from {origin})" if origin else ""


def _refuse_unknown(tree: Tree, source: str, path: tuple[str, ...] = ()) -> None:
    known = _known(path)
    if known is None:
        return
    for name, value in tree.items():
        if name not in known:
            raise ConfigError(_unknown(".".join((*path, name)), name, known, source))
        if isinstance(value, dict):
            _refuse_unknown(value, source, (*path, name))  # pyright: ignore[reportUnknownArgumentType]


def _refuse_unknown_variable(variable: str, path: tuple[str, ...]) -> None:
    for depth, name in enumerate(path):
        known = _known(path[:depth])
        if known is not None and name not in known:
            raise ConfigError(_unknown(".".join(path), name, known, f"variable {variable}"))


def _unknown(path: str, name: str, known: Iterable[str], source: str) -> str:
    near = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"unknown setting {path} in {source}{hint}"


def _known(path: tuple[str, ...]) -> frozenset[str] | None:
    """The names allowed below a path; None where any name goes."""
    node = _node(path)
    if node is None or not is_dataclass(node):
        return None
    return frozenset(f.name for f in fields(node))


def _node(path: tuple[str, ...]) -> Any:
    """The type of a setting or section."""
    node: Any = Config
    for name in path:
        if node is dict[str, AccountSettings]:
            node = AccountSettings
        elif is_dataclass(node):
            node = get_type_hints(node).get(name)
        else:
            return None
    return node


# --- trees -----------------------------------------------------------------------------------------


def _leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield (*path, name), value


def _put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _path(variable: str) -> tuple[str, ...] | None:
    if not variable.startswith(PREFIX) or variable.startswith("KEYWHEEL_COMPLETE"):
        return None
    return tuple(variable.removeprefix(PREFIX).lower().split("__"))


def _typed(path: tuple[str, ...], value: str) -> Any:
    """Lists come comma-separated, booleans as 1/true/yes/on; numbers are left to the checker."""
    kind = _node(path)
    if kind == tuple[str, ...]:
        return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
    if kind is bool:
        return {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
    return value
