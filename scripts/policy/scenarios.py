"""The worlds and the traffic that policies are compared in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from math import exp
from random import Random
from typing import Literal

from keywheel.sim import Account, Behaviour, Kind
from keywheel.sim import Scenario as WorldScenario
from keywheel.sim.spec import Outage, Saturation
from scripts.policy.harness import Weather
from scripts.policy.workloads import Traffic, agents, bursts, diurnal, herd, poisson, talks

HOUR, DAY = 3_600.0, 86_400.0
DATE = datetime(2026, 11, 2, tzinfo=UTC).timestamp()  # a Monday

# Twelve free chat models of the simulator's list, in the order of preference of every policy.
MODELS = (
    "nvidia/nemotron-3-super-120b-a12b:free",
    "google/gemma-4-31b-it:free",
    "openai/gpt-oss-20b:free",
    "nvidia/nemotron-3-ultra-550b-a55b:free",
    "poolside/laguna-s-2.1:free",
    "google/gemma-4-26b-a4b-it:free",
    "cohere/north-mini-code:free",
    "nvidia/nemotron-3.5-lightning:free",
    "dots-studio/dots-3-note-preview:free",
    "nvidia/nemotron-3-nano-30b-a3b:free",
    "liquid/lfm-2.5-2.6b:free",
    "nvidia/nemotron-nano-9b-v2:free",
)
# How an endpoint's failures divide into kinds.
KINDS: Mapping[Kind, float] = {
    Kind.BAD_GATEWAY: 0.3,
    Kind.INTERNAL: 0.2,
    Kind.ERROR_IN_200: 0.2,
    Kind.EMPTY: 0.1,
    Kind.BREAK: 0.1,
    Kind.GATEWAY_TIMEOUT: 0.05,
    Kind.SILENT: 0.05,
}
RICH, POOR = Account(day_limit=1000), Account(day_limit=50)

WorldOf = Callable[[str], WorldScenario]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks on a timetable, seconds from the start: a model, or an account's key."""

    begin: float
    end: float
    models: frozenset[str] = frozenset()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the bench. `start`: UTC seconds; `crashes`: seconds from the start and seconds down;
    `revoked`: seconds from the start and number of the key; `clock`: the gateway's clock minus the true time."""

    name: str
    summary: str
    world: WorldOf
    traffic: Callable[[Traffic], None]
    hours: float = 23.9
    start: float = DATE + 60.0
    seeds: int = 2
    weather: Weather = field(default_factory=Weather)
    crashes: tuple[tuple[float, float], ...] = ()
    revoked: tuple[tuple[float, int], ...] = ()
    clock: float = 0.0
    faults: tuple[Fault, ...] = ()


# --- worlds ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Climate:
    """How models behave. `full`: share of the time in which the pool is full, for a minute or so; the last value
    holds for the rest of the list. `drift`: σ of the hourly change of speeds. `failing`: mean share of failures."""

    full: tuple[float, ...] = (0.05,)
    drift: float = 0.2
    failing: float = 0.01


MILD = Climate()


def world(
    accounts: tuple[Account, ...],
    seed: str,
    *,
    climate: Climate = MILD,
    window: Literal["fixed", "sliding", "bucket"] = "sliding",
    outages: tuple[Outage, ...] = (),
) -> WorldScenario:
    """A world of these accounts, in which every model has a speed of its own."""
    chance = Random(f"{seed}/models")
    models = {model: _behaviour(chance, rank, climate) for rank, model in enumerate(MODELS)}
    return WorldScenario(
        name="bench",
        accounts=accounts,
        open_keys=False,
        window=window,
        models=models,
        outages=outages,
        journal=1,
    )


