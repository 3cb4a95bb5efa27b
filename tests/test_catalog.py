"""The catalogue's client: what it asks, what it believes, and how little it trusts."""

import json
import socket
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import trustme

from keywheel import catalog as module
from keywheel.catalog import Catalog, KeyCheck, Unavailable
from keywheel.config import UpstreamSettings
from keywheel.errors import ConfigError
from keywheel.secret import Secret

KEY = "sk-or-v1-" + "ca7a106e" * 8
MODEL = {"id": "a/b:free", "context_length": 4096, "pricing": {"prompt": "0", "completion": "0"}}
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp()


def reply(status: int, body: bytes | dict[str, object], *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = f"content-length: {len(content)}"
    lines = [f"HTTP/1.1 {status} X", *headers, length, "connection: close", "", ""]
    return "\r\n".join(lines).encode() + content


class Server:
    """Answers every request with the same bytes, save for those in `answers` by path; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer = b""
        self.answers: dict[bytes, bytes] = {}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def reply(self, status: int, body: bytes | dict[str, object], *headers: str) -> None:
        self.answer = reply(status, body, *headers)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                self.asked.append(request)
                connection.sendall(self.answers.get(request.split()[1], self.answer))


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.close()


@pytest.fixture
def catalog(server: Server) -> Iterator[Catalog]:
    with Catalog(UpstreamSettings(server.url), salt=b"salt") as it:
        yield it


def facts(**data: object) -> dict[str, object]:
    return {"data": data}


# --- what is asked ---------------------------------------------------------------------------------


def test_models_are_asked_for_without_a_key(server: Server, catalog: Catalog) -> None:
    server.reply(200, {"data": [MODEL]})
    assert [entry.id for entry in catalog.models()] == ["a/b:free"]
    paths = (b"/api/v1/models", b"/api/v1/embeddings/models")
    assert [asked.split()[1] for asked in server.asked] == [*paths]
    assert b"authorization" not in b"".join(server.asked).lower()
    request = server.asked[0]
    assert b"accept-encoding: identity" in request.lower()
    assert b"user-agent: keywheel\r\n" in request.lower()


def test_embedding_models_have_a_list_of_their_own_of_which_no_other_is_believed(
    server: Server, catalog: Catalog
) -> None:
    vectors = {"id": "c/d:free", "architecture": {"output_modalities": ["embeddings"]}}
    entries = [
        MODEL,
        MODEL | vectors,
        MODEL | {"id": "e/chat:free"},
        MODEL | vectors | {"id": "a/b:free"},
    ]
    server.answers = {b"/api/v1/embeddings/models": reply(200, {"data": entries})}
    server.reply(200, {"data": [MODEL]})
    first, second = catalog.models()
    assert (first.id, first.model.embeds) == ("a/b:free", False)
    assert (second.id, second.model.embeds, second.why_not) == ("c/d:free", True, None)


@pytest.mark.parametrize("status", [404, 401, 503, 200])
def test_without_a_list_of_embedding_models_chats_go_on_and_what_is_known_stays(
    server: Server, catalog: Catalog, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "keywheel.catalog")
    vectors = MODEL | {"id": "c/d:free", "architecture": {"output_modalities": ["embeddings"]}}
    server.reply(200, {"data": [MODEL]})
    server.answers = {b"/api/v1/embeddings/models": reply(status, b"<html>")}
    assert [entry.id for entry in catalog.models()] == ["a/b:free"]
    (record,) = caplog.records
    assert "embedding" in record.getMessage()
    server.answers = {b"/api/v1/embeddings/models": reply(200, {"data": [vectors]})}
    assert [entry.id for entry in catalog.models()] == ["a/b:free", "c/d:free"]
    server.answers = {b"/api/v1/embeddings/models": reply(status, b"<html>")}
    assert [entry.id for entry in catalog.models()] == ["a/b:free", "c/d:free"]


def test_a_key_travels_in_its_header_only(server: Server, catalog: Catalog) -> None:
    server.reply(200, facts(creator_user_id="u1"))
    assert catalog.key(Secret(KEY)).passed
    (request,) = server.asked
    assert request.startswith(b"GET /api/v1/key HTTP/1.1\r\n")
    assert request.lower().count(KEY.encode()) == 1
    assert b"authorization: bearer " + KEY.encode() in request.lower()


def test_the_environment_names_no_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.reply(200, {"data": [MODEL]})
    with Catalog(UpstreamSettings(server.url), salt=b"") as it:
        assert it.models()


# --- what is believed ------------------------------------------------------------------------------


def test_a_good_key_comes_with_its_facts_and_a_hash_of_its_account(
    server: Server, catalog: Catalog
) -> None:
    day = {"used": 3, "limit": 50, "remaining": 47}
    server.reply(200, facts(creator_user_id="user_1", free_model_daily_requests=day))
    check = catalog.key(Secret(KEY))
    assert check.facts is not None
    assert (check.facts.free_used, check.facts.free_limit) == (3, 50)
    assert check.account is not None
    assert "user_1" not in repr(check)


def test_the_hash_depends_on_account_and_salt_only(server: Server, catalog: Catalog) -> None:
    def hashed(account: str | None, it: Catalog = catalog) -> str | None:
        server.reply(200, facts(creator_user_id=account))
        return it.key(Secret(KEY)).account

    with Catalog(UpstreamSettings(server.url), salt=b"other") as other:
        assert hashed("user_1") == hashed("user_1")
        assert len({hashed("user_1"), hashed("user_2"), hashed("user_1", other)}) == 3
        assert hashed(None) is None


def test_401_is_a_bad_key_and_no_trouble(server: Server, catalog: Catalog) -> None:
    server.reply(401, {"error": {"message": "User not found.", "code": 401}})
    assert catalog.key(Secret(KEY)) == KeyCheck(False)


@pytest.mark.parametrize(
    ("header", "date"),
    [
        ("Mon, 05 Oct 2026 12:00:00 GMT", NOON),
        ("Mon, 05 Oct 2026 14:00:00 +0200", NOON),
        ("Mon, 05 Oct 2026 12:00:00 -0000", NOON),
        ("Mon, 99 Oct 2026 12:00:00 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [200, 401])
def test_the_upstreams_clock_is_read(
    server: Server, catalog: Catalog, header: str, date: float | None, status: int
) -> None:
    server.reply(status, facts(creator_user_id="u1"), f"date: {header}")
    assert catalog.key(Secret(KEY)).date == date


# --- what is not believed --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 400, 402, 403, 404, 429, 500, 503])
def test_another_status_is_no_news(server: Server, catalog: Catalog, status: int) -> None:
    server.reply(status, b"{}", "location: http://127.0.0.1:9/")
    with pytest.raises(Unavailable, match=f"GET /key answered {status}"):
        catalog.key(Secret(KEY))
    with pytest.raises(Unavailable, match=f"GET /models answered {status}"):
        catalog.models()
    assert len(server.asked) == 2


def test_401_for_the_list_is_no_news_either(server: Server, catalog: Catalog) -> None:
    server.reply(401, b"{}")
    with pytest.raises(Unavailable, match="GET /models answered 401"):
        catalog.models()


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"data": 7}', b"\xff", b"[" * 100_000, b'{"data"'],
    ids=["empty", "html", "list", "number", "bytes", "deep", "cut"],
)  # fmt: skip
def test_nonsense_is_no_news(server: Server, catalog: Catalog, body: bytes) -> None:
    server.reply(200, body)
    with pytest.raises(Unavailable):
        catalog.models()
    with pytest.raises(Unavailable):
        catalog.key(Secret(KEY))


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
def test_nothing_is_decompressed(server: Server, catalog: Catalog, encoding: str) -> None:
    server.reply(200, b"\x1f\x8b", f"content-encoding: {encoding}")
    with pytest.raises(Unavailable, match="encoded"):
        catalog.models()


def test_too_much_is_not_read(
    server: Server, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    server.reply(200, b" " * (2 << 20))
    with pytest.raises(Unavailable, match="larger than 1 MiB"):
        catalog.models()


def test_what_trickles_is_given_up(
    server: Server, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    server.reply(200, {"data": [MODEL]})
    with pytest.raises(Unavailable, match="no whole answer"):
        catalog.models()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_connection_that_breaks_is_named_by_its_kind(
    server: Server, catalog: Catalog, answer: bytes
) -> None:
    server.answer = answer
    with pytest.raises(Unavailable, match=r"GET /models: \w+Error"):
        catalog.models()


def test_an_upstream_that_is_away_is_named() -> None:
    with Catalog(UpstreamSettings("http://127.0.0.1:9/api/v1"), salt=b"") as it:
        with pytest.raises(Unavailable, match="GET /models: ConnectError"):
            it.models()
        with pytest.raises(Unavailable, match="GET /key: ConnectError"):
            it.key(Secret(KEY))


@pytest.mark.parametrize("status", [0, 403, 500])
def test_an_error_takes_no_key_along(server: Server, catalog: Catalog, status: int) -> None:
    if status:
        server.reply(status, f"no {KEY}".encode())
    with pytest.raises(Unavailable) as caught:
        catalog.key(Secret(KEY))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = [frame for frame in told.stack if frame.filename != __file__]
    assert inside
    assert KEY not in str(caught.value) + "".join(str(frame.locals) for frame in inside)


# --- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://openrouter.ai/api/v1", "https://u:p@h/", "nowhere"])
def test_keys_are_not_sent_where_they_could_be_read(url: str) -> None:
    with pytest.raises(ConfigError, match=r"upstream\.base_url: must"):
        Catalog(UpstreamSettings(base_url=url))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_used_are_named(tmp_path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"upstream\.ca_file: .*ca\.pem: \S"):
        Catalog(UpstreamSettings(ca_file=str(path)))


def test_certificates_of_ones_own_are_used(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    settings = UpstreamSettings(ca_file=str(path), proxy="http://127.0.0.1:9")
    away = pytest.raises(Unavailable, match="ConnectError")  # the proxy is asked, and is away
    with Catalog(settings) as it, away:
        it.models()
