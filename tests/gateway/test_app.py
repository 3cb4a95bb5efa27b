"""The gateway's routes: who may use which, what goes up, what comes back, what a wrong request is told."""

import json
from itertools import product
from typing import Any

import pytest

from keywheel.config import GatewaySettings
from keywheel.core.types import Finished
from keywheel.secret import Secret
from tests.gateway.asgi import (
    GOOD,
    HELLO,
    HOST,
    JSON,
    KEY,
    App,
    FakeUpstream,
    Headers,
    Scripted,
    app,
)

pytestmark = pytest.mark.anyio
TOKEN = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"

# Every route there is and what it needs (requirement C4); one that is missing here fails a test.
DIALECTS = ("chat/completions", "completions", "responses", "messages", "embeddings")
OPEN = [
    *(("GET", path) for path in ("/healthz", "/livez", "/readyz")),
    *(("GET", path) for path in ("/", "/assets/page.js")),  # no data in them
]
READ = [
    ("GET", f"/{name}")
    for name in ("admin/state", "admin/stats", "admin/events", "admin/history", "metrics")
] + [("GET", "/admin/explain"), ("GET", "/admin/explain/r1")]
OPERATOR = [
    ("POST", f"/admin/{name}/{action}")
    for name in ("keys/primary", "models/a/small-8b:free", "accounts/account1")
    for action in ("enable", "disable", "reset")
]
SESSION = [("POST", "/login"), ("POST", "/logout")]  # open; they check for themselves
CLIENT = [
    *(("POST", f"{prefix}/{name}") for prefix in ("/v1", "/api/v1") for name in DIALECTS),
    *(("GET", f"{prefix}/{name}") for prefix in ("/v1", "/api/v1") for name in ("key", "credits", "models")),
    *(("GET", f"{prefix}/embeddings/models") for prefix in ("/v1", "/api/v1")),
    *(("GET", f"{prefix}/models/a/small-8b:free") for prefix in ("/v1", "/api/v1")),
]  # fmt: skip

