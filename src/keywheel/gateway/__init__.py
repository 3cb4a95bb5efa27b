"""The OpenAI-compatible gateway: `keywheel serve`, or mounted into an application of one's own."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keywheel.config import Config
    from keywheel.gateway.mount import Mounted


def create_app(config: "Config | None" = None, *, keys: "Iterable[str]" = ()) -> "Mounted":
    """An ASGI application to mount in FastAPI or Starlette: `app.mount("/llm", create_app())`.

    Without `config` and `keys` it is the default wheel that serves, with what `keywheel serve` finds in the
    environment, so `keywheel.get_api_stats()` tells of it. Raises `ConfigError`.
    """
    # a part of the gateway need not load all of it
    from keywheel.client import default_axle  # noqa: PLC0415
    from keywheel.gateway.mount import Mounted  # noqa: PLC0415
    from keywheel.wheel import axle_of  # noqa: PLC0415

    return Mounted(axle_of(config, keys) if config or keys else default_axle())
