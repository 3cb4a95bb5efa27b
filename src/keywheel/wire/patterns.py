"""The sentences of the upstream that decide where no structured field does.

Each was read in recorded answers or in the documentation; `faults` says where it is looked for. All of them
match in linear time: no nested repetition, every gap is bounded.
"""

import re
from collections.abc import Mapping

PATTERNS_VERSION = "2026-10"  # month of the newest answer that these were checked against


def _any(*words: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{word})" for word in words), flags | re.ASCII)


# --- limits of requests ------------------------------------------------------------------------------

FREE_MINUTE = _any(r"free-models-per-min\b")
FREE_DAY = _any(r"free-models-per-day")
TIER_50 = _any(r"free-models-per-day(?![-\w])")
TIER_1000 = _any(r"free-models-per-day-high-balance\b")
MODEL_CAPACITY = _any(r"\blimit_(?:rpm|rpd|tpm)/", r"\bHigh demand for\b")
UPSTREAM_POOL = _any(r"\btemporarily rate-limited upstream\b")

# --- money -------------------------------------------------------------------------------------------

THIS_REQUEST = _any(
    r"\bcan only afford \d",
    r"\bprompt tokens limit exceeded\b",
    r"\bthis request requires at least \$",
)
IN_FLIGHT = _any(r"\bgiven your current in-flight requests\b")
KEY_LIMIT = _any(
    r"\bkey limit exceeded\b",
    r"\bbudget of \$[\d.,]{1,20} exceeded\b",
)
RESETS = re.compile(
    r"\bresets?:? (?:at |on )?(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d[\d:.]{0,16}(?:Z|[+-]\d\d:?\d\d)?)?)",
    re.IGNORECASE | re.ASCII,
)

# --- the model, and what it can ----------------------------------------------------------------------

MODEL_GONE = _any(r"\bis not a valid model ID\b")
HARNESS_GATE = _any(r"\bonly available on agentic harnesses\b")
DEGRADED = re.compile(
    r"(?<![\"'`\w])DEGRADED(?![\"'`\w])|\b[Ff]unction cannot be invoked\b", re.ASCII
)
NO_REASONING_OFF = _any(r"\breasoning is mandatory\b")
NOT_FOUND = re.compile(r"\s*not found\s*\.?\s*", re.IGNORECASE | re.ASCII)
_NO_ENDPOINTS = r"\bno endpoints (?:found|available) that "
CAPABILITIES: Mapping[str, re.Pattern[str]] = {
    "tools": _any(_NO_ENDPOINTS + r"support tool"),
    "image": _any(_NO_ENDPOINTS + r"support image"),
    "audio": _any(_NO_ENDPOINTS + r"support (?:input )?audio"),
    "video": _any(_NO_ENDPOINTS + r"support video"),
    "file": _any(_NO_ENDPOINTS + r"support (?:file|pdf)"),
    "json_schema": _any(_NO_ENDPOINTS + r"support (?:structured output|response_format|json)"),
    "parameters": _any(_NO_ENDPOINTS + r"can handle the requested parameters"),
    "price": _any(_NO_ENDPOINTS + r"satisfy the max price"),
    "providers": _any(r"\bno allowed providers are available\b"),
}

# --- the account, the key, the place -----------------------------------------------------------------

PRIVACY = _any(r"\bmatching your (?:guardrail restrictions|data policy)\b")
ACCOUNT_PROVIDERS = _any(r"\byour account's allowed-providers setting\b")
BAD_KEY = _any(
    r"\bAPI[ _]key (?:is )?(?:not valid|invalid|expired)\b",
    r"\bAPI key has expired\b",
    r"\binvalid API[ _]key\b",
)
REGION = _any(
    r"\bnot (?:available|supported) in your (?:region|country)\b",
    r"\buser location is not supported\b",
    r"\bcountry, region, or territory not supported\b",
)
REFUSED = _any(
    r"\brequires moderation\b",
    r"\binput was flagged\b",
    r"\brequest blocked: ",
    r"\bblocked by (?:a |your )?guardrail",
)
EDGE_TEXT = _any(r"\berror code: \d{3,4}\b", r"\berror 10(?:15|20)\b")

# --- context -----------------------------------------------------------------------------------------

TOO_LONG = _any(
    r"\bmaximum (?:context|prompt) length\b",
    r"\bcontext[ _]length[ _]exceeded\b",
    r"\b(?:exceed(?:s|ed|ing)?|larger than|longer than)\b[^.\n]{0,60}"
    r"\b(?:context (?:length|window|size|limit)|maximum number of tokens)\b",
    r"\bcontext (?:length|window|size|limit)\b[^.\n]{0,40}\bexceeded\b",
    r"\b(?:prompt|input) is too long\b",
)
TOKEN_FIGURE = _any(r"\b\d[\d,]{0,12} (?:input |prompt |total )?tokens?\b")
_FIGURE = r"(\d[\d,]{0,12})"
_BETWEEN = r"[^.\d\n]{0,40}"
CONTEXT_LIMITS = (
    re.compile(rf"maximum (?:context|prompt) length{_BETWEEN}{_FIGURE}", re.IGNORECASE | re.ASCII),
    re.compile(rf"tokens > {_FIGURE}", re.IGNORECASE | re.ASCII),
    re.compile(rf"number of tokens allowed{_BETWEEN}{_FIGURE}", re.IGNORECASE | re.ASCII),
    re.compile(
        rf"context (?:length|window|size|limit){_BETWEEN}{_FIGURE}", re.IGNORECASE | re.ASCII
    ),
)

# --- what may not be shown ---------------------------------------------------------------------------

SECRETS = re.compile(
    r"(?P<lead>\b[Bb]earer\s{1,8})[^\s\"',;]{1,4096}"
    r"|sk-or-[\w.-]{1,4096}"
    r"|\bsk-[A-Za-z0-9_-]{12,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|\b(?:user|org)_[A-Za-z0-9]{16,}",
    re.ASCII,
)
UNSEEN = re.compile(  # control characters, line and paragraph separators, text direction, half surrogates
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