CREDENTIALS: dict[str, Headers] = {
    "no token": (),
    "wrong token": ((b"authorization", b"Bearer " + TOKEN[::-1].encode()),),
    "right token": ((b"authorization", b"Bearer " + TOKEN.encode()),),
    "right x-api-key": ((b"x-api-key", TOKEN.encode()),),
    "admin token": ((b"authorization", b"Bearer " + ADMIN.encode()),),
}
SETTINGS = {
    "bare loopback": GatewaySettings(admin_token=Secret(ADMIN)),
    "token configured": GatewaySettings(tokens=(Secret(TOKEN),), admin_token=Secret(ADMIN)),
    "remote": GatewaySettings(host="0.0.0.0", tokens=(Secret(TOKEN),), admin_token=Secret(ADMIN)),
}
ALL_PASS = dict.fromkeys(CREDENTIALS, 200)
# What each kind of route answers to each kind of credentials; 200 stands for everything that is no refusal.
SOME_CLIENT = {
    "no token": 401, "wrong token": 401, "right token": 200, "right x-api-key": 200, "admin token": 401,
}  # fmt: skip
ADMIN_ONLY = {
    "no token": 401, "wrong token": 401, "right token": 403, "right x-api-key": 403, "admin token": 200,
}  # fmt: skip
ADMIN_ALONE = ADMIN_ONLY | {
    "right token": 401,
    "right x-api-key": 401,
}  # nobody knows client tokens here
ANSWERS = {
    "open": {"bare loopback": ALL_PASS, "token configured": ALL_PASS, "remote": ALL_PASS},
    "client": {"bare loopback": ALL_PASS, "token configured": SOME_CLIENT, "remote": SOME_CLIENT},
    "read": {"bare loopback": ALL_PASS, "token configured": ADMIN_ONLY, "remote": ADMIN_ONLY},
    "operator": {
        "bare loopback": ADMIN_ALONE, "token configured": ADMIN_ONLY, "remote": ADMIN_ONLY,
    },
}  # fmt: skip
CLASSES = {"open": OPEN, "client": CLIENT, "read": READ, "operator": OPERATOR}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(it: App, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    """The status of a plausible request."""
    body = (
        HELLO | {"input": "Hello", "prompt": "Hello", "max_tokens": 9} if method == "POST" else b""
    )
    it.engine.finish(Finished(0.0, "r1", "chat", "ok", 200, "", 0, "", "", "", 0.0))
    it.gateway.draining = path == "/admin/events"  # a stream of events would not end by itself
    host = () if b"host" in dict(headers) else (HOST,)
    return (await it.call(method, path, (*host, *headers), body)).status


# --- access ----------------------------------------------------------------------------------------


async def test_the_table_of_routes_is_complete() -> None:
    gateway = app().gateway
    served = {("POST", path) for path in gateway._hot} | {
        (
            method,
            path.replace("{id:path}", "a/small-8b:free")
            .replace("{name}", "page.js")
            .replace("{request_id}", "r1"),
        )
        for method, path in gateway._lines
    }
    named = {"keys": "primary", "models": "a/small-8b:free", "accounts": "account1"}
    for kind, name in named.items():
        served = {
            (method, path.replace(f"{kind}/{{name:path}}", f"{kind}/{name}"))
            for method, path in served
        }
    assert served == {*OPEN, *READ, *CLIENT, *OPERATOR, *SESSION}


@pytest.mark.parametrize(
    ("kind", "route", "settings", "credentials"),
    [
        (kind, route, *rest)
        for kind, routes in CLASSES.items()
        for route, *rest in product(routes, SETTINGS, CREDENTIALS)
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
async def test_routes_by_settings_by_credentials(
    kind: str, route: tuple[str, str], settings: str, credentials: str
) -> None:
    status = await ask(app(SETTINGS[settings]), *route, *CREDENTIALS[credentials])
    wanted = ANSWERS[kind][settings][credentials]
    if wanted == 200:
        assert status not in (401, 403, 404, 405, 500)
    else:
        assert status == wanted


async def test_without_an_admin_token_the_operators_routes_stay_closed() -> None:
    for route in OPERATOR:
        assert await ask(app(), *route) == 401
        assert await ask(app(), *route, *CREDENTIALS["admin token"]) == 401


@pytest.mark.parametrize("route", [*OPEN, *READ, *CLIENT, *OPERATOR, *SESSION], ids=" ".join)
@pytest.mark.parametrize(
    "header",
    [(b"origin", b"http://evil.example"), (b"origin", b"null"), (b"host", b"evil.example")],
)
async def test_no_route_answers_a_foreign_page(
    route: tuple[str, str], header: tuple[bytes, bytes]
) -> None:
    assert await ask(app(), *route, header) == 403


async def test_a_refused_request_never_reaches_the_upstream() -> None:
    it = app(SETTINGS["token configured"])
    for route in CLIENT:
        assert await ask(it, *route) == 401
        assert await ask(it, *route, (b"origin", b"null")) == 403
    assert it.upstream.sent == []


async def test_a_401_says_how_to_authenticate() -> None:
    it = app(SETTINGS["token configured"])
    for method, path in [*READ, *CLIENT]:
        reply = await it.call(method, path)
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.headers["x-should-retry"] == "false"
        error = reply.json["error"]
        assert error["type"] == "authentication_error"
        assert word(path, error) == "unauthorized"


def word(path: str, error: dict[str, Any]) -> str:
    """What an error is called: under /api/v1 OpenRouter's SDKs take nothing but a number for `code`."""
    if isinstance(error["code"], str):
        assert not path.startswith("/api/v1/") or path.endswith("/messages")
        return error["code"]
    return error["metadata"]["code"]


async def test_the_line_knows_clients_by_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    it = app(GatewaySettings(tokens=(Secret(TOKEN[::-1]), Secret(TOKEN))))
    seen: list[str] = []
    ask = it.engine.pool.select
    monkeypatch.setattr(it.engine.pool, "select", lambda a, *more: seen.append(a.client) or ask(a, *more))  # fmt: skip
    headers = (HOST, *CREDENTIALS["right token"])
    assert (await it.call("POST", "/v1/chat/completions", headers, HELLO)).status == 200
    assert seen == ["token2"]


async def test_messages_are_refused_in_anthropics_shape() -> None:
    for path in ("/v1/messages", "/api/v1/messages"):
        body = (await app(SETTINGS["token configured"]).call("POST", path)).json
        assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
        assert body["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "chat/completions", 400, "model_not_free"),
        ("POST", "responses", 400, "invalid_request"),
        ("POST", "chat/../completions", 404, "not_found"),
        ("GET", "nothing", 404, "not_found"),
        ("GET", "no%74hing", 404, "not_found"),
        ("GET", "models/no/such", 404, "not_found"),
        ("PUT", "models", 405, "method_not_allowed"),
    ],
)
async def test_openrouters_own_path_answers_with_the_status_for_a_code(
    method: str, path: str, status: int, code: str
) -> None:
    """OpenAI's clients find the word where they look for it, OpenRouter's the number; the rest is the same."""
    openai = (await app().call(method, f"/v1/{path}", body=HELLO | {"model": "no/such"})).json
    other = await app().call(method, f"/api/v1/{path}", body=HELLO | {"model": "no/such"})
    assert (other.status, openai["error"]["code"]) == (status, code)
    error = other.json["error"]
    assert (error.pop("code"), error.pop("metadata")["code"]) == (status, code)
    assert error.keys() == openai["error"].keys() - {"code"}
    assert (error["type"], error["param"]) == (openai["error"]["type"], openai["error"]["param"])


@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("/v1/chat/completions", "upstream_failed", None),
        ("/api/v1/chat/completions", 502, "upstream_failed"),
    ],
)
async def test_so_does_an_error_within_a_stream(path: str, code: object, word: object) -> None:
    said = json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}).encode()
    events = ((b"content-type", b"text/event-stream"),)
    upstream = FakeUpstream(lambda: Scripted(headers=events, body=b"data: %b\n\n" % said))
    reply = await app(upstream=upstream).call("POST", path, body=HELLO | {"stream": True})
    last = json.loads(reply.body.strip().rpartition(b"data: ")[2])
    assert (last["error"]["code"], last["error"].get("metadata", {}).get("code")) == (code, word)
    assert last["choices"][0]["finish_reason"] == "error"


