"""Small builders, so that a test shows only what matters to it."""

from collections.abc import Iterable
from datetime import UTC, datetime

from keywheel.core.breaker import Breaker
from keywheel.core.policy import Health, Policy
from keywheel.core.pool import Pool
from keywheel.core.rows import ROWS
from keywheel.core.tried import Tried
from keywheel.core.types import (
    Account,
    Answered,
    Ask,
    Event,
    Failed,
    Key,
    Kind,
    Lease,
    Model,
    NoLane,
    Outcome,
    Provenance,
    Scope,
    Verdict,
)

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 10, 6, tzinfo=UTC).timestamp()
CONTEXT = 131_072
ASK = Ask(tokens=100, reply_tokens=100, request_id="r1")
BOUNDLESS = 10**6


def account(
    name: str, per_day: int | None = 50, per_minute: int = 20, cap: int | None = None
) -> Account:
    return Account(name, per_minute, per_day, cap)


def model(id: str, context: int = CONTEXT, free: bool = True, can: Iterable[str] = ()) -> Model:
    return Model(id, context, can=frozenset(can), free=free)


def pool(
    keys: Iterable[str] = ("k1@a1", "k2@a2"),
    models: Iterable[str | Model] = ("m1", "m2"),
    policy: Policy | None = None,
    accounts: Iterable[Account] = (),
    now: float = NOON,
) -> Pool:
    """A pool of keys written `key@account`. Accounts not given are roomy, so that quota is in nobody's way."""
    made = Pool(policy or Policy(), "seed")
    given = {a.name: a for a in accounts}
    parts = [name.split("@") for name in keys]
    names = dict.fromkeys([*given, *(home for _, home in parts)])
    made.set_keys(
        [given.get(n) or account(n, BOUNDLESS, BOUNDLESS) for n in names],
        [Key(name, home) for name, home in parts],
    )
    made.set_models([m if isinstance(m, Model) else model(m) for m in models], now)
    return made


def take(made: Pool, ask: Ask = ASK, now: float = NOON, tried: Tried | None = None) -> Lease:
    """A lease; it is an error if there is none."""
    lease = made.select(ask, tried or Tried(), now)
    assert isinstance(lease, Lease), lease
    return lease


def refusal(made: Pool, ask: Ask = ASK, now: float = NOON, tried: Tried | None = None) -> NoLane:
    """What stands in the way; it is an error if nothing does."""
    found = made.select(ask, tried or Tried(), now)
    assert isinstance(found, NoLane), found
    return found


def on(model: str, request_id: str = "r1") -> Ask:
    """An ask for one model only."""
    return Ask(tokens=100, reply_tokens=100, models=(model,), request_id=request_id)


def answered(ttft: float = 0.5, total: float = 2.0, tokens_out: int | None = 100) -> Answered:
    return Answered(ttft, total, 100, tokens_out)


def failed(
    row: str,
    until: float | None = None,
    *,
    elapsed: float = 0.5,
    unsent: bool = False,
    **more: object,
) -> Failed:
    return Failed(Verdict(ROWS[row], until, **more), elapsed, unsent)  # type: ignore[arg-type]


def run(made: Pool, outcome: Outcome, ask: Ask = ASK, now: float = NOON) -> tuple[Event, ...]:
    """One attempt from choice to settlement, in no time."""
    return made.settle(take(made, ask, now), outcome, now)


def until(made: Pool, kind: Kind, name: str, now: float = NOON) -> float:
    """When a scope opens; 0.0 when it is open."""
    return max(breaker.closed_until(now) for breaker in made.roster.find(Scope(kind, name)))


def heal(made: Pool, kind: Kind, name: str) -> None:
    """Take our own guesses about a scope back; its error window stays."""
    for found in made.roster.find(Scope(kind, name)):
        found.clear(Provenance.HEURISTIC, NOON)


def breaker(health: Health | None = None, *, window: bool = True) -> Breaker:
    return Breaker(Scope(Kind.MODEL, "m1"), health or Health(), "seed", window=window)


def lease(number: int = 1, at: float = NOON, key: str = "k1", model: str = "m1") -> Lease:
    return Lease(number, key, "a1", model, at, at + 125, (), ())
