"""Classification over recorded answers, and the traps that have cost somebody a pool."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywheel.core.rows import ROWS
from keywheel.core.types import Charge, Length, Retry, Verdict
from keywheel.wire.faults import FAILURES, Phase, Reply, judge, judge_failure
from tests.wire.replying import (
    NOON,
    RECORDED,
    STREAMS,
    answered,
    envelope,
    event,
    refusal,
    refused_by,
    reply,
    wrapped,
)

FAULTS = {
    "request": "client",
    "account+model": "access",
}  # words of the recordings, where they differ
DIALECTS = ("responses", "messages")


def recorded(folder: Path) -> list[Any]:
    paths = sorted(folder.glob("*.json"))
    assert paths, folder
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in paths]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def read_case(case: dict[str, Any]) -> Reply:
    headers = {name.lower(): value for name, value in case["headers"].items()}
    return reply(Phase(case["phase"]), case["status"], case["body"], headers)


def check(verdict: Verdict | None, expect: dict[str, Any]) -> None:
    if expect["scope"] == "none":
        assert verdict is None
        return
    assert verdict is not None
    row = verdict.row
    assert row.fault == FAULTS.get(expect["scope"], expect["scope"])
    assert row.retry is Retry(expect["retry"])
    assert effect_of(verdict) == expect["effect"]
    if "until" in expect:
        assert verdict.until == moment(expect["until"])
    number, name = expect["row"].split(" ", 1)
    if wrapper := re.fullmatch(r"(.+) \(as (\d+)\)", name):
        assert (verdict.via, row.number) == (wrapper[1], wrapper[2])
    else:
        assert (verdict.via, row.name) == ("", name)
        assert row.number.startswith(number)


def effect_of(verdict: Verdict) -> str:
    row = verdict.row
    if row.name == "context-too-long":
        return "lower_context"
    if row.blocks is None:
        return "none"
    if row.length is Length.CHECKED:
        return "disable_key"
    if row.charge is Charge.DAY:
        return "charge_day"
    return "block" if verdict.until is None else "block_until_reset"


@pytest.mark.parametrize("case", recorded(RECORDED))
def test_recorded_answers_are_read_as_expected(case: dict[str, Any]) -> None:
    dialect = next((name for name in DIALECTS if name in case["name"]), "chat")
    check(judge(read_case(case), now=moment(case["now"]), dialect=dialect), case["expect"])


# What the reader of a stream reports where no event carries an error.
WITHOUT_EVENT = {
    "empty-stop": judge_failure("empty"),
    "length-reasoning-only": judge_failure("budget-spent-on-reasoning", committed=True),
    "truncated-inside-event": judge_failure("truncated", committed=True),
    "truncated-no-finish": judge_failure("truncated", committed=True),
}


def payloads(name: str) -> list[bytes]:
    text = (STREAMS / name).read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    blocks = [block.split(b"\n") for block in text.split(b"\n\n")[:-1]]
    data = [b"\n".join(b[6:] for b in block if b.startswith(b"data: ")) for block in blocks]
    return [payload for payload in data if payload not in (b"", b"[DONE]")]


@pytest.mark.parametrize("case", recorded(STREAMS))
def test_events_of_recorded_streams_are_read_as_expected(case: dict[str, Any]) -> None:
    phase = Phase.STREAM_MID if case["stream"]["commit_event"] else Phase.STREAM_FIRST
    verdicts = [event(payload, phase) for payload in payloads(case["file"])]
    told = [verdict for verdict in verdicts if verdict]
    if case["stream"]["error"]:
        assert len(told) == 1
        assert told[0].message == case["stream"]["error"]["message"]
        assert told[0].status == case["stream"]["error"]["code"]
        check(told[0], case["expect"])
    else:
        assert told == []
    if case["name"] in WITHOUT_EVENT:
        check(WITHOUT_EVENT[case["name"]], case["expect"])


# --- traps -------------------------------------------------------------------------------------------

LAYER_3 = "Rate limit exceeded: limit_rpd/x/y. Daily limit reached for x:free via X. Credits don't affect this cap."


def rates(limit: int, remaining: int = 0) -> dict[str, str]:
    return {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining)}


def test_trap_1_daily_429_speaks_of_credits_and_blocks_the_account_not_the_key() -> None:
    said = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
    assert refusal(429, said).row.name == "platform-day"
    assert refusal(429, LAYER_3, headers=rates(5000)).row.name == "model-capacity"


def test_trap_2_a_minute_does_not_spend_the_day_and_a_small_limit_alone_is_no_minute() -> None:
    assert refusal(429, "Rate limit exceeded", headers=rates(20)).row.name == "platform-minute"
    source = {"limit_source": "openrouter_shared_capacity"}
    assert refusal(429, "Rate limit exceeded", source, rates(8)).row.name == "model-capacity"
    assert refusal(429, "High demand for x:free", headers=rates(1)).row.name == "model-capacity"


def test_trap_3_what_others_said_is_not_about_this_answer() -> None:
    other = {"code": 429, "message": "Rate limit exceeded: free-models-per-min. ", "raw": "quota"}
    metadata = {
        "raw": "quota, billing, can only afford 3, free-models-per-day",
        "provider_name": "ModelRun",
        "previous_errors": [other] * 7,
    }
    assert refusal(400, "Provider returned error", metadata).row.name == "untyped-400"
    assert refusal(429, "Provider returned error", metadata).row.name == "upstream-pool"
    assert refusal(402, "Provider returned error", metadata).row.name == "no-credits"


@pytest.mark.parametrize(
    ("row", "status", "message"),
    [
        ("key-limit", 403, "Key limit exceeded (daily limit). Manage it using https://x"),
        ("content-refused", 403, "Your chosen model requires moderation and your input was flagged for x"),
        ("forbidden", 403, "This account may not use this model"),
        ("harness-gate", 403, "x:free is only available on agentic harnesses."),
        ("no-credits", 402, "Insufficient credits. Add more using https://x"),
        ("key-limit", 402, "Key limit exceeded (total limit)."),
        ("in-flight-budget", 402, "It would exceed it given your current in-flight requests."),
        ("cannot-afford-this", 402, "Prompt tokens limit exceeded: 14856 > 9376. To increase, visit x"),
    ],
)  # fmt: skip
def test_trap_4_402_and_403_are_four_things_each(row: str, status: int, message: str) -> None:
    assert refusal(status, message).row.name == row


def test_trap_5_no_endpoints_found_covers_delisted_privacy_and_capability() -> None:
    names = [
        refusal(404, f"No endpoints found {rest}").row.name
        for rest in ("for x:free.", "matching your data policy.", "that support tool use.")
    ]
    assert names == ["model-gone", "account-settings", "capability"]


def test_trap_6_a_reset_in_milliseconds_is_no_year_57000() -> None:
    source = {"limit_source": "openrouter_free_tier_per_minute"}
    for reset in (f"{(NOON + 60) * 1000:.0f}", f"{NOON + 60:.0f}"):
        assert refusal(429, "", source, {"x-ratelimit-reset": reset}).until == NOON + 60


def test_trap_7_fields_are_compared_not_substrings() -> None:
    assert refused_by(500, envelope(500, "model x-404-429 took 5003 ms")).row.name == "server-error"
    string_code = {"error": {"code": "429", "message": "busy"}, "provider": "P"}
    assert wrapped(string_code).row.name == "upstream-pool"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Input required"),
        (404, "No endpoints found that support image input"),
        (413, "Request payload too large"),
        (403, "x requires moderation on Y"),
        (402, "You requested up to 64000 tokens, but can only afford 2666."),
    ],
)
def test_trap_8_the_clients_own_affair_blocks_nothing(status: int, message: str) -> None:
    verdict = refusal(status, message)
    assert verdict.row.fault == "client"
    assert verdict.row.blocks is None
    assert verdict.passthrough


def test_trap_9_a_200_proves_nothing() -> None:
    usage = {"usage": {"completion_tokens": 3}, "id": "gen-1"}
    assert wrapped(envelope(502, "gone") | usage).label == "24 provider-down"
    assert answered({"choices": [{"message": {"content": None}}]} | usage) == "empty"


def test_trap_10_null_is_no_error_and_no_content_may_be_an_answer() -> None:
    refused = {"choices": [{"message": {"content": None, "refusal": "No."}}], "error": None}
    called = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c"}]}}]}
    assert answered(refused) == answered(called) == "ok"


@pytest.mark.parametrize(
    "message",
    [
        "worker terminated",
        "tool set_timeout failed after 5003 ms",
        "the DEGRADED_MODE flag of my_credits_tool",
        'function "DEGRADED" is not defined',
        "the user asked what a context window is",
    ],
)
def test_words_and_numbers_in_a_message_match_nothing(message: str) -> None:
    defaults = {400: "bad-request", 402: "no-credits", 403: "forbidden", 404: "model-gone",
                429: "unclear-429", 500: "server-error", 503: "provider-down"}  # fmt: skip
    assert {status: refusal(status, message).row.name for status in defaults} == defaults


# --- what a verdict tells ----------------------------------------------------------------------------


def test_a_message_is_clean_short_and_without_secrets() -> None:
    key = "sk-or-v1-" + "0" * 64
    message = refusal(401, f"bad {key}, Bearer abc.def\r\n\x1b[31m\u2028\udc80").message
    assert message == r"bad ***, Bearer ***\r\n\x1b[31m\u2028\udc80"
    assert len(refusal(500, "x" * 900).message) == 300
    assert "0000" not in refusal(500, "x" * 285 + key).message


def test_flagged_input_is_not_repeated() -> None:
    metadata = {"reasons": ["x"], "flagged_input": "my secret plan"}
    verdict = refusal(403, "flagged: my secret plan.", metadata)
    assert (verdict.row.name, verdict.message) == ("content-refused", "flagged: ***.")


def test_an_error_without_words_is_told_in_ours() -> None:
    assert refused_by(503, b"<html>").message == "a page in HTML instead of an answer"
    assert refused_by(503, b"").message == "no body"
    assert refused_by(503, {}).message == "an error without a message"


def test_code_type_and_status_are_kept() -> None:
    verdict = wrapped(envelope(502, "x", {"error_type": "provider_unavailable"}))
    told = (verdict.status, verdict.upstream_code, verdict.upstream_type, verdict.via)
    assert told == (502, "502", "provider_unavailable", "error-in-200")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (16384, "This endpoint's maximum context length is 16384 tokens. However, you requested 26265"),
        (131072, "This model's maximum context length is 131,072 tokens, of which"),
        (200000, "prompt is too long: 214323 tokens > 200000 maximum"),
        (1048576, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        (8192, "Requested tokens (9000) exceed context window of 8192"),
        (131072, "This model's maximum prompt length is 131072 but the request contains 137627 tokens."),
        (None, "prompt is too long"),
        (None, "This model's maximum context length is 0 tokens"),
    ],
)  # fmt: skip
def test_a_context_error_teaches_the_models_limit(limit: int | None, message: str) -> None:
    raw = json.dumps({"error": {"message": message}})
    for verdict in (
        refusal(400, message),
        refusal(400, "Provider returned error", {"raw": raw, "provider_name": "P"}),
    ):
        assert (verdict.row.name, verdict.context_limit) == ("context-too-long", limit)


@pytest.mark.parametrize(
    ("limit", "said", "headers"),
    [
        (50, "free-models-per-day. Add 10 credits", {}),
        (50, "free-models-per-day", {}),
        (1000, "free-models-per-day-high-balance. ", {}),
        (None, "free-models-per-day-stealth. ", {}),
        (1000, "free-models-per-day-stealth. ", rates(1000)),
        (200, "free-models-per-day", rates(200)),
        (50, "free-models-per-day", {"x-ratelimit-limit": "many"}),
    ],
)
def test_a_spent_day_tells_its_limit(limit: int | None, said: str, headers: dict[str, str]) -> None:
    assert refusal(429, f"Rate limit exceeded: {said}", headers=headers).day_limit == limit


def test_an_ask_with_its_own_data_policy_is_its_own_obstacle() -> None:
    said = "No endpoints found matching your data policy (Free model training). Configure: x"
    verdict = refusal(404, said, {"failed_routing_step": "Filter by Data Policy"}, restricted=True)
    assert (verdict.row.name, verdict.lacks) == ("capability", None)


# --- no answer ---------------------------------------------------------------------------------------


def test_every_failure_without_an_answer_has_a_row_and_a_sentence() -> None:
    names = {kind: judge_failure(kind).row.name for kind in FAILURES}
    provider = ("unreachable", "tls-handshake", "reset")
    assert names["pool"] == "own-limit"
    assert all(names[kind] == "unreachable" for kind in provider)
    assert names["tls"] == "bad-certificate"
    assert all(name == "timeout" for kind, name in names.items() if kind.startswith("timeout"))
    cut = ("truncated", "too-large", "protocol", "malformed")
    assert all(names[kind] == "malformed" for kind in cut)
    assert judge_failure("reset", detail="by\npeer").message.endswith(r": by\npeer")


def test_after_content_only_a_spent_budget_keeps_its_row() -> None:
    rows = {judge_failure(kind, committed=True).row.name for kind in FAILURES}
    assert rows == {"broken-after-content", "budget-spent-on-reasoning"}


# --- 200 and events ----------------------------------------------------------------------------------


def test_headers_of_a_200_say_nothing_yet() -> None:
    assert judge(Reply(Phase.HEADERS, 200, {}, b"<html>"), now=NOON) is None


def test_a_body_of_another_status_is_judged_by_that() -> None:
    verdict = judge(reply(Phase.BODY, 401, envelope(401, "User not found.")), now=NOON)
    assert verdict is not None
    assert verdict.row is ROWS["bad-key"]


def test_events_that_are_no_answer_are_malformed_and_regular_ones_say_nothing() -> None:
    rows = [
        verdict.row.name if (verdict := event(payload)) else "ok"
        for payload in (b"{", [1], {"odd": 1}, {"choices": []}, {"type": "ping"})
    ]
    assert rows == ["malformed", "malformed", "malformed", "ok", "ok"]


@pytest.mark.parametrize(
    ("row", "payload"),
    [
        ("finish-error", {"choices": [{"delta": {}, "finish_reason": "error"}]}),
        ("finish-error", {"type": "response.failed", "response": {"status": "failed"}}),
        ("server-error", {"type": "error", "code": "server_error", "message": "x"}),
        ("server-error", {"message": "boom"}),
        ("server-error", {"type": "response.error", "error": {"message": "x"}}),
        ("server-error", {"error": True}),
        ("overloaded", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
        ("no-credits", {"type": "error", "error": {"type": "billing_error", "message": "x"}}),
        ("upstream-pool", envelope(429, "Rate limit exceeded") | {"provider": "OpenAI"}),
        ("unclear-429", {"error": {"code": "rate_limit_exceeded", "message": "x"}}),
        ("bad-request", {"error": {"code": "invalid_prompt", "message": "x"}}),
        ("content-refused", {"error": {"code": "image_content_policy_violation", "message": "x"}}),
        ("server-error", {"error": {"code": "novel_error", "message": "x"}}),
        ("server-error", {"error": {"code": 200, "message": "x"}}),
        ("model-gone", envelope(404, "Not Found")),
        ("provider-down", envelope(524, "Request timed out.")),
    ],
)  # fmt: skip
def test_errors_inside_a_stream_are_read_by_type_then_code(row: str, payload: Any) -> None:
    first, middle = event(payload), event(payload, Phase.STREAM_MID)
    assert first is not None
    assert middle is not None
    assert first.row.name == row
    assert middle.row.name == "broken-after-content"
    assert (middle.status, middle.message) == (first.status, first.message)
    assert (middle.via, middle.until, middle.passthrough) == ("", None, False)
