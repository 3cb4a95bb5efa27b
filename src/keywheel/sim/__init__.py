"""OpenRouter, simulated: a pure, seeded world of accounts, keys and models, and the same world as an ASGI application.

It knows nothing of the rest of keywheel, so that it cannot share its mistakes.
"""

from keywheel.sim.app import create_app
from keywheel.sim.catalogue import fixture_models
from keywheel.sim.kinds import Kind
from keywheel.sim.rulings import Ask, Ruling
from keywheel.sim.scenarios import SCENARIOS, demo_keys, scenario
from keywheel.sim.spec import Account, Behaviour, Scenario, ScenarioError
from keywheel.sim.world import World

__all__ = [
    "SCENARIOS",
    "Account",
    "Ask",
    "Behaviour",
    "Kind",
    "Ruling",
    "Scenario",
    "ScenarioError",
    "World",
    "create_app",
    "demo_keys",
    "fixture_models",
    "scenario",
]
