"""Classification of answers that nobody recorded: other wordings, other months, missing and odd fields."""

import json
import os
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keywheel.core.types import Verdict
from keywheel.wire.faults import Phase, Reply, judge
from keywheel.wire.moments import refused_moments
from keywheel.wire.patterns import UNSEEN
from tests.wire.replying import NOON, RECORDED, answered, envelope, refusal, refused_by, reply

PRIVACY = {"failed_routing_step": "Filter by Guardrails"}
POOL = "x:free is temporarily rate-limited upstream. Please retry shortly"
SPENT = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0"}
DAY_SPENT = {"X-RateLimit-Limit": 1000, "X-RateLimit-Remaining": 0}
LEFT = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "3"}


@pytest.mark.parametrize(
    ("row", "status", "message", "metadata"),
    [
        # limits of requests
        ("platform-minute", 429, "Rate limit exceeded: free-models-per-min. ", None),
        ("platform-minute", 429, "Rate limit exceeded: FREE-MODELS-PER-MIN", None),
        ("platform-day", 429, "Rate limit exceeded: free-models-per-day-stealth. ", None),
        ("platform-day", 429, "", {"limit_source": "openrouter_free_tier_daily"}),
        ("platform-minute", 429, "", {"headers": SPENT}),
        ("platform-day", 429, "", {"headers": DAY_SPENT}),
        ("unclear-429", 429, "", {"headers": LEFT}),
        ("unclear-429", 429, "", {"headers": {"X-RateLimit-Limit": "30", "X-RateLimit-Remaining": "0"}}),
        ("unclear-429", 429, "", {"headers": {"X-RateLimit-Limit": "1000"}}),
        ("unclear-429", 429, "", {"headers": {"X-RateLimit-Limit": [20]}}),
        ("unclear-429", 429, "Slow down", {"limit_source": "openrouter_novelty"}),
        ("unclear-429", 429, "Slow down", {"limit_source": ["openrouter_free_tier_daily"]}),
        ("unclear-429", 429, "Slow down", {"previous_errors": []}),
        ("upstream-pool", 429, "Slow down", {"previous_errors": [{"code": 429}]}),
        ("model-capacity", 429, "Rate limit exceeded: limit_rpm/x/y. High demand for x", None),
        ("model-capacity", 429, "Rate limit exceeded: limit_tpm/x/y.", None),
        ("upstream-pool", 429, POOL, None),
        ("upstream-pool", 429, "Provider returned error", {"raw": POOL}),
        ("upstream-pool", 429, "Provider returned error", {"raw": json.dumps({"error": POOL})}),
        ("upstream-pool", 429, "Provider returned error", {"raw": '{"error":{"message":"' + POOL}),
        ("upstream-pool", 429, "Provider returned error", None),
        ("upstream-pool", 429, "Rate limit exceeded", {"provider_error_code": 429}),
        ("upstream-pool", 400, "x", {"error_type": "rate_limit_exceeded", "provider_name": "P"}),
        # money
        ("no-credits", 402, "Payment Required", {"error_type": "payment_required"}),
        ("no-credits", 402, "Insufficient credits.", {"limit_source": "openrouter_credits"}),
        ("cannot-afford-this", 402, "This request requires at least $1.00 in balance for image output",
            {"limit_source": "openrouter_key_limit"}),
        ("cannot-afford-this", 402, "You can only afford 12", {"limit_source": "openrouter_key_limit"}),
        ("cannot-afford-this", 402, "", {"reason": "weight_exceeds_budget"}),
        ("in-flight-budget", 402, "", {"reason": "in_flight_budget_exhausted"}),
        ("in-flight-budget", 402, "", {"limit_source": "openrouter_in_flight_budget"}),
        ("key-limit", 403, "", {"limit_source": "openrouter_workspace_budget"}),
        ("key-limit", 403, "", {"limit_source": "openrouter_guardrail_budget", "resets_at": None}),
        ("key-limit", 403, "Key limit exceeded (monthly limit).", {"error_type": "permission_denied"}),
        ("key-limit", 403, "Workspace daily budget of $1,500.00 exceeded. Contact your org admin.", None),
        # keys and refusals
        ("bad-key", 401, "No auth credentials found", None),
        ("bad-key", 403, "x", {"error_type": "authentication"}),
        ("bad-key-400", 400, "API key not valid. Please pass a valid API key.", None),
        ("bad-key-400", 400, "Provider returned error", {"raw": '{"error":{"message":"API key expired."}}'}),
        ("bad-request", 400, "API key not valid", {"error_type": "invalid_request"}),
        ("content-refused", 400, "x", {"error_type": "content_policy_violation"}),
        ("content-refused", 400, "x", {"error_type": "refusal"}),
        ("content-refused", 400, "x", {"reasons": ["violence"]}),
        ("content-refused", 403, "Request blocked: sensitive information", None),
        ("forbidden", 403, "18+ attestation needed", None),
        ("forbidden", 403, "x", {"error_type": "permission_denied"}),
        ("region", 403, "This model is not available in your region.", None),
        ("region", 403, "x", {"error_type": "region_restricted"}),
        ("harness-gate", 403, "x", {"failed_routing_step": "Gate Free Endpoints by Agentic Harness"}),
        # settings, capability, gone
        ("account-settings", 404, "0 endpoints out of 2 requested", PRIVACY),
        ("account-settings", 404, "No endpoints available matching your guardrail restrictions and data policy.",
            None),
        ("account-settings", 404, "x", {"ineligibility_reasons": [{"reason": "training"}]}),
        ("account-settings", 404, "No allowed providers are available, but your account's allowed-providers "
            "setting permits only: openai", {"failed_routing_step": "Filter by Allowed Providers"}),
        ("capability", 404, "x", {"failed_routing_step": "Filter by Allowed Providers"}),
        ("capability", 404, "x", {"failed_routing_step": "Filter by Novelty"}),
        ("capability", 404, "No endpoints found that support audio", {"error_type": "not_found"}),
        ("capability", 404, "No endpoints found that support structured outputs", None),
        ("model-gone", 404, "x", {"failed_routing_step": "Filter by Fallback"}),
        ("model-gone", 404, "x", {"error_type": "not_found"}),
        ("model-gone", 404, "Not Found", {"error_type": "not_found"}),
        ("model-gone", 404, "Not Found", {"provider_name": "P"}),
        ("model-gone", 404, "Provider returned error", {"raw": "", "provider_name": "P"}),
        ("model-gone", 404, "No endpoints found for x", None),
        ("model-gone", 410, "Gone", None),
        ("wrong-path", 404, " not found. ", None),
        # 400 and its kin
        ("untyped-400", 400, "Provider returned error", None),
        ("untyped-400", 400, "x", {"provider_error_code": 400}),
        ("untyped-400", 400, "Provider returned error",
            {"raw": "User location is not supported for the API use."}),
        ("degraded-400", 400, "Provider returned error", {"raw": "DEGRADED function cannot be invoked"}),
        ("degraded-400", 400, "Provider returned error",
            {"raw": '{"detail":"Function id \'1\': DEGRADED function cannot be invoked"}'}),
        ("context-too-long", 400, "Provider returned error", {"raw": '{"message":"Input is too long"}'}),
        ("context-too-long", 400, "x", {"error_type": "max_tokens_exceeded"}),
        ("context-too-long", 422, "Prompt is too long", None),
        ("context-too-long", 413, "Your prompt of 9000 tokens does not fit", None),
        ("payload-too-large", 413, "x", {"error_type": "payload_too_large"}),
        ("bad-request", 400, "x", {"error_type": "a_type_of_next_year"}),
        ("bad-request", 412, "x", {"error_type": "precondition_failed"}),
        ("bad-request", 404, "x", {"error_type": "image_not_found"}),
        ("bad-request", 422, "x", {"error_type": "unprocessable", "provider_code": "bad"}),
        ("transient", 409, "Conflict", None),
        ("transient", 425, "Too Early", None),
        # the provider, the edge
        ("timeout", 504, "Gateway Timeout", None),
        ("timeout", 500, "x", {"error_type": "timeout"}),
        ("server-error", 500, "x", {"error_type": "unmapped"}),
        ("server-error", 501, "x", None),
        ("server-error", 599, "x", None),
        ("provider-down", 500, "x", {"error_type": "provider_overloaded"}),
        ("overloaded", 529, "x", {"error_type": "provider_overloaded"}),
        ("edge", 520, "x", None),
        ("edge", 530, "x", None),
        *(("other-4xx", status, "x", None) for status in (405, 406, 415, 418, 431, 451, 499)),
        *(("redirect", status, "", None) for status in (301, 302, 307, 308)),
        *(("malformed", status, "", None) for status in (-1, 0, 101, 201, 204, 206, 600, 999)),
    ],
)  # fmt: skip
def test_other_wordings(
    row: str, status: int, message: str, metadata: dict[str, Any] | None
) -> None:
    assert refusal(status, message, metadata).row.name == row


