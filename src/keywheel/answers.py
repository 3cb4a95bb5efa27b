"""What `Keywheel` gives back: a whole answer, or a stream of text that knows where it came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from keywheel.bodies import AsyncBody, Body
from keywheel.core.types import Abandoned, Failed
from keywheel.errand import Passage, Reply
from keywheel.errors import DeadlineExceeded, RequestFailed, UpstreamFailed
from keywheel.wire.dialects import Usage, read_usage
from keywheel.wire.envelope import parse
from keywheel.wire.loose import mend, read


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `key` is a label; `attempts` counts upstream requests; `raw` is the whole answer as it came."""

    text: str
    model: str
    key: str
    usage: Usage
    attempts: int
    request_id: str
    raw: dict[str, Any] = field(repr=False)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    message: _Delta = msgspec.field(default_factory=_Delta)


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


_SAID = msgspec.json.Decoder(_Said)


def answer(reply: Reply) -> Answer:
    """A complete answer. Raises the `RequestFailed` that a problem is."""
    headers = _good(reply)
    body = mend(reply.body)
    message = _read(body)
    return Answer(
        text="".join(choice.message.content or "" for choice in message),
        model=headers["x-keywheel-model"],
        key=headers["x-keywheel-key"],
        usage=read_usage(body) or Usage(),
        attempts=int(headers["x-keywheel-attempts"]),
        request_id=headers["x-request-id"],
        raw=cast("dict[str, Any]", parse(body)),
    )


def _good(reply: Reply) -> Mapping[str, str]:
    if reply.problem:
        failed = reply.problem.exception(int(reply.headers.get("x-keywheel-attempts", "0")))
        failed.request_id = reply.headers.get("x-request-id", "")
        raise failed
    return reply.headers


def _read(payload: bytes) -> Iterable[_Choice]:
    try:
        return read(payload, _SAID).choices
    except ValueError:
        return ()


class _Text:
    """What both kinds of stream have in common. `text`: what has come so far."""

    def __init__(self, reply: Reply) -> None:
        headers = _good(reply)
        self.text = ""
        self.model = headers["x-keywheel-model"]
        self.key = headers["x-keywheel-key"]
        self.attempts = int(headers["x-keywheel-attempts"])
        self.request_id = headers["x-request-id"]
        self._passage = cast("Passage", reply.passage)

    @property
    def usage(self) -> Usage:
        """The figures of the last event that had some."""
        return self._passage.hearing.scanner.usage or Usage()

    def _take(self, events: bytes) -> str:
        piece = "".join(
            choice.delta.content or ""
            for line in events.splitlines()
            if line.startswith(b"data:")
            for choice in _read(line[5:])
        )
        self.text += piece
        return piece

    def _check(self) -> None:
        """Raises what ended the stream badly."""
        outcome = self._passage.outcome
        if isinstance(outcome, Failed):
            raise self._broken(UpstreamFailed, f"the answer broke off: {outcome.verdict.message}")
        if isinstance(outcome, Abandoned) and outcome.reason == "deadline":
            raise self._broken(DeadlineExceeded, "the deadline ended the answer")

    def _broken(self, kind: type[RequestFailed], message: str) -> RequestFailed:
        return kind(message, attempts=self.attempts, request_id=self.request_id)


class TextStream(_Text):
    """The pieces of one answer as they come. Left early, it costs nobody anything; `close` or `with` end it at once."""

    def __init__(self, reply: Reply, body: Body | None) -> None:
        super().__init__(reply)
        self._body = cast("Body", body)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for events in self._body:
            if piece := self._take(events):
                return piece
        self._check()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more of it is wanted."""
        self._body.close()


class AsyncTextStream(_Text):
    """The same for asyncio."""

    def __init__(self, reply: Reply, body: AsyncBody | None) -> None:
        super().__init__(reply)
        self._body = cast("AsyncBody", body)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for events in self._body:
            if piece := self._take(events):
                return piece
        self._check()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """No more of it is wanted."""
        await self._body.aclose()
