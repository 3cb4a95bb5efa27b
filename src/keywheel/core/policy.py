"""The settings of the core. These dataclasses are sections of the configuration, so each number is spelled once."""

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["balanced", "ordered", "fastest", "smartest"]


@dataclass(frozen=True, slots=True)
class Health:
    """[health]: when a key, model or lane is disabled for its errors, and for how long (routing rule A.6)."""

    window: float = 300.0  # seconds of trailing history
    min_samples: int = 5
    disable: float = 300.0  # seconds a tripped scope stays closed
    last_resort: bool = False  # with every lane closed by health, try the one that opens first


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]: how much one request may cost in attempts and time (routing rules A.7 and A.8)."""

    attempts: int = (
        4  # upstream requests one client request may use, key and account faults not counted
    )
    attempts_per_model: int = 2
    deadline: float = 120.0  # seconds, plain requests
    stream_deadline: float = 300.0  # seconds, streams
    max_queue: float = 10.0  # seconds to wait for a lane that opens soon
    max_wait: float = 3600.0  # seconds that `x-keywheel-max-wait` may ask for instead
    connect: float = 5.0
    first_content_min: float = 8.0  # bounds of the adaptive time to first content
    first_content_max: float = 30.0
    first_content_reasoning: float = 60.0
    gap: float = 30.0  # between contents of a stream
    silence: float = 90.0  # without any byte
    keepalive: float = 15.0  # no content for this long, and none before: comments begin
    fallback: Literal["auto", "never"] = "auto"
    refund_unsent: bool = True  # a request of which no byte left gives its quota back


@dataclass(frozen=True, slots=True)
class Choice:
    """The part of [models] that decides the order (routing rule A.4)."""

    strategy: Strategy = "balanced"
    preference_step: float = 1.3  # a model one place lower must be this many times faster to win
    failure_cost: float = 30.0  # seconds that an expected failure weighs
    half_life: float = 1800.0  # seconds after which what was learnt counts half
    affinity: bool = True  # a conversation stays with the account whose prompt cache knows it
    affinity_floor: float = 0.5  # … while that has this share of the day that another has left
    allow_paid: bool = False  # what costs money may be asked for by name, or by an own pool
    paid_per_day: float = 1.0  # USD a UTC day that this may cost in all


@dataclass(frozen=True, slots=True)
class Policy:
    """All settings of the core."""

    health: Health = Health()
    limits: Limits = Limits()
    choice: Choice = Choice()