@pytest.mark.parametrize(
    ("row", "status", "code", "more"),
    [
        ("model-gone", 400, "model_not_found", {}),
        ("model-gone", 404, "free_variant_ended", {"fallback_models": ["z-ai/glm-5.2"]}),
        ("provider-down", 404, "model_unavailable_upstream", {"retryable": True}),
        ("model-gone", 404, "no_endpoints", {"retryable": "yes"}),
        ("upstream-pool", 429, "capacity_exhausted", {"retry_after": 9}),
        ("provider-down", 503, "temporarily_unavailable", {}),
        ("region", 403, "region_restricted", {}),
        ("account-settings", 404, "privacy_restricted", {}),
        ("account-settings", 404, "constraint_filtered", {}),
        ("capability", 400, "wrong_endpoint", {}),
        ("server-error", 500, ["odd"], {}),
    ],
)
def test_availability_codes(row: str, status: int, code: Any, more: dict[str, Any]) -> None:
    error = {"message": "x", "http_status": status, "availability": {"code": code} | more}
    verdict = refused_by(status, {"error": error})
    assert (verdict.row.name, verdict.upstream_code) == (row, str(status))


def test_the_minute_named_in_the_text_wins_over_availability() -> None:
    error = {"message": "free-models-per-min", "availability": {"code": "capacity_exhausted"}}
    assert refused_by(429, {"error": error}).row.name == "platform-minute"


