"""Upstream keys from environment variables and a key file, under labels. A key itself is never shown."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from keywheel.errors import ConfigError
from keywheel.secret import Secret

LABELS = ("primary", "secondary", "tertiary", "quaternary")
FIRST = ("OPENROUTER_API_KEY", "OPENROUTER_KEY")
LIST, FILE = "OPENROUTER_API_KEYS", "OPENROUTER_API_KEYS_FILE"
_NUMBERED = re.compile(r"OPENROUTER_API_KEY_([1-9][0-9]{0,3})")
_SIMILAR = re.compile(r"OPENROUTER_(API_)?KEY.*")
# What may stand behind "Bearer" (RFC 6750), of a length that rules out words.
_VALID = re.compile(r"[A-Za-z0-9._~+/-]{8,512}=*")


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One upstream key with its label and where it was found."""

    label: str
    secret: Secret
    origin: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A key before it has a label; `number` is the one its variable has."""

    number: int | None
    secret: Secret
    origin: str


def label(number: int) -> str:
    """The label of the n-th key: primary, secondary, tertiary, quaternary, key5 …"""
    return LABELS[number - 1] if number <= len(LABELS) else f"key{number}"


def find(
    sources: Iterable[tuple[str, Mapping[str, str]]], read: Callable[[str], str]
) -> tuple[KeyEntry, ...]:
    """All keys of the sources (name, variables), the most important source first; `read` gives a key file's text.

    The number of a variable decides the label; further keys take the free labels. The same key twice counts once.
    Raises `ConfigError` for a value that cannot be a key, naming the variable and never the value.
    """
    found = [
        _checked(number, value, f"{variable} in {source}")
        for source, variables in sources
        for variable, number, value in _values(variables, read)
    ]
    found.sort(key=lambda each: each.number is None)  # stable: importance decides within each half
    unique = {each.secret: each for each in reversed(found)}
    labels = _labels([each for each in found if unique[each.secret] is each])
    return tuple(KeyEntry(label(n), labels[n].secret, labels[n].origin) for n in sorted(labels))


def overlooked(variables: Iterable[str]) -> list[str]:
    """Variables that look like keys and are not read."""
    known = {*FIRST, LIST, FILE}
    return [
        name
        for name in variables
        if _SIMILAR.fullmatch(name) and name not in known and not _NUMBERED.fullmatch(name)
    ]


def _values(
    variables: Mapping[str, str], read: Callable[[str], str]
) -> Iterator[tuple[str, int | None, str]]:
    """(variable, number of the key or None, value) for every value that is set."""
    numbers = {name: int(match[1]) for name in variables if (match := _NUMBERED.fullmatch(name))}
    numbers |= dict.fromkeys(FIRST, 1)
    for variable, number in sorted(numbers.items(), key=lambda item: (item[1], item[0])):
        for place, value in enumerate(_split(variables.get(variable, ""))):
            yield variable, None if place else number, value
    for value in _split(variables.get(LIST, "")):
        yield LIST, None, value
    path = variables.get(FILE, "").strip()
    if path:
        lines = (line.partition("#")[0] for line in read(path).splitlines())
        yield from ((FILE, None, value) for line in lines for value in _split(line))


def _split(text: str) -> list[str]:
    return [part.strip("'\"") for part in re.split(r"[,\s]+", text) if part.strip("'\"")]


def _checked(number: int | None, value: str, origin: str) -> _Found:
    if not _VALID.fullmatch(value):
        raise ConfigError(
            f"{origin}: this cannot be an API key (8 to 512 letters, digits and -._~+/ without spaces)"
        )
    return _Found(number, Secret(value), origin)


def _labels(found: Iterable[_Found]) -> dict[int, _Found]:
    """Keys by number: their own one, or the first that is free."""
    labels: dict[int, _Found] = {}
    for each in found:
        number = each.number
        if number is None or number in labels:
            number = next(n for n in range(1, len(labels) + 2) if n not in labels)
        labels[number] = each
    return labels
