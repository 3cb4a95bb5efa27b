"""Keys and tokens as canaries: no way out of the program lets one of them, or a telling part of one, be seen.

The ways out that have a test file of their own (settings, catalogue, logs, command line) are looked at there, too.
"""

import asyncio
import copy
import dataclasses
import io
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from keywheel.config import GatewaySettings, LogSettings
from keywheel.engine import Engine
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError
from keywheel.gateway import inference, logs
from keywheel.gateway.guard import Guard
from keywheel.gateway.upstream import UpstreamError
from keywheel.gateway.work import Job
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from tests.gateway.asgi import HELLO, HOST, FakeUpstream, Scripted, app

pytestmark = pytest.mark.anyio
KEYS = [f"sk-or-v1-{number}cafe{number}dad" + "0fade9" * 9 for number in range(4)]
TOKEN = "canary-token-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5"
ADMIN = "operator-token-cXV4MTIzNDU2Nzg5Zm9vYmFyYmF6"
STATE = "canary-state-7d1f+with/odd@signs"
TELLING = [*(key[9:17] for key in KEYS), TOKEN[:12], ADMIN[:12], STATE[:12]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with canaries in every place a key can come from."""
    (tmp_path / ".env.local").write_text(f"OPENROUTER_API_KEY_2={KEYS[1]}")
    url = f"redis://:{quote(STATE, safe='')}@127.0.0.1:1/0"
    settings = f'gateway.tokens = ["{TOKEN}"]\ngateway.admin_token = "{ADMIN}"\nstate.url = "{url}"'
    (tmp_path / "keywheel.toml").write_text(settings)
    (tmp_path / "keys").write_text(KEYS[2])
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENROUTER_API_KEY", KEYS[0])
    monkeypatch.setenv("OPENROUTER_API_KEYS", KEYS[3])
    monkeypatch.setenv("OPENROUTER_API_KEYS_FILE", str(tmp_path / "keys"))
    return tmp_path


@pytest.fixture
def log(found: Environment) -> Iterator[io.StringIO]:
    """All that a gateway logs, at the most talkative level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    secrets = Job(found.config, found.keys).secrets
    logs.set_up(LogSettings(level="debug", format="text"), secrets, out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def seen(text: str) -> list[str]:
    """The canaries in a text."""
    return [part for part in TELLING if part in text]


@pytest.fixture
def found() -> Environment:
    it = gather()
    assert [entry.secret.reveal() for entry in it.keys] == [KEYS[0], KEYS[1], KEYS[3], KEYS[2]]
    assert it.config.gateway.tokens[0].reveal() == TOKEN
    return it


# --- objects ---------------------------------------------------------------------------------------

SHOW: list[Callable[[Any], object]] = [
    repr,
    str,
    "{}".format,
    lambda it: f"{it!r:>500}",
    lambda it: json.dumps(it, default=str),
    lambda it: json.dumps(it, default=repr),
    lambda it: [repr(getattr(it, f.name)) for f in dataclasses.fields(it)],
]


@pytest.mark.parametrize("show", SHOW)
def test_no_object_with_secrets_shows_them(
    found: Environment, show: Callable[[Any], object]
) -> None:
    for it in (found, found.config, found.config.gateway, found.config.state, *found.keys):
        assert seen(str(show(it))) == []


@pytest.mark.parametrize("pack", [pickle.dumps, copy.deepcopy, dataclasses.asdict])
def test_no_object_with_secrets_is_packed(
    found: Environment, pack: Callable[[Any], object]
) -> None:
    for it in (found, found.config.gateway, *found.keys):
        with pytest.raises(TypeError) as caught:
            pack(it)
        assert seen(str(caught.value)) == []


def test_nothing_that_serves_holds_a_token_in_plain_text(found: Environment) -> None:
    assert seen(repr(vars(Guard(found.config.gateway)))) == []
    engine = Engine(found.config, found.keys)
    assert seen(repr(vars(engine))) == []
    assert seen(json.dumps(engine.report())) == []
    assert seen(repr(engine.pool.roster.__dict__)) == []


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env.local", f"OPENROUTER_API_KEY_2={KEYS[1]}\nOPENROUTER_API_KEY_3={KEYS[2][:20]}…"),
        (".env.local", f"KEYWHEEL_LOG__LEVEL={KEYS[1]}"),
        (".env.local", f"KEYWHEEL_PORT={KEYS[1]}"),
        (".env.local", f"KEYWHEEL_TOKEN={TOKEN}"),
        ("keywheel.toml", f'gateway.tokens = "{TOKEN}"'),
        ("keywheel.toml", f'gateway.token = ["{TOKEN}"]'),
        ("keywheel.toml", f'gateway.tokens = ["{TOKEN}]'),
        ("keywheel.toml", f'log.level = "{KEYS[1]}"'),
        ("keywheel.toml", f'upstream.base_url = "https://{KEYS[1]}@openrouter.ai"'),
        ("keys", f"key = {KEYS[2]};"),
    ],
)
def test_no_wrong_setting_gives_a_secret_away(folder: Path, name: str, text: str) -> None:
    """Neither in what is said nor in the variables of any frame that the error remembers."""
    (folder / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        gather()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [str(frame.locals) for frame in told.stack if frame.filename != __file__]
    assert seen(str(caught.value) + repr(caught.value) + "".join(ours)) == []


@pytest.mark.parametrize("secret", [*KEYS, TOKEN, ADMIN, STATE, quote(STATE, safe="")])
def test_no_secret_of_the_settings_gets_into_a_log(log: io.StringIO, secret: str) -> None:
    logging.getLogger("any").warning("was told %s, and then", secret)
    assert "and then" in log.getvalue()
    assert seen(log.getvalue()) == []


async def test_a_task_that_nobody_waits_for_tells_nothing(log: io.StringIO) -> None:
    async def fail(header: str) -> None:
        raise RuntimeError(f"lost with {header}")

    task = asyncio.ensure_future(fail(f"Bearer {KEYS[0]}"))
    await asyncio.sleep(0)
    context = {
        "message": "Task exception was never retrieved",
        "exception": task.exception(),
        "task": task,
    }
    asyncio.get_running_loop().default_exception_handler(context)
    assert "never retrieved" in log.getvalue()
    assert seen(log.getvalue()) == []


# --- the gateway with an upstream that repeats what it is told -------------------------------------


def echo(status: int, form: str) -> Callable[[], Scripted]:
    """An answer that contains the canary in a form."""
    texts = {
        "plain": f"Incorrect API key provided: {KEYS[0]}",
        "cut": f"Incorrect API key provided: {KEYS[0][:24]}...{KEYS[0][-4:]}",
        "header": f"sent Authorization: Bearer {KEYS[0]}",
    }
    body = {"error": {"message": texts[form], "code": status, "metadata": {"raw": texts[form]}}}
    return lambda: Scripted(status, body=json.dumps(body).encode())


@pytest.mark.parametrize("form", ["plain", "cut", "header"])
@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 404, 429, 500, 502, 503])
async def test_an_upstream_that_repeats_a_key_is_not_quoted(
    log: io.StringIO, status: int, form: str
) -> None:
    it = app(GatewaySettings(tokens=(Secret(TOKEN),)), FakeUpstream(echo(status, form)))
    it.engine.secrets["primary"] = Secret(KEYS[0])
    it.engine.listen(logs.tell)
    me = (b"authorization", b"Bearer " + TOKEN.encode())
    said: list[str] = []
    for body in (HELLO, HELLO | {"stream": True}):
        for path in ("chat/completions", "messages", "responses"):
            whole = body | {"input": "Hello", "max_tokens": 9}
            reply = await it.call("POST", f"/v1/{path}", (HOST, me), whole)
            said.append(f"{reply.headers} {reply.body!r}")
    for path in ("/admin/stats", "/v1/models", "/v1/key", "/v1/credits", "/readyz", "/nothing"):
        reply = await it.call("GET", path, (HOST, me))
        said.append(f"{reply.headers} {reply.body!r}")
    assert seen("".join(said)) == []
    assert seen(log.getvalue()) == []
    assert "request" in log.getvalue()


