"""What a verdict tells beside its row: moment, status, words and who said them, by the way an answer came."""

import json
from typing import Any

import pytest

from keywheel.core.types import Verdict
from keywheel.wire.faults import Phase, judge, judge_failure
from tests.wire.replying import NOON, envelope, event, refusal, refused_by, reply, wrapped

SLOW_DOWN = envelope(502, "gone", {"retry_after_seconds": 9})
PRIVATE = envelope(404, "x", {"failed_routing_step": "Filter by Data Policy"})
NOT_ASKED_FOR = "the answer is not of the kind that was asked for"


def judged(phase: Phase, status: int, body: Any, **asked: Any) -> Verdict:
    verdict = judge(reply(phase, status, body), now=NOON, **asked)
    assert verdict is not None
    return verdict


WAYS = [(Phase.HEADERS, 502), (Phase.BODY, 200), (Phase.STREAM_FIRST, 200)]


@pytest.mark.parametrize(("phase", "status"), WAYS)
def test_an_error_names_its_moment_whichever_way_it_came(phase: Phase, status: int) -> None:
    assert judged(phase, status, SLOW_DOWN).until == NOON + 9


@pytest.mark.parametrize(("phase", "status"), [(Phase.HEADERS, 404), *WAYS[1:]])
def test_an_asks_own_data_policy_counts_whichever_way_the_error_came(
    phase: Phase, status: int
) -> None:
    assert judged(phase, status, PRIVATE, restricted=True).row.name == "capability"
    assert judged(phase, status, PRIVATE).row.name == "account-settings"


def test_only_rows_with_a_use_for_it_name_a_moment() -> None:
    later = {"retry-after": "9"}
    assert refusal(429, "Slow down", headers=later).until == NOON + 9
    assert refusal(500, "x", headers=later).until is None
    assert refusal(400, "x", headers=later).until is None


def test_a_refusal_keeps_the_status_that_it_came_with() -> None:
    typed = refusal(400, "x", {"error_type": "rate_limit_exceeded"})
    assert (typed.row.name, typed.status) == ("unclear-429", 400)


def test_an_error_in_a_200_has_the_status_that_it_stands_for() -> None:
    assert wrapped({"error": {"message": "x"}}).status == 500
    assert wrapped({"error": {"code": "invalid_prompt", "message": "x"}}).status == 400


def test_after_content_an_error_still_tells_who_said_what() -> None:
    middle = event(envelope(502, "x", {"error_type": "provider_unavailable"}), Phase.STREAM_MID)
    assert middle is not None
    assert (middle.upstream_code, middle.upstream_type) == ("502", "provider_unavailable")


@pytest.mark.parametrize(
    ("phase", "body", "detail"),
    [
        (Phase.BODY, b"<html>", ": no valid JSON (html)"),
        (Phase.BODY, b"", ": no valid JSON (empty)"),
        (Phase.BODY, {"choices": None}, ""),
        (Phase.STREAM_FIRST, b"{", ": an event that is not JSON"),
        (Phase.STREAM_FIRST, {"odd": 1}, ""),
    ],
)
def test_a_malformed_200_tells_what_is_wrong_with_it(phase: Phase, body: Any, detail: str) -> None:
    verdict = judged(phase, 200, body)
    assert (verdict.status, verdict.message) == (200, NOT_ASKED_FOR + detail)


def test_a_failure_without_detail_is_told_in_one_sentence() -> None:
    said = judge_failure("reset").message
    assert said == "the connection was reset before any answer"
    assert judge_failure("reset", detail="by peer").message == f"{said}: by peer"


def test_code_and_type_are_cut_to_64_characters() -> None:
    long = "x" * 99
    verdict = refused_by(500, {"error": {"code": long, "message": "x", "error_type": long}})
    cut = "x" * 63 + "…"
    assert (verdict.upstream_code, verdict.upstream_type) == (cut, cut)


def test_the_dialects_own_type_serves_where_there_is_no_code() -> None:
    assert refused_by(529, {"error": {"type": "overloaded_error"}}).upstream_code == (
        "overloaded_error"
    )


def test_figures_are_learnt_only_from_the_rows_that_they_belong_to() -> None:
    assert refusal(500, "maximum context length is 16384 tokens").context_limit is None
    minute = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0"}
    verdict = refusal(429, "", headers=minute)
    assert (verdict.row.name, verdict.day_limit) == ("platform-minute", None)


def test_the_limit_in_the_providers_own_words_is_learnt() -> None:
    raw = json.dumps({"message": "maximum context length is 16,384 tokens"})
    verdict = refusal(400, "Provider returned error", {"raw": raw})
    assert (verdict.row.name, verdict.context_limit) == ("context-too-long", 16384)
