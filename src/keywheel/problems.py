"""What a client is told when a request ends without an answer: status, code, a sentence, and when to come back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Any

from keywheel.core.spread import spread
from keywheel.core.steps import Refused
from keywheel.core.types import DAY, Fault, NoLane, Verdict
from keywheel.errors import REFUSALS, RequestFailed, UpstreamFailed
from keywheel.wire.replies import error_body, is_openrouters

SDK_PATIENCE = 120.0  # seconds that the OpenAI SDKs wait for a Retry-After by themselves
MENTIONED = 5  # models named in a message
LONGEST = 86_430.0  # seconds that a Retry-After may say: a day and the spread after midnight
UNCOUNTED = 5.0  # seconds after which a request is worth another try while the store is in trouble


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before it takes a dialect's shape. `retry_after` in seconds; `final`: repeating it is useless."""

    status: int
    code: str
    message: str
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None
    final: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def _too_long(self) -> bool:
        """Whether the SDKs would come back before anything can have changed: they wait no longer than this."""
        return self.retry_after is None or self.retry_after > SDK_PATIENCE

    def headers(self) -> dict[str, str]:
        """The headers that keep SDKs from multiplying attempts."""
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(ceil(self.retry_after))
            headers["retry-after-ms"] = str(ceil(self.retry_after * 1000))
        if self.final or self.status == 504 or (self.status in (429, 503) and self._too_long()):
            headers["x-should-retry"] = "false"
        return headers

    def body(self, dialect: str = "chat", path: str = "", request_id: str = "") -> bytes:
        """The body of an answer, in the shape of a dialect and as the API has it to which the path belongs.

        `request_id`: for Anthropic's shape, which has a place for it.
        """
        own = {"request_id": request_id} if request_id and dialect == "messages" else {}
        return error_body(
            dialect,
            status=self.status,
            code=self.code,
            message=self.message,
            type=self.type,
            param=self.param,
            extra={**self.extra, **own},
            openrouter=is_openrouters(path),
        )

    def exception(self, attempts: int) -> RequestFailed:
        """The same for those who call the library itself."""
        kind = REFUSALS.get(self.code, UpstreamFailed if self.status >= 500 else RequestFailed)
        error = kind(
            self.message, param=self.param, retry_after=self.retry_after, attempts=attempts
        )
        error.status, error.code = self.status, self.code
        return error


def of_exception(error: RequestFailed) -> Problem:
    """A request that was refused before anything was tried."""
    return Problem(
        error.status, error.code, error.message, param=error.param,
        retry_after=error.retry_after, final=error.status < 500,
    )  # fmt: skip


def of_refusal(refused: Refused, request_id: str, now: float) -> Problem:
    """A request that went through the wheel and ended without an answer."""
    verdict, no_lane = refused.verdict, refused.no_lane
    if refused.expired:
        return _expired(refused)
    if verdict and verdict.passthrough:
        return _passed_on(verdict)
    if no_lane and (verdict is None or verdict.row.rotates):
        return _NO_LANE[no_lane.cause](no_lane, request_id, now)
    if verdict:
        return _failed(refused, verdict)
    return Problem(503, "no_usable_lane", "No attempt may be made now.", retry_after=1.0)


def _expired(refused: Refused) -> Problem:
    last = f" The last one: {_tell(refused.verdict)}." if refused.verdict else ""
    tries = len(refused.tries)
    return Problem(
        504, "deadline_exceeded", f"The deadline ended the request after {_count(tries)}.{last}"
    )


def _passed_on(verdict: Verdict) -> Problem:
    """The ask itself is at fault: the client gets the upstream's own error."""
    status = verdict.status if 400 <= verdict.status < 500 else verdict.row.status
    if verdict.row.code == "context_too_long":
        status = 400
    own = (verdict.upstream_type, verdict.upstream_code)
    word = next((word for word in own if word and not word.isdigit()), "upstream_failed")
    code = verdict.row.code if verdict.row.code != "upstream_failed" else word
    return Problem(
        status,
        code,
        verdict.message or verdict.row.signal,
        final=True,
        extra={"row": verdict.label},
    )


def _failed(refused: Refused, verdict: Verdict) -> Problem:
    last = refused.tries[-1]
    message = (
        f"{_count(len(refused.tries))} failed. The last one, on {last.model}: {_tell(verdict)}."
    )
    status = 503 if verdict.row.status == 503 else 502
    code = "upstream_failed" if verdict.row.fault else verdict.row.code
    # SDKs that repeat what had all its attempts would make twelve of four.
    final = refused.spent or verdict.row.fault is Fault.CLIENT
    return Problem(status, code, message, final=final, extra={"row": verdict.label})


def _tell(verdict: Verdict) -> str:
    return f"{verdict.label} ({verdict.message})" if verdict.message else verdict.label


def _count(tries: int) -> str:
    return f"{tries} attempt" + ("" if tries == 1 else "s")


