"""One chat answer without a server: the gateway's driver, run to its end in this thread."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from keywheel import problems
from keywheel.core.rows import ROWS
from keywheel.core.steps import Refused
from keywheel.core.types import Failed
from keywheel.engine import Engine
from keywheel.errors import RequestFailed
from keywheel.flow import Terms
from keywheel.gateway.exchange import Exchange, Stream
from keywheel.gateway.run import upstream
from keywheel.gateway.upstream import Upstream
from keywheel.hints import OWN_HEADERS
from keywheel.problems import Problem
from keywheel.wire.ask import read
from keywheel.wire.loose import read as read_json

PATIENCE = 15.0  # seconds for the first look at models and keys
NO_CONNECTION = {ROWS["unreachable"].name, ROWS["bad-certificate"].name}
Show = Callable[[str], None]


@dataclass(slots=True)
class Answer:
    """The text with who gave it, or the problem. `unreachable`: the upstream could not be asked at all."""

    text: str = ""
    model: str = ""
    key: str = ""
    attempts: int = 0
    problem: Problem | None = None
    unreachable: bool = False


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_CHUNK = msgspec.json.Decoder(_Chunk)


def ask(engine: Engine, prompt: str, model: str, show: Show) -> Answer:
    """Ask once; `show` gets each piece of text as it comes. Raises `ConfigError` for an unsafe upstream."""
    client = upstream(engine.config)  # refuses before any key is sent anywhere
    engine.start()
    engine.ready.wait(PATIENCE)
    try:
        return asyncio.run(_ask(engine, client, prompt, model, show))
    finally:
        engine.close()


async def _ask(engine: Engine, client: Upstream, prompt: str, model: str, show: Show) -> Answer:
    body = msgspec.json.encode(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    )
    answer = Answer()
    try:
        request = read(body, "chat")
        exchange = Exchange(
            engine, client, request, OWN_HEADERS, engine.open(request, Terms("cli"))
        )
        result = await exchange.run()
        answer.attempts = len(result.tries)
        if isinstance(result, Refused):
            answer.problem = problems.of_refusal(result, "cli", engine.clock())
            last = result.verdict.row.name if result.verdict else ""
            answer.unreachable = last in NO_CONNECTION or not engine.menu.entries
        elif isinstance(exchange.answer, Stream):
            answer.key, answer.model = result.lease.key, result.lease.model
            await _listen(exchange, exchange.answer, answer, show)
    except RequestFailed as error:
        answer.problem = problems.of_exception(error)
    finally:
        await client.close()
    return answer


class _Voice:
    """A way (`exchange.Way`) that ends at the user: each piece of text is shown as it comes."""

    def __init__(self, answer: Answer, show: Show) -> None:
        self._answer = answer
        self._show = show

    def put(self, data: bytes) -> bool:
        for line in data.splitlines():
            if line.startswith(b"data:"):
                piece = _text(line[5:])
                self._answer.text += piece
                self._show(piece)
        return False  # printing waits for nobody

    async def drain(self) -> None:
        """Nothing is kept."""


async def _listen(exchange: Exchange, stream: Stream, answer: Answer, show: Show) -> None:
    outcome = await exchange.pipe(stream, _Voice(answer, show))
    if isinstance(outcome, Failed):
        answer.problem = Problem(
            502, "upstream_failed", f"the answer broke off: {outcome.verdict.label}"
        )


def _text(payload: bytes) -> str:
    try:
        chunk = read_json(payload, _CHUNK)
    except ValueError:
        return ""
    return "".join(choice.delta.content or "" for choice in chunk.choices)
