"""Which lane an ask gets: hard filters, then the ranking of models, then the merit of keys (rules A.3, A.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from keywheel.core.decisions import Decision, Passed
from keywheel.core.openings import shut_until
from keywheel.core.policy import Choice as Preference
from keywheel.core.policy import Policy
from keywheel.core.purse import at_most
from keywheel.core.ranking import Score, bucket, weigh
from keywheel.core.roster import Roster
from keywheel.core.states import KeyState, ModelState
from keywheel.core.tried import Tried
from keywheel.core.types import EMBEDDINGS, Ask

ORDERED = ("ordered", "smartest")  # strategies for which the list is the ranking


Pick = tuple[KeyState, ModelState]  # the lane that was chosen

# What a ranking went by: a score by id, none where the order stands in a list; None: what each model keeps.
Scores = Mapping[str, Score] | None
UNSCORED: Scores = {}

# A usable key with its merit: not of an account better avoided, requests left today, this minute, fewest under way,
# least recently used, and the place in the configuration, which no two keys share. The largest wins (rule A.3).
Choice = tuple[bool, float, float, int, int, int, KeyState]


def choose(
    roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float, home: str | None = None
) -> Pick | None:
    """The best usable lane, None when there is none. `home`: the account that the conversation used last."""
    return Search(roster, policy, ask, tried, now, home).pick()


class Search:
    """One decision: looks at the models in their order and takes the first that can be sent to."""

    __slots__ = (
        "_ask",
        "_home",
        "_keys",
        "_policy",
        "_roster",
        "_scores",
        "_taken",
        "_tried",
        "_ways_open",
        "now",
        "passed",
        "ranked",
    )

    def __init__(
        self, roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float, home: str | None
    ) -> None:
        self._roster = roster
        self._policy = policy
        self._ask = ask
        self._tried = tried
        self._home = home
        self._keys = _Keys(roster, tried, now)
        self.now = now
        self.ranked: Sequence[ModelState] = ()
        self.passed: list[Passed] = []
        self._scores: Scores = UNSCORED
        self._taken: Choice | None = None
        self._ways_open = 0

    def pick(self) -> Pick | None:
        """The best usable lane, None when there is none."""
        tried = self._tried
        if shut_until(self._roster, tried, self.now):
            return None
        if tried.again and (pick := self._again(tried.again)):
            return pick
        self.ranked, self._scores = _ranked(self._roster, self._policy, self._ask, self.now)
        if tried.last_attempt and (pick := self._first(sure=True)):
            return pick
        return self._first()

    def survey(self) -> list[tuple[ModelState, str | None]]:
        """Every model in its order, with what stands in its way."""
        models, _ = _ranked(self._roster, self._policy, self._ask, self.now)
        ways = ((model, self._ways(model, sure=False)) for model in models)
        return [(model, way if isinstance(way, str) else None) for model, way in ways]

    def decision(self, pick: Pick | None) -> Decision:
        """What was decided, with its reasons."""
        scores, passed = self._scores, tuple(self.passed)
        if scores is None:
            kind = (bucket(self._ask.tokens), self._ask.reply_tokens)
            ranked = tuple([(m.model.id, m.scores.get(kind)) for m in self.ranked])
        else:
            ranked = tuple([(m.model.id, scores.get(m.model.id)) for m in self.ranked])
        if pick is None:
            return Decision(self.now, ranked, passed)
        key, model = pick
        account, taken = key.account.name, self._taken
        return Decision(
            self.now,
            ranked,
            passed,
            key.name,
            account,
            model.model.id,
            account == self._home,
            self._ways_open,
            taken[1:3] if taken else None,
        )

    def _first(self, *, sure: bool = False) -> Pick | None:
        """The first model that fits, is open and has a key with an open way to it."""
        self.passed.clear()
        for model in self.ranked:
            found = self._ways(model, sure=sure)
            if isinstance(found, str):
                until = model.breaker.until if found == "closed" else 0.0
                self.passed.append((model.model.id, found, until))
            else:
                taken = max(found if self._home is None else self._at_home(found))
                self._taken, self._ways_open = taken, len(found)
                return taken[-1], model
        return None

    def _ways(self, model: ModelState, *, sure: bool) -> list[Choice] | str:
        """The usable keys with an open way to a model, or why there is none."""
        now, keys = self.now, self._keys
        if model.breaker.until > now:
            return "closed"
        if model.learnt.in_flight >= model.learnt.limit:
            return "busy"
        closed = self._roster.closed_pairs(model, now)
        if len(closed) == len(self._roster.keys):
            return "no way"
        side = keys.side(model.model.free)
        if not side:
            return "no key"
        if why := _misfit(self._roster, model, self._ask, now):
            return why
        if again := self._tried.any:
            why = self._tried.rules_out(model, self._ask, self._policy.limits.attempts_per_model)
            if why:
                return why
        if closed or again:
            side = keys.open_to(model, side, closed)
        if sure:
            side = keys.without_probes(model, side)
        return side or "no way"

    def _at_home(self, side: list[Choice]) -> list[Choice]:
        """The keys of the account that the conversation used last, unless it has much less left than others.

        A tie-break: the upstream's prompt caches are per account (rule A.3).
        """
        own = [choice for choice in side if choice[-1].account.name == self._home and choice[0]]
        floor = self._policy.choice.affinity_floor
        if not own or (floor and own[0][1] < floor * max(choice[1] for choice in side)):
            return side
        return own

    def _again(self, lane: tuple[str, str]) -> Pick | None:
        """The lane that is to be tried once more, if it is still usable."""
        model, now = self._roster.models.get(lane[1]), self.now
        if model is None or model.breaker.until > now:
            return None
        if _misfit(self._roster, model, self._ask, now):
            return None
        learnt = model.learnt
        if learnt.in_flight >= learnt.limit or lane[0] in self._roster.closed_pairs(model, now):
            return None
        side = self._keys.side(model.model.free)
        key = next((choice[-1] for choice in side if choice[-1].name == lane[0]), None)
        return (key, model) if key else None


class _Keys:
    """The keys that may send now, worked out once for free and once for paid models."""

    __slots__ = ("_sides", "now", "roster", "tried")

    def __init__(self, roster: Roster, tried: Tried, now: float) -> None:
        self.roster = roster
        self.tried = tried
        self.now = now
        self._sides: dict[bool, list[Choice]] = {}

    def side(self, free: bool) -> list[Choice]:
        """The usable keys for free or for paid models."""
        side = self._sides.get(free)
        if side is None:
            side = self._sides[free] = _usable(self.roster, free, self.tried, self.now)
        return side

    def open_to(
        self, model: ModelState, side: list[Choice], closed: dict[str, float]
    ) -> list[Choice]:
        """Those with an open way to a model that was not tried."""
        tried, name = self.tried.lanes, model.model.id
        return [c for c in side if c[-1].name not in closed and (c[-1].name, name) not in tried]

    def without_probes(self, model: ModelState, side: list[Choice]) -> list[Choice]:
        """Those that would not make the attempt a probe."""
        return [
            choice
            for choice in side
            if not any(
                b.is_half_open(self.now) for b in self.roster.path(model, choice[-1]).breakers
            )
        ]


def _usable(roster: Roster, free: bool, tried: Tried, now: float) -> list[Choice]:
    choices: list[Choice] = []
    avoided, spent = tried.accounts, tried.keys
    for account in roster.accounts.values():
        if (account.breaker if free else account.paid).until > now:
            continue
        quota = account.quota
        room = quota.room(now, free)
        if room is None:
            continue
        day, minute = room
        fresh = account.name not in avoided if avoided else True
        idle = -quota.in_flight
        for key in account.keys:
            if key.breaker.until <= now and not (spent and key.name in spent):
                choices.append((fresh, day, minute, idle, -key.last_used, -key.place, key))
    return choices


def _named(roster: Roster, ask: Ask) -> Sequence[ModelState]:
    """The models an ask allows, in the order of the list or of the ask. What costs money must be named.

    Vectors come from models made for them, words from all others; without the former nothing offers what is needed.
    """
    models, listed = roster.models, roster.talking
    if EMBEDDINGS in ask.needs:
        listed = roster.embedding or listed
    if ask.models:
        named = [models[name] for name in dict.fromkeys(ask.models) if name in models]
        return [m for m in named if m in listed] if roster.embedding else named
    if ask.first and ask.pinned:
        return [m for m in listed if m.model.id == ask.first]
    if roster.all_free:
        return listed
    return [m for m in listed if m.model.free or m.model.id == ask.first]


def _misfit(roster: Roster, model: ModelState, ask: Ask, now: float) -> str | None:
    """Why a model cannot serve an ask, or may not because of what it costs."""
    why = model.misfit(ask, now)
    if why or model.model.free:
        return why
    usd = at_most(model.model, ask, model.stretch)
    return "cost" if usd is None or usd > roster.purse.left(now) else None


def survey(
    roster: Roster, policy: Policy, ask: Ask, now: float
) -> list[tuple[ModelState, str | None]]:
    """Every model that an ask allows, best first, each with what keeps it from being sent to now."""
    return Search(roster, policy, ask, Tried(), now, None).survey()


def others(roster: Roster, ask: Ask, now: float) -> tuple[str, ...]:
    """Free models that an ask does not allow and that could serve it."""
    allowed = (*_named(roster, ask), *(roster.embedding if EMBEDDINGS not in ask.needs else ()))
    fit = (m for m in roster.listed if m not in allowed and m.model.free)
    return tuple(m.model.id for m in fit if not m.misfit(ask, now))


def room(roster: Roster, ask: Ask, now: float) -> int:
    """The largest context among the models that an ask allows."""
    return max([model.context(now) for model in _named(roster, ask)], default=0)


def sort_out(
    roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float
) -> tuple[list[ModelState], list[str]]:
    """The models that an ask allows and that fit; and why each of the others does not."""
    limit = policy.limits.attempts_per_model
    again = tried.any
    fitting: list[ModelState] = []
    unfit: list[str] = []
    for model in _named(roster, ask):
        why = _misfit(roster, model, ask, now)
        if again and not why:
            why = tried.rules_out(model, ask, limit)
        if why:
            unfit.append(why)
        else:
            fitting.append(model)
    return fitting, unfit


def _ranked(
    roster: Roster, policy: Policy, ask: Ask, now: float
) -> tuple[Sequence[ModelState], Scores]:
    """Best first. An ask that names its models has ranked them itself; equal scores stay in the list's order."""
    models, choice = _named(roster, ask), policy.choice
    strategy = ask.strategy or ("ordered" if ask.models else choice.strategy)
    scores = UNSCORED
    if strategy not in ORDERED:
        roster.fade(now, choice.half_life)
        size = bucket(ask.tokens)
        if ask.strategy:
            models, scores = _in_pool(models, ask, choice)
        else:
            kind = (size, ask.reply_tokens)
            models = sorted(
                models, key=lambda m: (m.scores.get(kind) or m.score(ask, size, choice))[0]
            )
            scores = None
    if ask.first:
        models = sorted(models, key=lambda m: m.model.id != ask.first)
    return models, scores


