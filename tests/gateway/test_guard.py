"""Who may ask for what: hosts, origins, tokens, and settings that would be open to others."""

from collections.abc import Iterable

import pytest

from keywheel.config import GatewaySettings
from keywheel.errors import ConfigError
from keywheel.gateway.guard import Access, Guard, advice, check_settings, is_loopback
from keywheel.secret import Secret

TOKEN = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
OTHER = "c29tZXRoaW5nIGVsc2UgZW50aXJlbHkgbG9uZw"
HOST = (b"host", b"127.0.0.1:8787")
OPEN = GatewaySettings()
CLOSED = GatewaySettings(tokens=(Secret(TOKEN), Secret(OTHER)))


def status(
    *headers: tuple[bytes, bytes],
    settings: GatewaySettings = OPEN,
    access: Access = Access.CLIENT,
) -> int:
    """What a request with these headers is answered; 200 when nothing stands against it."""
    problem = Guard(settings).check(headers, access)
    return problem.status if problem else 200


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode("latin-1")


# --- hosts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize(
    "host",
    [b"localhost", b"localhost:8787", b"LOCALHOST:1", b"127.0.0.1", b"127.0.0.1:65535", b"[::1]", b"[::1]:80"],
)  # fmt: skip
def test_loopback_names_pass(host: bytes, access: Access) -> None:
    assert status((b"host", host), access=access) == 200


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize(
    "host",
    [
        b"", b"evil.example", b"evil.example:8787", b"127.0.0.1.evil.example", b"localhost.evil.example",
        b"evil.example@127.0.0.1", b"127.0.0.1@evil.example", b"127.0.0.1#evil", b"127.0.0.1/", b"127.0.0.1:",
        b"127.0.0.1:x", b"127.0.0.1:123456", b"127.0.0.1 evil", b" 127.0.0.1", b"127.0.0.1\t", b"localhost.",
        b"0.0.0.0", b"0.0.0.0:8787", b"0", b"127.1", b"2130706433", b"0x7f000001", b"[::]", b"[::ffff:127.0.0.1]",
        b"::1", b"[::1", b"127.0.0.1,evil.example", b"local\xadhost", b"\xff",
    ],
)  # fmt: skip
def test_other_hosts_are_refused_on_every_route(host: bytes, access: Access) -> None:
    assert status((b"host", host), access=access) == 403


def test_a_request_without_host_is_refused() -> None:
    assert status() == 403


def test_two_hosts_are_refused_even_if_both_are_ours() -> None:
    assert status(HOST, HOST) == 403
    assert status((b"host", b"evil.example"), HOST) == 403
    assert status(HOST, (b"host", b"evil.example")) == 403


def test_configured_hosts_pass() -> None:
    settings = GatewaySettings(hosts=("Gateway.Internal",))
    assert status((b"host", b"gateway.internal:8787"), settings=settings) == 200
    assert status((b"host", b"other.internal:8787"), settings=settings) == 403


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.2", b"127.0.0.2:8787"), ("192.0.2.7", b"192.0.2.7"), ("2001:db8::7", b"[2001:db8::7]:1"),
     ("[2001:DB8:0::7]", b"[2001:db8::7]"), ("gateway.internal", b"gateway.internal")],
)  # fmt: skip
def test_the_address_it_listens_on_passes(address: str, host: bytes) -> None:
    settings = GatewaySettings(host=address, tokens=(Secret(TOKEN),))
    assert status((b"host", host), bearer(TOKEN), settings=settings) == 200


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", "[::]", ""])
def test_a_wildcard_address_is_no_name_that_a_page_may_use(wildcard: str) -> None:
    settings = GatewaySettings(host=wildcard, tokens=(Secret(TOKEN),))
    for host in (wildcard.encode(), b"0.0.0.0:8787", b"[::]:8787", b""):
        assert status((b"host", host), bearer(TOKEN), settings=settings) == 403
    assert status(HOST, bearer(TOKEN), settings=settings) == 200


# --- origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize(
    "origin",
    [
        b"null", b"", b"http://evil.example", b"http://127.0.0.1", b"http://127.0.0.1:8788", b"http://localhost:8787",
        b"http://127.0.0.1:8787.evil.example", b"http://evil.example:8787", b"file://", b"127.0.0.1:8787",
        b"chrome-extension://abcdef", b"http://127.0.0.1:8787/", b"http://0.0.0.0:8787",
    ],
)  # fmt: skip
def test_pages_of_other_origins_are_refused_on_every_route(origin: bytes, access: Access) -> None:
    assert status(HOST, (b"origin", origin), access=access) == 403


def test_our_own_page_passes() -> None:
    assert status(HOST, (b"origin", b"http://127.0.0.1:8787")) == 200


def test_one_foreign_origin_among_several_is_refused() -> None:
    mine, theirs = (b"origin", b"http://127.0.0.1:8787"), (b"origin", b"http://evil.example")
    assert status(HOST, mine, theirs) == 403
    assert status(HOST, theirs, mine) == 403


# --- tokens ----------------------------------------------------------------------------------------

