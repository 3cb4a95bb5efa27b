"""The gateway inside a Starlette application."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from keywheel import gateway
from keywheel.config import Config, GatewaySettings, UpstreamSettings
from keywheel.gateway.mount import Mounted
from keywheel.gateway.run import in_thread, listen
from keywheel.secret import Secret
from keywheel.testing import Simulator
from tests.library.probing import HELLO

TOKEN = "t0ken-" * 6


def mounted(sim: Simulator, settings: GatewaySettings | None = None) -> Mounted:
    config = replace(
        Config(),
        upstream=UpstreamSettings(base_url=sim.base_url),
        gateway=settings or GatewaySettings(),
    )
    return gateway.create_app(config, keys=sim.keys)


@contextmanager
def serving(app: Any) -> Iterator[httpx2.Client]:
    with (
        listen("127.0.0.1", 0) as bound,
        in_thread(app, bound) as address,
        httpx2.Client(base_url=address, timeout=20.0, trust_env=False) as http,
    ):
        yield http


def starlette(inner: Mounted, lifespan: Any) -> Starlette:
    routes = [Route("/", lambda _request: PlainTextResponse("mine")), Mount("/llm", inner)]
    return Starlette(routes=routes, lifespan=lifespan)


def test_mounted_under_a_path_without_a_lifespan(sim: Simulator) -> None:
    inner = mounted(sim)

    @asynccontextmanager
    async def closing(_app: Starlette) -> Any:
        yield
        await inner.aclose()

    with serving(starlette(inner, closing)) as http:
        assert http.get("/").text == "mine"
        reply = http.post("/llm/v1/chat/completions", json=HELLO)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-keywheel-attempts"] == "1"
        streamed = http.post("/llm/v1/chat/completions", json=HELLO | {"stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert http.get("/llm/v1/models").json()["data"][0]["id"] == "auto"
        assert http.get("/llm/healthz").json() == {"status": "ok"}
        assert http.get("/llm/nothing").status_code == 404


def test_served_alone_it_lives_by_its_own_lifespan(sim: Simulator) -> None:
    with serving(mounted(sim)) as http:
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("client", [None, ("192.0.2.1", 5), ("testclient", 5)])
async def test_without_tokens_nobody_from_elsewhere_is_served(sim: Simulator, client: Any) -> None:
    inner = mounted(sim)
    transport = httpx2.ASGITransport(inner, client=client)  # pyright: ignore
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        reply = await http.get("/v1/models")
        twin = await http.get("/api/v1/models")
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
    assert twin.json()["error"]["code"] == 401
    assert "gateway.tokens" in reply.json()["error"]["message"]
    await inner.aclose()


@pytest.mark.anyio
async def test_with_tokens_whoever_has_one_is_served(sim: Simulator) -> None:
    settings = GatewaySettings(tokens=(Secret(TOKEN),), hosts=("app.example",))
    inner = mounted(sim, settings)
    transport = httpx2.ASGITransport(inner, client=("192.0.2.1", 5))  # pyright: ignore
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.example") as http:
        assert (await http.get("/v1/key")).status_code == 401
        reply = await http.get("/v1/key", headers={"authorization": f"Bearer {TOKEN}"})
        assert reply.status_code == 200
    await inner.aclose()


def test_without_arguments_the_environment_says_all(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sim.environment.items():
        monkeypatch.setenv(name, value)
    with serving(gateway.create_app()) as http:
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200


HOST = """
import json, logging, sys
import httpx2
from keywheel.engine import Engine
from keywheel.gateway import create_app
from keywheel.gateway.run import in_thread, listen
from starlette.applications import Starlette
from starlette.routing import Mount

seen = []
handler = logging.Handler()
handler.emit = seen.append
logging.getLogger("keywheel").addHandler(handler)
logging.getLogger("keywheel").setLevel(sys.argv[2])

def fail(*_):
    raise ZeroDivisionError

inner = create_app()
with listen("127.0.0.1", 0) as bound, in_thread(Starlette(routes=[Mount("/llm", inner)]), bound) as address:
    with httpx2.Client(base_url=address, timeout=20.0, trust_env=False) as http:
        def ask(body, id):
            body = {"messages": [{"role": "user", "content": "Hello"}], **body}
            http.post("/llm/v1/chat/completions", json=body, headers={"x-request-id": id})
        ask({}, "good")
        ask({"stream": True}, "streamed")
        ask({"model": "no/such"}, "wrong")
        Engine.open = fail
        ask({}, "bug")
with open(sys.argv[1], "w") as file:
    json.dump([[r.name, r.levelname, r.getMessage(), bool(r.exc_info), getattr(r, "id", None),
                getattr(r, "status", None)] for r in seen], file)
inner._axle.close()
"""


def hosted(sim: Simulator, tmp_path: Path, level: str) -> list[list[Any]]:
    """What an application that has set nothing up but one handler is told. Nothing is written past it."""
    (tmp_path / "host.py").write_text(HOST)
    done = subprocess.run(
        [sys.executable, "host.py", "seen.json", level],
        cwd=tmp_path, env={**os.environ, **sim.environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    return json.loads((tmp_path / "seen.json").read_text())


def test_logs_go_to_the_application_through_the_standard_library(
    sim: Simulator, tmp_path: Path
) -> None:
    seen = [record for record in hosted(sim, tmp_path, "INFO") if record[0] == "keywheel.request"]
    good, streamed, wrong, bug, last = seen
    assert good[1:2] + good[3:] == ["INFO", False, "good", 200]
    assert good[2].startswith("request good: ok, 200, ")
    assert good[2].endswith(" ok")
    assert streamed[3:] == [False, "streamed", 200]
    assert wrong[2].startswith("request wrong: failed, 400 model_not_free, ")
    assert wrong[2].endswith("nothing was tried")
    assert bug[1:5] == ["ERROR", "own bug", True, "bug"]
    assert last[2].startswith("request bug: failed, 500 internal_error, ")


def test_an_application_that_wants_no_lines_of_requests_gets_none(
    sim: Simulator, tmp_path: Path
) -> None:
    seen = hosted(sim, tmp_path, "WARNING")
    assert [record[1] for record in seen if record[0] == "keywheel.request"] == ["ERROR"]
