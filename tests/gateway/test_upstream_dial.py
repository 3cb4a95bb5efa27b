"""Where connections may lead: URLs, addresses, names, the time it may take."""

import asyncio
import socket
import ssl
import time

import pytest

from keywheel.gateway.dial import Patience, parse_origin, parse_proxy, tls_context
from keywheel.gateway.upstream import Timeouts, Upstream, UpstreamError
from tests.gateway.asking import fail, fetch
from tests.gateway.rawserver import answering, reply, serving

pytestmark = pytest.mark.anyio

HASTY = Timeouts(connect=0.05)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def resolving_to(monkeypatch: pytest.MonkeyPatch, *found: str | Exception) -> None:
    """Let every name lead to these addresses, in this order, or fail."""

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        for error in found:
            if isinstance(error, Exception):
                raise error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    real = asyncio.get_running_loop

    class Loop:  # uvloop's loop takes no attributes, so the dialer is shown another one
        def __getattr__(self, name: str) -> object:
            return getaddrinfo if name == "getaddrinfo" else getattr(real(), name)

    monkeypatch.setattr("keywheel.gateway.dial.asyncio.get_running_loop", Loop)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://openrouter.ai/api/v1", (True, "openrouter.ai", 443, "openrouter.ai", "/api/v1")),
        ("https://OpenRouter.AI:8443/", (True, "openrouter.ai", 8443, "openrouter.ai:8443", "")),
        ("http://localhost:8788/api/v1/", (False, "localhost", 8788, "localhost:8788", "/api/v1")),
        ("http://127.9.9.9", (False, "127.9.9.9", 80, "127.9.9.9", "")),
        ("http://[::1]:80/x", (False, "::1", 80, "[::1]", "/x")),
    ],
)
def test_base_url_is_read(url: str, expected: tuple[object, ...]) -> None:
    origin = parse_origin(url)
    read = (origin.tls, origin.host, origin.port, origin.authority, origin.path)
    assert read == expected


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://openrouter.ai/api/v1", "must begin with https"),
        ("http://10.0.0.1/", "must begin with https"),
        ("http://localhost.evil.example/", "must begin with https"),
        ("http://2130706433/", "must begin with https"),
        ("http://0x7f000001/", "must begin with https"),
        ("http://0.0.0.0/", "must begin with https"),
        ("https://user:pass@openrouter.ai/", "user or password"),
        ("https://@openrouter.ai/", "user or password"),
        ("https://openrouter.ai/?a=b", "query"),
        ("https://openrouter.ai/#a", "fragment"),
        ("https:///path", "must look like"),
        ("ftp://openrouter.ai/", "must look like"),
        ("openrouter.ai", "must look like"),
        ("https://open router.ai/", "must look like"),
        ("https://openrouter.ai/\r\nx:", "must look like"),
        ("https://openrouter.ai:99999/", "[Pp]ort"),
        ("", "must look like"),
    ],
)
def test_unsafe_base_url_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Upstream(url)


def test_a_refused_url_does_not_repeat_its_password() -> None:
    with pytest.raises(ValueError, match="user or password") as caught:
        Upstream("https://user:sk-or-v1-fake@openrouter.ai/")
    assert "sk-or" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://proxy:1", "http://proxy", "http://u:p@proxy:1", "http://proxy:1/x", "proxy:1", "x"],
)
def test_proxy_that_is_not_plain_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        Upstream("https://openrouter.ai", proxy=url)


def test_proxy_is_host_and_port() -> None:
    assert parse_proxy("http://proxy.example:3128/") == ("proxy.example", 3128)