TRIES: Iterable[tuple[list[tuple[bytes, bytes]], bool]] = [
    ([], False),
    ([bearer(TOKEN)], True),
    ([bearer(OTHER)], True),
    ([(b"authorization", b"bearer " + TOKEN.encode())], True),
    ([(b"authorization", b"Bearer   " + TOKEN.encode() + b" ")], True),
    ([(b"x-api-key", TOKEN.encode())], True),
    ([bearer(TOKEN[:-1])], False),
    ([bearer(TOKEN + "x")], False),
    ([bearer(TOKEN.lower())], False),
    ([bearer("")], False),
    ([bearer("x" * 100_000)], False),
    ([bearer("\xff\x00" * 20)], False),
    ([(b"authorization", TOKEN.encode())], False),
    ([(b"authorization", b"Basic " + TOKEN.encode())], False),
    ([(b"proxy-authorization", b"Bearer " + TOKEN.encode())], False),
    ([(b"cookie", b"token=" + TOKEN.encode())], False),
    ([(b"x-forwarded-for", b"127.0.0.1")], False),
    ([bearer(TOKEN), bearer(TOKEN)], False),
    ([bearer(TOKEN), (b"x-api-key", TOKEN.encode())], False),
    ([bearer("wrong"), (b"x-api-key", TOKEN.encode())], False),
]


@pytest.mark.parametrize("access", [Access.CLIENT, Access.READ])
@pytest.mark.parametrize(("headers", "good"), TRIES)
def test_with_tokens_exactly_one_right_one_is_needed(
    headers: list[tuple[bytes, bytes]], good: bool, access: Access
) -> None:
    assert status(HOST, *headers, settings=CLOSED, access=access) == (200 if good else 401)


@pytest.mark.parametrize(("headers", "_good"), TRIES)
def test_on_bare_loopback_whatever_is_sent_is_ignored(
    headers: list[tuple[bytes, bytes]], _good: bool
) -> None:
    assert status(HOST, *headers) == 200
    assert status(HOST, *headers, access=Access.READ) == 200


@pytest.mark.parametrize("settings", [OPEN, CLOSED])
def test_open_routes_need_no_token(settings: GatewaySettings) -> None:
    assert status(HOST, settings=settings, access=Access.OPEN) == 200
    assert status(HOST, bearer("wrong"), settings=settings, access=Access.OPEN) == 200


@pytest.mark.parametrize(
    "settings",
    [
        GatewaySettings(require_token=True),
        GatewaySettings(host="0.0.0.0"),
        GatewaySettings(host="192.0.2.1"),
    ],
)
def test_without_any_token_what_needs_one_stays_closed(settings: GatewaySettings) -> None:
    """Even where nobody called `check_settings`."""
    assert status(HOST, bearer(TOKEN), settings=settings) == 401
    assert status(HOST, bearer(""), settings=settings) == 401


def test_a_refusal_says_what_to_do_and_no_token() -> None:
    problem = Guard(CLOSED).check([HOST, bearer("wr0ng")], Access.CLIENT)
    assert problem is not None
    assert (problem.code, problem.final) == ("unauthorized", True)
    assert "wr0ng" not in problem.message
    assert TOKEN not in problem.message
    assert TOKEN not in repr(vars(Guard(CLOSED)))


def test_ten_thousand_wrong_tokens_are_wrong() -> None:
    guard = Guard(CLOSED)
    headers = [[HOST, bearer(f"{number:032}")] for number in range(10_000)]
    assert all(guard.check(each, Access.CLIENT) for each in headers)


# --- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "127.255.255.254", "localhost", "::1", "[::1]"]
)
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    check_settings(GatewaySettings(host=host))


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "[::]", "", "*", "192.168.1.2", "10.0.0.1", "fe80::1", "example.com", "127.1", "0x7f.1",
     "localhost.example", "127.0.0.1 ", "2130706433", "ip6-localhost"],
)  # fmt: skip
def test_another_address_is_refused_without_tokens(host: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host: .* set KEYWHEEL_TOKENS"):
        check_settings(GatewaySettings(host=host))
    check_settings(GatewaySettings(host=host, tokens=(Secret(TOKEN),)))


@pytest.mark.parametrize(
    ("token", "fault"),
    [
        ("changeme", "at least 32 characters"),
        ("x" * 31, "at least 32 characters"),
        ("x" * 64, "at least 8 different"),
        ("1234567" * 8, "at least 8 different"),
        ("sk-or-v1-" + "0123456789abcdef" * 4, "looks like an upstream key"),
        ("pässwort-mit-umlauten-und-viel-länge", "letters, digits and"),
        ("a token with spaces that is long enough", "letters, digits and"),
        ('a-token-with-a-"quote"-that-is-long-enough', "letters, digits and"),
    ],
)
def test_a_weak_token_is_refused_and_not_shown(token: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        check_settings(GatewaySettings(tokens=(Secret(TOKEN), Secret(token))))
    assert "1 of 2" in str(caught.value)
    assert token not in str(caught.value)


def test_requiring_a_token_needs_one() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.require_token: no token is configured"):
        check_settings(GatewaySettings(require_token=True))
    check_settings(GatewaySettings(require_token=True, tokens=(Secret(TOKEN),)))


@pytest.mark.parametrize("name", ["*", "a:80", "http://a", "a b", "", ".a", "a/b"])
def test_a_host_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.hosts: .* is no host name"):
        check_settings(GatewaySettings(hosts=("good.example", name)))


def test_listening_everywhere_without_hosts_gets_advice() -> None:
    token = (Secret(TOKEN),)
    assert "gateway.hosts" in (advice(GatewaySettings(host="0.0.0.0", tokens=token)) or "")
    assert advice(GatewaySettings(host="0.0.0.0", tokens=token, hosts=("a",))) is None
    assert advice(GatewaySettings(host="192.0.2.1", tokens=token)) is None
    assert advice(OPEN) is None
