"""Evidence across attempts: what one answer cannot tell, several can (routing rule A.5, rows 6 and 21)."""

from collections import deque
from dataclasses import dataclass, replace

from keywheel.core.rows import ROWS
from keywheel.core.types import Lease, Verdict

UNCLEAR_SPAN = 30.0  # seconds in which a second unclear 429 names the culprit
UNTYPED_SPAN = 600.0
UNTYPED_ASKS = 3  # different requests that one model refused without a reason


@dataclass(frozen=True, slots=True)
class _Sight:
    at: float
    account: str
    model: str
    request_id: str


class Suspicion:
    """Remembers ambiguous failures for a short while and turns a repeated one into a clear verdict."""

    __slots__ = ("_answered", "_unclear", "_untyped")

    def __init__(self) -> None:
        self._unclear: deque[_Sight] = deque(maxlen=64)
        self._untyped: deque[_Sight] = deque(maxlen=256)
        self._answered: deque[tuple[float, str]] = deque(maxlen=256)

    def answered(self, lease: Lease, now: float) -> None:
        """A model answered: it is the standard against which others are judged."""
        if not self._answered or self._answered[-1][1] != lease.model:
            self._answered.append((now, lease.model))
        else:
            self._answered[-1] = (now, lease.model)

    def refine(self, lease: Lease, verdict: Verdict, now: float) -> Verdict:
        """The verdict, or a clearer one when earlier failures explain it."""
        sight = _Sight(now, lease.account, lease.model, lease.request_id)
        match verdict.row.name:
            case "unclear-429":
                return self._name_the_limit(sight, verdict)
            case "untyped-400":
                return self._name_the_model(sight, verdict)
            case _:
                return verdict

    def _name_the_limit(self, sight: _Sight, verdict: Verdict) -> Verdict:
        recent = [s for s in self._unclear if sight.at - s.at <= UNCLEAR_SPAN]
        self._unclear.append(sight)
        if any(s.model == sight.model and s.account != sight.account for s in recent):
            return replace(verdict, row=ROWS["upstream-pool"])
        if any(s.account == sight.account and s.model != sight.model for s in recent):
            return replace(verdict, row=ROWS["platform-minute"])
        return verdict

    def _name_the_model(self, sight: _Sight, verdict: Verdict) -> Verdict:
        self._untyped.append(sight)
        since = sight.at - UNTYPED_SPAN
        asks = {s.request_id for s in self._untyped if s.model == sight.model and s.at >= since}
        others_pass = any(at >= since and model != sight.model for at, model in self._answered)
        if len(asks) >= UNTYPED_ASKS and others_pass:
            return replace(verdict, row=ROWS["untyped-400-model"])
        return verdict