# --- no lane ---------------------------------------------------------------------------------------


def _wait(no_lane: NoLane, request_id: str, now: float) -> float | None:
    """Seconds until the earliest lane opens, with up to a second of spread so that clients do not return as one."""
    if no_lane.at is None:
        return None
    return min(LONGEST, max(0.0, no_lane.at - now) + max(0.001, spread(request_id)))


def _when(no_lane: NoLane, now: float) -> str:
    if no_lane.at is None:
        return "Nobody knows when that changes."
    moment = datetime.fromtimestamp(no_lane.at, UTC).strftime("%H:%M:%S UTC")
    return f"The first lane opens at {moment}, in {max(0.0, no_lane.at - now):.0f} s."


def _quota(no_lane: NoLane, request_id: str, now: float) -> Problem:
    day = no_lane.cause == "day"
    what = "for today" if day else "for this minute"
    return Problem(
        429, "quota_exhausted",
        f"The free quota of every usable account is used up {what}. {_when(no_lane, now)}",
        "insufficient_quota" if day else "rate_limit_exceeded",
        retry_after=_wait(no_lane, request_id, now), extra=_extra(no_lane, request_id, now),
    )  # fmt: skip


def _closed(no_lane: NoLane, request_id: str, now: float) -> Problem:
    return Problem(
        503, "no_usable_lane", f"Every key or model that fits is closed. {_when(no_lane, now)}",
        retry_after=_wait(no_lane, request_id, now), extra=_extra(no_lane, request_id, now),
    )  # fmt: skip


def _empty(_no_lane: NoLane, _request_id: str, _now: float) -> Problem:
    return Problem(
        503, "no_usable_lane",
        "There is no usable key, or no free model is known: the upstream's model list could not be read yet, or "
        "lists none. See the log, or run `keywheel keys list` and `keywheel models`.",
    )  # fmt: skip


def _uncounted(_no_lane: NoLane, _request_id: str, _now: float) -> Problem:
    return Problem(
        503, "no_usable_lane",
        "Requests cannot be counted now, because the state store is in trouble, so none is sent on a free quota. "
        "`keywheel status` says what is wrong.",
        retry_after=UNCOUNTED,
    )  # fmt: skip


def _unfit(no_lane: NoLane, request_id: str, now: float) -> Problem:
    missing = set(no_lane.missing)
    if "cost" in missing:
        return _too_dear(request_id, now)
    if missing == {"context"}:
        return Problem(
            400, "context_too_long",
            f"The prompt and the reply asked for take about {no_lane.tokens:,} tokens; the largest context among the "
            f"free models that the request allows has {no_lane.room:,}. Send less, or ask for fewer tokens."
            f"{_alternative(no_lane)}",
            param="messages", final=True,
        )  # fmt: skip
    lacking = ", ".join(sorted(missing))
    return Problem(
        400, "invalid_request",
        f"No free model that the request allows offers what it needs: {lacking}. "
        f"{_REMEDIES.get(lacking, 'Leave it out, or allow other models.')}{_alternative(no_lane)}",
        final=True, extra={"missing": sorted(missing), "would_do": list(no_lane.others)},
    )  # fmt: skip


_REMEDIES = {
    "file": "Let the upstream turn files into text at no charge: "
    '"plugins": [{"id": "file-parser", "pdf": {"engine": "pdf-text"}}].',
    "max_output": "Ask for fewer tokens, or allow other models.",
}


def _alternative(no_lane: NoLane) -> str:
    """Models that would do, were they allowed."""
    if not no_lane.others:
        return ""
    more = len(no_lane.others) - MENTIONED
    return f" Would do: {', '.join(no_lane.others[:MENTIONED])}{f' and {more} more' if more > 0 else ''}."


def _too_dear(request_id: str, now: float) -> Problem:
    """The day's sum for paid models does not cover the most that this request can cost."""
    wait = DAY - now % DAY + spread(request_id)
    return Problem(
        429, "quota_exhausted",
        "What is left of today's sum for paid models (`models.paid_per_day`) does not cover the most that this "
        "request can cost. Bound its answer with `max_tokens`, raise the sum, or use a free model.",
        "insufficient_quota", param="model", retry_after=wait,
    )  # fmt: skip


def _extra(no_lane: NoLane, request_id: str, now: float) -> dict[str, Any]:
    wait = _wait(no_lane, request_id, now)
    return {"blocked": dict(no_lane.blocked), **({"retry_after": ceil(wait)} if wait else {})}


_NO_LANE: Mapping[str, Callable[[NoLane, str, float], Problem]] = {
    "day": _quota,
    "minute": _quota,
    "health": _closed,
    "busy": _closed,
    "disabled": _closed,
    "tried": _closed,
    "unfit": _unfit,
    "uncounted": _uncounted,
    "empty": _empty,
}
