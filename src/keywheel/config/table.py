"""Every setting there is, with its type, its environment variable and the numbers it may take."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import inf
from typing import Any, cast, get_type_hints

from keywheel.config.sections import AccountSettings, Config
from keywheel.secret import Secret

Path = tuple[str, ...]
NAME = "<name>"  # stands in a path for a name of the user's choice
STRINGS = tuple[str, ...]
SECRETS = tuple[Secret, ...]
USABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # names appear in headers and metrics
PREFIX = "KEYWHEEL_"
# Environment names that do not follow the pattern KEYWHEEL_<SECTION>__<NAME>.
ALIASES: Mapping[str, Path] = {
    "OPENROUTER_BASE_URL": ("upstream", "base_url"),
    "KEYWHEEL_HOST": ("gateway", "host"),
    "KEYWHEEL_PORT": ("gateway", "port"),
    "KEYWHEEL_TOKENS": ("gateway", "tokens"),
    "KEYWHEEL_ADMIN_TOKEN": ("gateway", "admin_token"),
}
ALIAS_OF: Mapping[Path, str] = {path: variable for variable, path in ALIASES.items()}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting there is. `section` is the dataclass that defines it."""

    path: Path
    kind: Any
    default: Any
    section: type

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ALIAS_OF.get(self.path) or PREFIX + "__".join(self.path).upper()


def _settings(section: type, path: Path = ()) -> Iterator[Setting]:
    kinds = get_type_hints(section)
    for each in fields(section):
        kind, here = kinds[each.name], (*path, each.name)
        if is_dataclass(kind):
            yield from _settings(cast("type", kind), here)
        elif kind == dict[str, AccountSettings]:
            yield from _settings(AccountSettings, (*here, NAME))
        elif kind == dict[str, STRINGS]:
            yield Setting((*here, NAME), STRINGS, (), section)
        else:
            yield Setting(here, kind, each.default, section)


SETTINGS: Mapping[Path, Setting] = {each.path: each for each in _settings(Config)}
SECTIONS = {path[:depth] for path in SETTINGS for depth in range(len(path))}
NAMED = {path[0] for path in SETTINGS if NAME in path}


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be. `above`: `low` itself is excluded."""

    low: float
    high: float = sys.float_info.max  # neither infinite nor "not a number"
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.high <= 65535:
            return f"between {self.low:g} and {self.high:g}"
        return f"above {self.low:g}" if self.above else f"{self.low:g} or more"


ANY, _SOME, _POSITIVE = Range(0), Range(1), Range(0, above=True)
RANGES: Mapping[str, Range] = {
    "upstream.connections": _SOME,
    "accounts.<name>.per_minute": _SOME,
    "accounts.<name>.per_day": _SOME,
    "accounts.<name>.concurrency": _SOME,
    "models.preference_step": Range(1, inf),  # infinite: strictly in order
    "models.half_life": _POSITIVE,
    "models.refresh": _SOME,
    "health.window": _POSITIVE,
    "health.min_samples": _SOME,
    "health.disable": _POSITIVE,
    "limits.attempts": Range(1, 16),
    "limits.attempts_per_model": _SOME,
    "limits.deadline": _POSITIVE,
    "limits.stream_deadline": _POSITIVE,
    "limits.connect": _POSITIVE,
    "limits.first_content_min": _POSITIVE,
    "limits.first_content_max": _POSITIVE,
    "limits.first_content_reasoning": _POSITIVE,
    "limits.gap": _POSITIVE,
    "limits.silence": _POSITIVE,
    "limits.keepalive": _POSITIVE,
    "state.keep": _SOME,
    "state.slots": _SOME,
    "gateway.port": Range(0, 65535),
    "gateway.max_body": _SOME,
    "gateway.connections": _SOME,
}
# An attempt longer than the window would be forgotten before it is judged (routing rule A.6).
AT_MOST = (
    ("limits.deadline", "health.window"),
    ("limits.stream_deadline", "health.window"),
    ("limits.first_content_min", "limits.first_content_max"),
)


def pattern(path: Path) -> Path:
    """The path with `<name>` in place of the user's own word."""
    if len(path) > 1 and path[0] in NAMED:
        return (path[0], NAME, *path[2:])
    return path


def dotted(path: Path) -> str:
    """A path as people write it."""
    return ".".join(path)
