"""Upstream keys from the environment, `.env` files and a key file, under labels. A key itself is never shown."""

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keywheel.errors import ConfigError
from keywheel.secret import Secret

LABELS = ("primary", "secondary", "tertiary", "quaternary")
_NUMBERED = re.compile(r"OPENROUTER_API_KEY_([1-9][0-9]{0,3})")
_VALID = re.compile(r"[\x21-\x7e]{8,512}")
# Folders in which the system itself guards the files it puts there.
_GUARDED = ("/run/secrets/",)


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One upstream key with its label and where it was found."""

    label: str
    secret: Secret
    origin: str


def label(number: int) -> str:
    """The label of the n-th key: primary, secondary, tertiary, quaternary, key5 …"""
    return LABELS[number - 1] if number <= len(LABELS) else f"key{number}"


def find(sources: Iterable[tuple[str, Mapping[str, str]]]) -> tuple[KeyEntry, ...]:
    """All keys of the sources (name, variables), the most important source first.

    A variable that is set in one source hides the same variable in later ones; the same key twice counts once.
    Raises `ConfigError` for a value that cannot be a key, naming the variable and never the value.
    """
    entries: dict[str, KeyEntry] = {}
    seen: set[str] = set()
    known: set[str] = set()
    for source, variables in sources:
        for variable, number, value in _values(variables):
            if variable in seen:
                continue
            _take(entries, known, number, value, f"{variable} in {source}")
        seen.update(variables)
    return tuple(sorted(entries.values(), key=_order))


def _values(variables: Mapping[str, str]) -> Iterator[tuple[str, int | None, str]]:
    """(variable, number of the key or None, value) for every value that is set."""
    for variable in ("OPENROUTER_API_KEY", "OPENROUTER_KEY"):
        yield from (
            (variable, 1 if not i else None, v) for i, v in enumerate(_split(variables, variable))
        )
    for variable in sorted(variables, key=lambda name: (len(name), name)):
        if match := _NUMBERED.fullmatch(variable):
            for index, value in enumerate(_split(variables, variable)):
                yield variable, None if index else int(match[1]), value
    for value in _split(variables, "OPENROUTER_API_KEYS"):
        yield "OPENROUTER_API_KEYS", None, value
    path = variables.get("OPENROUTER_API_KEYS_FILE", "").strip()
    if path:
        yield from (("OPENROUTER_API_KEYS_FILE", None, value) for value in _read(Path(path)))


def _split(variables: Mapping[str, str], variable: str) -> list[str]:
    text = variables.get(variable, "")
    return [part.strip("'\"") for part in re.split(r"[,\s]+", text) if part.strip("'\"")]


def _read(path: Path) -> list[str]:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"OPENROUTER_API_KEYS_FILE: {path} cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and not str(path).startswith(_GUARDED):
        raise ConfigError(
            f"OPENROUTER_API_KEYS_FILE: {path} can be read by others; chmod 600 {path}"
        )
    lines = [line.partition("#")[0] for line in text.splitlines()]
    return [part for part in re.split(r"[,\s]+", " ".join(lines)) if part]


def _take(
    entries: dict[str, KeyEntry], known: set[str], number: int | None, value: str, origin: str
) -> None:
    if not _VALID.fullmatch(value):
        raise ConfigError(f"{origin}: this cannot be an API key (8 to 512 printable characters)")
    if value in known:
        return
    known.add(value)
    name = label(number) if number else ""
    if not name or name in entries:
        name = next(name for name in map(label, range(1, 10_000)) if name not in entries)
    entries[name] = KeyEntry(name, Secret(value), origin)


def _order(entry: KeyEntry) -> int:
    if entry.label in LABELS:
        return LABELS.index(entry.label) + 1
    return int(entry.label.removeprefix("key"))
