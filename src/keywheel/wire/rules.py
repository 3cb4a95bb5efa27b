"""How each kind of failure is recognised: the classification table of routing rule A.5 as ordered rules.

The first rule whose conditions all hold names the row; `core.rows` says what follows from it. The order is
the order of trust: typed fields, status, headers, sentences. A later reading wins only over the row it refines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from keywheel.core.rows import ROWS
from keywheel.core.types import Row
from keywheel.wire import patterns as text
from keywheel.wire.evidence import (
    Condition,
    available,
    both,
    code,
    day_spent,
    either,
    filtered,
    has_type,
    in_html,
    metadata,
    minute_spent,
    not_json,
    previous_errors,
    provider_shaped,
    reason,
    restricted,
    retryable,
    says,
    says_only,
    source,
    status,
    step,
    tells,
    typed,
    unattributed,
    wrapped,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the classification and what it is recognised by. `lacks`: what the model cannot."""

    row: Row
    conditions: tuple[Condition, ...]
    lacks: str | None = None


def rule(row: str, *conditions: Condition, lacks: str | None = None) -> Rule:
    """A rule by the name of its row; without conditions it always holds."""
    return Rule(ROWS[row], conditions, lacks)


# Types that say no more than a status: the rules of that status look further.
GENERAL_TYPES: Mapping[str, int] = {
    "rate_limit_exceeded": 429,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "payload_too_large": 413,
}
_INVALID = [
    "invalid_request",
    "invalid_prompt",
    "string_too_long",
    "invalid_image",
    "image_too_large",
    "image_too_small",
    "unsupported_image_format",
    "image_download_failed",
    "image_not_found",
    "precondition_failed",
    "unprocessable",
]
_TOO_LONG = ("context_length_exceeded", "max_tokens_exceeded", "token_limit_exceeded")
_REFUSED = ("content_policy_violation", "refusal", "image_content_policy_violation")

# The status that an error inside a 200 stands for, by the words of all dialects.
WORDS: Mapping[str, int] = {
    **GENERAL_TYPES,
    **dict.fromkeys(_INVALID, 400),
    **dict.fromkeys(_TOO_LONG, 400),
    **dict.fromkeys(_REFUSED, 403),
    "authentication": 401,
    "server": 500,
    "unmapped": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
    "authentication_error": 401,
    "permission_error": 403,
    "billing_error": 402,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
    "invalid_request_error": 400,
    "request_too_large": 413,
    "api_error": 500,
    "server_error": 500,
}

MODEL_CODES = [
    "model_not_found",
    "no_endpoints",
    "model_deprecated",
    "model_unavailable_upstream",
    "free_variant_ended",
]

_SETTINGS = either(
    step("Filter by Guardrails", "Filter by Data Policy"),
    available("privacy_restricted"),
    both(status(404), metadata("ineligibility_reasons")),
    both(status(404), says(text.PRIVACY, text.ACCOUNT_PROVIDERS)),
)
_CAPABILITY_STEPS: Mapping[str, str] = {
    "tools": "Filter by Tool Compatibility",
    "image": "Filter by Image Support",
    "parameters": "Filter by Parameters",
    "price": "Filter by Max Price",
    "providers": "Filter by Allowed Providers",
}

