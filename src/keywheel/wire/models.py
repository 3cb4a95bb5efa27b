"""The model list and the key facts of the upstream, read without trusting them.

Free means that every price given is exactly zero and that prompt and completion have one; the suffix `:free`
proves nothing. A model is a candidate when it is free and chats: text in, text out, no classifier, no router.
What is not understood is skipped and counted; only a payload that is no list at all is an error.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from keywheel.core.types import FOREVER, Model, Price
from keywheel.wire.preferences import CURATED, FOUNDING

MAX_SIZE = 1 << 24  # bytes of a list, requirement C17; the real one has about 2 MB
UNKNOWN_CONTEXT = 4_096  # tokens assumed of a model that does not say: the smallest still offered
UNKNOWN_SIZE = (
    30.0  # billions assumed of a name without a size: neither the small nor the large ones hide it
)

# Capability names, the same as in `keywheel.wire.ask`, by what the list calls them.
BY_PARAMETER = {
    "tools": "tools",
    "response_format": "json_object",
    "structured_outputs": "json_schema",
    "reasoning": "reasoning",
    "include_reasoning": "reasoning",
}
BY_INPUT = {"image": "image", "audio": "audio", "video": "video", "file": "file"}
BY_OUTPUT = {"image": "image_output", "audio": "audio_output", "embeddings": "embeddings"}

# Suffixes that choose endpoints or add a plugin, and with it perhaps a price.
ROUTING_SUFFIXES = (":online", ":nitro", ":floor", ":exacto")
TEXT = frozenset({"text"})
NO_PRICES = frozenset({"discount", "overrides", "min_prompt_tokens", "max_prompt_tokens"})
ID = re.compile(r"[\w.:/@+~-]{1,200}", re.ASCII)  # ids end up in headers, logs and metrics
CLASSIFIER = re.compile(r"content-safety|guard|moderation|shield|classif")
NO_CHAT = re.compile(r"embed|rerank|reward|whisper|\btts\b|transcri")
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?e?(\d+(?:\.\d+)?)([mbt])(?![a-z0-9])")
_UNITS = {"m": 0.001, "b": 1.0, "t": 1000.0}

_QUALITY = dict(CURATED)
_PLACES = {id_: place for place, id_ in enumerate((*FOUNDING, *_QUALITY))}


class BadCatalogue(Exception):
    """The payload as a whole is unusable: keep what was known before."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the list. `expires`: UTC seconds from which it may be gone. `raw`: the entry as served."""

    id: str
    model: Model
    name: str
    created: float
    expires: float | None
    why_not: str | None
    raw: Raw = field(repr=False, compare=False)

    def refusal(self, now: float) -> str | None:
        """Why this is no candidate now, None when it is one."""
        if self.why_not is None and self.expires is not None and now >= self.expires:
            return "expired"
        return self.why_not


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as read: its entries in the order served, and how many were skipped for which reason."""

    entries: tuple[Entry, ...]
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What `GET /key` says; None is unknown. The key's label is left out on purpose: it shows parts of the key.

    `account_id` is the owner's real id: hash it before it is kept or shown. `spent_until`: a budget is used up
    until then (UTC seconds, infinite when nobody says).
    """

    account_id: str | None = field(default=None, repr=False)
    free_used: int | None = None
    free_limit: int | None = None
    limit: float | None = None
    limit_remaining: float | None = None
    limit_reset: str | None = None
    is_management: bool = False
    is_free_tier: bool | None = None
    expires_at: float | None = None
    spent_until: float | None = None


class _Payload(Struct):
    data: list[Raw]


class _KeyPayload(Struct):
    data: dict[str, Any]


class _Served(Struct):
    """An entry; all but the id may be missing or of another type."""

    id: str
    name: Any = None
    created: Any = None
    context_length: Any = None
    architecture: Any = None
    pricing: Any = None
    top_provider: Any = None
    supported_parameters: Any = None
    expiration_date: Any = None
    reasoning: Any = None


_PAYLOAD = Decoder(_Payload)
_KEY = Decoder(_KeyPayload)
_SERVED = Decoder(_Served)


def read_models(payload: bytes, max_size: int = MAX_SIZE) -> tuple[Entry, ...]:
    """The models in an answer of `GET /models` or `/models/user`. Raises BadCatalogue."""
    return read_listing(payload, max_size).entries


