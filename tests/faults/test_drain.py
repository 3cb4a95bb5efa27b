"""Fault 75: `keywheel serve` is told to end while a hundred streams are open."""

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keywheel import sim
from keywheel.gateway import run
from tests.faults.speech import DONE, STOP
from tests.faults.speech import HELLO as WORD
from tests.journeys.rig import HELLO
from tests.serving import base_of, settings, started

pytestmark = pytest.mark.anyio
STREAMS = 100
DRAIN = 30.0  # seconds, unless a test says otherwise
ROOMY = sim.Account(minute_limit=100_000, day_limit=100_000)


def request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(data) + data


class Talkative:
    """The simulator, but streams go on and on until `enough` is set. `open`: how many there are."""

    def __init__(self, app: Any, enough: threading.Event) -> None:
        self.app = app
        self.enough = enough
        self.open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self.open += 1
        try:
            while not self.enough.is_set():
                await send({"type": "http.response.body", "body": WORD, "more_body": True})
                await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": STOP + DONE})
        finally:
            self.open -= 1


@dataclass(frozen=True)
class Behind:
    """What is behind a gateway, and the variables that lead it there."""

    talk: Talkative
    variables: dict[str, str]


@contextmanager
def talkative() -> Iterator[Behind]:
    """A simulator whose streams last until they are told to end."""
    scenario = sim.Scenario(accounts=(ROOMY,))
    talk = Talkative(sim.create_app(sim.World(scenario, seed=1)), threading.Event())
    with run.listen("127.0.0.1", 0) as behind, run.in_thread(talk, behind) as upstream:
        try:
            variables = {
                "OPENROUTER_BASE_URL": f"{upstream}/api/v1",
                "OPENROUTER_API_KEY": sim.demo_keys(scenario)[0],
                "KEYWHEEL_ACCOUNTS__A__KEYS": "primary",
                "KEYWHEEL_ACCOUNTS__A__PER_MINUTE": "1000",
            }
            yield Behind(talk, variables)
        finally:
            talk.enough.set()


@contextmanager
def gateway(folder: Path, variables: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port; killed at the end if it still runs. Its log stays short: nobody reads it."""
    environment = settings(folder) | variables | {"KEYWHEEL_LOG__LEVEL": "error"}
    with started(folder, environment) as (process, lines):
        yield process, int(base_of(lines).rpartition(":")[2])


async def ask(port: int, data: bytes) -> bytes:
    """Everything that one connection brings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read(-1)
    finally:
        writer.close()


async def status(port: int, path: bytes) -> bytes:
    """The status of a route; empty when the connection is not taken any more."""
    asked = b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    try:
        return (await ask(port, asked)).partition(b" ")[2][:3]
    except ConnectionError:  # the port closes as the end begins
        return b""


class Streams:
    """A hundred clients that listen to their streams."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.speaking = 0

    async def listen(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request(HELLO | {"stream": True}))
            began = await reader.readuntil(b'"content":"')
            self.speaking += 1
            return began + await reader.read(-1)
        finally:
            writer.close()


@asynccontextmanager
async def speaking(port: int) -> AsyncIterator[list["asyncio.Task[bytes]"]]:
    """A hundred streams, all of which have begun."""
    streams = Streams(port)
    tasks = [asyncio.create_task(streams.listen()) for _ in range(STREAMS)]
    async with asyncio.timeout(20):
        while streams.speaking < STREAMS and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield tasks
    for task in tasks:
        task.cancel()


async def ended(process: "subprocess.Popen[str]", began: float) -> tuple[int, float]:
    """Exit code, and the seconds since the signal."""
    code = await asyncio.to_thread(process.wait, 20)
    return code, time.monotonic() - began


def check_cut_short(heard: bytes) -> None:
    """Content, then an honest error, no end marker, and the end of the chunks."""
    events = [line[6:] for line in heard.splitlines() if line.startswith(b"data: ")]
    last = json.loads(events[-1])
    assert last["error"]["code"] == "shutting_down"
    assert (
        last["id"] == json.loads(WORD.removeprefix(b"data: "))["id"]
    )  # a part of the answer that had begun
    assert b"data: [DONE]" not in heard
    assert heard.endswith(b"0\r\n\r\n")


async def test_streams_under_way_are_finished_and_nothing_new_is_begun(tmp_path: Path) -> None:
    with talkative() as behind, gateway(tmp_path, behind.variables) as (process, port):
        async with speaking(port) as tasks:
            assert await status(port, b"/readyz") == b"200"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            while await status(port, b"/readyz") == b"200":
                assert time.monotonic() - began < 5
            assert await status(port, b"/readyz") == b"503"
            assert await status(port, b"/healthz") == b"200"
            refused = await ask(port, request(HELLO))
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b'"shutting_down"' in refused
            assert behind.talk.open == STREAMS
            assert not any(task.done() for task in tasks)
            behind.talk.enough.set()
            answers = await asyncio.gather(*tasks)
        code, seconds = await ended(process, began)
    assert (code, seconds < DRAIN) == (0, True)
    assert len(answers) == STREAMS
    assert {(a.count(b"data: [DONE]"), a.count(b'"error"')) for a in answers} == {(1, 0)}
    assert all(answer.endswith(b"0\r\n\r\n") for answer in answers)


@pytest.mark.parametrize(
    ("drain", "signals"),
    [("0.3", [signal.SIGTERM]), ("30", [signal.SIGTERM] * 2), ("30", [signal.SIGTERM, signal.SIGINT])],
    ids=["the limit is over", "a second SIGTERM", "a SIGINT after it"],
)  # fmt: skip
async def test_streams_that_last_longer_end_with_an_honest_error(
    tmp_path: Path, drain: str, signals: list[signal.Signals]
) -> None:
    with talkative() as behind:
        variables = behind.variables | {"KEYWHEEL_GATEWAY__DRAIN": drain}
        with gateway(tmp_path, variables) as (process, port):
            async with speaking(port) as tasks:
                began = time.monotonic()
                process.send_signal(signals[0])
                for further in signals[1:]:
                    while await status(port, b"/readyz") == b"200":
                        assert time.monotonic() - began < 5
                    process.send_signal(further)
                answers = await asyncio.gather(*tasks)
            code, seconds = await ended(process, began)
    assert code == 0
    assert (0.3 if len(signals) == 1 else 0) <= seconds < 10
    assert len(answers) == STREAMS
    for answer in answers:
        check_cut_short(answer)
