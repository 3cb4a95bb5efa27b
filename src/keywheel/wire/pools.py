"""Named pools: with the model `auto:<name>` a client asks for a kind of model instead of one.

Four are built in; `[pools]` of the configuration adds own ones, or replaces these.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keywheel.wire.models import Entry, matches, smartest_key

NOTHING: frozenset[str] = frozenset()
# Words that makers put into the names of models trained for code; `laguna` is poolside's.
CODE = ("*coder*", "*codestral*", "*devstral*", "*-code*", "poolside/*")


class Wheel(NamedTuple):
    """A pool as requests use it. `models`: in this order, none for every free one; `strategy` None: as configured."""

    what: str
    models: tuple[str, ...] = ()
    strategy: str | None = None
    needs: frozenset[str] = NOTHING
    is_own: bool = False

    def takes(self, entry: Entry) -> bool:
        """Whether a model belongs to it."""
        named = entry.id in self.models if self.models or self.is_own else True
        return named and self.needs <= entry.model.can


@dataclass(frozen=True, slots=True)
class Kind:
    """How a built-in pool comes about. `arrange` puts the free models in the pool's order."""

    what: str
    arrange: Callable[[Sequence[Entry]], Iterable[Entry]] | None = None
    strategy: str | None = None
    needs: frozenset[str] = NOTHING


def _coders_first(entries: Sequence[Entry]) -> Iterable[Entry]:
    return sorted(entries, key=lambda entry: not matches(entry.id, CODE))


BUILT_IN: Mapping[str, Kind] = {
    "fast": Kind("the free model expected to answer soonest", strategy="fastest"),
    "smart": Kind(
        "the best free model by size and reputation, whatever its speed",
        lambda entries: sorted(entries, key=smartest_key),
        strategy="ordered",
    ),
    "code": Kind("free models made for code first", _coders_first, strategy="balanced"),
    "vision": Kind("free models that read images", needs=frozenset({"image"})),
}


def pools(
    ordered: Sequence[Entry], own: Mapping[str, Sequence[str]], strategy: str
) -> dict[str, Wheel]:
    """Every pool by name, over the candidates in their order. `own`: names with ids or globs; `strategy`: of those."""
    free = [entry for entry in ordered if entry.model.free and not entry.model.embeds]
    built_in = {name: _built_in(kind, free) for name, kind in BUILT_IN.items()}
    return built_in | {name: _own(name, globs, ordered, strategy) for name, globs in own.items()}


def _built_in(kind: Kind, free: Sequence[Entry]) -> Wheel:
    models = tuple(entry.id for entry in kind.arrange(free)) if kind.arrange else ()
    return Wheel(kind.what, models, kind.strategy, kind.needs)


def _own(name: str, globs: Sequence[str], ordered: Sequence[Entry], strategy: str) -> Wheel:
    """The order of the patterns is the order of preference."""
    found = dict.fromkeys(
        entry.id for glob in globs for entry in ordered if matches(entry.id, (glob,))
    )
    what = f"the pool {name!r} of the configuration"
    return Wheel(what, tuple(found), strategy, is_own=True)