RULES: tuple[Rule, ...] = (
    rule("redirect", status(range(300, 400))),
    # What the platform types: whose limit, which reason, which step of routing.
    rule("cannot-afford-this", reason("weight_exceeds_budget")),
    rule("cannot-afford-this", status(402), says(text.THIS_REQUEST)),
    rule("in-flight-budget", reason("in_flight_budget_exhausted")),
    rule("in-flight-budget", source("openrouter_in_flight_budget")),
    rule("platform-minute", source("openrouter_free_tier_per_minute")),
    rule("platform-day", source("openrouter_free_tier_daily")),
    rule("model-capacity", source("openrouter_shared_capacity")),
    rule("upstream-pool", source("upstream_provider_shared_pool")),
    rule(
        "key-limit",
        source(
            "openrouter_key_limit", "openrouter_workspace_budget", "openrouter_guardrail_budget"
        ),
    ),
    rule("no-credits", source("openrouter_credits")),
    rule("harness-gate", step("Gate Free Endpoints by Agentic Harness")),
    rule("capability", restricted, _SETTINGS),
    rule("account-settings", _SETTINGS),
    *(rule("capability", step(name), lacks=lack) for lack, name in _CAPABILITY_STEPS.items()),
    rule("model-gone", step("Filter by Fallback")),
    rule("capability", filtered),
    rule("provider-down", available(*MODEL_CODES), retryable),
    rule("model-gone", available(*MODEL_CODES)),
    rule("provider-down", available("temporarily_unavailable")),
    rule("capability", available("wrong_endpoint")),
    # The stable vocabulary. A 529 is more than its type: the model takes fewer requests at once.
    rule("overloaded", status(529), typed("provider_overloaded")),
    rule("region", either(available("region_restricted"), typed("region_restricted"))),
    rule("context-too-long", typed(*_TOO_LONG)),
    rule("content-refused", typed(*_REFUSED)),
    rule("bad-request", typed(*_INVALID)),
    rule("bad-key", typed("authentication")),
    rule("provider-down", typed("provider_unavailable", "provider_overloaded")),
    rule("server-error", typed("server", "unmapped")),
    rule("timeout", typed("timeout")),
    # 429: whoever is named first, the size of a limit last.
    rule("edge-refusal", code("1015", "1020")),
    rule("edge-refusal", status(403), not_json),
    rule("edge-refusal", status(429), either(in_html, both(not_json, says(text.EDGE_TEXT)))),
    rule("platform-minute", status(429), says(text.FREE_MINUTE)),
    rule("platform-day", status(429), says(text.FREE_DAY)),
    rule("model-capacity", status(429), says(text.MODEL_CAPACITY)),
    rule("upstream-pool", status(429), tells(text.UPSTREAM_POOL)),
    rule("upstream-pool", available("capacity_exhausted")),
    rule("upstream-pool", status(429), either(provider_shaped, previous_errors)),
    rule("platform-minute", status(429), minute_spent),
    rule("platform-day", status(429), day_spent),
    rule("unclear-429", status(429)),
    # 400 and 422: the platform's own words, the provider's, or a provider's without a reason.
    rule("bad-request", status(400, 422), has_type),
    rule("content-refused", status(400, 403), metadata("reasons", "patterns", "flagged_input")),
    rule("bad-key-400", status(400, 422), tells(text.BAD_KEY)),
    rule("degraded-400", status(400, 422), tells(text.DEGRADED)),
    rule("context-too-long", status(400, 413, 422), tells(text.TOO_LONG)),
    rule("model-gone", status(400), says(text.MODEL_GONE)),
    rule("capability", status(400), says(text.NO_REASONING_OFF), lacks="reasoning_off"),
    rule("untyped-400", status(400), provider_shaped),
    rule("untyped-400", status(422)),
    rule("bad-request", status(400, 412)),
    rule("context-too-long", status(413), says(text.TOKEN_FIGURE)),
    rule("payload-too-large", status(413)),
    # 401, 402, 403: a page is not the platform's word about a key.
    rule("wrong-path", status(401, 404, 405, 407), in_html),
    rule("bad-key", status(401)),
    rule("in-flight-budget", status(402), says(text.IN_FLIGHT)),
    rule("key-limit", status(402, 403), says(text.KEY_LIMIT)),
    rule("no-credits", status(402)),
    rule("harness-gate", status(403), says(text.HARNESS_GATE)),
    rule("content-refused", status(403), says(text.REFUSED)),
    rule("region", status(403), says(text.REGION)),
    rule("forbidden", status(403)),
    # 404: what the model cannot, what the account may not, what is gone, and what never was a path.
    *(
        rule("capability", status(404), says(sentence), lacks=lack)
        for lack, sentence in text.CAPABILITIES.items()
    ),
    rule("capability", restricted, available("constraint_filtered")),
    rule("account-settings", available("constraint_filtered")),
    rule("model-gone", status(404), wrapped),
    rule("wrong-path", status(404), not_json),
    rule("wrong-path", status(404), unattributed, says_only(text.NOT_FOUND)),
    rule("model-gone", status(404, 410)),
    rule("timeout", status(408)),
    rule("transient", status(409, 425)),
    rule("other-4xx", status(range(400, 500))),
    # 5xx: an edge that fails cannot have sent a 200 first, so inside one it is the provider's edge.
    rule("overloaded", status(529)),
    rule("provider-down", status(range(520, 531)), wrapped),
    rule("edge", status(range(520, 531))),
    rule("edge", status(range(500, 600)), either(in_html, both(not_json, says(text.EDGE_TEXT)))),
    rule("provider-down", status(502, 503)),
    rule("timeout", status(504)),
    rule("server-error", status(range(500, 600))),
    rule("malformed"),
)