@pytest.mark.parametrize(
    ("method", "path"),
    [("OPTIONS", "/v1/chat/completions"), ("OPTIONS", "/v1/models"), ("TRACE", "/healthz"), ("CONNECT", "/healthz")],
)  # fmt: skip
async def test_a_preflight_is_not_granted(method: str, path: str) -> None:
    headers = (HOST, (b"access-control-request-method", b"POST"))
    reply = await app().call(method, path, headers)
    assert reply.status in (403, 405)
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "//v1/models", "/v1//models", "/v1/./models", "/v1/x/../models", "/v1/models;x", "/v1/models%2f", "/v1",
        "/V1/models", "/v1/models ", "/admin", "/admin/", "/admin//stats", "/admin/stats;", "/admin/../admin/stats",
        "/./healthz", "/healthz%00", "/v1/chat/completions/", "http://127.0.0.1/v1/models", "*", "", "/.env",
        "/v2/models", "/api/models", "/docs", "/openapi.json",
    ],
)  # fmt: skip
async def test_a_path_that_is_no_route_is_a_404(path: str) -> None:
    reply = await app().call("GET", path)
    assert reply.status in (404, 405)
    assert "location" not in reply.headers
    assert reply.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models/", "/admin/stats/", "/healthz/"])
async def test_nobody_is_sent_elsewhere(path: str) -> None:
    """A redirect would be built from the Host header."""
    reply = await app().call("GET", path, ((b"host", b"evil.example"),))
    assert reply.status in (403, 404)
    assert "location" not in reply.headers


