"""What a scenario may say: values, their checks, and the TOML form of the same.

Times are seconds, counted from the world's start where a field says *after*.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import msgspec

from keywheel.sim.catalogue import model_of
from keywheel.sim.kinds import Kind

NO_FAULTS: Mapping[Kind, float] = {}

# The free ids of late 2024 that are still in many configurations; all answer 404 today.
GONE = (
    "meta-llama/llama-3.2-3b-instruct:free",
    "microsoft/phi-3-mini-128k-instruct:free",
    "meta-llama/llama-3.1-8b-instruct:free",
    "openchat/openchat-7b:free",
    "google/gemma-2-9b-it:free",
)

# What an entry of `GET /models` cannot do without.
ENTRY = (
    "id",
    "canonical_slug",
    "name",
    "created",
    "description",
    "context_length",
    "architecture",
    "pricing",
    "top_provider",
    "supported_parameters",
)


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """A provider's pool that is full at times: by chance (mean lengths) or by timetable."""

    mean_on: float = 120.0
    mean_off: float = 180.0
    refuses: float = 0.95  # share of attempts refused while it is full
    windows: tuple[tuple[float, float], ...] = ()  # (after, until): no chance then


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a model's endpoint behaves.

    Times and speeds are medians of log-normal laws, spreads are σ of the logarithm.
    """

    ttft: float = 0.8
    ttft_spread: float = 0.35
    speed: float = 70.0  # tokens a second
    speed_spread: float = 0.25
    drift: float = 0.0  # σ of an hourly change of both medians
    answer_tokens: float = 48.0
    answer_spread: float = 0.4
    reasoning_share: float = 0.3  # part of the answer a reasoning model spends on reasoning
    faults: Mapping[Kind, float] = field(default_factory=lambda: NO_FAULTS)
    saturation: Saturation | None = None
    hint_share: float = 0.3  # saturated answers that say when to come back
    minute_cap: int | None = None  # over all accounts
    day_cap: int | None = None
    context: int | None = None  # the endpoint's true context where it differs from the list
    joins_after: float | None = None
    leaves_after: float | None = None
    harness_only: bool = False

    def __post_init__(self) -> None:
        _check_shares(self.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One customer: its keys share everything below."""

    name: str = ""
    keys: int | tuple[str, ...] = 1  # so many fixed fake keys, or the keys themselves
    dead_keys: tuple[int, ...] = ()  # positions (from 0) of revoked keys
    minute_limit: int = 20
    day_limit: int = 50
    raised_to: int = 1000
    raised_after: float | None = None  # the top-up that changes the day's limit
    used_today: int = 0  # spent on the day the world starts
    leak_per_minute: float = 0.0  # free requests of others on this account
    counter_lag: float | None = None  # None: the scenario's
    credits: float = 0.0  # ever bought, USD
    usage: float = 0.0  # ever spent, USD; more than the credits is a negative balance
    hidden: tuple[str, ...] = ()  # models the privacy settings exclude; `*` and `?` match
    faults: Mapping[Kind, float] = field(default_factory=lambda: NO_FAULTS)

    def __post_init__(self) -> None:
        _check_shares(self.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A provider out of order: every model of it answers `kind` from `after` until `until`."""

    provider: str
    after: float
    until: float
    kind: Kind = Kind.UNAVAILABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world to play in."""

    name: str = "custom"
    summary: str = ""
    accounts: tuple[Account, ...] = field(default_factory=lambda: (Account(),) * 4)
    open_keys: bool = True  # a well-formed key nobody listed gets an account of its own
    open_account: Account = field(default_factory=Account)  # what such an account is like
    window: Literal["fixed", "sliding", "bucket"] = "fixed"
    counter_lag: float = 60.0  # how old the counter of `GET /key` may be
    daily_counter: bool = True  # whether `GET /key` has the counter at all
    limit_source: bool = True  # False: bodies as before 2026-07
    dated_slugs: float = 0.1  # share of answers that name the dated slug
    refusal_seconds: float = 0.05  # what a refusal by the platform takes
    comment_after: float = 5.0  # comments keep a stream alive when the first token is later
    comment_every: float = 1.0
    default_model: str = "openrouter/free"
    count_each_model: bool = False  # whether every model tried of `models[]` counts
    gone: tuple[str, ...] = GONE
    behaviour: Behaviour = field(default_factory=Behaviour)
    models: Mapping[str, Behaviour] = field(default_factory=dict[str, Behaviour])  # first match
    extra_models: tuple[Mapping[str, Any], ...] = ()  # full entries of `GET /models`
    outages: tuple[Outage, ...] = ()
    journal: int = 1000  # attempts remembered

    def __post_init__(self) -> None:
        for row in self.extra_models:
            _check_entry(row)


def _check_entry(row: Mapping[str, Any]) -> None:
    missing = [name for name in ENTRY if name not in row]
    if missing:
        raise ValueError(f"extra_models: {row.get('id')!r} lacks {', '.join(missing)}")
    try:
        model_of(row)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"extra_models: {row['id']!r} cannot be read: {error!r}") from error


def _check_shares(faults: Mapping[Kind, float]) -> None:
    if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
        raise ValueError("faults are shares from 0 to 1, and at most 1 together")


# Which table of a scenario holds which other: the only nesting there is.
NESTED: dict[type[Any], dict[str, type[Any]]] = {
    Scenario: {
        "accounts": Account,
        "open_account": Account,
        "behaviour": Behaviour,
        "models": Behaviour,
        "outages": Outage,
    },
    Behaviour: {"saturation": Saturation},
}


def load(path: Path) -> Scenario:
    """Read a scenario from a TOML file; its name defaults to the file's.

    Raises ScenarioError: unreadable, unknown field (with the nearest known name) or wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    return parse({"name": path.stem, **table}, origin=str(path))


def parse(table: Mapping[str, Any], *, origin: str) -> Scenario:
    """Check a scenario given as plain data. Raises ScenarioError."""
    _check_names(table, Scenario, origin, "")
    try:
        return msgspec.convert(table, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{origin}: {error}") from error


def _check_names(table: Mapping[str, Any], kind: type[Any], origin: str, path: str) -> None:
    known = {item.name for item in fields(kind)}
    for name, value in table.items():
        if name not in known:
            _refuse(f"{path}{name}", name, known, origin)
        inner = NESTED.get(kind, {}).get(name)
        if inner:
            _check_inner(value, inner, origin, f"{path}{name}")


def _check_inner(value: Any, kind: type[Any], origin: str, path: str) -> None:
    if isinstance(value, list):
        for place, item in enumerate(cast("list[Any]", value)):
            _check_inner(item, kind, origin, f"{path}[{place}]")
    if not isinstance(value, dict):
        return
    table = cast("dict[str, Any]", value)
    if path != "models":
        _check_names(table, kind, origin, f"{path}.")
        return
    for name, item in table.items():
        _check_inner(item, kind, origin, f"models.{name}")


def _refuse(path: str, name: str, known: set[str], origin: str) -> NoReturn:
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(sorted(known))
    raise ScenarioError(f"{origin}: unknown field {path!r}; {hint}")
