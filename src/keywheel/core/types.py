"""The words of keywheel as values: who shares limits, what is asked, who is at fault, what was decided.

Everything here is frozen. What changes lives in `window`, `breaker`, `quota`, `pool` and `stats`.
Times are UTC seconds on a clock that cannot jump; durations are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import NamedTuple

FOREVER = inf
DAY = 86_400.0


class Kind(StrEnum):
    """What can be blocked."""

    PROVIDER = "provider"
    ACCOUNT = "account"
    KEY = "key"
    MODEL = "model"
    ACCESS = "account+model"
    LANE = "lane"


class Scope(NamedTuple):
    """One thing that can be blocked, by the names used in configuration, logs and metrics."""

    kind: Kind
    name: str


class Fault(StrEnum):
    """Who is to blame for a failed attempt."""

    PROVIDER = "provider"
    ACCOUNT = "account"
    KEY = "key"
    ACCESS = "access"
    MODEL = "model"
    LANE = "lane"
    CLIENT = "client"


BLAME: Mapping[Fault, tuple[Kind, ...]] = {
    Fault.PROVIDER: (Kind.PROVIDER,),
    Fault.ACCOUNT: (Kind.ACCOUNT,),
    Fault.KEY: (Kind.KEY,),
    Fault.ACCESS: (Kind.ACCESS,),
    Fault.MODEL: (Kind.MODEL, Kind.LANE),
    Fault.LANE: (Kind.LANE,),
    Fault.CLIENT: (),
}


class Provenance(StrEnum):
    """Who says that a scope is closed; decides what may open it early (routing rule A.2)."""

    AUTHORITATIVE = "authoritative"
    HEURISTIC = "heuristic"
    OPERATOR = "operator"


class Window(StrEnum):
    """Whose error window a failure enters."""

    NO = "no"
    FULL = "yes"
    MODEL = "model"
    LANE = "lane"


WINDOW_SCOPES: Mapping[Window, tuple[Kind, ...]] = {
    Window.NO: (),
    Window.FULL: (Kind.LANE, Kind.MODEL, Kind.KEY),
    Window.MODEL: (Kind.LANE, Kind.MODEL),
    Window.LANE: (Kind.LANE,),
}


class Retry(StrEnum):
    """What may help after a failure."""

    SAME = "same"
    NEXT_KEY = "next_key"
    NEXT_ACCOUNT = "next_account"
    NEXT_MODEL = "next_model"
    RETURN = "return"


class Charge(StrEnum):
    """What a failure says about its account's quota."""

    NOTHING = "nothing"
    MINUTE = "minute"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Growing length of a guessed block: base · 2^(step-1), at most cap; it starts at the `first` failure
    in a row."""

    base: float
    cap: float
    first: int = 1


class Length(StrEnum):
    """How long an authoritative block lasts when it is not simply a number of seconds."""

    NONE = "none"
    SAID = "until the moment named by the answer"
    MIDNIGHT = "until the next UTC midnight"
    CHECKED = "until GET /key passes"


@dataclass(frozen=True, slots=True)
class Row:
    """One rule of the classification table: what a failure means and what follows from it.

    `seconds` closes for a fixed time, `ladder` for a growing one, `length` until a named moment. A row with
    both a ladder and `Length.SAID` files two blocks: authoritative until the moment said, heuristic until
    the ladder's value.
    """

    number: str
    name: str
    signal: str
    fault: Fault | None
    retry: Retry
    blocks: Kind | None = None
    seconds: float | None = None
    least: float = 0.0  # a block lasts at least so many seconds, whatever moment the answer names
    ladder: Ladder | None = None
    length: Length = Length.NONE
    provenance: Provenance | None = None
    window: Window = Window.NO
    charge: Charge = Charge.NOTHING
    shrinks: bool = False  # the model takes fewer requests at once
    slow: bool = False  # the time spent counts as the model's speed
    rotates: bool = False  # key and account faults have a budget of their own: one attempt per key
    paid_too: bool = (
        False  # closes the account's paid side as well, not only the side that was asked
    )
    alarm: bool = False  # an operator should look
    status: int = 502
    code: str = "upstream_failed"

    @property
    def label(self) -> str:
        """As logs and metrics name it: `20 upstream-pool`."""
        return f"{self.number} {self.name}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer, or the lack of one, means.

    `until`: the moment the upstream named, bounded by class; None when it named none.
    `via`: how the error was wrapped ("error-in-200", "error-first"), empty for a plain status.
    """

    row: Row
    until: float | None = None
    via: str = ""
    status: int = 0
    message: str = ""
    upstream_code: str = ""
    upstream_type: str = ""
    context_limit: int | None = None
    lacks: str | None = None
    day_limit: int | None = None
    passthrough: bool = False  # the client gets the upstream's own error

    @property
    def label(self) -> str:
        """The row as logs and metrics name it."""
        return self.row.label


@dataclass(frozen=True, slots=True)
class Account:
    """A set of keys that share limits, whoever owns them. `per_day` None: not metered."""

    name: str
    per_minute: int = 20
    per_day: int | None = 50
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """An upstream key by its label. The secret itself never enters the core."""

    name: str
    account: str


