"""From the world's ruling to what the gateway would make of it: the real body is written and the real judge reads it.

Verdicts that name no moment do not depend on times, so they are kept by kind of answer; the others are read anew.
"""

from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple

from keywheel.core.types import Answered, Failed, Verdict
from keywheel.sim import Ask as WorldAsk
from keywheel.sim import Kind, Ruling
from keywheel.sim.answers import Pace, answer
from keywheel.sim.bodies import refuse
from keywheel.sim.kinds import COMMITTED
from keywheel.sim.replies import Ending
from keywheel.sim.replies import Reply as WorldReply
from keywheel.sim.requests import Request
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.faults import Phase, Reply, judge, judge_failure
from keywheel.wire.stream import Scanner

GAP = 30.0  # seconds between contents of a stream before the gateway gives it up
CHAT = DIALECTS["chat"]
PACE = Pace()
REASONING_ONLY = "budget-spent-on-reasoning"
CUT_SHORT = frozenset({Kind.BREAK, Kind.TRUNCATED, Kind.STALL_AFTER, Kind.RESET_AFTER})
HANGING = frozenset({Kind.SILENT, Kind.STALL_AFTER})


class Patience(NamedTuple):
    """Seconds the gateway waits: for the first content, and until the deadline."""

    first: float
    left: float


@dataclass(frozen=True, slots=True)
class Course:
    """How one attempt goes. `first`: seconds to the first content passed on, None if none ever is.

    `outcome` None: the deadline ended it.
    """

    first: float | None
    end: float
    outcome: Answered | Failed | None


class _Meaning(NamedTuple):
    """What an answer says, whatever its times. `verdict` None: it is good."""

    commits: bool
    verdict: Verdict | None


class Judge:
    """Reads rulings. `limit_source`: whether the world's bodies have that field."""

    def __init__(self, *, limit_source: bool = True) -> None:
        self._limit_source = limit_source
        self._known: dict[tuple[Kind, bool, bool], _Meaning] = {}

    def course(
        self, ruling: Ruling, ask: WorldAsk, patience: Patience, now: float, clock: float
    ) -> Course:
        """How the attempt goes. `now`: true time, `clock`: the gateway's own."""
        if ruling.kind is Kind.SILENT:
            return _too_late(patience)
        meaning = self._meaning(ruling, ask, now, clock)
        return (
            _streamed(ruling, meaning, patience)
            if ask.stream
            else _plain(ruling, meaning, patience)
        )

    def _meaning(self, ruling: Ruling, ask: WorldAsk, now: float, clock: float) -> _Meaning:
        kind = (ruling.kind, ask.stream, ruling.reasoning_tokens > 0)
        known = self._known.get(kind)
        if known is None:
            known = self._read(ruling, ask, now, clock)
            if _is_timeless(known.verdict):
                self._known[kind] = known
        return known

    def _read(self, ruling: Ruling, ask: WorldAsk, now: float, clock: float) -> _Meaning:
        request = Request(ask)
        if ruling.kind not in COMMITTED:
            reply = refuse(ruling, request, limit_source=self._limit_source)
            return _Meaning(False, _judge(Phase.HEADERS, reply, _body(reply), now, clock))
        reply = answer(ruling, request, PACE)
        if ask.stream:
            return _scan(reply, now, clock)
        if reply.ending is not Ending.CLEAN:
            cut = "truncated" if reply.ending is Ending.DROPPED else "timeout-silence"
            return _Meaning(False, judge_failure(cut))
        return _Meaning(False, _judge(Phase.BODY, reply, _body(reply), now, clock))


def _is_timeless(verdict: Verdict | None) -> bool:
    if verdict is None:
        return True
    return verdict.until is verdict.context_limit is verdict.day_limit is None


def _body(reply: WorldReply) -> bytes:
    return b"".join(piece for _, piece in reply.pieces)


def _judge(
    phase: Phase, reply: WorldReply, body: bytes, now: float, clock: float
) -> Verdict | None:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    headers["date"] = formatdate(now, usegmt=True)
    return judge(Reply(phase, reply.status, headers, body), now=clock)


def _scan(reply: WorldReply, now: float, clock: float) -> _Meaning:
    """Read a stream as the gateway does: until the first content another lane may be tried, after it not."""
    scanner = Scanner(CHAT)
    for _, piece in reply.pieces:
        scanner.feed(piece)
    if scanner.error is not None:
        phase = Phase.STREAM_MID if scanner.committed else Phase.STREAM_FIRST
        verdict = _judge(phase, reply, scanner.error, now, clock)
        return _Meaning(scanner.committed, verdict or judge_failure("malformed"))
    return _Meaning(scanner.committed, _end(scanner, reply.ending))


def _end(scanner: Scanner, ending: Ending) -> Verdict | None:
    flaw = scanner.end()
    if ending is Ending.HANGING:
        flaw = "timeout-gap" if scanner.committed else "timeout-content"
    if flaw is None or flaw == "done-missing":
        return None
    return judge_failure(flaw, committed=scanner.committed)


# --- times -------------------------------------------------------------------------------------------


def _too_late(patience: Patience) -> Course:
    """Nothing came in time."""
    if patience.first >= patience.left:
        return Course(None, patience.left, None)
    return Course(None, patience.first, Failed(judge_failure("timeout-content"), patience.first))


def _plain(ruling: Ruling, meaning: _Meaning, patience: Patience) -> Course:
    took = ruling.seconds
    if ruling.kind in COMMITTED and ruling.tokens_per_second:
        took += ruling.completion_tokens / ruling.tokens_per_second
    if ruling.kind in HANGING:
        took += patience.first
    if took > patience.first and ruling.kind not in HANGING:
        return _too_late(patience)
    if took > patience.left:
        return Course(None, patience.left, None)
    if meaning.verdict is None or meaning.verdict.row.name == REASONING_ONLY:
        return Course(None, took, _answered(ruling, took, took))
    return Course(None, took, Failed(meaning.verdict, took))


def _streamed(ruling: Ruling, meaning: _Meaning, patience: Patience) -> Course:
    first = ruling.seconds
    if first > patience.first:
        return _too_late(patience)
    end = first + _length(ruling)
    verdict = meaning.verdict
    if not meaning.commits:
        assert verdict is not None, ruling.kind  # noqa: S101 - good streams have content
        return Course(None, end, Failed(verdict, end))
    if end > patience.left:
        late = judge_failure("timeout-total", committed=True)
        return Course(first, patience.left, Failed(late, patience.left))
    if verdict is None or verdict.row.name == REASONING_ONLY:
        return Course(first, end, _answered(ruling, first, end))
    return Course(first, end, Failed(verdict, end))


def _length(ruling: Ruling) -> float:
    """Seconds from the first event to the last."""
    if ruling.kind not in COMMITTED or ruling.kind in {Kind.ERROR_IN_200, Kind.ERROR_FIRST}:
        return 0.0
    events = float(ruling.completion_tokens + 1)
    if ruling.kind in CUT_SHORT:
        events = ruling.reasoning_tokens + max(
            1, (ruling.completion_tokens - ruling.reasoning_tokens) // 2
        )
    pause = GAP if ruling.kind is Kind.STALL_AFTER else 0.0
    speed = ruling.tokens_per_second
    return pause + (events / speed if speed else 0.0)


def _answered(ruling: Ruling, ttft: float, total: float) -> Answered:
    return Answered(ttft, total, ruling.prompt_tokens, ruling.completion_tokens)
