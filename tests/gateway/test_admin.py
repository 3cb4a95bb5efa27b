"""The admin routes: the state, the stream of events, the operator's hand, login and logout."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from keywheel.config import GatewaySettings
from keywheel.core.types import Kind, Scope
from keywheel.gateway import live
from keywheel.secret import Secret
from tests.core.build import answered, failed
from tests.gateway.asgi import HELLO, HOST, KEY, App, app
from tests.gateway.example import FILE, MODELS, Stage, example

pytestmark = pytest.mark.anyio
ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"
BEARER = (b"authorization", f"Bearer {ADMIN}".encode())
SETTINGS = GatewaySettings(admin_token=Secret(ADMIN))
DOCS = Path(__file__).parent.parent.parent / "docs" / "admin.md"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass in a hundredth of them."""
    for name in ("TICK", "KEEPALIVE", "REFRESH"):
        monkeypatch.setattr(live, name, getattr(live, name) / 100)


# --- the state -------------------------------------------------------------------------------------


def test_the_example_is_what_the_code_gives() -> None:
    """To write it anew: python -m tests.gateway.example"""
    assert json.loads(FILE.read_text("utf-8")) == example()


def names(value: Any) -> set[str]:
    """Every field's name, at any depth."""
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in names(each)}
    return {name for each in value for name in names(each)} if isinstance(value, list) else set()


def test_every_field_is_documented() -> None:
    words = set(re.findall(r"[a-z0-9_]+", DOCS.read_text("utf-8")))
    assert names(example()) <= words


async def test_the_state_is_served_and_never_kept() -> None:
    reply = await app().call("GET", "/admin/state")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    told = reply.json
    assert (told["mode"], told["draining"], told["pool"]["state"]) == ("live", False, "ready")
    assert told["uptime"] == pytest.approx(told["now"] - told["since"])
    assert list(told)[:4] == ["schema_version", "version", "mode", "draining"]


async def test_state_and_statistics_tell_the_same() -> None:
    stage = Stage()
    stage.request(failed("upstream-pool"), answered(), models=MODELS[:2])
    state, stats = stage.state(), stage.engine.report()
    assert state["totals"] == stats["totals"]
    assert state["errors"] == stats["errors"]
    for kind in ("keys", "models"):
        for one, other in zip(state[kind], stats[kind], strict=True):
            assert {name: one[name] for name in other} == other


# --- the operator's hand ---------------------------------------------------------------------------


async def post(it: App, path: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> Any:
    return await it.call("POST", path, (HOST, *(headers or (BEARER,))), body)


@pytest.mark.parametrize(
    ("kind", "name"), [("keys", "primary"), ("models", "a/small-8b:free"), ("accounts", "account1")]
)
@pytest.mark.parametrize("back", ["enable", "reset"])
async def test_disable_closes_and_enable_and_reset_open(kind: str, name: str, back: str) -> None:
    it = app(SETTINGS)
    reply = await post(it, f"/admin/{kind}/{name}/disable")
    told = reply.json[kind[:-1]]
    assert (reply.status, told["state"], told["provenance"]) == (200, "disabled", "operator")
    reply = await post(it, f"/admin/{kind}/{name}/{back}")
    assert (reply.json["action"], reply.json[kind[:-1]]["state"]) == (back, "open")


@pytest.mark.parametrize(
    "path", ["keys/nobody/reset", "models/a/small-8b/reset", "accounts/primary/reset"]
)
async def test_an_unknown_name_is_told_the_known_ones(path: str) -> None:
    it = app(SETTINGS)
    reply = await post(it, f"/admin/{path}")
    kind = path.partition("/")[0]
    known = {"keys": "primary", "models": "a/small-8b:free", "accounts": "account1"}[kind]
    assert (reply.status, reply.json["error"]["code"]) == (404, "not_found")
    assert known in reply.json["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/admin/keys/primary/delete", "/admin/keys/primary", "/admin/lanes/x/reset"]
)
async def test_there_are_no_other_actions(path: str) -> None:
    assert (await post(app(SETTINGS), path)).status == 404


async def test_reading_what_must_be_posted_says_so() -> None:
    reply = await app(SETTINGS).call("GET", "/admin/keys/primary/reset", (HOST, BEARER))
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


# --- login -----------------------------------------------------------------------------------------


def login(token: str) -> bytes:
    return json.dumps({"token": token}).encode()


