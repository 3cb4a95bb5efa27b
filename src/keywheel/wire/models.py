"""The model list of the upstream, read without trusting it.

Free means that every price given is exactly zero and that prompt and completion have one; the suffix `:free`
proves nothing. A model is a candidate when it is free and chats (text in, text out, no classifier, no router) or
makes embeddings of text.
What is not understood is skipped and counted; only a payload that is no list at all is an error.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from keywheel.core.types import EMBEDDINGS, Model, Price
from keywheel.wire.loose import (
    MAX_SIZE,
    BadCatalogue,
    decode,
    to_amount,
    to_count,
    to_mapping,
    to_moment,
    to_number,
    to_sequence,
    to_strings,
    to_text,
)
from keywheel.wire.preferences import CURATED, FOUNDING

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
BY_OUTPUT = {"image": "image_output", "audio": "audio_output", EMBEDDINGS: EMBEDDINGS}

# Suffixes that choose endpoints or add a plugin, and with it perhaps a price.
ROUTING_SUFFIXES = (":online", ":nitro", ":floor", ":exacto")
TEXT, VECTORS = frozenset({"text"}), frozenset({EMBEDDINGS})
NO_PRICES = frozenset({"discount", "overrides", "min_prompt_tokens", "max_prompt_tokens"})
ID = re.compile(r"[\w.:/@+~-]{1,200}", re.ASCII)  # ids end up in headers, logs and metrics
CLASSIFIER = re.compile(r"content-safety|guard|moderation|shield|classif")
NO_CHAT = re.compile(r"embed|rerank|reward|whisper|\btts\b|transcri")
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?e?(\d+(?:\.\d+)?)([mbt])(?![a-z0-9])")
_UNITS = {"m": 0.001, "b": 1.0, "t": 1000.0}

_QUALITY = dict(CURATED)
_PLACES = {id_: place for place, id_ in enumerate((*FOUNDING, *_QUALITY))}


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


class _Payload(Struct):
    data: list[Raw]


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
_SERVED = Decoder(_Served)


def read_models(payload: bytes, max_size: int = MAX_SIZE) -> tuple[Entry, ...]:
    """The models in an answer of `GET /models` or one of its siblings. Raises BadCatalogue."""
    return read_listing(payload, max_size).entries


def read_listing(payload: bytes, max_size: int = MAX_SIZE) -> Listing:
    """The same with an account of what was skipped. Raises BadCatalogue."""
    raws = decode(payload, _PAYLOAD, max_size).data
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
    tools and age. What costs money comes last unless preferred, and what makes embeddings behind
    what chats. `forgive`: reasons that do not keep a model out, such as "paid". Patterns are globs over ids,
    with or without `:free`.
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


def _entry(served: _Served, raw: Raw) -> Entry:
    inputs, outputs = _modalities(to_mapping(served.architecture))
    price = _price(served.pricing)
    reasoning = to_mapping(served.reasoning).get("mandatory") is True
    top = to_mapping(served.top_provider)
    context = min(
        filter(None, map(to_count, (served.context_length, top.get("context_length")))),
        default=None,
    )
    model = Model(
        id=served.id,
        context=context or UNKNOWN_CONTEXT,
        max_output=to_count(top.get("max_completion_tokens")),
        can=_abilities(served, inputs, outputs, reasoning),
        free=price is None,
        reasoning=reasoning,
        price=_rates(served.pricing),
    )
    return Entry(
        id=served.id,
        model=model,
        name=to_text(served.name) or served.id,
        created=to_number(served.created) or 0.0,
        expires=to_moment(served.expiration_date),
        why_not=_no_use(served.id, inputs, outputs) or price,
        raw=raw,
    )


def _no_use(model_id: str, inputs: frozenset[str], outputs: frozenset[str]) -> str | None:
    name = model_id.lower()
    reasons = (
        ("alias", name.startswith("~")),
        ("router", name.startswith("openrouter/")),
        ("routing suffix", name.endswith(ROUTING_SUFFIXES)),
        ("not a chat model", outputs != VECTORS and _is_mute(name, inputs, outputs)),
        ("no model for text", "text" not in inputs),
        ("safety classifier", bool(CLASSIFIER.search(name))),
    )  # fmt: skip
    return next((reason for reason, applies in reasons if applies), None)


def _is_mute(name: str, inputs: frozenset[str], outputs: frozenset[str]) -> bool:
    return "text" not in inputs or outputs != TEXT or bool(NO_CHAT.search(name))


def _price(pricing: Any) -> str | None:
    """None when free, else `paid`, `price unknown`, or `router` for the price -1."""
    prices = to_mapping(pricing)
    tables = [prices, *(table for table in to_sequence(prices.get("overrides")))]
    amounts = [to_amount(prices.get("prompt")), to_amount(prices.get("completion"))]
    for table in tables:
        given = to_mapping(table).items()
        amounts += [
            to_amount(price) for name, price in given if name not in NO_PRICES and price is not None
        ]
    if any(amount == -1 for amount in amounts):
        return "router"
    if any(amount is None or amount < 0 for amount in amounts):
        return "price unknown"
    return "paid" if any(amounts) else None


def _rates(pricing: Any) -> Price:
    """What a request costs at most by its tokens; the dearest of the tables that may apply."""
    prices = to_mapping(pricing)
    tables = [prices, *map(to_mapping, to_sequence(prices.get("overrides")))]

    def dearest(*names: str) -> float:
        amounts = [to_amount(table.get(name)) for table in tables for name in names]
        return float(max((amount for amount in amounts if amount is not None), default=0))

    return Price(
        dearest("prompt", "input_cache_write"),
        dearest("completion", "internal_reasoning"),
        dearest("request"),
        media=dearest("image", "audio", "input_audio", "video", "file") > 0,
    )


def _modalities(architecture: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """What goes in and comes out; older lists say it as `text+image->text`, and silence means text."""
    before, _, after = (to_text(architecture.get("modality")) or "text->text").partition("->")
    inputs = to_strings(architecture.get("input_modalities")) or before.split("+")
    outputs = to_strings(architecture.get("output_modalities")) or after.split("+")
    return frozenset(inputs), frozenset(outputs)


def _abilities(
    served: _Served, inputs: frozenset[str], outputs: frozenset[str], mandatory: bool
) -> frozenset[str]:
    offered = to_strings(served.supported_parameters)
    can = {BY_PARAMETER[name] for name in offered if name in BY_PARAMETER}
    can |= {BY_INPUT[name] for name in inputs if name in BY_INPUT}
    can |= {BY_OUTPUT[name] for name in outputs if name in BY_OUTPUT}
    return frozenset(can | {"reasoning" if mandatory else "reasoning_off"})


def _rank(entry: Entry, wishes: tuple[str, ...]) -> tuple[float | str, ...]:
    wish = _first_match(entry.id, wishes)
    return (
        entry.model.embeds,
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