def test_a_filtered_constraint_of_a_restricted_ask_is_the_asks() -> None:
    body = {"error": {"message": "x", "availability": {"code": "constraint_filtered"}}}
    verdict = judge(reply(Phase.HEADERS, 404, body), now=NOON, restricted=True)
    assert verdict is not None
    assert verdict.row.name == "capability"


@pytest.mark.parametrize(
    ("lack", "message"),
    [
        ("tools", 'No endpoints found that support tool use. Try disabling "read".'),
        ("image", "No endpoints found that support image input"),
        ("file", "No endpoints found that support file input"),
        ("json_schema", "No endpoints found that support response_format"),
        ("parameters", "No endpoints found that can handle the requested parameters."),
        ("price", "No endpoints found that satisfy the max price for this request"),
        ("providers", "No allowed providers are available for the selected model."),
    ],
)
def test_what_a_model_lacks_is_read_from_older_texts(lack: str, message: str) -> None:
    verdict = refusal(404, message)
    assert (verdict.row.name, verdict.lacks) == ("capability", lack)


HTML = b"\r\n<!DOCTYPE html><title>Not now</title>"


@pytest.mark.parametrize(
    ("row", "status", "body"),
    [
        ("edge-refusal", 429, HTML),
        ("edge-refusal", 403, HTML),
        ("edge-refusal", 403, b"error code: 1020"),
        ("edge-refusal", 429, b"error code: 1015"),
        ("edge-refusal", 429, {"title": "Error 1015: rate limited", "error_code": 1015}),
        ("unclear-429", 429, b'{"error":{"message":"cut o'),
        ("unclear-429", 429, b""),
        ("forbidden", 403, {}),
        ("edge", 502, HTML),
        ("edge", 503, b"error code: 503"),
        ("edge", 524, HTML),
        ("provider-down", 503, b"no healthy upstream"),
        ("wrong-path", 404, HTML),
        ("wrong-path", 401, HTML),
        ("wrong-path", 404, b"404 page not found"),
        ("wrong-path", 404, {"message": "Not Found"}),
        ("wrong-path", 404, {"detail": "Not Found"}),
        ("model-gone", 404, {"message": "Model not found"}),
        ("payload-too-large", 413, HTML),
        ("redirect", 302, HTML),
        ("bad-key", 401, b"null"),
        ("server-error", 500, b"17"),
    ],
)
def test_bodies_that_the_platform_did_not_write(row: str, status: int, body: Any) -> None:
    verdict = refused_by(status, body)
    assert verdict.row.name == row
    assert not verdict.passthrough


