"""What changes about one account, one key and one model: their health, their counts, what was learnt."""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from keywheel.core import ranking
from keywheel.core.breaker import Breaker, Pairs
from keywheel.core.policy import Choice
from keywheel.core.quota import Quota
from keywheel.core.ranking import Learnt, Score
from keywheel.core.types import Account, Ask, Key, Kind, Model, Scope

LEARNT_FOR = 1_800.0  # seconds a learnt context limit or missing capability is believed


class Path(NamedTuple):
    """The scopes one attempt goes through, in the order of `STATIONS`, and their breakers."""

    breakers: tuple[Breaker, ...]
    scopes: tuple[Scope, ...]


STATIONS = (Kind.PROVIDER, Kind.ACCOUNT, Kind.KEY, Kind.MODEL, Kind.ACCESS, Kind.LANE)


@dataclass(slots=True)
class AccountState:
    """One account: its quota, its health, and the health of its paid requests apart."""

    account: Account
    quota: Quota
    breaker: Breaker
    paid: Breaker
    keys: list["KeyState"] = field(default_factory=list["KeyState"])

    @property
    def name(self) -> str:
        """The account's label."""
        return self.account.name

    def side(self, free: bool) -> Breaker:
        """The health that counts for free or for paid requests."""
        return self.breaker if free else self.paid


@dataclass(slots=True)
class KeyState:
    """One key. `place`: in the configuration. `last_used`: number of its latest lease."""

    key: Key
    account: AccountState
    breaker: Breaker
    place: int
    last_used: int = 0

    @property
    def name(self) -> str:
        """The key's label."""
        return self.key.name


class ModelState:
    """One model at its place in the list, with what was learnt about it.

    `lanes` and `access` hold only what was used. `room`, `most` and `offers` are the model's limits as they are
    believed now, kept apart from the catalogue's so that looking costs nothing.
    """

    __slots__ = (
        "_lacks",
        "_revise_at",
        "_smaller",
        "access",
        "breaker",
        "gone_at",
        "lanes",
        "learnt",
        "model",
        "most",
        "offers",
        "pairs",
        "paths",
        "rank",
        "room",
        "scores",
        "stretch",
    )

    def __init__(self, model: Model, rank: int, breaker: Breaker) -> None:
        self.breaker = breaker
        self.learnt = Learnt()
        self.stretch = 1.0  # what an estimate is multiplied by to be on the safe side (rule A.9)
        self.lanes: dict[str, Breaker] = {}
        self.access: dict[str, Breaker] = {}
        self.paths: dict[str, Path] = {}
        self.pairs = Pairs()
        self.gone_at = 0.0  # when the catalogue stopped listing it
        self._smaller = (0, 0.0)  # learnt context limit and until when it is believed
        self._lacks: dict[str, float] = {}
        self.scores: dict[tuple[int, int], Score] = {}  # by size class and length of the reply
        self.list_as(model, rank)

    def list_as(self, model: Model, rank: int) -> None:
        """Take what the catalogue says, and a place in the list."""
        self.model, self.rank = model, rank
        self.paths.clear()
        self.score_anew()
        self._revise(0.0)

    # --- fitting ---------------------------------------------------------------------------------

    def misfit(self, ask: Ask, now: float) -> str | None:
        """Why it cannot serve an ask: `context`, `max_output` or the capability it lacks; None when it fits."""
        if now >= self._revise_at:
            self._revise(now)
        reply = ask.reply_tokens
        if ask.tokens * self.stretch + reply > self.room:
            return "context"
        if reply > self.most:
            return "max_output"
        if ask.needs and not ask.needs <= self.offers:
            return min(ask.needs - self.offers)
        return None

    def learn_context(self, limit: int, now: float) -> None:
        """Believe a smaller context for a while."""
        self._smaller = (limit, now + LEARNT_FOR)
        self._revise(now)

    def learn_tokens(self, estimated: int, reported: int) -> None:
        """Compare an estimate with what the model's own tokenizer made of it."""
        ratio = self.learnt.ratio
        ratio.learn(estimated, reported)
        self.stretch = ratio.stretch

    def learn_lack(self, capability: str, now: float) -> None:
        """Believe for a while that it cannot do what the catalogue says it can."""
        self._lacks[capability] = now + LEARNT_FOR
        self._revise(now)

    def context(self, now: float) -> int:
        """The context limit believed now."""
        if now >= self._revise_at:
            self._revise(now)
        return self.room

    def _revise(self, now: float) -> None:
        limit, until = self._smaller
        context = self.model.context
        self.room = min(context, limit) if until > now else context
        self.most = inf if self.model.max_output is None else self.model.max_output
        self._lacks = {name: end for name, end in self._lacks.items() if end > now}
        self.offers = self.model.can - self._lacks.keys()
        ends = [*self._lacks.values(), *([until] if until > now else ())]
        self._revise_at = min(ends, default=inf)

    # --- standing --------------------------------------------------------------------------------

    def score(self, ask: Ask, size: int, choice: Choice) -> Score:
        """J for an ask whose prompt is of this size class; `scores` keeps it until something changes."""
        score = ranking.weigh(self.learnt, self.rank, ask, choice)
        self.scores[size, ask.reply_tokens] = score
        return score

    def score_anew(self) -> None:
        """Something that the score depends on has changed."""
        self.scores.clear()
