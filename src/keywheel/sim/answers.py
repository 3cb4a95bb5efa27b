"""Answers with status 200, in any dialect: one body or a stream, whole or broken, each in its time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from keywheel.sim.composing import Answer, compose
from keywheel.sim.dialects import DIALECTS, Dialect
from keywheel.sim.dialects.dialect import Beat, Stream
from keywheel.sim.kinds import Kind
from keywheel.sim.replies import Ending, Headers, Piece, Reply, encode, generation_id, headers
from keywheel.sim.requests import Request
from keywheel.sim.rulings import Ruling

COMMENT = b": OPENROUTER PROCESSING\n\n"
NO_CACHE: Headers = [(b"cache-control", b"no-cache")]

BROKEN = frozenset({Kind.BREAK, Kind.TRUNCATED, Kind.STALL_AFTER, Kind.RESET_AFTER})
FAILED = frozenset({Kind.ERROR_IN_200, Kind.ERROR_FIRST})
ENDINGS = {
    Kind.SILENT: Ending.HANGING,
    Kind.STALL_AFTER: Ending.HANGING,
    Kind.RESET: Ending.DROPPED,
    Kind.RESET_AFTER: Ending.DROPPED,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """When streams send comments (seconds): the first after `after`, then every `every`."""

    after: float = 5.0
    every: float = 1.0


def answer(ruling: Ruling, request: Request, pace: Pace) -> Reply:
    """The reply of an attempt whose status is 200."""
    dialect = DIALECTS[request.dialect]
    if ruling.kind in {Kind.SILENT, Kind.RESET}:
        return Reply(200, _headers(ruling, dialect), (), ruling.seconds, ENDINGS[ruling.kind])
    if ruling.kind in dialect.softened:
        ruling = replace(ruling, kind=Kind.OK, finish="length")
    told = compose(ruling, request)
    if dialect.stream is None or not ruling.stream:
        return _whole(ruling, request, told, dialect)
    pieces = _paced(ruling, pace, _beats(ruling.kind, told, dialect.stream(ruling)))
    ending = ENDINGS.get(ruling.kind, Ending.CLEAN)
    return Reply(200, _headers(ruling, dialect), pieces, 0.0, ending)


def _whole(ruling: Ruling, request: Request, told: Answer, dialect: Dialect) -> Reply:
    failed = ruling.kind in FAILED
    data = encode(dialect.failed(ruling) if failed else dialect.whole(ruling, request, told))
    if ruling.kind in BROKEN - {Kind.BREAK}:
        data = data[: len(data) // 2]
    ending = ENDINGS.get(ruling.kind, Ending.CLEAN)
    took = ruling.seconds
    if (
        ruling.tokens_per_second and dialect.stream
    ):  # what cannot be streamed is not written in tokens
        took += ruling.completion_tokens / ruling.tokens_per_second
    return Reply(200, _headers(ruling, dialect), ((0.0, data),), took, ending)


def _headers(ruling: Ruling, dialect: Dialect) -> Headers:
    extra: Headers = []
    if dialect.stream:  # the header is documented for these
        extra.append((b"x-generation-id", generation_id(ruling.at, ruling.number).encode()))
    if not ruling.stream:
        return headers(b"application/json", ruling.number, extra)
    return headers(b"text/event-stream", ruling.number, [*NO_CACHE, *extra])


# --- streamed ------------------------------------------------------------------------------------


def _beats(kind: Kind, told: Answer, stream: Stream) -> Iterator[Beat]:
    """The events of a stream, as the kind has them."""
    if kind in FAILED:
        yield from stream.fail(kind)
        return
    yield from stream.opening()
    if kind in BROKEN:
        yield from _first(stream.tokens(told), len(told.reasoning) + told.half)
    if kind is Kind.BREAK:
        yield from stream.fail(kind)
    if kind in BROKEN:
        return
    yield from stream.tokens(told)
    *closing, end = stream.closing(told)
    yield from closing
    if kind is not Kind.NO_DONE:
        yield end


def _first(beats: Iterator[Beat], tokens: int) -> Iterator[Beat]:
    """The beats of so many tokens."""
    for beat in beats:
        yield beat
        tokens -= beat[0]
        if tokens <= 0:
            return


def _paced(ruling: Ruling, pace: Pace, beats: Iterator[Beat]) -> Iterator[Piece]:
    """Give every event its time: comments while the first token is awaited, then its tokens' time."""
    step = 1 / ruling.tokens_per_second if ruling.tokens_per_second else 0.0
    for tokens, event in beats:
        if tokens:
            yield from _awaited(ruling.seconds, pace, event)
            break
        yield 0.0, event
    for tokens, event in beats:
        yield tokens * step, event


def _awaited(seconds: float, pace: Pace, first: bytes) -> Iterator[Piece]:
    waited = 0.0
    while max(pace.after, waited + pace.every) < seconds < inf:
        beat = pace.after if waited == 0 else pace.every
        waited += beat
        yield beat, COMMENT
    yield seconds - waited, first