def test_context_verifies_and_speaks_no_old_tls() -> None:
    context = tls_context(None, None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_context_that_does_not_verify_is_refused() -> None:
    for mode in (ssl.VerifyMode(0), ssl.VerifyMode(1), ssl.CERT_REQUIRED):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = mode
        with pytest.raises(ValueError, match="ca_file"):
            Upstream("https://openrouter.ai", ssl_context=context)
    old = ssl.create_default_context()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.raises(ValueError, match=r"1\.2"):
        Upstream("https://openrouter.ai", ssl_context=old)


async def test_refused_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await fail(Upstream(f"http://localhost:{port}")) == ("unreachable", False)


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "unknown"), UnicodeError("label too long")]
)
async def test_unknown_name_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    resolving_to(monkeypatch, error)
    assert await fail(Upstream("https://no.such.invalid")) == ("unreachable", False)


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "0.0.0.0", "10.0.0.1"])
async def test_name_that_leads_to_a_forbidden_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving_to(monkeypatch, address)
    upstream = Upstream("https://rebound.example")
    with pytest.raises(UpstreamError, match="not allowed") as caught:
        await fetch(upstream)
    assert (caught.value.kind, caught.value.sent) == ("unreachable", False)


async def test_private_address_is_connected_to_only_when_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving_to(monkeypatch, "10.0.0.1")
    tried: list[str] = []

    async def open_nothing(address: str) -> None:
        tried.append(address)
        raise ConnectionRefusedError("refused")

    for allow in (False, True):
        upstream = Upstream("https://intern.example", allow_private=allow)
        monkeypatch.setattr(upstream._dialer, "_open", open_nothing)
        assert await fail(upstream) == ("unreachable", False)
    assert tried == ["10.0.0.1"]


async def test_dead_first_address_costs_its_share_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(reply(b"ok"))) as server:
        upstream = Upstream(server.url)
        real = upstream._dialer._open
        tried: list[str] = []

        async def open_or_hang(address: str) -> object:
            tried.append(address)
            if address == "127.0.0.6":
                await asyncio.Event().wait()
            return await real(address)

        monkeypatch.setattr(upstream._dialer, "_open", open_or_hang)
        resolving_to(monkeypatch, "127.0.0.6", "127.0.0.1")
        results = [await fetch(upstream, Timeouts(connect=0.1))]
        upstream._pool.idle[0].abort()
        results.append(await fetch(upstream, Timeouts(connect=0.1)))
        assert results == [b"ok", b"ok"]
        assert tried == ["127.0.0.6", "127.0.0.1", "127.0.0.1"]
        await upstream.close()


async def test_bad_certificate_is_not_shopped_around_the_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving_to(monkeypatch, "104.18.2.115", "104.18.3.115")
    upstream = Upstream("https://two.example")
    tried: list[str] = []

    async def refuse(address: str) -> None:
        tried.append(address)
        raise ssl.SSLCertVerificationError(1, "certificate verify failed")

    monkeypatch.setattr(upstream._dialer, "_open", refuse)
    assert await fail(upstream) == ("tls", False)
    assert tried == ["104.18.2.115"]


async def test_refused_first_address_is_passed_over_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answering(reply(b"ok"))) as server:
        resolving_to(monkeypatch, "127.0.0.6", "127.0.0.1")
        upstream = Upstream(server.url)
        assert await fetch(upstream) == b"ok"
        await upstream.close()


async def test_connect_time_out_counts_name_and_connection_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = Upstream("https://slow.example")

    async def hang(*_: object) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(upstream._dialer, "_resolve", hang)
    began = time.monotonic()
    assert await fail(upstream, HASTY) == ("unreachable", False)
    assert time.monotonic() - began < 1


async def test_small_writes_are_not_delayed() -> None:
    async with serving(answering(reply(b"ok"))) as server:
        upstream = Upstream(server.url)
        assert await fetch(upstream) == b"ok"
        sock = upstream._pool.idle[0].transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await upstream.close()


async def test_patience_ends_in_time_but_not_because_the_loop_stood_still() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.01):
            await asyncio.Event().wait()
    async with Patience(0.03) as patience:
        time.sleep(0.15)  # noqa: ASYNC251  the stall is the point
        await asyncio.sleep(0.005)
        assert patience.left() > 0


async def test_patience_that_was_not_needed_rings_no_alarm() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: complaints.append(found))
    async with Patience(0.003):
        pass
    await asyncio.sleep(0.008)
    assert complaints == []


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(answering(reply(b"ok"))) as server:
        upstream = Upstream(server.url)
        assert await fetch(upstream) == b"ok"
        await upstream.close()