class Price(NamedTuple):
    """What a model costs: USD a token of the prompt and of the answer, and USD a request.

    `media`: pictures, sounds or files cost extra, and nobody knows beforehand how much.
    """

    prompt: float = 0.0
    completion: float = 0.0
    request: float = 0.0
    media: bool = False


NOTHING_TO_PAY = Price()


EMBEDDINGS = "embeddings"  # a need, and what a model that answers in vectors can do


@dataclass(frozen=True, slots=True)
class Model:
    """One upstream model as far as choosing needs it. `can` holds capability names such as `tools`,
    `image`, `json_schema`."""

    id: str
    context: int
    max_output: int | None = None
    can: frozenset[str] = frozenset()
    free: bool = True
    reasoning: bool = False
    price: Price = NOTHING_TO_PAY

    @property
    def embeds(self) -> bool:
        """Whether it answers in vectors, and so never in words."""
        return EMBEDDINGS in self.can


class Ask(NamedTuple):
    """One client request as the core sees it.

    `models`: exactly these, in this order (empty: every model, ranked). `first`: this one before the ranked
    rest; `pinned`: this one only. `strategy`: how a pool ranks, None: as configured, and `models` in their order.
    `deadline`: moment after which nothing is started. `max_wait`: seconds that it wants to wait for a lane, which moves
    the deadline, up to `latest`, when its client leaves. `client`: who asks, empty where clients cannot be told apart.
    `conversation`: a keyed hash; `follow_up`: not its first request.
    """

    tokens: int = 0
    reply_tokens: int = 0
    stream: bool = False
    needs: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    strategy: str | None = None
    first: str | None = None
    pinned: bool = False
    deadline: float = FOREVER
    max_wait: float = 0.0
    conversation: str | None = None
    follow_up: bool = False
    request_id: str = ""
    client: str = ""
    latest: float = FOREVER


class Lease(NamedTuple):
    """Permission for one attempt. Settled exactly once; `number` grows, so it also says which attempt began first.

    It names every scope it entered, with the epoch it found there, and those in which it is the probe. A lease that
    was not settled until `expires` is taken for lost. (A NamedTuple, as one is made in every decision: a frozen
    dataclass takes five times as long.)
    """

    number: int
    key: str
    account: str
    model: str
    at: float
    expires: float
    scopes: tuple[Scope, ...]
    epochs: tuple[int, ...]
    probes: tuple[Scope, ...] = ()
    days: tuple[int, ...] = ()  # UTC dates charged, as days since 1970; empty for unmetered lanes
    request_id: str = ""


class Answered(NamedTuple):
    """The attempt gave an answer. Seconds from the send to the first content and to the last byte; tokens
    as reported. `model`: the id that the answer names, which may have a date in it."""

    ttft: float
    total: float
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float = 0.0
    row: str = "ok"  # or the row of a peculiarity that is nobody's failure: 28b, 32
    model: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; `elapsed` seconds were spent on it. `unsent`: no request byte left, so no quota
    was used."""

    verdict: Verdict
    elapsed: float = 0.0
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The attempt ended by our side (client gone, deadline, own bug): nobody is to blame."""

    reason: str
    unsent: bool = False


Outcome = Answered | Failed | Abandoned


NONE_BLOCKED: Mapping[str, int] = {}


class NoLane(NamedTuple):
    """Nothing can be tried now. `at`: when the earliest lane opens, None if nobody knows.

    `cause`: `day` and `minute` (quota), `health`, `busy` (requests under way), `disabled`, `unfit` (nothing fits
    the ask), `empty` (no keys or no models), `tried` (all that is usable was tried), `uncounted` (the store does not
    permit a send because it is in trouble).
    `blocked`: how many lanes are closed by which cause. `missing`: what the models that the ask allows do not
    offer; `others`: models that would do if it allowed them. `room`: the largest context among those that it allows,
    and `tokens`: about what it takes of one; both 0 where that is not the matter.
    """

    at: float | None
    cause: str
    blocked: Mapping[str, int] = NONE_BLOCKED
    missing: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    tokens: int = 0
    room: int = 0


@dataclass(frozen=True, slots=True)
class Blocked:
    """Event: a scope was closed."""

    at: float
    scope: Scope
    until: float
    reason: str
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Reopened:
    """Event: a scope was opened before its time."""

    at: float
    scope: Scope
    why: str


class Attempted(NamedTuple):
    """Event: one upstream request ended. `row` is `ok`, `abandoned` or the label of the classification row; `client`:
    for whom, empty where clients cannot be told apart."""

    at: float
    request_id: str
    key: str
    account: str
    model: str
    row: str
    scope: str
    ok: bool
    ttft: float | None
    total: float
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    client: str = ""


class Finished(NamedTuple):
    """Event: one client request ended: `ok`, `failed` (an error was returned), `abandoned` (the client left).
    `lacking`: what it needed and no model that it allowed offers."""

    at: float
    request_id: str
    dialect: str
    outcome: str
    status: int
    code: str
    attempts: int
    key: str
    account: str
    model: str
    total: float
    overhead: float = 0.0
    lacking: str = ""


Event = Blocked | Reopened | Attempted | Finished
