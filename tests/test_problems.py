"""What a client is told when there is no answer: status, code, sentence, and a true time to come back."""

import json

import pytest

from keywheel.core.rows import ROWS
from keywheel.core.steps import Refused, Try
from keywheel.core.types import NoLane, Verdict
from keywheel.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFree,
    NoUsableLane,
    QuotaExhausted,
    RequestFailed,
    UpstreamFailed,
)
from keywheel.problems import LONGEST, Problem, of_exception, of_refusal

NOW = 1_791_201_600.0  # 2026-10-05 12:00:00 UTC
TRY = Try("primary", "account1", "a/b:free", "20 upstream-pool", 0.5)


def told(refused: Refused) -> Problem:
    return of_refusal(refused, "r1", NOW)


def without_lane(cause: str, at: float | None = None, **more: object) -> Problem:
    return told(Refused((), no_lane=NoLane(at, cause, **more)))  # pyright: ignore[reportArgumentType]


def failed(row: str, *, tries: int = 1, **more: object) -> Problem:
    verdict = Verdict(ROWS[row], **more)  # pyright: ignore[reportArgumentType]
    return told(Refused((TRY,) * tries, verdict))


# --- nothing usable --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "status", "code", "type"),
    [
        ("day", 429, "quota_exhausted", "insufficient_quota"),
        ("minute", 429, "quota_exhausted", "rate_limit_exceeded"),
        ("health", 503, "no_usable_lane", None),
        ("busy", 503, "no_usable_lane", None),
        ("disabled", 503, "no_usable_lane", None),
        ("tried", 503, "no_usable_lane", None),
        ("empty", 503, "no_usable_lane", None),
    ],
)
def test_every_cause_has_its_status_and_code(
    cause: str, status: int, code: str, type: str | None
) -> None:
    problem = without_lane(cause, NOW + 30)
    assert (problem.status, problem.code, problem.type) == (status, code, type)


@pytest.mark.parametrize(
    ("seconds", "retry"), [(30.0, None), (119.0, None), (121.0, "false"), (80_000.0, "false")]
)
def test_an_sdk_may_wait_for_what_opens_soon_and_for_nothing_else(
    seconds: float, retry: str | None
) -> None:
    """Coming back at the promised moment costs no attempt; the SDKs wait two minutes at most."""
    problem = Problem(429, "quota_exhausted", "why", retry_after=seconds)
    assert problem.headers().get("x-should-retry") == retry


@pytest.mark.parametrize("cause", ["day", "minute", "health", "busy"])
def test_the_time_to_come_back_is_true_and_the_same_everywhere(cause: str) -> None:
    problem = without_lane(cause, NOW + 30.4, blocked={"quota": 2})
    assert problem.retry_after is not None
    assert 30.4 < problem.retry_after <= 31.4
    headers = problem.headers()
    assert int(headers["retry-after"]) == problem.extra["retry_after"] in (31, 32)
    assert int(headers["retry-after-ms"]) == pytest.approx(problem.retry_after * 1000, abs=1)
    assert problem.extra["blocked"] == {"quota": 2}
    assert "opens at 12:00:30 UTC, in 30 s" in problem.message


def test_clients_do_not_come_back_as_one() -> None:
    lane = NoLane(NOW + 30, "minute")
    waits = {of_refusal(Refused((), no_lane=lane), f"r{n}", NOW).retry_after for n in range(50)}
    assert len(waits) > 40


def test_a_moment_that_has_passed_is_soon_and_never_negative() -> None:
    problem = without_lane("minute", NOW - 5)
    assert problem.retry_after is not None
    assert 0 < problem.retry_after <= 1
    assert int(problem.headers()["retry-after"]) == 1


def test_no_wait_is_longer_than_a_day() -> None:
    assert without_lane("day", NOW + 1e9).retry_after == LONGEST