async def test_a_login_opens_a_session_and_a_logout_ends_it() -> None:
    it = app(
        GatewaySettings(admin_token=Secret(ADMIN), tokens=(Secret("x7" * 4 + "abcdefgh" * 4),))
    )
    assert (await it.call("GET", "/admin/stats")).status == 401
    reply = await post(it, "/login", (b"accept", b"*/*"), body=login(ADMIN))
    assert (reply.status, reply.headers["cache-control"]) == (204, "no-store")
    cookie = (b"cookie", reply.headers["set-cookie"].partition(";")[0].encode())
    assert (await it.call("GET", "/admin/stats", (HOST, cookie))).status == 200
    assert (await post(it, "/admin/keys/primary/reset", cookie)).status == 403
    assert (
        await post(it, "/admin/keys/primary/reset", cookie, (b"x-keywheel-page", b"1"))
    ).status == 200
    gone = await post(it, "/logout", cookie)
    assert (gone.status, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)
    assert (await it.call("GET", "/admin/stats", (HOST, cookie))).status == 401


@pytest.mark.parametrize(
    "body",
    [login(ADMIN[:-1]), b"", b"{}", b"[]", b'{"token": 1}', b"\xff", login(ADMIN) + b" " * 5_000],
)
async def test_a_wrong_login_is_refused_without_a_cookie(body: bytes) -> None:
    reply = await post(app(SETTINGS), "/login", (b"accept", b"*/*"), body=body)
    assert (reply.status, "set-cookie" in reply.headers) == (401, False)


async def test_many_wrong_logins_are_answered_late_and_a_right_one_at_once() -> None:
    it = app(SETTINGS)
    for _ in range(20):
        await post(it, "/login", (b"accept", b"*/*"), body=login("wrong"))
    late = asyncio.create_task(post(it, "/login", (b"accept", b"*/*"), body=login("wrong")))
    await asyncio.sleep(0.01)
    assert not late.done()
    assert (await post(it, "/login", (b"accept", b"*/*"), body=login(ADMIN))).status == 204
    assert not late.done()
    assert (await late).status == 401


# --- events ----------------------------------------------------------------------------------------

Told = tuple[str, Any]


class Reader:
    """One listener."""

    def __init__(self, frames: AsyncGenerator[bytes]) -> None:
        self.frames = frames
        self.waiting: list[Told] = []

    async def next(self) -> Told:
        """The next event's name and data; a comment is ("", …)."""
        while not self.waiting:
            async with asyncio.timeout(5):
                text = (await anext(self.frames)).decode()
            for block in filter(None, text.split("\n\n")):
                fields = dict(line.partition(": ")[::2] for line in block.split("\n"))
                if "data" in fields:
                    self.waiting.append((fields["event"], json.loads(fields["data"])))
                elif block.startswith(":"):
                    self.waiting.append(("", block))
        return self.waiting.pop(0)

    async def find(self, name: str) -> Any:
        while True:
            found, told = await self.next()
            if found == name:
                return told


def listen(stage: Stage) -> Reader:
    return Reader(stage.admin.live.frames())


async def test_the_first_event_is_a_whole_state() -> None:
    stage = Stage()
    name, told = await listen(stage).next()
    assert name == "state"
    assert told == stage.state()


@pytest.mark.usefixtures("quick")
async def test_what_happens_is_told_at_once_and_then_a_fresh_state() -> None:
    stage = Stage()
    reader = listen(stage)
    await reader.next()
    stage.request(failed("bad-key"), answered())
    stage.engine.operate("disable", Scope(Kind.MODEL, MODELS[0]))
    assert (await reader.find("finished"))["outcome"] == "ok"
    blocked = await reader.find("blocked")
    assert (blocked["scope"], blocked["name"], blocked["until"]) == ("model", MODELS[0], None)
    told = await reader.find("state")
    assert told["totals"]["requests"] == 1
    stage.engine.operate("enable", Scope(Kind.MODEL, MODELS[0]))
    assert (await reader.find("reopened"))["name"] == MODELS[0]


@pytest.mark.usefixtures("quick")
async def test_a_moment_at_which_something_opens_brings_a_fresh_state() -> None:
    stage = Stage()
    stage.request(failed("upstream-pool"), answered(), models=MODELS[:2])
    reader = listen(stage)
    first = (await reader.next())[1]
    assert first["changes_at"]
    stage.now = first["changes_at"] - 0.02
    stage.admin.live._changed = True
    await reader.find("state")
    stage.now = first["changes_at"]
    second = await reader.find("state")
    assert second["models"][0]["state"] == "open"


@pytest.mark.usefixtures("quick")
async def test_a_quiet_stream_has_comments_and_now_and_then_a_state() -> None:
    reader = listen(Stage())
    await reader.next()
    seen = [(await reader.next())[0] for _ in range(3)]
    assert "" in seen
    assert "state" in seen


@pytest.mark.usefixtures("quick")
async def test_many_listeners_share_one_look() -> None:
    stage = Stage()
    looks = 0
    whole = stage.admin.live._state

    def look() -> Any:
        nonlocal looks
        looks += 1
        return whole()

    stage.admin.live._state = look
    readers = [listen(stage) for _ in range(100)]
    for reader in readers:
        await reader.next()
    assert looks == 1
    stage.request(answered())
    for reader in readers:
        await reader.find("state")
    assert looks <= 4
    for reader in readers:
        await reader.frames.aclose()
    assert len(stage.admin.live) == 0


