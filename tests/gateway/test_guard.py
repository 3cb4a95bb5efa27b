"""Who may ask for what: hosts, origins, tokens, and settings that would be open to others."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from keywheel.config import GatewaySettings
from keywheel.errors import ConfigError
from keywheel.gateway.admintoken import admin_token
from keywheel.gateway.guard import (
    ADMITTED,
    PAGE_HEADER,
    Access,
    Guard,
    advice,
    check_settings,
    is_loopback,
)
from keywheel.gateway.penalty import Penalty
from keywheel.problems import Problem
from keywheel.secret import Secret

TOKEN = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
OTHER = "c29tZXRoaW5nIGVsc2UgZW50aXJlbHkgbG9uZw"
ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"
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


@pytest.mark.parametrize("access", [Access.OPEN, Access.CLIENT, Access.READ])
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
        b"evil.example", b"evil.example:8787", b"127.0.0.1.evil.example", b"localhost.evil.example",
        b"0.0.0.0", b"0.0.0.0:8787", b"0", b"127.1", b"2130706433", b"0x7f000001", b"[::]", b"[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
def test_other_hosts_are_refused_on_every_route(host: bytes, access: Access) -> None:
    assert status((b"host", host), access=access) == 403


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize(
    "host",
    [
        b"", b"evil.example@127.0.0.1", b"127.0.0.1@evil.example", b"127.0.0.1#evil", b"127.0.0.1/", b"127.0.0.1:",
        b"127.0.0.1:x", b"127.0.0.1:123456", b"127.0.0.1 evil", b" 127.0.0.1", b"127.0.0.1\t", b"localhost.",
        b"::1", b"[::1", b"127.0.0.1,evil.example", b"local\xadhost", b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_host_is_an_error_on_every_route(host: bytes, access: Access) -> None:
    assert status((b"host", host), access=access) == 400


def test_a_request_without_host_is_an_error() -> None:
    assert status() == 400


def test_two_hosts_are_an_error_even_if_both_are_ours() -> None:
    assert status(HOST, HOST) == 400
    assert status((b"host", b"evil.example"), HOST) == 400
    assert status(HOST, (b"host", b"evil.example")) == 400


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
        assert status((b"host", host), bearer(TOKEN), settings=settings) in (400, 403)
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


@pytest.mark.parametrize(("headers", "good"), TRIES)
def test_with_tokens_exactly_one_right_one_is_needed(
    headers: list[tuple[bytes, bytes]], good: bool
) -> None:
    assert status(HOST, *headers, settings=CLOSED) == (200 if good else 401)


@pytest.mark.parametrize("access", [Access.READ, Access.OPERATOR])
@pytest.mark.parametrize(("headers", "good"), TRIES)
def test_what_is_the_operators_needs_exactly_one_right_admin_token(
    headers: list[tuple[bytes, bytes]], good: bool, access: Access
) -> None:
    """The same tries with the tokens' parts exchanged: what opened for clients must be the admin's here."""
    settings = GatewaySettings(tokens=(Secret(ADMIN),), admin_token=Secret(TOKEN))
    good = good and OTHER.encode() not in headers[0][1]
    assert status(HOST, *headers, settings=settings, access=access) == (200 if good else 401)


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


@pytest.mark.parametrize(
    ("settings", "headers", "client"),
    [
        (GatewaySettings(tokens=(Secret(TOKEN), Secret(OTHER))), [bearer(TOKEN)], "token1"),
        (GatewaySettings(tokens=(Secret(TOKEN), Secret(OTHER))), [bearer(OTHER)], "token2"),
        (
            GatewaySettings(tokens=(Secret(TOKEN),)),
            [bearer(TOKEN)],
            "",
        ),  # perhaps many with one token
        (GatewaySettings(), [], ""),
        (GatewaySettings(), [bearer(TOKEN)], ""),
    ],
)
def test_clients_are_told_apart_by_their_tokens_and_called_by_a_place(
    settings: GatewaySettings, headers: list[tuple[bytes, bytes]], client: str
) -> None:
    assert Guard(settings).admit([HOST, *headers]) == client


@pytest.mark.parametrize(
    "headers",
    [[HOST], [HOST, bearer(ADMIN)], [HOST, bearer(TOKEN), bearer(OTHER)], [(b"host", b"evil.example"), bearer(TOKEN)]],
)  # fmt: skip
def test_who_is_let_in_upstream_is_who_may_pass(headers: list[tuple[bytes, bytes]]) -> None:
    guard = Guard(GatewaySettings(tokens=(Secret(TOKEN), Secret(OTHER))))
    assert guard.admit(headers) == guard.check(headers, Access.CLIENT) is not None


@pytest.mark.parametrize(
    ("changed", "refused"),
    [([(b"host", b"evil.example"), bearer(TOKEN)], 403), ([HOST, HOST, bearer(TOKEN)], 400),
     ([HOST, (b"origin", b"http://evil.example"), bearer(TOKEN)], 403), ([HOST], 401),
     ([HOST, bearer(TOKEN[:-1] + "h")], 401), ([HOST, bearer(TOKEN), bearer(TOKEN)], 401),
     ([HOST, bearer(TOKEN), (b"x-api-key", OTHER.encode())], 401), ([HOST, bearer(ADMIN)], 401)],
)  # fmt: skip
def test_whoever_was_let_in_is_judged_anew_when_a_header_that_decides_differs(
    changed: list[tuple[bytes, bytes]], refused: int
) -> None:
    guard = Guard(CLOSED)
    for _ in range(2):
        assert guard.admit([HOST, bearer(TOKEN), (b"accept", b"*/*")]) == "token1"
        problem = guard.admit(changed)
        assert isinstance(problem, Problem)
        assert problem.status == refused
        assert guard.admit([HOST, bearer(OTHER)]) == "token2"


def test_what_is_known_of_those_let_in_is_bounded_and_holds_no_token() -> None:
    guard = Guard(CLOSED)
    for port in range(ADMITTED + 10):
        assert guard.admit([(b"host", b"localhost:%d" % port), bearer(TOKEN)]) == "token1"
    for port in range(ADMITTED + 10):
        guard.admit([(b"host", b"localhost:%d" % port), bearer(ADMIN)])
    known = vars(guard)["_admitted"]
    assert 0 < len(known) <= ADMITTED
    assert TOKEN not in repr(vars(guard))
    assert all(hashlib.sha256(TOKEN.encode()).digest() != sign for sign in known)


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


# --- the admin token -------------------------------------------------------------------------------

BOTH = GatewaySettings(tokens=(Secret(TOKEN),), admin_token=Secret(ADMIN))


def test_a_clients_token_is_told_that_it_is_one() -> None:
    assert status(HOST, bearer(TOKEN), settings=BOTH, access=Access.READ) == 403
    assert status(HOST, bearer(ADMIN), settings=BOTH, access=Access.CLIENT) == 401


def test_an_operator_needs_the_admin_token_on_bare_loopback_too() -> None:
    settings = GatewaySettings(admin_token=Secret(ADMIN))
    assert status(HOST, settings=settings, access=Access.OPERATOR) == 401
    assert status(HOST, bearer(ADMIN), settings=settings, access=Access.OPERATOR) == 200
    assert status(HOST, settings=settings, access=Access.READ) == 200


def test_a_kept_hash_is_as_good_as_a_configured_token() -> None:
    guard = Guard(CLOSED, hashlib.sha256(ADMIN.encode()).digest())
    assert guard.check([HOST, bearer(ADMIN)], Access.OPERATOR) is None
    assert guard.check([HOST, bearer(TOKEN)], Access.OPERATOR) is not None


def test_a_configured_token_replaces_the_kept_one() -> None:
    guard = Guard(BOTH, hashlib.sha256(OTHER.encode()).digest())
    assert guard.check([HOST, bearer(OTHER)], Access.OPERATOR) is not None


@pytest.mark.parametrize(
    ("token", "fault"),
    [("short", "32 characters"), ("a" * 40, "different"), (TOKEN, "must differ")],
)
def test_an_unfit_admin_token_is_refused_and_not_shown(token: str, fault: str) -> None:
    settings = GatewaySettings(tokens=(Secret(TOKEN),), admin_token=Secret(token))
    with pytest.raises(ConfigError, match=fault) as caught:
        check_settings(settings)
    assert token not in str(caught.value)


# --- sessions --------------------------------------------------------------------------------------


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def cookie(line: str) -> tuple[bytes, bytes]:
    return b"cookie", f"theme=dark; {line.partition(';')[0]}".encode()


def logged_in(clock: Clock) -> tuple[Guard, str]:
    guard = Guard(BOTH, None, clock)
    line = guard.log_in([HOST], Secret(ADMIN))
    assert line
    return guard, line


def test_a_session_reads_and_changes_something_from_the_page_only() -> None:
    guard, line = logged_in(Clock())
    assert guard.check([HOST, cookie(line)], Access.READ) is None
    problem = guard.check([HOST, cookie(line)], Access.OPERATOR)
    assert problem
    assert problem.status == 403
    assert guard.check([HOST, cookie(line), (PAGE_HEADER, b"1")], Access.OPERATOR) is None
    assert guard.check([HOST, cookie(line)], Access.CLIENT) is not None


def test_a_session_cookie_is_the_browsers_alone_and_random() -> None:
    guard, line = logged_in(Clock())
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert attribute in line
    lines = {guard.log_in([HOST], Secret(ADMIN)) for _ in range(50)}
    assert len(lines) == 50
    assert len(base64.urlsafe_b64decode(line.partition("=")[2].partition(";")[0] + "=")) == 32


def test_a_session_ends_after_twelve_hours() -> None:
    clock = Clock()
    guard, line = logged_in(clock)
    clock.now += 12 * 3_600 - 1
    assert guard.check([HOST, cookie(line)], Access.READ) is None
    clock.now += 1
    assert guard.check([HOST, cookie(line)], Access.READ) is not None


def test_a_new_login_ends_the_session_before_and_so_does_a_logout() -> None:
    guard, first = logged_in(Clock())
    second = guard.log_in([HOST, cookie(first)], Secret(ADMIN))
    assert second
    assert guard.check([HOST, cookie(first)], Access.READ) is not None
    assert guard.check([HOST, cookie(second)], Access.READ) is None
    assert "Max-Age=0" in guard.log_out([HOST, cookie(second)])
    assert guard.check([HOST, cookie(second)], Access.READ) is not None


def test_only_so_many_sessions_last() -> None:
    guard, first = logged_in(Clock())
    for _ in range(64):
        guard.log_in([HOST], Secret(ADMIN))
    assert guard.check([HOST, cookie(first)], Access.READ) is not None


def test_a_wrong_or_doubled_session_is_none() -> None:
    guard, line = logged_in(Clock())
    assert guard.log_in([HOST], Secret(TOKEN)) is None
    for wrong in (
        "keywheel_session=x",
        "keywheel_session=",
        line.replace("keywheel_session", "other"),
    ):
        assert guard.check([HOST, cookie(wrong)], Access.READ) is not None
    assert guard.check([HOST, cookie(line), cookie(line)], Access.READ) is not None
    assert guard.check([HOST, cookie(line), bearer(TOKEN)], Access.READ) is not None


# --- wrong tokens are answered late ----------------------------------------------------------------


def test_the_delay_grows_with_the_failures_of_a_peer_and_is_forgiven() -> None:
    clock = Clock()
    penalty = Penalty(clock)
    delays = [penalty.failed("a") for _ in range(30)]
    assert delays[:20] == [0.0] * 20
    assert delays[20:24] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 5.0
    assert penalty.failed("b") == 0.0
    clock.now += 61
    assert penalty.failed("a") == 0.0


def test_the_table_of_peers_is_bounded() -> None:
    penalty = Penalty(Clock())
    for number in range(3_000):
        penalty.failed(f"peer{number}")
    assert len(penalty) == 1_024


def test_while_a_wrong_answer_waits_nobody_else_does() -> None:
    async def race() -> None:
        guard, _ = logged_in(Clock())
        wrong = guard.check([HOST, bearer(OTHER)], Access.READ)
        assert wrong
        for _ in range(20):
            await guard.hold(wrong, "peer")
        held = asyncio.create_task(guard.hold(wrong, "peer"))
        await asyncio.sleep(0)
        assert not held.done()
        assert guard.check([HOST, bearer(ADMIN)], Access.READ) is None
        held.cancel()

    asyncio.run(race())


# --- the token of the first start ------------------------------------------------------------------


def test_the_first_start_makes_a_token_and_keeps_only_its_hash(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    made = admin_token(OPEN, folder)
    assert made.fresh
    file = folder / "admin-token.sha256"
    assert made.fresh.reveal() not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in folder.iterdir()] == [file.name]
    assert len(base64.urlsafe_b64decode(made.fresh.reveal() + "=")) == 32
    again = admin_token(OPEN, folder)
    assert (again.digest, again.fresh) == (made.digest, None)
    check_settings(GatewaySettings(admin_token=made.fresh))


def test_a_configured_token_is_not_kept(tmp_path: Path) -> None:
    found = admin_token(BOTH, tmp_path)
    assert found.digest == hashlib.sha256(ADMIN.encode()).digest()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "00" * 33])
def test_a_file_that_holds_no_hash_ends_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "admin-token.sha256"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="holds no hash"):
        admin_token(OPEN, tmp_path)


def test_a_file_that_others_can_read_or_a_link_ends_the_start(tmp_path: Path) -> None:
    admin_token(OPEN, tmp_path)
    file = tmp_path / "admin-token.sha256"
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        admin_token(OPEN, tmp_path)
    file.chmod(0o600)
    target = file.rename(tmp_path / "elsewhere")
    file.symlink_to(target)
    with pytest.raises(ConfigError, match="admin-token"):
        admin_token(OPEN, tmp_path)


def test_of_two_that_start_together_one_token_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admin_token(OPEN, tmp_path)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # looked before the other had written
    late = admin_token(OPEN, tmp_path)
    assert (late.digest, late.fresh) == (first.digest, None)