def test_a_time_nobody_knows_is_not_made_up() -> None:
    problem = without_lane("disabled")
    assert problem.retry_after is None
    assert "retry-after" not in problem.headers()
    assert "Nobody knows when" in problem.message


def test_a_prompt_that_is_too_long_is_the_clients_matter() -> None:
    problem = without_lane("unfit", missing=("context",), tokens=9_000, room=8_192)
    assert "about 9,000 tokens" in problem.message
    assert "8,192" in problem.message
    assert (problem.status, problem.code, problem.param) == (400, "context_too_long", "messages")
    assert problem.final


def test_what_no_model_offers_is_named() -> None:
    problem = without_lane("unfit", missing=("tools", "image", "context"))
    assert (problem.status, problem.code) == (400, "invalid_request")
    assert "context, image, tools" in problem.message
    assert problem.extra == {"missing": ["context", "image", "tools"], "would_do": []}


def test_models_that_would_do_are_named_but_not_all_of_many() -> None:
    names = tuple(f"m{n}" for n in range(7))
    problem = without_lane("unfit", missing=("tools",), others=names)
    assert problem.message.endswith(" Would do: m0, m1, m2, m3, m4 and 2 more.")
    assert problem.extra["would_do"] == list(names)
    too_long = without_lane("unfit", missing=("context",), others=("m1",))
    assert too_long.message.endswith(" Would do: m1.")


def test_files_have_a_remedy_of_their_own() -> None:
    assert "file-parser" in without_lane("unfit", missing=("file",)).message


def test_what_is_too_dear_for_today_may_be_asked_for_after_midnight() -> None:
    problem = without_lane("unfit", missing=("cost",))
    assert (problem.status, problem.code) == (429, "quota_exhausted")
    assert "models.paid_per_day" in problem.message
    assert problem.retry_after is not None
    assert 0 < problem.retry_after <= 86_401


# --- after attempts --------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
def test_attempts_that_failed_are_our_502_or_503_that_names_the_last(row: str) -> None:
    problem = failed(row, tries=3, message="overloaded")
    assert problem.status == (503 if ROWS[row].status == 503 else 502)
    assert problem.code == ("no_usable_lane" if row == "own-limit" else "upstream_failed")
    assert problem.message.startswith("3 attempts failed. The last one, on a/b:free: ")
    assert problem.message.endswith("(overloaded).")


def test_one_attempt_is_no_plural() -> None:
    assert failed("upstream-pool").message.startswith("1 attempt failed.")


def test_the_asks_own_fault_is_passed_on_with_the_upstreams_words() -> None:
    problem = failed("context-too-long", passthrough=True, status=400, message="too long by 7")
    assert (problem.status, problem.code, problem.message) == (
        400,
        "context_too_long",
        "too long by 7",
    )
    assert problem.final
    assert problem.headers()["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("row", "said", "code"),
    [
        ("content-refused", {"upstream_code": "403"}, "content_policy_violation"),
        ("cannot-afford-this", {"upstream_type": "payment_required"}, "payment_required"),
        ("capability", {"upstream_code": "404"}, "upstream_failed"),
        ("bad-request", {"upstream_type": "string_too_long"}, "invalid_request"),
    ],
)
def test_an_error_that_is_passed_on_has_our_code_or_else_the_upstreams(
    row: str, said: dict[str, str], code: str
) -> None:
    assert failed(row, passthrough=True, status=404, **said).code == code


@pytest.mark.parametrize("status", [200, 500, 0])
def test_what_is_passed_on_is_never_a_success_or_our_failure(status: int) -> None:
    problem = failed("context-too-long", passthrough=True, status=status)
    assert problem.status == 400
    assert problem.message


def test_keys_that_ran_out_one_after_the_other_are_told_by_what_closes_them() -> None:
    verdict = Verdict(ROWS["platform-day"])
    problem = told(Refused((TRY,), verdict, NoLane(NOW + 60, "day")))
    assert (problem.status, problem.code) == (429, "quota_exhausted")