def read_listing(payload: bytes, max_size: int = MAX_SIZE) -> Listing:
    """The same with an account of what was skipped. Raises BadCatalogue."""
    raws = _decode(payload, _PAYLOAD, max_size).data
    entries: dict[str, Entry] = {}
    skipped: Counter[str] = Counter()
    for raw in raws:
        try:
            served = _SERVED.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            skipped["not understood"] += 1
            continue
        if not ID.fullmatch(served.id):
            skipped["odd id"] += 1
            continue
        if served.id in entries:
            skipped["listed twice"] += 1
            continue
        entries[served.id] = _entry(served, raw)
    if not entries:
        raise BadCatalogue(f"none of {len(raws)} entries is a model")
    return Listing(tuple(entries.values()), dict(skipped))


def read_key(payload: bytes) -> KeyFacts | None:
    """Read the answer of `GET /key`; fields that are missing or odd stay unknown. None if it is no such answer."""
    try:
        data = _decode(payload, _KEY, MAX_SIZE).data
    except BadCatalogue:
        return None
    daily = _mapping(data.get("free_model_daily_requests"))
    used, limit = _number(daily.get("used")), _number(daily.get("limit"))
    return KeyFacts(
        account_id=_text(data.get("creator_user_id")),
        free_used=None if used is None else int(used),
        free_limit=None if limit is None else int(limit),
        limit=_number(data.get("limit")),
        limit_remaining=_number(data.get("limit_remaining")),
        limit_reset=_text(data.get("limit_reset")),
        is_management=True in (data.get("is_management_key"), data.get("is_provisioning_key")),
        is_free_tier=tier if isinstance(tier := data.get("is_free_tier"), bool) else None,
        expires_at=_moment(data.get("expires_at")),
        spent_until=_spent_until(data.get("budgets")),
    )


def order(
    entries: Iterable[Entry],
    preferred: Iterable[str] = (),
    exclude: Iterable[str] = (),
    *,
    now: float,
    forgive: frozenset[str] = frozenset(),
) -> tuple[Entry, ...]:
    """The candidates, best first, the same for the same input.

    The `preferred` patterns in their order; the founding five; the curated list; the rest by size, context,
    tools and age. What costs money comes last unless preferred. `forgive`: reasons that do not keep a
    model out, such as "paid". Patterns are globs over ids, with or without `:free`.
    """
    wishes, bans = tuple(preferred), tuple(exclude)
    fit = (entry for entry in entries if entry.refusal(now) in (None, *forgive))
    kept = (entry for entry in fit if _first_match(entry.id, bans) is None)
    return tuple(sorted(kept, key=lambda entry: _rank(entry, wishes)))


def smartest_key(entry: Entry) -> tuple[float, float, int, str]:
    """Sort key of the strategy `smartest`: curated quality, then size, then context, all largest first."""
    quality = _QUALITY.get(entry.id, 0)
    return (-quality, -billions(entry.id), -entry.model.context, entry.id)


def matches(model_id: str, patterns: Iterable[str]) -> bool:
    """Whether one of the globs is true of an id, with or without its `:free`."""
    return _first_match(model_id, tuple(patterns)) is not None


def billions(model_id: str) -> float:
    """Total parameters as far as the name tells: `8x7b` is 56, `120b-a12b` is 120."""
    sizes = [
        float(times or 1) * float(size) * _UNITS[unit]
        for times, size, unit in _SIZE.findall(model_id.lower())
    ]
    return max(sizes, default=UNKNOWN_SIZE)


def _decode(payload: bytes, decoder: Decoder[Any], max_size: int) -> Any:
    if len(payload) > max_size:
        raise BadCatalogue(f"{len(payload)} bytes are more than {max_size}")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCatalogue(f"not the expected JSON: {error}") from None


def _entry(served: _Served, raw: Raw) -> Entry:
    inputs, outputs = _modalities(_mapping(served.architecture))
    price = _price(served.pricing)
    reasoning = _mapping(served.reasoning).get("mandatory") is True
    top = _mapping(served.top_provider)
    context = min(
        filter(None, map(_count, (served.context_length, top.get("context_length")))), default=None
    )
    model = Model(
        id=served.id,
        context=context or UNKNOWN_CONTEXT,
        max_output=_count(top.get("max_completion_tokens")),
        can=_abilities(served, inputs, outputs, reasoning),
        free=price is None,
        reasoning=reasoning,
        price=_rates(served.pricing),
    )
    return Entry(
        id=served.id,
        model=model,
        name=_text(served.name) or served.id,
        created=_number(served.created) or 0.0,
        expires=_moment(served.expiration_date),
        why_not=_no_chat(served.id, inputs, outputs) or price,
        raw=raw,
    )


