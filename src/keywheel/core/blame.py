"""Evidence across attempts: what one answer cannot tell, several can (routing rule A.5, rows 6, 21 and 25)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from keywheel.core.rows import ROWS
from keywheel.core.types import Fault, Lease, Row, Verdict, Window

UNCLEAR_SPAN = 30.0  # seconds in which a second unclear 429 names the culprit
UNTYPED_SPAN = 600.0
UNTYPED_ASKS = 3  # different requests that one model refused without a reason
OUTAGE_SPAN = 30.0
OUTAGE_MODELS = 3  # different models that failed without one answer in between …
OUTAGE_ASKS = (
    2  # … on different requests, so that no single request can close the provider for the others
)


@dataclass(frozen=True, slots=True)
class _Sight:
    at: float
    account: str
    model: str
    request_id: str


class Suspicion:
    """Remembers ambiguous failures for a short while and turns a repeated one into a clear verdict."""

    __slots__ = ("_answered", "_failing", "_unclear", "_untyped")

    def __init__(self) -> None:
        self._unclear: deque[_Sight] = deque(maxlen=64)
        self._untyped: deque[_Sight] = deque(maxlen=256)
        self._failing: deque[_Sight] = deque(maxlen=64)
        self._answered: dict[str, float] = {}  # model → its latest answer

    def answered(self, model: str, now: float) -> None:
        """A model answered: it is the standard against which others are judged."""
        self._answered[model] = now
        if self._failing:
            self._failing.clear()

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

    def is_outage(self, lease: Lease, row: Row, now: float) -> bool:
        """Whether this failure of a model completes the picture of a provider in trouble."""
        if row.fault is not Fault.MODEL or row.window is not Window.FULL:
            return False
        self._failing.append(_Sight(now, lease.account, lease.model, lease.request_id))
        recent = [s for s in self._failing if now - s.at <= OUTAGE_SPAN]
        models = {s.model for s in recent}
        return len(models) >= OUTAGE_MODELS and _asks(recent) >= OUTAGE_ASKS

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
        refused = [s for s in self._untyped if s.model == sight.model and s.at >= since]
        others = (at for model, at in self._answered.items() if model != sight.model)
        if _asks(refused) >= UNTYPED_ASKS and any(at >= since for at in others):
            return replace(verdict, row=ROWS["untyped-400-model"])
        return verdict


def _asks(sights: Iterable[_Sight]) -> int:
    return len({s.request_id for s in sights})