# --- what goes up (requirement C14) ----------------------------------------------------------------

OURS = {
    b"content-type": b"application/json",
    b"user-agent": b"keywheel",
    b"authorization": b"Bearer " + KEY.encode(),
}
THEIRS = {
    b"x-session-id": b"s1",
    b"http-referer": b"https://app.example",
    b"x-title": b"App",
    b"x-openrouter-title": b"App",
    b"x-openrouter-categories": b"cli-agent",
}
DROPPED = {
    b"x-api-key": b"theirs", b"cookie": b"a=b", b"forwarded": b"for=1", b"x-forwarded-for": b"1.2.3.4",
    b"x-real-ip": b"1.2.3.4", b"connection": b"x-hop, keep-alive", b"keep-alive": b"5", b"te": b"trailers",
    b"upgrade": b"h2c", b"proxy-authorization": b"Basic x", b"accept-encoding": b"gzip", b"content-length": b"7",
    b"transfer-encoding": b"identity", b"user-agent": b"theirs", b"authorization": b"Bearer theirs",
    b"x-stainless-os": b"Linux", b"openai-organization": b"org", b"x-keywheel-fallback": b"off",
    b"x-request-id": b"r1", b"referer": b"https://x.example", b"origin": b"http://127.0.0.1:8787",
    b"x-openrouterish": b"no", b"sec-fetch-site": b"none", b"via": b"1.1 x",
}  # fmt: skip


async def test_a_header_named_in_connection_is_meant_for_this_hop_alone() -> None:
    it = app()
    headers = (HOST, (b"connection", b"close, X-Title"), (b"x-title", b"App"))
    await it.call("POST", "/v1/chat/completions", headers, HELLO)
    assert b"x-title" not in dict(it.upstream.sent[0][2])


@pytest.mark.parametrize(
    "path", ["/v1/chat%2fcompletions", "/v1/%63hat/completions", "/admin%2fstats"]
)
async def test_a_path_is_what_it_is_and_not_what_it_decodes_to(path: str) -> None:
    assert (await app().call("POST", path, (HOST,), HELLO)).status == 404


async def test_exactly_these_headers_go_up() -> None:
    it = app()
    reply = await it.call(
        "POST", "/v1/chat/completions", (HOST, *DROPPED.items(), *THEIRS.items()), HELLO
    )
    assert reply.status == 200
    (_, path, headers, _) = it.upstream.sent[0]
    assert path == "/chat/completions"
    assert len(dict(headers)) == len(headers)
    assert dict(headers) == OURS | THEIRS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-wait", "soon"),
        ("max-wait", "-1"),
        ("max-wait", "nan"),
        ("fallback", "no"),
        ("fallback", ""),
        ("maxwait", "5"),
    ],
)
async def test_a_header_of_ours_that_cannot_be_read_is_an_error_that_names_it(
    name: str, value: str
) -> None:
    it = app()
    header = (f"x-keywheel-{name}".encode(), value.encode())
    reply = await it.call("POST", "/v1/chat/completions", (HOST, header), HELLO)
    error = reply.json["error"]
    assert (reply.status, error["code"], error["param"]) == (
        400,
        "invalid_request",
        f"x-keywheel-{name}",
    )
    assert it.upstream.sent == []


@pytest.mark.parametrize(
    "header",
    [
        (b"x-keywheel-max-wait", b"0"),
        (b"x-keywheel-max-wait", b"2.5"),
        (b"x-keywheel-fallback", b"ON"),
        (b"x-request-timeout", b"5 minutes"),
    ],
)
async def test_a_hint_that_is_good_or_not_of_our_making_is_no_error(
    header: tuple[bytes, bytes],
) -> None:
    reply = await app().call("POST", "/v1/chat/completions", (HOST, header), HELLO)
    assert reply.status == 200


