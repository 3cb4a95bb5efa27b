"""What the SDKs are given so that they turn on the wheel: a base URL, a key that is none, and an HTTP client."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx2

from keywheel import legacy
from keywheel.axle import Axle
from keywheel.errors import Unsupported
from keywheel.transports import AsyncKeywheelTransport, KeywheelTransport

NO_KEY = "keywheel"  # an SDK asks for a key; the real ones are put in behind it
TIMEOUT = 600.0  # seconds, the SDKs' own default


@dataclass(frozen=True, slots=True)
class Sdk:
    """One SDK. `renewed`: the first version that stands on httpx2. `cut`: what it adds to the base URL itself."""

    package: str
    renewed: int
    cut: str = ""


OPENAI = Sdk("openai", 3)
ANTHROPIC = Sdk("anthropic", 1, "/v1")


def fit(sdk: Sdk, axle: Axle, *, async_: bool) -> dict[str, Any]:
    """The keyword arguments of an SDK's client. Raises `Unsupported`."""
    base_url = axle.config.upstream.base_url.rstrip("/").removesuffix(sdk.cut)
    return {
        "base_url": base_url,
        "api_key": NO_KEY,
        "http_client": _client(axle, async_=async_, old=_major(sdk) < sdk.renewed),
    }


def _major(sdk: Sdk) -> int:
    try:
        found = version(sdk.package)
    except PackageNotFoundError:
        raise Unsupported(
            f"the package {sdk.package} is not installed; for another client give its HTTP client "
            "keywheel.transport()"
        ) from None
    return int(found.partition(".")[0])


def _client(axle: Axle, *, async_: bool, old: bool) -> Any:
    httpx = legacy.load() if old else httpx2
    if async_:
        own = AsyncKeywheelTransport(axle)
        transport = legacy.adapt_async(own) if old else own
        return httpx.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False)
    way = KeywheelTransport(axle)
    return httpx.Client(
        transport=legacy.adapt(way) if old else way, timeout=TIMEOUT, trust_env=False
    )