def _behaviour(chance: Random, rank: int, climate: Climate) -> Behaviour:
    full = climate.full[min(rank, len(climate.full) - 1)]
    failing = min(0.6, chance.expovariate(1 / climate.failing))
    return Behaviour(
        ttft=exp(chance.gauss(0.0, 0.5)),
        speed=exp(chance.gauss(4.0, 0.4)),
        drift=climate.drift,
        answer_tokens=200.0,
        answer_spread=0.8,
        faults={kind: part * failing for kind, part in KINDS.items()},
        saturation=Saturation(mean_on=60.0, mean_off=60.0 * (1 - full) / full),
    )


def quota(accounts: tuple[Account, ...]) -> float:
    """Requests a second that spend the day's quota of these accounts exactly."""
    return sum(account.day_limit for account in accounts) / DAY


def steady(accounts: tuple[Account, ...], load: float) -> Callable[[Traffic], None]:
    """Independent requests at a share of the quota."""
    return partial(poisson, client="anyone", per_second=load * quota(accounts))


# --- the rows ----------------------------------------------------------------------------------------

TEN, TEN_POOR = (RICH,) * 10, (POOR,) * 10

REFERENCE = Scenario(
    "reference",
    "10 accounts of 1,000 a day, 12 models each full 5 % of the time, load 60 % of the quota",
    partial(world, TEN),
    steady(TEN, 0.6),
    seeds=4,
)

POOR_TEN = Scenario(
    "small-accounts",
    "the same with 10 accounts of 50 a day; the upstream's minute is a clock minute",
    partial(world, TEN_POOR, window="fixed"),
    steady(TEN_POOR, 0.6),
    seeds=8,
)

MIXED = (
    *(replace(POOR, leak_per_minute=leak) for leak in (0.01, 0.01, 0, 0, 0, 0)),
    *(replace(RICH, leak_per_minute=leak) for leak in (0.1, 0)),
)


def _fan_out(traffic: Traffic) -> None:
    poisson(traffic, "single", 0.3 * quota(MIXED))
    bursts(traffic, "fan-out", 0.5 * quota(MIXED))


BURSTS = Scenario(
    "bursts",
    "6 accounts of 50 and 2 of 1,000 a day, three of them also used by others; agents send 5 to 60 at once, load 80 %",
    partial(world, MIXED),
    _fan_out,
    seeds=4,
)


def _crowd(window: Literal["fixed", "sliding", "bucket"]) -> Scenario:
    return Scenario(
        f"crowd-{window}",
        f"40 agents in a closed loop want twice what 10 accounts may send a minute; minute: {window}",
        partial(world, TEN, window=window),
        partial(agents, client="agent", count=40, think=2.0),
        hours=0.1,
    )


SATURATED = Scenario(
    "saturated",
    "the pools of popular models are full 40, 40, 20 and 10 % of the time, the others' 5 %",
    partial(world, TEN, climate=Climate(full=(0.4, 0.4, 0.2, 0.1, 0.05))),
    steady(TEN, 0.6),
)
UNSTEADY = Scenario(
    "unsteady",
    "speeds change by the hour (σ 0.6), models fail 10 % of their requests on average",
    partial(world, TEN, climate=Climate(drift=0.6, failing=0.1)),
    steady(TEN, 0.6),
)
NVIDIA = frozenset(model for model in MODELS if model.startswith("nvidia/"))
OUTAGES = ((6 * HOUR, 6 * HOUR + 600), (15 * HOUR, 15 * HOUR + 600))
OUTAGE = Scenario(
    "outage",
    "the provider of 5 models is down for 10 min twice; the network refuses connections for 60 s, resets them for 30 s",
    partial(
        world,
        TEN,
        outages=tuple(Outage(provider="Nvidia", after=a, until=b) for a, b in OUTAGES),
    ),
    steady(TEN, 0.6),
    weather=Weather(
        refused=((DATE + 10 * HOUR, DATE + 10 * HOUR + 60),),
        resets=((DATE + 12 * HOUR, DATE + 12 * HOUR + 30),),
    ),
    faults=tuple(
        Fault(a, b, models=frozenset({model})) for a, b in OUTAGES for model in sorted(NVIDIA)
    ),
)
TROUBLED = (
    *(RICH,) * 6,
    replace(RICH, keys=2),
    replace(RICH, credits=10.0, usage=11.0),
    replace(RICH, leak_per_minute=0.5),
    replace(RICH, hidden=("nvidia/*",)),
)
KEYS = Scenario(
    "keys",
    "a key is revoked at noon, an account has a negative balance, one is drained by others, one hides 5 models",
    partial(world, TROUBLED),
    steady((RICH,) * 9, 0.6),
    revoked=((12 * HOUR + 1_000, 2),),
    faults=(Fault(12 * HOUR + 1_000, DAY, key="key-3"),),
)
TIRED = tuple(
    Account(day_limit=50, used_today=used) for used in (50, 50, 49, 50, 48, 50, 50, 47, 50, 50)
)


