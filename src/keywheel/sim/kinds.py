"""Every kind of answer the simulated service can give, by name."""

from enum import StrEnum


class Kind(StrEnum):
    """What one attempt ends in. The values are the words of scenarios, scripts and the journal."""

    OK = "ok"
    # the caller is unknown
    NO_KEY = "no-key"
    KEY_UNKNOWN = "key-unknown"
    # the request itself is at fault, before anything is counted
    NOT_JSON = "not-json"
    NO_INPUT = "no-input"
    MANY_MODELS = "many-models"
    INVALID = "invalid"
    TOO_LARGE = "too-large"
    # money
    CREDITS = "credits"
    NEVER_PAID = "never-paid"
    AFFORD = "afford"
    IN_FLIGHT = "in-flight"
    KEY_LIMIT = "key-limit"
    # the platform's free tier
    MINUTE = "minute"
    DAY = "day"
    # routing
    BAD_MODEL = "bad-model"
    GONE = "gone"
    ENDED = "ended"
    PRIVACY = "privacy"
    DATA_POLICY = "data-policy"
    NO_TOOLS = "no-tools"
    NO_IMAGES = "no-images"
    NO_PARAMETERS = "no-parameters"
    CONTEXT = "context"
    REASONING = "reasoning-mandatory"
    HARNESS = "harness"
    MODERATION = "moderation"
    NO_FALLBACK = "no-fallback"
    # the model's own cap
    MODEL_CAPACITY = "model-capacity"
    MODEL_DAY = "model-day"
    # the provider, with a status of its own
    UPSTREAM_POOL = "upstream-pool"
    UPSTREAM_HINT = "upstream-hint"
    PROVIDER_429 = "provider-429"
    BARE_429 = "bare-429"
    PROVIDER_400 = "provider-400"
    TIMEOUT = "408"
    INTERNAL = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    OVERLOADED = "503-hint"
    GATEWAY_TIMEOUT = "504"
    EDGE_TIMEOUT = "524"
    PROVIDER_529 = "529"
    # inside a 200
    ERROR_IN_200 = "error-in-200"
    ERROR_FIRST = "error-first"
    BREAK = "break-after-content"
    FINISH_ERROR = "finish-error"
    EMPTY = "empty"
    ALL_REASONING = "all-reasoning"
    NO_DONE = "no-done"
    TRUNCATED = "truncated"
    # the connection
    SILENT = "silent"
    RESET = "reset"
    STALL_AFTER = "stall-after-content"
    RESET_AFTER = "reset-after-content"
    # the edge in front of the service: invented in shape, never by chance unless a scenario says so
    EDGE_HTML = "edge-html"
    EDGE_LIMIT = "edge-limit"


#: The status is 200 and the provider has begun to work: `models[]` moves no further.
COMMITTED = frozenset(
    {
        Kind.OK,
        Kind.ERROR_IN_200,
        Kind.ERROR_FIRST,
        Kind.BREAK,
        Kind.FINISH_ERROR,
        Kind.EMPTY,
        Kind.ALL_REASONING,
        Kind.NO_DONE,
        Kind.TRUNCATED,
        Kind.SILENT,
        Kind.RESET,
        Kind.STALL_AFTER,
        Kind.RESET_AFTER,
    }
)

#: Kinds that concern the caller or the whole request: no other model can help.
FINAL = frozenset(
    {
        Kind.NO_KEY,
        Kind.KEY_UNKNOWN,
        Kind.NOT_JSON,
        Kind.NO_INPUT,
        Kind.MANY_MODELS,
        Kind.INVALID,
        Kind.TOO_LARGE,
        Kind.EDGE_HTML,
        Kind.EDGE_LIMIT,
    }
)

#: Refused before a generation was opened.
UNROUTED = FINAL | {Kind.IN_FLIGHT, Kind.KEY_LIMIT, Kind.MINUTE, Kind.DAY}

#: Kinds that take as long as a model takes: the provider was at work. The rest is refused at once.
UPSTREAM = COMMITTED | {
    Kind.TIMEOUT,
    Kind.INTERNAL,
    Kind.BAD_GATEWAY,
    Kind.UNAVAILABLE,
    Kind.OVERLOADED,
    Kind.GATEWAY_TIMEOUT,
    Kind.EDGE_TIMEOUT,
    Kind.PROVIDER_529,
    Kind.PROVIDER_400,
}
