"""The named scenarios, and how a name, a file and a world's fake keys are found."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from keywheel.sim.kinds import Kind
from keywheel.sim.spec import Account, Behaviour, Saturation, Scenario, ScenarioError, load

CALM = Scenario(name="calm", summary="four accounts with one key each, everything works")

# Free models that many clients put first, so that a full pool hurts.
POPULAR = (
    "nvidia/nemotron-3-super-120b-a12b:free",
    "google/gemma-4-31b-it:free",
    "openai/gpt-oss-20b:free",
)

SATURATED = replace(
    CALM,
    name="saturated",
    summary="the popular models' pools are full 40 % of the time",
    models={name: Behaviour(saturation=Saturation()) for name in POPULAR},
)

DEAD_KEY = replace(
    CALM,
    name="dead-key",
    summary="four keys, the second one is revoked",
    accounts=(Account(), Account(dead_keys=(0,)), Account(), Account()),
)

SHARED_ACCOUNT = replace(
    CALM,
    name="shared-account",
    summary="four keys, of which the first two share one account",
    accounts=(Account(keys=2), Account(), Account()),
)

MIDNIGHT = replace(
    CALM,
    name="midnight",
    summary="every account has spent nearly all of its day",
    accounts=tuple(Account(used_today=used) for used in (50, 48, 45, 40)),
)

FLOOD = replace(
    CALM,
    name="flood",
    summary="errors inside HTTP 200: 60 % at Nvidia, 15 % elsewhere",
    behaviour=Behaviour(faults={Kind.ERROR_IN_200: 0.12, Kind.EMPTY: 0.03}),
    models={
        "nvidia/*": Behaviour(
            faults={Kind.ERROR_IN_200: 0.5, Kind.EMPTY: 0.05, Kind.BREAK: 0.05},
        )
    },
)

SLOW = replace(
    CALM,
    name="slow",
    summary="first tokens after 8 s, 12 tokens a second",
    behaviour=Behaviour(ttft=8.0, ttft_spread=0.5, speed=12.0),
)

DOWN = replace(
    CALM,
    name="down",
    summary="the providers answer 5xx to nearly everything",
    behaviour=Behaviour(
        faults={
            Kind.BAD_GATEWAY: 0.4,
            Kind.UNAVAILABLE: 0.3,
            Kind.INTERNAL: 0.15,
            Kind.PROVIDER_529: 0.1,
        }
    ),
)

UNRELIABLE_KEY = replace(
    CALM,
    name="unreliable-key",
    summary="four keys, the third one fails four times in five",
    accounts=(
        Account(),
        Account(),
        Account(faults={Kind.INTERNAL: 0.4, Kind.BAD_GATEWAY: 0.4}),
        Account(),
    ),
)

SCENARIOS = {
    each.name: each
    for each in (
        CALM,
        SATURATED,
        DEAD_KEY,
        SHARED_ACCOUNT,
        MIDNIGHT,
        FLOOD,
        SLOW,
        DOWN,
        UNRELIABLE_KEY,
    )
}


def scenario(name_or_path: str = "calm") -> Scenario:
    """The scenario of that name, or the one in that TOML file. Raises ScenarioError."""
    if name_or_path in SCENARIOS:
        return SCENARIOS[name_or_path]
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return load(path)
    near = get_close_matches(name_or_path, SCENARIOS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(SCENARIOS)
    raise ScenarioError(f"no scenario {name_or_path!r}; {hint}")


def demo_keys(of: Scenario = CALM) -> list[str]:
    """The keys of a scenario, in the order of its accounts.

    Fixed and visibly fake, unless the scenario names its own.
    """
    return [key for keys in account_keys(of) for key in keys]


def account_keys(of: Scenario) -> list[tuple[str, ...]]:
    """The keys of every account of a scenario."""
    found: list[tuple[str, ...]] = []
    number = 0
    for account in of.accounts:
        if isinstance(account.keys, int):
            found.append(tuple(fake_key(number + place) for place in range(account.keys)))
            number += account.keys
        else:
            found.append(account.keys)
    return found


def fake_key(number: int) -> str:
    """A well-formed key that nobody was ever given: 61 zeros and the number."""
    return f"sk-or-v1-{number + 1:064x}"