def _in_pool(
    models: Sequence[ModelState], ask: Ask, choice: Preference
) -> tuple[Sequence[ModelState], Scores]:
    """A pool's models by the pool's own strategy; a model's place is that in the pool."""
    own = replace(choice, strategy=ask.strategy or choice.strategy)
    scores = {m.model.id: weigh(m.learnt, place, ask, own) for place, m in enumerate(models)}
    return sorted(models, key=lambda m: scores[m.model.id].total), scores


def last_resort(roster: Roster, policy: Policy, ask: Ask, tried: Tried, now: float) -> Pick | None:
    """With every lane closed: the one that opens first, if nothing but our own guesses closes it (rule A.6)."""
    best: tuple[float, int, int] | None = None
    pick: Pick | None = None
    for model in sort_out(roster, policy, ask, tried, now)[0]:
        if model.learnt.in_flight >= model.learnt.limit:
            continue
        for key in roster.keys.values():
            if key.name in tried.keys or (key.name, model.model.id) in tried.lanes:
                continue
            until = _guessed_until(roster, key, model, now)
            merit = (until, model.rank, key.place)
            if until and (best is None or merit < best):
                best, pick = merit, (key, model)
    return pick


def _guessed_until(roster: Roster, key: KeyState, model: ModelState, now: float) -> float:
    """When a lane opens that only guesses keep closed; 0.0 if anything else does."""
    breakers = (roster.outage, *roster.path(model, key).breakers)
    if key.account.quota.shut(now, model.model.free):
        return 0.0
    return max(b.until for b in breakers) if all(b.is_guess(now) for b in breakers) else 0.0
