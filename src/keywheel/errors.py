"""What can go wrong on our side. An upstream's refusal is a value (`Verdict`), not an exception.

Error
├── ConfigError          a setting or key is wrong; the program does not start
├── StoreError           the state store cannot be used
├── Closed               the wheel was closed
├── Unsupported          a client of this kind cannot be served
└── RequestFailed        a request of the library ended without an answer
    ├── InvalidRequest   400: a field is wrong
    ├── ModelNotFree     400: the model is paid or unknown
    ├── ContextTooLong   400: no usable model takes a prompt of this length
    ├── QuotaExhausted   429: every account's free quota is used up for now
    ├── NoUsableLane     503: no key and model can be used now
    ├── UpstreamFailed   502: attempts were made and failed
    └── DeadlineExceeded 504
"""

from collections.abc import Mapping


class Error(Exception):
    """Anything keywheel raises."""


class ConfigError(Error):
    """A setting or key is wrong; the message names it and the remedy."""


class StoreError(Error):
    """The state store cannot be used."""


class RequestFailed(Error):
    """A request ended without an answer.

    `retry_after`: seconds, None if nobody knows. `attempts`: upstream requests made. `request_id`: for
    `explain`, empty where the request was refused before it began.
    """

    status: int = 500
    code: str = "upstream_failed"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        attempts: int = 0,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.attempts = attempts
        self.request_id = request_id


class InvalidRequest(RequestFailed):
    """A field of the request is wrong; `param` names it."""

    status = 400
    code = "invalid_request"


class ModelNotFree(RequestFailed):
    """The model asked for is paid or unknown."""

    status = 400
    code = "model_not_free"


class ContextTooLong(RequestFailed):
    """No usable model takes a prompt of this length."""

    status = 400
    code = "context_too_long"


class QuotaExhausted(RequestFailed):
    """Every account's free quota is used up for now."""

    status = 429
    code = "quota_exhausted"


class NoUsableLane(RequestFailed):
    """No key and model can be used now."""

    status = 503
    code = "no_usable_lane"


class UpstreamFailed(RequestFailed):
    """Attempts were made and failed."""

    status = 502
    code = "upstream_failed"


class DeadlineExceeded(RequestFailed):
    """The deadline ended the request."""

    status = 504
    code = "deadline_exceeded"


class Closed(Error):
    """The wheel was closed; make a new one."""


class Unsupported(Error):
    """A client of this kind, or of this version, cannot be served; the message says what can."""


# By the `code` of an answer: who calls the library itself gets these instead of answers.
REFUSALS: Mapping[str, type[RequestFailed]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        ModelNotFree,
        ContextTooLong,
        QuotaExhausted,
        NoUsableLane,
        UpstreamFailed,
        DeadlineExceeded,
    )
}