async def test_nothing_is_invented() -> None:
    it = app()
    await it.call("POST", "/v1/chat/completions", body=HELLO)
    assert dict(it.upstream.sent[0][2]) == OURS


@pytest.mark.parametrize("field", ["api_key", "base_url", "api_base"])
async def test_a_body_cannot_change_where_a_request_goes(field: str) -> None:
    it = app()
    reply = await it.call(
        "POST", "/v1/chat/completions", body=HELLO | {field: "https://evil.example"}
    )
    assert reply.status in (200, 400)
    assert all(field.encode() not in body for *_, body in it.upstream.sent)


# --- what comes back (requirement C15) -------------------------------------------------------------

NOISY: Headers = (
    JSON, (b"set-cookie", b"a=b"), (b"server", b"cloudflare"), (b"cf-ray", b"1"), (b"x-ratelimit-limit", b"20"),
    (b"x-ratelimit-remaining", b"3"), (b"x-ratelimit-reset", b"1"), (b"location", b"https://evil.example"),
    (b"access-control-allow-origin", b"*"), (b"content-encoding", b"identity"), (b"via", b"x"), (b"x-clerk", b"1"),
    (b"strict-transport-security", b"1"), (b"x-powered-by", b"x"), (b"x-keywheel-key", b"forged"),
    (b"x-request-id", b"theirs"), (b"content-length", b"1"), (b"transfer-encoding", b"chunked"),
    *((f"x-noise-{number}".encode(), b"1") for number in range(40)),
)  # fmt: skip
USUAL = {"content-type", "content-length", "x-request-id"}
SERVED = {"x-keywheel-key", "x-keywheel-account", "x-keywheel-model", "x-keywheel-attempts"}


async def test_exactly_these_headers_come_back() -> None:
    it = app(upstream=FakeUpstream(lambda: Scripted(headers=NOISY)))
    headers = (HOST, (b"x-request-id", b"mine"))
    reply = await it.call("POST", "/v1/chat/completions", headers, HELLO)
    assert set(reply.headers) == USUAL | SERVED | {"x-keywheel-overhead-ms"}
    assert reply.headers["x-request-id"] == "mine"
    assert reply.headers["x-keywheel-key"] == "primary"
    assert reply.json == GOOD


async def test_exactly_these_headers_come_back_with_a_stream() -> None:
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"choices": [choice]}).encode()
    noisy = ((b"content-type", b"text/event-stream"), *NOISY[1:])
    it = app(upstream=FakeUpstream(lambda: Scripted(headers=noisy, body=events)))
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO | {"stream": True})
    more = {"cache-control", "x-accel-buffering"}
    assert set(reply.headers) == (USUAL - {"content-length"}) | SERVED | more
    assert reply.body == events


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503])
async def test_exactly_these_headers_come_back_with_a_failure(status: int) -> None:
    body = json.dumps({"error": {"message": f"no {KEY}", "code": status}}).encode()
    it = app(upstream=FakeUpstream(lambda: Scripted(status, NOISY, body)))
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO)
    may = {"retry-after", "retry-after-ms", "x-should-retry", "x-keywheel-attempts"}
    assert USUAL <= set(reply.headers) <= USUAL | may
    assert KEY.encode() not in reply.body
    assert b"fa4efa4e" not in reply.body