# --- complete 200s -----------------------------------------------------------------------------------


def message(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None} | members


def chat(finish: str = "stop", usage: dict[str, Any] | None = None, **members: Any) -> Any:
    return {"choices": [{"message": message(**members), "finish_reason": finish}], "usage": usage}


def thought(given: int, reasoning: Any) -> dict[str, Any]:
    return {
        "completion_tokens": given,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize(
    ("row", "dialect", "body"),
    [
        ("ok", "chat", chat(content=" ")),
        ("ok", "chat", chat(images=[{"url": "x"}])),
        ("ok", "chat", chat("content_filter")),
        ("ok", "a-dialect-of-next-year", chat(content="x")),
        ("empty", "chat", chat(reasoning="Hm.")),
        ("empty", "chat", chat("tool_calls", tool_calls=[])),
        ("empty", "chat", chat("length", thought(600, 0))),
        ("empty", "chat", chat("length", thought(600, "all"))),
        ("empty", "chat", {"choices": []}),
        ("empty", "chat", {"choices": [None, 3]}),
        ("budget-spent-on-reasoning", "chat", chat("length", thought(600, 590))),
        ("budget-spent-on-reasoning", "chat", chat("length", reasoning="Hm.")),
        ("malformed", "chat", {"choices": None}),
        ("malformed", "chat", []),
        ("malformed", "chat", b"{"),
        ("malformed", "chat", b""),
        ("malformed", "chat", HTML),
        ("malformed", "chat", b'{"choices":[{"message":{"content":"x"}}],"x":NaN}'),
        ("malformed", "chat", b'{"choices":[{"message":{"content":"\xff"}}]}'),
        ("malformed", "chat", b"[" * 9_000),
        ("ok", "chat", b'\xef\xbb\xbf{"choices":[{"message":{"content":"\\ud83d"}}],"x":1e999}'),
        ("finish-error", "chat", chat("error", content="part")),
        ("ok", "completions", {"choices": [{"text": "x", "finish_reason": "stop"}]}),
        ("empty", "completions", {"choices": [{"text": "", "finish_reason": "stop"}]}),
        ("ok", "responses", {"output": [{"type": "function_call", "name": "f"}]}),
        ("ok", "responses", {"output": [{"type": "message", "content": [{"refusal": "No."}]}]}),
        ("ok", "responses", {"output": [], "status": "in_progress"}),
        ("empty", "responses", {"output": [{"type": "reasoning"}], "status": "completed"}),
        ("finish-error", "responses", {"output": [], "status": "failed", "error": None}),
        ("budget-spent-on-reasoning", "responses", {"output": [{"type": "reasoning"}], "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"}}),
        ("ok", "messages", {"content": [{"type": "text", "text": "x"}]}),
        ("ok", "messages", {"content": [{"type": "tool_use", "name": "f"}]}),
        ("ok", "messages", {"content": [], "stop_reason": "refusal"}),
        ("empty", "messages", {"content": [{"type": "text", "text": ""}], "stop_reason": "end_turn"}),
        ("budget-spent-on-reasoning", "messages", {"content": [{"type": "thinking"}],
            "stop_reason": "max_tokens"}),
        ("ok", "embeddings", {"data": [{"embedding": [0.1]}]}),
        ("empty", "embeddings", {"data": [{"embedding": []}]}),
        ("malformed", "embeddings", {"choices": []}),
    ],
)  # fmt: skip
def test_complete_answers(row: str, dialect: str, body: Any) -> None:
    assert answered(body, dialect) == row


