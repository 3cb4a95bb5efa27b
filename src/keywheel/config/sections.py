"""The sections of the settings with their defaults. A comment behind a field is its line in the docs."""

from dataclasses import dataclass, field
from typing import Literal

from keywheel.core.policy import Choice, Health, Limits, Policy
from keywheel.secret import Secret
from keywheel.wire.menu import Taste


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """[upstream]: where requests go."""

    base_url: str = "https://openrouter.ai/api/v1"  # https; http for loopback only
    ca_file: str | None = None  # certificates to trust instead of the system's
    proxy: str | None = None  # a CONNECT proxy, http://host:port; proxy variables are not looked at
    allow_private: bool = False  # permit an upstream in a private network
    connections: int = 512  # open at once


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """[accounts.NAME]: keys that share limits, when `GET /key` should not decide."""

    keys: tuple[str, ...] = ()  # labels
    per_minute: int = 20  # requests
    per_day: int | None = None  # requests a UTC day; none: as `GET /key` says, 50 until it does
    concurrency: int | None = None  # requests under way at once; none: the minute limit decides


@dataclass(frozen=True, slots=True)
class ModelSettings(Choice):
    """[models]: which models, in which order."""

    preferred: tuple[str, ...] = ()  # ids or globs that come first, in this order
    exclude: tuple[str, ...] = ()  # ids or globs never used
    refresh: float = 900.0  # seconds between two looks at the catalogue


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]: what `keywheel serve` offers, and to whom."""

    host: str = "127.0.0.1"  # address to listen on; another than loopback needs tokens
    port: int = 8787  # 0 takes a free one
    tokens: tuple[Secret, ...] = ()  # clients must send one of these as a bearer token
    admin_token: Secret | None = None  # opens what is the operator's; none: made at the first start
    require_token: bool = False  # refuse to start without tokens, on loopback too
    hosts: tuple[str, ...] = ()  # further names that may stand in the Host header
    max_body: int = 10 * 1024 * 1024  # bytes
    connections: int = 512  # clients at once
    drain: float = 30.0  # seconds that running streams get at the end


@dataclass(frozen=True, slots=True)
class StateSettings:
    """[state]: where counters, blocks and statistics are kept."""

    url: Secret | None = None  # sqlite:PATH, memory:, redis://, rediss://; none: a file of the user
    power_safe: bool = False  # counts outlive a loss of power, too; a request waits for the disk
    keep: int = 90  # days of statistics
    host: str | None = None  # this machine's name in a store of several; none: its host name
    slots: int = 1  # workers of all hosts that share a Redis; without it each goes on by its part
    prefix: str = "keywheel"  # of every name in a Redis
    ca_file: str | None = None  # certificates to trust instead of the system's, for rediss://
    allow_private: bool = False  # permit redis:// without TLS in a private network


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"  # auto: text on a terminal, JSON elsewhere
    decisions: str | None = (
        None  # file that takes down every decision for `keywheel replay`; costs CPU
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings."""

    upstream: UpstreamSettings = UpstreamSettings()
    accounts: dict[str, AccountSettings] = field(default_factory=dict[str, AccountSettings])
    models: ModelSettings = ModelSettings()
    pools: dict[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )  # ids or globs that the model `auto:<name>` chooses from
    health: Health = Health()
    limits: Limits = Limits()
    gateway: GatewaySettings = GatewaySettings()
    state: StateSettings = StateSettings()
    log: LogSettings = LogSettings()

    @property
    def policy(self) -> Policy:
        """What the core needs of it."""
        return Policy(self.health, self.limits, self.models)

    @property
    def taste(self) -> Taste:
        """How models are chosen and ordered."""
        choice = self.models
        return Taste(
            choice.strategy, choice.allow_paid, choice.preferred, choice.exclude, self.pools
        )