def test_a_model_that_failed_says_more_than_the_lanes_it_closed() -> None:
    problem = told(Refused((TRY,), Verdict(ROWS["upstream-pool"]), NoLane(NOW + 60, "health")))
    assert problem.code == "upstream_failed"


@pytest.mark.parametrize(("tries", "words"), [(0, "0 attempts"), (1, "1 attempt"), (2, "2 attempts")])  # fmt: skip
def test_the_deadline_is_a_504(tries: int, words: str) -> None:
    verdict = Verdict(ROWS["upstream-pool"], message="busy") if tries else None
    problem = told(Refused((TRY,) * tries, verdict, expired=True))
    assert (problem.status, problem.code) == (504, "deadline_exceeded")
    assert problem.message.startswith(f"The deadline ended the request after {words}.")
    assert ("busy" in problem.message) is bool(tries)


def test_a_refusal_without_any_reason_still_says_something() -> None:
    problem = told(Refused(()))
    assert (problem.status, problem.code, problem.retry_after) == (503, "no_usable_lane", 1.0)


# --- exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "code", "final"),
    [
        (InvalidRequest, 400, "invalid_request", True),
        (ModelNotFree, 400, "model_not_free", True),
        (ContextTooLong, 400, "context_too_long", True),
        (QuotaExhausted, 429, "quota_exhausted", True),
        (NoUsableLane, 503, "no_usable_lane", False),
        (UpstreamFailed, 502, "upstream_failed", False),
        (DeadlineExceeded, 504, "deadline_exceeded", False),
    ],
)
def test_an_exception_carries_its_own_status(
    kind: type[RequestFailed], status: int, code: str, final: bool
) -> None:
    problem = of_exception(kind("why", param="x", retry_after=2.5))
    assert (problem.status, problem.code, problem.final) == (status, code, final)
    assert (problem.message, problem.param, problem.retry_after) == ("why", "x", 2.5)


# --- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "final", "retry"),
    [(400, True, "false"), (429, False, "false"), (503, False, "false"), (504, False, "false"), (502, False, None)],
)  # fmt: skip
def test_sdks_are_told_when_repeating_is_useless(
    status: int, final: bool, retry: str | None
) -> None:
    """They would multiply our own attempts; after a 502 a new try may well find another lane."""
    headers = Problem(status, "code", "why", final=final).headers()
    assert headers.get("x-should-retry") == retry
    assert "retry-after" not in headers


@pytest.mark.parametrize(
    ("seconds", "whole", "thousandths"),
    [(0.2, "1", "200"), (1.0, "1", "1000"), (1.0001, "2", "1001")],
)
def test_waits_are_rounded_up(seconds: float, whole: str, thousandths: str) -> None:
    headers = Problem(429, "code", "why", retry_after=seconds).headers()
    assert (headers["retry-after"], headers["retry-after-ms"]) == (whole, thousandths)


@pytest.mark.parametrize(("row", "final"), [("other-4xx", True), ("provider-down", False)])
def test_what_no_repetition_can_mend_is_not_repeated(row: str, final: bool) -> None:
    problem = failed(row, status=405)
    assert (problem.status, problem.code) == (502, "upstream_failed")
    assert (problem.headers().get("x-should-retry") == "false") == final


def test_an_error_in_anthropics_shape_names_its_request() -> None:
    problem = Problem(400, "invalid_request", "no")
    assert json.loads(problem.body("messages", request_id="r1"))["request_id"] == "r1"
    assert "request_id" not in json.loads(problem.body("chat", request_id="r1"))["error"]


def test_a_request_that_had_all_its_attempts_is_not_repeated_by_the_sdk() -> None:
    verdict = Verdict(ROWS["server-error"])
    for spent in (True, False):
        problem = told(Refused((TRY,) * 4, verdict, spent=spent))
        assert (problem.status, problem.code) == (502, "upstream_failed")
        assert (problem.headers().get("x-should-retry") == "false") == spent
