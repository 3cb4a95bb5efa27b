"""The true state of a world for people and tests. No key, only labels."""

from typing import Any

from keywheel.sim.accounts import Ledger
from keywheel.sim.world import World


def report(world: World, now: float) -> dict[str, Any]:
    """Counters per account, what the models' pools do, scripts still to be served, the journal."""
    world.models(now)  # begins the world if nobody has
    return {
        "scenario": world.scenario.name,
        "seed": world.seed,
        "now": now,
        "kinds": dict(world.kinds),
        "accounts": [_account(world, ledger, now) for ledger in world.ledgers],
        "full": [name for name, each in world.endpoints.items() if each.full(now)],
        "scripts": [
            {"kind": each.kind, "key_index": each.key, "model": each.model, "times": each.times}
            for each in world.scripts
        ],
        "journal": [note._asdict() for note in world.journal],
    }


def _account(world: World, ledger: Ledger, now: float) -> dict[str, Any]:
    ledger.settle(now)
    keys = [key for key in world.keys if key.ledger is ledger]
    return {
        "name": ledger.name,
        "keys": [key.label for key in keys],
        "dead_keys": [key.label for key in keys if key.number in world.dead],
        "attempts": ledger.attempts,
        "day": {
            "used": ledger.day.used,
            "shown": ledger.day.shown(now),
            "limit": ledger.day.limit,
            "resets_at": ledger.day.reset(now),
        },
        "minute": {"used": ledger.minute.used(now), "limit": ledger.terms.minute_limit},
        "credits": ledger.terms.credits,
        "usage": ledger.usage,
    }
