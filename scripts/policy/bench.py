"""One run: a scenario, a policy, a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from keywheel.core.types import Key, Model
from keywheel.sim import World, demo_keys
from keywheel.sim.accounts import Ledger
from keywheel.sim.bodies import model_list
from keywheel.wire.models import read_models
from scripts.policy.audit import Audit, Rules
from scripts.policy.harness import Gateway, Policy, Site
from scripts.policy.health import EVERY, Health
from scripts.policy.judging import Judge
from scripts.policy.loop import Loop
from scripts.policy.oracle import Oracle, Truth
from scripts.policy.policies import POLICIES, Keywheel, Setting
from scripts.policy.scenarios import HOUR, MODELS, Fault, Scenario
from scripts.policy.workloads import Call, Traffic


@dataclass(slots=True)
class Run:
    """What came of it."""

    scenario: Scenario
    policy: str
    seed: int
    calls: list[Call]
    audit: Audit
    limits: dict[str, int]  # day limit by account, at the end
    hours: float
    health: Health | None
    wall: float  # seconds this run took


def run(scenario: Scenario, policy: str, seed: int, hours: float | None = None) -> Run:
    """Play a scenario. The same arguments give the same result."""
    began = perf_counter()
    name = f"{scenario.name}/{seed}"
    world = World(scenario.world(name), seed, start=scenario.start)
    loop = Loop(scenario.start)
    keys = _keys(world)
    models = _models(world, scenario.start)
    truth = Truth(world, keys, models)
    hours = hours or scenario.hours
    until = scenario.start + HOUR * hours
    site = Site(
        loop,
        world,
        Judge(limit_source=world.scenario.limit_source),
        {key.name: secret for key, secret in zip(keys, demo_keys(world.scenario), strict=True)},
        Audit(_rules(world), truth.usable),
        until,
        scenario.weather,
        scenario.clock,
    )
    setting = Setting(keys, models, name, world, loop)
    gateway = Gateway(site, _maker(policy, setting, truth))
    traffic = Traffic(loop, gateway, name, until)
    scenario.traffic(traffic)
    _plan(scenario, site, gateway)
    health = _watch(scenario, gateway, setting, truth)
    loop.run()
    limits = {ledger.name: ledger.day.limit for ledger in world.ledgers}
    took = perf_counter() - began
    return Run(scenario, policy, seed, traffic.calls, site.audit, limits, hours, health, took)


def _maker(policy: str, setting: Setting, truth: Truth) -> Callable[[], Policy]:
    if policy == "oracle":
        return partial(Oracle, setting, truth)
    return partial(POLICIES[policy], setting)


def _watch(scenario: Scenario, gateway: Gateway, setting: Setting, truth: Truth) -> Health | None:
    """Look at the lanes once a minute, if there are any to look at."""
    if not isinstance(gateway.policy, Keywheel):
        return None
    health, site = Health(), gateway.site

    def look() -> None:
        if site.loop.now > site.until:
            return
        if gateway.up and isinstance(gateway.policy, Keywheel):
            health.look(gateway.policy, setting, truth, site.loop.now, gateway.clock())
        site.loop.after(EVERY, look)

    def end(fault: Fault) -> None:
        if gateway.up and isinstance(gateway.policy, Keywheel):
            health.end(fault, gateway.policy, gateway.clock())

    site.loop.after(EVERY, look)
    for fault in scenario.faults:
        if scenario.start + fault.end <= site.until:
            site.loop.at(scenario.start + fault.end, partial(end, fault))
    return health


def _plan(scenario: Scenario, site: Site, gateway: Gateway) -> None:
    """What happens by itself."""
    for after, down in scenario.crashes:
        site.loop.at(scenario.start + after, partial(gateway.crash, down))
    for after, number in scenario.revoked:
        site.loop.at(scenario.start + after, partial(site.world.dead.add, number))


def _keys(world: World) -> tuple[Key, ...]:
    return tuple(Key(record.label, record.ledger.name) for record in world.keys)


def _models(world: World, now: float) -> tuple[Model, ...]:
    """The models as the gateway reads them off the world's own list."""
    listed = {entry.id: entry.model for entry in read_models(model_list(world.models(now)))}
    return tuple(listed[name] for name in MODELS)


def _rules(world: World) -> dict[str, Rules]:
    return {ledger.name: _rule(ledger) for ledger in world.ledgers}


def _rule(ledger: Ledger) -> Rules:
    def limit(_: float) -> int:
        return ledger.day.limit

    return Rules(ledger.terms.minute_limit, limit, ledger.terms.leak_per_minute > 0)
