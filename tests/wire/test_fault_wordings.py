"""Classification of answers that nobody recorded: other wordings, other months, missing and odd fields."""

import json
from typing import Any

import pytest

from keywheel.wire.faults import Phase, judge
from tests.wire.replying import NOON, refusal, refused_by, reply

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
        ("platform-minute", 429, "", {"limit_source": "openrouter_free_tier_per_minute"}),
        ("upstream-pool", 429, "", {"limit_source": "upstream_provider_shared_pool"}),
        ("platform-minute", 429, "", {"headers": SPENT}),
        ("platform-day", 429, "", {"headers": DAY_SPENT}),
        ("unclear-429", 429, "", {"headers": LEFT}),
        ("unclear-429", 429, "", {"headers": {"X-RateLimit-Limit": "21", "X-RateLimit-Remaining": "0"}}),
        ("unclear-429", 429, "", {"headers": {"X-RateLimit-Limit": "49", "X-RateLimit-Remaining": "0"}}),
        ("platform-day", 429, "", {"headers": {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0"}}),
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
        ("no-credits", 403, "Insufficient credits.", {"limit_source": "openrouter_credits"}),
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
        ("bad-request", 400, "x", {"error_type": "a_type_of_next_year", "provider_name": "P"}),
        ("bad-request", 412, "x", {"error_type": "precondition_failed"}),
        ("bad-request", 404, "x", {"error_type": "image_not_found"}),
        ("bad-request", 422, "x", {"error_type": "unprocessable", "provider_code": "bad"}),
        ("transient", 409, "Conflict", None),
        ("transient", 425, "Too Early", None),
        # the provider, the edge
        ("timeout", 504, "Gateway Timeout", None),
        ("timeout", 500, "x", {"error_type": "timeout"}),
        ("server-error", 502, "x", {"error_type": "unmapped"}),
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
        ("provider-down", 500, "temporarily_unavailable", {}),
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
        ("audio", "No endpoints found that support input audio"),
        ("video", "No endpoints found that support video input"),
        ("file", "No endpoints found that support file input"),
        ("json_schema", "No endpoints found that support response_format"),
        ("parameters", "No endpoints found that can handle the requested parameters."),
        ("price", "No endpoints found that satisfy the max price for this request"),
        ("providers", "No allowed providers are available for the selected model."),
    ],
)
def test_what_a_model_lacks_is_read_from_the_text(lack: str, message: str) -> None:
    verdict = refusal(404, message)
    assert (verdict.row.name, verdict.lacks) == ("capability", lack)


@pytest.mark.parametrize(
    ("lack", "step"),
    [
        ("tools", "Filter by Tool Compatibility"),
        ("image", "Filter by Image Support"),
        ("parameters", "Filter by Parameters"),
        ("price", "Filter by Max Price"),
        ("providers", "Filter by Allowed Providers"),
        (None, "Filter by Novelty"),
    ],
)
def test_what_a_model_lacks_is_read_from_the_step(lack: str | None, step: str) -> None:
    verdict = refusal(404, "No endpoints found", {"failed_routing_step": step})
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
        ("unclear-429", 429, b"Too Many Requests"),
        ("unclear-429", 429, b"null"),
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
        ("redirect", 302, HTML),
        ("bad-key", 401, b"null"),
        ("server-error", 500, b"17"),
    ],
)
def test_bodies_that_the_platform_did_not_write(row: str, status: int, body: Any) -> None:
    verdict = refused_by(status, body)
    assert verdict.row.name == row
    assert not verdict.passthrough


@pytest.mark.parametrize(
    ("row", "status", "body"),
    [
        ("bad-request", 400, b"Bad Request"),
        ("bad-request", 400, b""),
        ("bad-request", 400, {"detail": "bad"}),
        ("untyped-400", 422, b"nope"),
        ("payload-too-large", 413, HTML),
    ],
)
def test_what_is_the_clients_affair_reaches_it_in_whatever_words(
    row: str, status: int, body: Any
) -> None:
    verdict = refused_by(status, body)
    assert (verdict.row.name, verdict.status, verdict.passthrough) == (row, status, True)
