"""Refusals as the service words them: one row a kind, trailing blanks included.

Sources: captures and documents of 2025 to 2026. Texts that no source gives are marked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from keywheel.sim.kinds import Kind
from keywheel.sim.rulings import Ruling

Metadata = dict[str, Any]

ROUTING_DOCS = (
    "To learn more about provider routing, visit: "
    "https://openrouter.ai/docs/guides/routing/provider-selection"
)
POOL = (
    "{model} is temporarily rate-limited upstream. Please retry shortly, or add your own key to "
    "accumulate your rate limits: https://openrouter.ai/settings/integrations"
)
POOL_HINT = (
    "Retry shortly, add your own provider key (https://openrouter.ai/settings/integrations), or "
    "route to another provider with provider routing: "
    "https://openrouter.ai/docs/features/provider-routing"
)
DAY_HINT = (
    "Wait for the daily reset (see X-RateLimit-Reset), or purchase credits to raise your "
    "free-model daily limit."
)
MINUTE_HINT = "Slow down requests to free models, or retry after the per-minute window resets."


def _none(_: Ruling) -> Metadata:
    return {}


def rate_limit(ruling: Ruling) -> dict[str, str]:
    """`X-RateLimit-*`: the reset in epoch milliseconds, left out where the service gives none."""
    found = {"X-RateLimit-Limit": str(ruling.limit), "X-RateLimit-Remaining": "0"}
    if ruling.reset is not None:
        found["X-RateLimit-Reset"] = str(ceil(ruling.reset * 1000))
    return found


def _platform(source: str, hint: str) -> Callable[[Ruling], Metadata]:
    def metadata(ruling: Ruling) -> Metadata:
        return {
            "headers": rate_limit(ruling),
            "limit_source": source,
            "remedy_hint": hint,
            "provider_name": None,
        }

    return metadata


def _capacity(ruling: Ruling) -> Metadata:
    return {"headers": rate_limit(ruling), "limit_source": "openrouter_shared_capacity"}


def _pool(ruling: Ruling) -> Metadata:
    return {
        "raw": POOL.format(model=ruling.model_name),
        "provider_name": ruling.provider,
        "is_byok": False,
        "limit_source": "upstream_provider_shared_pool",
        "remedy_hint": POOL_HINT,
    }


def _pool_with_hint(ruling: Ruling) -> Metadata:
    seconds = ruling.retry_after or 0.0
    found = _pool(ruling)
    source, hint = found.pop("limit_source"), found.pop("remedy_hint")
    return found | {
        "provider_error_code": "rate_limit_exceeded",
        "limit_source": source,
        "remedy_hint": hint,
        "retry_after_seconds": ceil(seconds),
        "retry_after_seconds_raw": round(seconds, 3),
        "headers": {"Retry-After": str(ceil(seconds))},
    }


def _funnel(step: str) -> Callable[[Ruling], Metadata]:
    return lambda _: {
        "routing_funnel": [{"step": "Initial Endpoints", "endpoint_count": 1}],
        "failed_routing_step": step,
    }


def _fixed(**metadata: Any) -> Callable[[Ruling], Metadata]:
    return lambda _: dict(metadata)


def _privacy(_: Ruling) -> Metadata:
    reason = {"reason": "free-model-training-violation-by-guardrail", "endpoint_count": 1}
    return {
        "input_endpoint_count": 1,
        "ineligibility_reasons": [reason],
        "failed_routing_step": "Filter by Guardrails",
    }


def _moderation(ruling: Ruling) -> Metadata:
    return {
        "reasons": ["violence"],
        "flagged_input": "...",
        "provider_name": ruling.provider,
        "model_slug": ruling.model_name.partition(":")[0],
    }


def _provider_400(ruling: Ruling) -> Metadata:
    raw = (
        '{ "error": { "code": 400, "message": "Validation: Function at index 0 has an invalid name:'
        ' \\"fs.size\\". Only a-z, A-Z, 0-9, underscores, and dashes are allowed.",'
        ' "type": "Bad Request" } }'
    )
    return {
        "raw": raw,
        "provider_name": ruling.provider,
        "is_byok": False,
        "provider_error_code": "400",
    }


@dataclass(frozen=True, slots=True)
class Refusal:
    """How one kind is refused. `text` takes the words of `bodies.words`."""

    status: int
    text: str
    metadata: Callable[[Ruling], Metadata] = _none
    user: bool = True  # whether `user_id` stands beside the error
    generation: bool = False  # whether the router had opened a generation
    limits: bool = False  # whether X-RateLimit-* come as HTTP headers too


# `error_type`, the service's stable vocabulary, where the metadata of a refusal does not give it.
TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}
TYPES_OF_KINDS = {
    Kind.CONTEXT: "context_length_exceeded",
    Kind.MODERATION: "content_policy_violation",
}


def error_type(ruling: Ruling, row: Refusal) -> str:
    """The `error_type` of a refusal: dialects with a vocabulary of their own always tell it."""
    given = row.metadata(ruling).get("error_type") or TYPES_OF_KINDS.get(ruling.kind)
    return given or TYPES[row.status]


REFUSALS: dict[Kind, Refusal] = {
    Kind.NO_KEY: Refusal(401, "No cookie auth credentials found", user=False),
    Kind.KEY_UNKNOWN: Refusal(401, "User not found.", user=False),
    Kind.NOT_JSON: Refusal(400, "Input must have at least 1 token.", user=False),
    Kind.NO_INPUT: Refusal(400, 'Input required: specify "prompt" or "messages"', generation=True),
    Kind.MANY_MODELS: Refusal(400, "'models' array must have 3 items or fewer."),
    Kind.INVALID: Refusal(400, "Invalid request parameters"),
    Kind.TOO_LARGE: Refusal(413, "Request payload too large", user=False),
    Kind.CREDITS: Refusal(
        402,
        "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
        _fixed(
            limit_source="openrouter_credits",
            remedy_hint="Add credits at https://openrouter.ai/settings/credits, then retry.",
        ),
        generation=True,
    ),
    Kind.NEVER_PAID: Refusal(
        402,
        "Insufficient credits. This account never purchased credits. Make sure your key is on the "
        "correct account or org, and if so, purchase more at "
        "https://openrouter.ai/settings/credits",
        _fixed(limit_source="openrouter_credits"),
        generation=True,
    ),
    Kind.AFFORD: Refusal(
        402,
        "This request requires more credits, or fewer max_tokens. You requested up to {output} "
        "tokens, but can only afford {limit}. To increase, visit "
        "https://openrouter.ai/settings/credits and add more credits",
        _fixed(limit_source="openrouter_credits"),
        generation=True,
    ),
    Kind.IN_FLIGHT: Refusal(
        402,
        "This request would exceed your available credits given your current in-flight requests. "
        "Retry after in-flight requests settle, or add credits.",
        _fixed(
            reason="in_flight_budget_exhausted",
            limit_source="openrouter_in_flight_budget",
            remedy_hint="Retry after your in-flight requests settle (see the Retry-After header). "
            "Adding credits at https://openrouter.ai/settings/credits raises your in-flight "
            "budget, up to a capped ceiling.",
        ),
        user=False,
    ),
    Kind.KEY_LIMIT: Refusal(
        403,
        "Key limit exceeded (weekly limit). Manage it using "
        "https://openrouter.ai/workspaces/default/keys/{key_hash} $20.05 of $20.00 used; "
        "resets {reset}.",
        _fixed(limit_source="openrouter_key_limit"),
        user=False,
    ),
    Kind.MINUTE: Refusal(
        429,
        "Rate limit exceeded: free-models-per-min. ",
        _platform("openrouter_free_tier_per_minute", MINUTE_HINT),
        limits=True,
    ),
    Kind.DAY: Refusal(
        429,
        "Rate limit exceeded: free-models-per-day{tier}",
        _platform("openrouter_free_tier_daily", DAY_HINT),
        limits=True,
    ),
    Kind.BAD_MODEL: Refusal(400, "{model} is not a valid model ID", generation=True),
    Kind.GONE: Refusal(404, "No endpoints found for {model}."),
    Kind.ENDED: Refusal(
        404,
        "This model is unavailable for free. The paid version is available now - use this slug "
        "instead: {paid}",
    ),
    Kind.PRIVACY: Refusal(
        404,
        "0 endpoints out of 1 requested are available matching your guardrail restrictions and "
        "data policy. We removed them for the following reasons (an endpoint may have matched "
        "multiple reasons):\nFree model training violation (guardrail): 1 endpoint excluded",
        _privacy,
        user=False,
    ),
    Kind.DATA_POLICY: Refusal(
        404,
        "No endpoints found matching your data policy (Free model training). Configure: "
        "https://openrouter.ai/settings/privacy",
        _fixed(failed_routing_step="Filter by Data Policy"),
    ),
    Kind.NO_TOOLS: Refusal(
        404,
        'No endpoints found that support tool use. Try disabling "{tool}". ' + ROUTING_DOCS,
        _funnel("Filter by Tool Compatibility"),
    ),
    Kind.NO_IMAGES: Refusal(
        404,
        "No endpoints found that support image input",
        _fixed(failed_routing_step="Filter by Image Support"),
    ),
    Kind.NO_PARAMETERS: Refusal(
        404,
        "No endpoints found that can handle the requested parameters. " + ROUTING_DOCS,
        _funnel("Filter by Parameters"),
    ),
    # The step is captured, the text is not.
    Kind.NO_FALLBACK: Refusal(
        404, "No endpoints found for {model}.", _fixed(failed_routing_step="Filter by Fallback")
    ),
    Kind.CONTEXT: Refusal(
        400,
        "This endpoint's maximum context length is {limit} tokens. However, you requested about "
        "{total} tokens ({prompt} of text input, {output} in the output). Please reduce the length "
        "of either one, or use the context-compression plugin to compress your prompt "
        "automatically.",
        _fixed(provider_name=None),
        user=False,
    ),
    Kind.REASONING: Refusal(
        400,
        "Reasoning is mandatory for this endpoint and cannot be disabled.",
        _fixed(provider_name=None),
        user=False,
        generation=True,
    ),
    Kind.HARNESS: Refusal(
        403,
        "{model} is only available on agentic harnesses. Try plugging it into a coding agent or "
        "productivity app listed on https://openrouter.ai/apps",
        _funnel("Gate Free Endpoints by Agentic Harness"),
    ),
    Kind.MODERATION: Refusal(
        403,
        '{model} requires moderation on {provider}. Your input was flagged for "violence". No '
        "credits were charged.",
        _moderation,
    ),
    Kind.MODEL_CAPACITY: Refusal(
        429,
        "Rate limit exceeded: {capacity}. High demand for {model} on OpenRouter - limited to "
        "{limit} requests per minute. Please retry shortly.",
        _capacity,
        limits=True,
    ),
    Kind.MODEL_DAY: Refusal(
        429,
        "Rate limit exceeded: limit_rpd/{slug}/{short_id}. Daily limit reached for {model} via "
        "{provider}.",
        _capacity,
        limits=True,
    ),
    Kind.UPSTREAM_POOL: Refusal(429, "Provider returned error", _pool, generation=True),
    Kind.UPSTREAM_HINT: Refusal(429, "Provider returned error", _pool_with_hint, generation=True),
    Kind.PROVIDER_429: Refusal(
        429,
        "Rate limit exceeded",
        _fixed(error_type="rate_limit_exceeded", provider_code="rate_limited"),
        user=False,
    ),
    Kind.BARE_429: Refusal(
        429, "Rate limit exceeded", _fixed(error_type="rate_limit_exceeded"), user=False
    ),
    Kind.PROVIDER_400: Refusal(400, "Provider returned error", _provider_400),
    Kind.TIMEOUT: Refusal(408, "Operation timed out. Please try again later.", user=False),
    Kind.INTERNAL: Refusal(500, "Internal Server Error", _fixed(error_type="server")),
    Kind.BAD_GATEWAY: Refusal(
        502,
        "Provider returned error",
        _fixed(error_type="provider_unavailable"),
        generation=True,
    ),
    Kind.UNAVAILABLE: Refusal(503, "No backends available"),
    Kind.OVERLOADED: Refusal(
        503,
        "Service temporarily unavailable",
        _fixed(error_type="provider_overloaded"),
        user=False,
    ),
    Kind.GATEWAY_TIMEOUT: Refusal(504, "Provider returned error", _fixed(error_type="timeout")),
    Kind.EDGE_TIMEOUT: Refusal(524, "Request timed out. Please try again later.", user=False),
    Kind.PROVIDER_529: Refusal(529, "Provider returned error", user=False),
}
