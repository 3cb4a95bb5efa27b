"""How many examples the property tests take: a few, always the same; with KEYWHEEL_EXAMPLES=N so many new ones."""

import os

from hypothesis import HealthCheck, settings

WANTED = os.environ.get("KEYWHEEL_EXAMPLES")

settings.register_profile(
    "core",
    max_examples=int(WANTED or 15),
    derandomize=not WANTED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("core")
