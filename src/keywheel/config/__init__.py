"""Settings from flags, environment, `.env` files and TOML, in this order of precedence.

Each section is a frozen dataclass; the core's policies are sections themselves, so a number is spelled once. What is
unknown, of the wrong type or out of range is refused with its path, where it came from and the nearest known name.
"""

from keywheel.config.loading import Loaded, flatten, load
from keywheel.config.sections import (
    AccountSettings,
    Config,
    GatewaySettings,
    LogSettings,
    ModelSettings,
    StateSettings,
    UpstreamSettings,
)
from keywheel.config.sources import Source, from_environment, from_flags, from_toml
from keywheel.config.urls import url_fault

__all__ = [
    "AccountSettings",
    "Config",
    "GatewaySettings",
    "Loaded",
    "LogSettings",
    "ModelSettings",
    "Source",
    "StateSettings",
    "UpstreamSettings",
    "flatten",
    "from_environment",
    "from_flags",
    "from_toml",
    "load",
    "url_fault",
]
