"""The library's connections lead only to addresses within reach, and a dead address costs its share of the time."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpcore2
import httpx2
import pytest

from keywheel import Keywheel, NoUsableLane
from keywheel.catalog import Catalog, Unavailable
from keywheel.config import Config, UpstreamSettings
from keywheel.lines import AsyncOpener, Opener
from keywheel.secret import Secret
from keywheel.wires import AsyncWire, Wire

HOST = "rebound.example"
KEY = "sk-or-v1-" + "ad" * 32
FORBIDDEN = ("169.254.169.254", "10.0.0.1", "127.0.0.1", "0.0.0.0", "fd00:ec2::254")
Get = Callable[..., int]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that anybody tried to connect to. Nobody answers there."""
    seen = list[str]()

    def refuse(_self: Any, address: str, *_: Any) -> Any:
        seen.append(address)
        raise httpcore2.ConnectError("refused")

    async def refuse_too(_self: Any, address: str, *_: Any) -> Any:
        refuse(_self, address)

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", refuse)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", refuse_too)
    return seen


def resolving_to(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """Let every name lead to these addresses."""
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: entries)


def get(settings: UpstreamSettings, url: str = f"https://{HOST}/") -> int:
    """One request over blocking connections."""
    with httpx2.Client(transport=Wire(settings), trust_env=False) as http:
        return http.get(url).status_code


def get_async(settings: UpstreamSettings, url: str = f"https://{HOST}/") -> int:
    """The same with asyncio."""

    async def ask() -> int:
        async with httpx2.AsyncClient(transport=AsyncWire(settings), trust_env=False) as http:
            return (await http.get(url)).status_code

    return asyncio.run(ask())


def ask_catalogue(settings: UpstreamSettings) -> int:
    """The same with the client that asks about models and keys."""
    with Catalog(settings) as catalog:
        try:
            return int(catalog.key(Secret(KEY)).passed)
        except Unavailable as error:
            raise httpcore2.ConnectError(str(error)) from None


ways = pytest.mark.parametrize("ask", [get, get_async, ask_catalogue])


@ways
@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_that_leads_to_a_forbidden_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, tried: list[str], address: str, ask: Get
) -> None:
    resolving_to(monkeypatch, address)
    with pytest.raises(httpcore2.ConnectError, match=f"{HOST} leads to {address}.*not allowed"):
        ask(UpstreamSettings(base_url=f"https://{HOST}"))
    assert tried == []


@ways
def test_a_private_address_is_connected_to_when_allowed_and_a_metadata_service_never(
    monkeypatch: pytest.MonkeyPatch, tried: list[str], ask: Get
) -> None:
    resolving_to(monkeypatch, "169.254.169.254", "10.0.0.1")
    settings = UpstreamSettings(base_url=f"https://{HOST}", allow_private=True)
    with pytest.raises(httpcore2.ConnectError, match="refused"):
        ask(settings)
    assert tried == ["10.0.0.1"]


@ways
def test_a_host_named_as_loopback_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tried: list[str], ask: Get
) -> None:
    resolving_to(monkeypatch, "104.18.2.115")
    settings = UpstreamSettings(base_url="http://localhost:1")
    options = {} if ask is ask_catalogue else {"url": "http://localhost:1/"}
    with pytest.raises(httpcore2.ConnectError, match="localhost leads to 104"):
        ask(settings, **options)
    assert tried == []


@ways
def test_the_operators_proxy_may_be_private(
    monkeypatch: pytest.MonkeyPatch, tried: list[str], ask: Get
) -> None:
    resolving_to(monkeypatch, "169.254.169.254", "10.0.0.1")
    with pytest.raises(httpcore2.ConnectError, match="refused"):
        ask(UpstreamSettings(base_url=f"https://{HOST}", proxy="http://proxy.example:3128"))
    assert tried == ["10.0.0.1"]


@ways
def test_a_name_that_nobody_knows_is_a_connection_that_failed(
    monkeypatch: pytest.MonkeyPatch, ask: Get
) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpcore2.ConnectError, match="not known"):
        ask(UpstreamSettings(base_url=f"https://{HOST}"))


def test_a_program_is_told_why_its_upstream_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, tried: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    resolving_to(monkeypatch, "169.254.169.254")
    settings = UpstreamSettings(base_url=f"https://{HOST}")
    with Keywheel([KEY], config=Config(upstream=settings)) as wheel, pytest.raises(NoUsableLane):
        wheel.chat("Hello")
    assert tried == []
    assert f"{HOST} leads to 169.254.169.254" in caplog.text
    assert KEY not in caplog.text


# --- several addresses -----------------------------------------------------------------------------


class Plain:
    """Connects to the last address only; notes what it was asked for, and for how long."""

    def __init__(self) -> None:
        self.asked = list[tuple[str, float | None]]()

    def connect_tcp(self, address: str, _port: int, seconds: float | None, *_: Any) -> Any:
        self.asked.append((address, seconds))
        if address.endswith(".9"):
            return "a stream"
        raise httpcore2.ConnectTimeout("nobody")


class AsyncPlain(Plain):
    async def connect_tcp(self, *args: Any) -> Any:  # pyright: ignore
        return super().connect_tcp(*args)


def connect(reach: Any, timeout: float | None) -> list[tuple[str, float | None]]:
    opener = Opener(reach, None)  # pyright: ignore
    opener._plain = plain = Plain()  # pyright: ignore
    opener.connect_tcp(HOST, 443, timeout)
    return plain.asked


def connect_async(reach: Any, timeout: float | None) -> list[tuple[str, float | None]]:
    opener = AsyncOpener(reach)

    async def go() -> list[tuple[str, float | None]]:
        opener._plain = plain = AsyncPlain()  # pyright: ignore
        await opener.connect_tcp(HOST, 443, timeout)
        return plain.asked

    return asyncio.run(go())


@pytest.mark.parametrize("way", [connect, connect_async])
def test_a_dead_address_costs_its_share_of_the_time_and_only_once(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[Any, float | None], Any]
) -> None:
    from keywheel.addresses import Reach

    resolving_to(monkeypatch, "104.18.2.1", "104.18.2.2", "104.18.2.9")
    reach = Reach(loopback=False, private=False)
    asked = way(reach, 3.0)
    assert [address for address, _ in asked] == ["104.18.2.1", "104.18.2.2", "104.18.2.9"]
    assert [seconds for _, seconds in asked] == pytest.approx([1.0, 1.5, 3.0], abs=0.2)
    assert way(reach, None) == [("104.18.2.9", None)]