# --- wrong requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed", "POST"),
        ("PUT", "/api/v1/messages", 405, "method_not_allowed", "POST"),
        ("POST", "/v1/models", 405, "method_not_allowed", "GET"),
        ("DELETE", "/healthz", 405, "method_not_allowed", "GET"),
        ("GET", "/v1/nothing", 404, "not_found", None),
        ("GET", "/v1/models/no/such", 404, "not_found", None),
        ("GET", "/v1/models/c/paid-70b", 404, "not_found", None),
    ],
)
async def test_wrong_methods_and_paths(
    method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    reply = await app().call(method, path)
    assert (reply.status, word(path, reply.json["error"])) == (status, code)
    assert reply.headers.get("allow") == allow
    assert reply.headers["x-should-retry"] == "false"


async def test_an_unknown_path_is_told_what_is_served() -> None:
    message = (await app().call("POST", "/v1/nothing")).json["error"]["message"]
    assert message.startswith("/v1/nothing is not served. Served: /v1/chat/completions, ")
    assert "/v1/models/{id}, " in message
    assert "admin" not in message


async def test_websockets_are_not_served() -> None:
    with pytest.raises(RuntimeError, match="websocket is not served"):
        await app().gateway({"type": "websocket"}, None, None)  # pyright: ignore[reportArgumentType]


async def test_head_is_answered_like_get() -> None:
    reply = await app().call("HEAD", "/healthz")
    assert reply.status == 200


@pytest.mark.parametrize(("status", "told"), [(400, 400), (403, 502), (200, 400)])
async def test_half_a_surrogate_pair_in_an_error_of_the_upstream_can_be_told(
    status: int, told: int
) -> None:
    error = {"code": max(status, 400), "message": "No \ud83d", "type": "\ude00"}
    body = json.dumps({"error": error, "user_id": "\ud83d"}).encode()
    it = app(upstream=FakeUpstream(lambda: Scripted(status, body=body)))
    reply = await it.call("POST", "/v1/chat/completions", (HOST, JSON), HELLO)
    assert reply.status == told
    assert r"No \ud83d" in reply.json["error"]["message"]
    name = reply.headers["x-request-id"]
    for path in (f"/admin/explain/{name}", "/admin/stats", "/admin/state"):
        assert (await it.call("GET", path)).status == 200


async def test_what_goes_wrong_inside_is_a_500_that_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = app()

    def fail(*_: object) -> None:
        raise RuntimeError(f"with {KEY}")

    monkeypatch.setattr(it.engine, "report", fail)
    with pytest.raises(RuntimeError):  # for the log, after the answer has gone out
        await it.call("GET", "/admin/stats")


# --- the reading routes ----------------------------------------------------------------------------


async def test_models_list_what_can_be_used_with_auto_and_the_pools_first() -> None:
    for prefix in ("/v1", "/api/v1"):
        body = (await app().call("GET", f"{prefix}/models")).json
        assert body["object"] == "list"
        ids = [entry["id"] for entry in body["data"]]
        assert ids[:4] == ["auto", "auto:fast", "auto:smart", "auto:code"]  # no model reads images
        assert set(ids[4:]) == {"a/small-8b:free", "b/large-70b:free"}


async def test_a_pool_is_asked_for_like_a_model() -> None:
    it = app()
    assert (await it.call("GET", "/v1/models/auto:smart")).json["data"]["id"] == "auto:smart"


async def test_one_model_is_shown_as_listed() -> None:
    it = app()
    for name in ("auto", "a/small-8b:free"):
        assert (await it.call("GET", f"/v1/models/{name}")).json["data"]["id"] == name


async def test_readiness_follows_the_lanes() -> None:
    it = app()
    assert (await it.call("GET", "/readyz")).status == 200
    it.engine.take_models([])
    reply = await it.call("GET", "/readyz")
    assert (reply.status, reply.json) == (503, {"status": "no usable lane"})
    it.gateway.draining = True
    assert (await it.call("GET", "/readyz")).json == {"status": "draining"}
    assert (await it.call("GET", "/healthz")).status == 200


async def test_no_reading_route_shows_a_key() -> None:
    it = app()
    await it.call("POST", "/v1/chat/completions", body=HELLO)
    it.gateway.draining = True  # so that the stream of events ends
    for method, path in [*OPEN, *READ, *CLIENT]:
        if method == "GET":
            reply = await it.call(method, path)
            assert b"fa4e" not in reply.body
            assert "fa4e" not in str(reply.headers)