async def test_a_wrong_token_is_repeated_nowhere(log: io.StringIO) -> None:
    it = app(GatewaySettings(tokens=(Secret(KEYS[0] + "x" * 8),)))
    for header in ((b"authorization", b"Bearer " + TOKEN.encode()), (b"x-api-key", TOKEN.encode())):
        reply = await it.call("GET", "/admin/stats", (HOST, header))
        assert reply.status == 401
        assert seen(f"{reply.headers} {reply.body!r}") == []
    assert seen(log.getvalue()) == []


async def test_an_upstream_that_cannot_be_reached_is_not_quoted(log: io.StringIO) -> None:
    def fail() -> Scripted:
        raise UpstreamError("unreachable", f"refused {KEYS[0]}", sent=False)

    it = app(upstream=FakeUpstream(fail))
    it.engine.secrets["primary"] = Secret(KEYS[0])
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO)
    assert reply.status in (502, 503)
    assert seen(reply.body.decode() + log.getvalue()) == []


async def test_a_bug_on_the_way_up_remembers_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Scripted:
        raise RuntimeError("a bug")

    told: list[traceback.TracebackException] = []

    def note(_event: str, **_fields: object) -> None:
        bug = sys.exception()
        assert bug is not None
        told.append(traceback.TracebackException.from_exception(bug, capture_locals=True))

    monkeypatch.setattr(inference.log, "exception", note)
    it = app(upstream=FakeUpstream(fail))
    it.engine.secrets["primary"] = Secret(KEYS[0])
    reply = await it.call("POST", "/v1/chat/completions", body=HELLO)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (500, "internal_error")
    assert it.engine.pool.open_leases == 0
    ours = [
        str(frame.locals)
        for frame in told[0].stack
        if "keywheel" in frame.filename and "tests" not in frame.filename
    ]
    assert ours
    assert seen("".join(ours)) == []


def test_a_label_is_no_part_of_its_key() -> None:
    """What is shown for a key is its label (requirement C8)."""
    engine = Engine(gather().config, [KeyEntry("primary", Secret(KEYS[0]), "test")])
    assert [key["name"] for key in engine.report()["keys"]] == ["primary"]