def _no_chat(model_id: str, inputs: frozenset[str], outputs: frozenset[str]) -> str | None:
    name = model_id.lower()
    reasons = (
        ("alias", name.startswith("~")),
        ("router", name.startswith("openrouter/")),
        ("routing suffix", name.endswith(ROUTING_SUFFIXES)),
        ("not a chat model", "text" not in inputs or outputs != TEXT or bool(NO_CHAT.search(name))),
        ("safety classifier", bool(CLASSIFIER.search(name))),
    )  # fmt: skip
    return next((reason for reason, applies in reasons if applies), None)


def _price(pricing: Any) -> str | None:
    """None when free, else `paid`, `price unknown`, or `router` for the price -1."""
    prices = _mapping(pricing)
    tables = [prices, *(table for table in _sequence(prices.get("overrides")))]
    amounts = [_amount(prices.get("prompt")), _amount(prices.get("completion"))]
    for table in tables:
        given = _mapping(table).items()
        amounts += [
            _amount(price) for name, price in given if name not in NO_PRICES and price is not None
        ]
    if any(amount == -1 for amount in amounts):
        return "router"
    if any(amount is None or amount < 0 for amount in amounts):
        return "price unknown"
    return "paid" if any(amounts) else None


def _rates(pricing: Any) -> Price:
    """What a request costs at most by its tokens; the dearest of the tables that may apply."""
    prices = _mapping(pricing)
    tables = [prices, *map(_mapping, _sequence(prices.get("overrides")))]

    def dearest(*names: str) -> float:
        amounts = [_amount(table.get(name)) for table in tables for name in names]
        return float(max((amount for amount in amounts if amount is not None), default=0))

    return Price(
        dearest("prompt", "input_cache_write"),
        dearest("completion", "internal_reasoning"),
        dearest("request"),
        media=dearest("image", "audio", "input_audio", "video", "file") > 0,
    )


def _amount(price: Any) -> Decimal | None:
    """A price as an exact number: rounding must not make a tiny one zero."""
    if isinstance(price, bool) or not isinstance(price, str | int | float):
        return None
    try:
        amount = Decimal(str(price).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def _modalities(architecture: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """What goes in and comes out; older lists say it as `text+image->text`, and silence means text."""
    before, _, after = (_text(architecture.get("modality")) or "text->text").partition("->")
    inputs = _strings(architecture.get("input_modalities")) or before.split("+")
    outputs = _strings(architecture.get("output_modalities")) or after.split("+")
    return frozenset(inputs), frozenset(outputs)


def _abilities(
    served: _Served, inputs: frozenset[str], outputs: frozenset[str], mandatory: bool
) -> frozenset[str]:
    offered = _strings(served.supported_parameters)
    can = {BY_PARAMETER[name] for name in offered if name in BY_PARAMETER}
    can |= {BY_INPUT[name] for name in inputs if name in BY_INPUT}
    can |= {BY_OUTPUT[name] for name in outputs if name in BY_OUTPUT}
    return frozenset(can | {"reasoning" if mandatory else "reasoning_off"})


def _rank(entry: Entry, wishes: tuple[str, ...]) -> tuple[float | str, ...]:
    wish = _first_match(entry.id, wishes)
    return (
        len(wishes) if wish is None else wish,
        not entry.model.free,
        _PLACES.get(entry.id, len(_PLACES)),
        -billions(entry.id),
        -entry.model.context,
        "tools" not in entry.model.can,
        -entry.created,
        entry.id,
    )


def _first_match(model_id: str, patterns: tuple[str, ...]) -> int | None:
    name = model_id.lower()
    names = (name, name.removesuffix(":free"))
    for place, pattern in enumerate(patterns):
        if any(fnmatchcase(name, pattern.lower()) for name in names):
            return place
    return None


def _spent_until(budgets: Any) -> float | None:
    """When the last of the budgets that are used up resets."""
    spent = [
        _moment(budget.get("resets_at")) or FOREVER
        for budget in map(_mapping, _sequence(budgets))
        if (left := _number(budget.get("remaining_usd"))) is not None and left <= 0
    ]
    return max(spent, default=None)


def _moment(value: Any) -> float | None:
    """A date (its first second) or an instant as UTC seconds."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: Any) -> float | None:
    amount = _amount(value)
    number = None if amount is None else float(amount)
    return number if number is not None and isfinite(number) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number and number >= 1 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [text for text in _sequence(value) if isinstance(text, str)]