async def test_a_slow_reader_is_let_go_and_the_others_are_not() -> None:
    stage = Stage()
    slow, keen = listen(stage), listen(stage)
    await slow.next()
    await keen.next()
    for number in range(live.WAITING + 10):
        stage.engine.operate("disable" if number % 2 else "enable", Scope(Kind.KEY, "primary"))
        assert (await keen.next())[0] in ("blocked", "reopened")
    await asyncio.sleep(0)
    assert await slow.next() == ("end", {"why": "too slow"})
    with pytest.raises(StopAsyncIteration):
        await slow.frames.__anext__()
    stage.engine.operate("disable", Scope(Kind.KEY, "secondary"))
    assert (await keen.next())[0] == "blocked"


async def test_so_many_may_listen_and_no_more() -> None:
    stage = Stage()
    readers = [listen(stage) for _ in range(live.LISTENERS)]
    for reader in readers:
        await reader.next()
    assert (await listen(stage).next())[0] == "end"
    await readers[0].frames.aclose()
    assert (await listen(stage).next())[0] == "state"


@pytest.mark.usefixtures("quick")
async def test_the_stream_ends_when_the_gateway_does() -> None:
    it = app()
    reader = Reader(it.gateway.admin.live.frames())
    await reader.next()
    it.gateway.draining = True
    assert await reader.find("end") == {"why": "the gateway is shutting down"}
    reply = await it.call("GET", "/admin/events")
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.startswith(b"event: end\n")


async def test_events_from_another_thread_arrive() -> None:
    stage = Stage()
    reader = listen(stage)
    await reader.next()
    await asyncio.to_thread(stage.engine.operate, "disable", Scope(Kind.KEY, "primary"))
    assert (await reader.find("blocked"))["name"] == "primary"


def test_nobody_listening_costs_nothing() -> None:
    stage = Stage()
    stage.request(answered())
    assert len(stage.admin.live) == 0


# --- explanations ----------------------------------------------------------------------------------


async def test_a_request_is_explained_by_the_id_of_its_answer() -> None:
    it = app()
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO)
    id = reply.headers["x-request-id"]
    told = (await it.call("GET", f"/admin/explain/{id}")).json
    assert (told["schema_version"], told["request_id"], told["outcome"]) == (1, id, "ok")
    assert told["served_by"]["model"] == reply.headers["x-keywheel-model"]
    assert [each["row"] for each in told["attempts"]] == ["ok"]
    (decision,) = told["decisions"]
    assert len(decision["candidates"]) == 2
    assert "Hello" not in json.dumps(told)
    assert KEY not in json.dumps(told)


async def test_what_was_refused_as_it_stood_is_explained_too() -> None:
    it = app()
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO | {"model": "no/such"})
    told = (await it.call("GET", f"/admin/explain/{reply.headers['x-request-id']}")).json
    assert (told["code"], told["asked"], told["decisions"]) == ("model_not_free", None, [])


async def test_an_unknown_request_says_which_id_it_is_and_how_many_are_remembered() -> None:
    it = app()
    await it.call("POST", "/v1/chat/completions", body=HELLO)
    reply = await it.call("GET", "/admin/explain/nobodys")
    error = reply.json["error"]
    assert (reply.status, error["code"], error["param"]) == (404, "not_found", "request_id")
    assert "'nobodys'" in error["message"]
    assert "x-request-id" in error["message"]
    assert "1 requests are remembered now, the latest 500 at most" in error["message"]


async def test_the_latest_requests_are_listed_latest_first() -> None:
    it = app()
    ids = [
        (await it.call("POST", "/v1/chat/completions", body=HELLO)).headers["x-request-id"]
        for _ in range(3)
    ]
    told = (await it.call("GET", "/admin/explain")).json
    assert [each["request_id"] for each in told["requests"]] == ids[::-1]
    assert (told["remembered"], told["most"]) == (3, 500)
    assert told["requests"][0]["outcome"] == "ok"


async def test_explanations_are_for_those_who_may_read() -> None:
    it = app(GatewaySettings(admin_token=Secret(ADMIN), require_token=True))
    assert (await it.call("GET", "/admin/explain")).status == 401
    assert (await it.call("GET", "/admin/explain/x")).status == 401
    assert (await it.call("GET", "/admin/explain/x", (HOST, BEARER))).status == 404


async def test_every_field_of_an_explanation_is_documented() -> None:
    it = app()
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO)
    told = (await it.call("GET", f"/admin/explain/{reply.headers['x-request-id']}")).json
    words = set(re.findall(r"[a-z0-9_]+", DOCS.read_text("utf-8")))
    assert names(told) <= words
