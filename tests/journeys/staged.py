"""Ten staged troubles, each with what must be told of it: cause, scope, when it is over, and one thing to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from keywheel import sim
from keywheel.sim import Account, Behaviour, Kind, Scenario
from tests.journeys.rig import Rig, ShiftedClock, rig

RICH = Account(day_limit=1000)
FIRST = "nvidia/nemotron-3-super-120b-a12b:free"
LONG: list[dict[str, str]] = [{"role": "user", "content": "word " * 1_200_000}]
OVER = r"over in \d+ (s|min|h|d)"


class Staged(NamedTuple):
    """A trouble: the world, how many requests are sent, and what must be told."""

    scenario: Scenario
    requests: int
    cause: str
    scope: str
    end: str
    action: str
    fields: Mapping[str, Any] = MappingProxyType({})
    ahead: float = 0.0


STAGED = {
    "dead key": Staged(
        sim.scenario("dead-key"),
        0,
        "does not accept key secondary",
        "key",
        "no end known",
        "Replace it",
    ),
    "shared account spent": Staged(
        Scenario(accounts=(Account(keys=2, used_today=50), RICH), counter_lag=0.0),
        1,
        r"used up for today \(50 of 50\); its 2 key",
        r"account \(primary, secondary\)",
        OVER,
        "Wait for the new UTC day",
    ),
    "minute limit": Staged(
        Scenario(accounts=(RICH,)),
        25,
        "as many requests this minute",
        "account",
        OVER,
        "Spread the load",
    ),
    "saturated model": Staged(
        Scenario(
            accounts=(RICH, RICH), models={FIRST: Behaviour(faults={Kind.UPSTREAM_POOL: 1.0})}
        ),
        2,
        f"{FIRST} takes no more requests",
        "model",
        OVER,
        "other models take over",
    ),
    "privacy": Staged(
        Scenario(accounts=(Account(day_limit=1000, hidden=("google/*",)),)),
        0,
        "privacy settings or guardrails of account1 hide 2",
        r"account\+model",
        OVER,
        "settings/privacy",
    ),
    "credits negative": Staged(
        Scenario(accounts=(Account(day_limit=1000, credits=5.0, usage=5.5), RICH)),
        3,
        "account1 has no credits or a negative balance",
        "account",
        "over in|no end known",
        "Add credits",
    ),
    "upstream down": Staged(
        Scenario(accounts=(RICH, RICH), behaviour=Behaviour(faults={Kind.UNAVAILABLE: 1.0})),
        4,
        "upstream cannot be reached or fails as a whole",
        "provider",
        OVER,
        "status.openrouter.ai",
    ),
    "clock skew": Staged(
        Scenario(accounts=(RICH,)),
        0,
        r"clock is 1[12]\d s ahead of",
        "host",
        "no end known",
        "NTP",
        ahead=120.0,
    ),
    "all cooling": Staged(
        Scenario(accounts=(RICH,)),
        25,
        "No request can be served",
        "pool",
        OVER,
        "Wait for the first to open",
    ),
    "no free model fits": Staged(
        Scenario(accounts=(RICH,)),
        1,
        "longer than the context of every free model",
        "pool",
        OVER,
        "Send less",
        fields={"messages": LONG},
    ),
}


@contextmanager
def in_trouble(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Staged, Rig]]:
    """A gateway that has this trouble."""
    staged = STAGED[name]
    monkeypatch.setattr(ShiftedClock, "ahead", staged.ahead)
    with rig(staged.scenario) as running:
        for _ in range(staged.requests):
            running.chat(**staged.fields)
        yield staged, running