@pytest.mark.parametrize(
    ("row", "headers"),
    [
        ("ok", {}),
        ("ok", {"content-type": "application/json; charset=utf-8", "content-encoding": "identity"}),
        ("ok", {"content-type": "Application/Problem+JSON"}),
        ("malformed", {"content-type": "text/html"}),
        ("malformed", {"content-type": "text/event-stream"}),
        ("malformed", {"content-encoding": "gzip"}),
    ],
)
def test_an_answer_of_another_kind_or_coded_is_malformed(row: str, headers: dict[str, str]) -> None:
    assert answered(chat(content="x"), headers=headers) == row


# --- totality ----------------------------------------------------------------------------------------

FUZZ = settings(
    max_examples=int(os.environ.get("KEYWHEEL_FUZZ_EXAMPLES", "300")),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
WORDS = st.sampled_from(
    "error message code metadata error_type limit_source raw headers choices response availability type "
    "Retry-After X-RateLimit-Reset X-RateLimit-Limit failed_routing_step reason retry_after_seconds flagged_input "
    "server_error openrouter_free_tier_daily temporarily_unavailable 429 -1 1e999 NaN".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)
BODIES = st.binary(max_size=40) | VALUES.map(
    lambda value: json.dumps(value).encode(errors="surrogatepass")
)


def judged(answer: Reply) -> Verdict | None:
    verdict = judge(answer, now=NOON)
    if verdict:
        assert not UNSEEN.search(verdict.message)
        assert len(verdict.message) <= 300
        assert verdict.until is None or NOON < verdict.until < NOON + 33 * 86_400
    for sentence in refused_moments(answer.headers, answer.body, NOON):
        assert not UNSEEN.search(sentence)
    return verdict


@FUZZ
@given(
    st.builds(
        Reply,
        st.sampled_from(Phase),
        st.sampled_from([200, 400, 402, 403, 404, 413, 429, 500, 502, 503, 529]) | st.integers(),
        st.dictionaries(st.sampled_from(["retry-after", "date", "x-ratelimit-reset"]), st.text(max_size=9)),
        BODIES,
    )
)  # fmt: skip
def test_every_answer_has_a_verdict(answer: Reply) -> None:
    verdict = judged(answer)
    if answer.phase is Phase.HEADERS:
        assert (verdict is None) == (answer.status == 200)


def mutate(body: bytes, chance: random.Random) -> bytes:
    """Cut a body, change a byte of it, or put something odd in the place of one of its figures and words."""
    at = chance.randrange(len(body))
    odd = chance.choice(
        [b"null", b"[]", b"{}", b"-1", b"1e999", b'"\\ud800"', b"9" * 5_000, b"true", b'"x"']
    )
    return chance.choice(
        [
            body[:at],
            body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :],
            body[:at] + body[at:].replace(b"0", odd, 1),
            body[:at] + body[at:].replace(b'": "', b'": ' + odd + b', "', 1),
        ]
    )


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_spoilt_recordings_still_have_a_verdict(path: Any) -> None:
    case = json.loads(path.read_text())
    body, chance = json.dumps(case["body"]).encode(), random.Random(path.stem)
    for _ in range(5):
        judged(Reply(Phase(case["phase"]), case["status"], {}, mutate(body, chance)))


HOSTILE = (
    "a", "1,", " ", "\n", "\\", '"', "[", "{", "<", "Bearer ", "sk-or-", "user_", "resets ", "exceeds the ", "\x01",
    "maximum context length ", "context length 1", "budget of $1", "free-models-per-", "no endpoints found that ",
)  # fmt: skip


def test_judging_64_kib_takes_less_than_5_ms_whatever_they_are() -> None:
    slowest = 0.0
    for part in HOSTILE:
        text = part * (60_000 // len(json.dumps(part)[1:-1]))
        for status in (400, 413, 429):
            body = json.dumps(envelope(status, text[:30_000], {"raw": text[:30_000]})).encode()
            slowest = max(slowest, min(_time(status, body) for _ in range(3)))
    assert slowest < 0.005


def _time(status: int, body: bytes) -> float:
    began = time.perf_counter()
    judge(Reply(Phase.HEADERS, status, {}, body[: 64 * 1024]), now=NOON)
    return time.perf_counter() - began
