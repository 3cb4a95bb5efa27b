"""What can be asked for now: the candidates in their order, the pools, and why the rest is no candidate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from keywheel.core.types import EMBEDDINGS, FOREVER
from keywheel.errors import ModelNotFree
from keywheel.wire.models import Entry, order, smartest_key
from keywheel.wire.pools import NOTHING, Wheel, pools

AUTO = "auto"
PREFIX = "auto:"
PAID = frozenset({"paid"})


class Wish(NamedTuple):
    """What the `model` and `models` of a request come to, in the words of `keywheel.core.types.Ask`."""

    models: tuple[str, ...] = ()
    first: str | None = None
    strategy: str | None = None
    needs: frozenset[str] = NOTHING
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Taste:
    """How the candidates are chosen and ordered: the part of the configuration that matters here."""

    strategy: str = "balanced"
    allow_paid: bool = False
    preferred: Sequence[str] = ()
    exclude: Sequence[str] = ()
    pools: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])


@dataclass(frozen=True, slots=True)
class Menu:
    """One model list, read by one taste. `candidates`: the ids in `ordered`; `stale_at`: when one of them expires."""

    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    ordered: tuple[Entry, ...] = ()
    candidates: frozenset[str] = NOTHING
    pools: Mapping[str, Wheel] = field(default_factory=dict[str, Wheel])
    stale_at: float = FOREVER

    @property
    def costly(self) -> frozenset[str]:
        """What is listed and not free."""
        return frozenset(id for id, entry in self.entries.items() if not entry.model.free)

    def refusal(self, entry: Entry, now: float) -> str | None:
        """Why a listed model is no candidate, None for a candidate."""
        if entry.id in self.candidates:
            return None
        return entry.refusal(now) or "excluded by configuration"

    def wish(
        self,
        model: str | None,
        models: Sequence[str],
        now: float,
        needs: frozenset[str] = NOTHING,
    ) -> Wish:
        """What a request asks for. Raises `ModelNotFree` for what may not be used.

        Vectors of different models cannot be compared: an embedding model that is named has no substitute, and
        without a name the first in the list is taken for as long as it can be used.
        """
        embeds = EMBEDDINGS in needs
        if not models and model and model.startswith(PREFIX):
            return self._pool(model)
        named = tuple(name for name in models if name != AUTO)
        first = model if model != AUTO and not models else None
        for name in named or ((first,) if first else ()):
            self._check(name, now, embeds)
        return Wish(named, first, "ordered", pinned=bool(first)) if embeds else Wish(named, first)

    def _pool(self, model: str) -> Wish:
        wheel = self.pools.get(model.removeprefix(PREFIX))
        if wheel is None:
            known = ", ".join(PREFIX + name for name in self.pools)
            raise ModelNotFree(
                f"There is no pool {model!r}. Pools: {known or 'none yet, the model list is not known'}.",
                param="model",
            )
        if wheel.models or not wheel.is_own:
            return Wish(wheel.models, None, wheel.strategy, wheel.needs)
        raise ModelNotFree(
            f"No model that is listed now belongs to {model!r}; see `keywheel models` and [pools].",
            param="model",
        )

    def _check(self, name: str, now: float, embeds: bool) -> None:
        entry = self.entries.get(name)
        refusal = self.refusal(entry, now) if entry else None
        if entry and not refusal and entry.model.embeds is not embeds:
            refusal = "no embedding model" if embeds else "not a chat model"
        if (entry and not refusal) or not self.entries:
            return  # without a list the answer will be that no lane is usable
        why = f"it is no candidate ({refusal})" if entry else _UNLISTED
        if name.startswith(PREFIX):
            why = "a pool stands alone, in `model`"
        path = "/v1/embeddings/models" if embeds else "/v1/models"
        remedy = f"Use {AUTO!r}, or one of the free ids of GET {path}."
        if entry and entry.why_not == "paid":
            remedy += " (The setting `models.allow_paid` admits paid ones.)"
        raise ModelNotFree(f"Model {name!r} cannot be used: {why}. {remedy}", param="model")


_UNLISTED = "the upstream does not list it"


def menu(entries: Iterable[Entry], taste: Taste, now: float) -> Menu:
    """Read a list. Paid models come last, if they are admitted at all."""
    listed = {entry.id: entry for entry in entries}
    forgive = PAID if taste.allow_paid else NOTHING
    ordered = order(listed.values(), taste.preferred, taste.exclude, now=now, forgive=forgive)
    if taste.strategy == "smartest":
        ordered = tuple(
            sorted(ordered, key=lambda e: (e.model.embeds, not e.model.free, smartest_key(e)))
        )
    expiries = (entry.expires for entry in ordered if entry.expires is not None)
    return Menu(
        listed,
        ordered,
        frozenset(entry.id for entry in ordered),
        pools(ordered, taste.pools, taste.strategy),
        min(expiries, default=FOREVER),
    )