def _midnight(traffic: Traffic) -> None:
    herd(traffic, "waiting", DATE, 150)
    poisson(traffic, "anyone", 0.05, sdk=True)


MIDNIGHT = Scenario(
    "midnight",
    "ten accounts of 50 a day are spent when 150 clients with SDKs come at 00:00:00 UTC",
    partial(world, TIRED, window="fixed"),
    _midnight,
    hours=0.5,
    start=DATE - 900.0,
    seeds=4,
)
CLOCK = replace(
    MIDNIGHT,
    name="clock",
    summary="as midnight, but the gateway's clock is an hour fast",
    clock=HOUR,
)
TOP_UP = Scenario(
    "top-up",
    "accounts of 50 a day are spent by 10:00 and get 1,000 a day at 12:00",
    partial(world, tuple(replace(POOR, used_today=40, raised_after=2 * HOUR) for _ in range(10))),
    partial(poisson, client="anyone", per_second=0.07, sdk=True),
    hours=8.0,
    start=DATE + 10 * HOUR,
)
FAN_OUT = Scenario(
    "fan-out",
    "bursts of 5 to 60 requests and nothing else, 10 accounts of 1,000 a day, load 60 %",
    partial(world, TEN),
    partial(bursts, client="fan-out", per_second=0.6 * quota(TEN), sdk=True),
)
RESTART = replace(
    _crowd("sliding"),
    name="restart",
    summary="as crowd-sliding, but the process is killed every two minutes and is back after 3 s",
    crashes=tuple((minute * 60.0 + 50.0, 3.0) for minute in (0, 2, 4)),
    seeds=4,
)


def _greed(traffic: Traffic) -> None:
    for number in range(9):
        poisson(traffic, f"polite-{number + 1}", 1 / 20, sdk=True)
    agents(traffic, "greedy", 40, 1.0)


GREEDY = Scenario(
    "greedy",
    "nine clients ask three times a minute, a tenth keeps 40 requests open",
    partial(world, TEN),
    _greed,
    hours=0.1,
)
OVERLOAD = Scenario(
    "overload",
    "SDK clients want 150 % of what 10 accounts of 50 a day have, by day more than by night",
    partial(world, TEN_POOR, window="bucket"),
    partial(diurnal, client="anyone", per_second=1.5 * quota(TEN_POOR), sdk=True),
    seeds=4,
)
TALKS = Scenario(
    "conversations",
    "conversations of 1 to 200 turns with growing prompts, accounts of 50 and 1,000 a day, load 60 %",
    partial(world, (*(POOR,) * 6, *(RICH,) * 2)),
    partial(talks, client="talk", per_second=0.6 * quota((*(POOR,) * 6, *(RICH,) * 2))),
    seeds=4,
)

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        REFERENCE,
        POOR_TEN,
        BURSTS,
        _crowd("fixed"),
        _crowd("sliding"),
        _crowd("bucket"),
        SATURATED,
        UNSTEADY,
        OUTAGE,
        KEYS,
        MIDNIGHT,
        CLOCK,
        TOP_UP,
        FAN_OUT,
        RESTART,
        GREEDY,
        OVERLOAD,
        TALKS,
    )
}
