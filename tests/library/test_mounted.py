"""The gateway inside a Starlette application."""

from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
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
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
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
