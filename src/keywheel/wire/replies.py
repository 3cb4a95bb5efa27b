"""What clients get in our own words: error bodies, error events inside a stream, the list of models."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

# The `type` of each of our codes in OpenAI's vocabulary. A code that is not ours goes by its status.
TYPES: Mapping[str, str] = {
    "invalid_request": "invalid_request_error",
    "context_too_long": "invalid_request_error",
    "model_not_free": "invalid_request_error",
    "payload_too_large": "invalid_request_error",
    "not_found": "invalid_request_error",
    "method_not_allowed": "invalid_request_error",
    "unauthorized": "authentication_error",
    "forbidden": "permission_error",
    "quota_exhausted": "rate_limit_exceeded",
    "no_usable_lane": "service_unavailable_error",
    "upstream_failed": "upstream_error",
    "deadline_exceeded": "timeout_error",
    "internal_error": "server_error",
}
STATUS_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_exceeded",
}
# The same in Anthropic's vocabulary, which knows types by status alone.
ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# The same in OpenRouter's vocabulary, `metadata.error_type`.
OPENROUTER_TYPES: Mapping[int, str] = {
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    412: "precondition_failed",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
}


def is_openrouters(path: str) -> bool:
    """Whether a path is one of OpenRouter's own API, whose SDKs take nothing but a number for `error.code`."""
    return path.startswith("/api/v1/")


def error_body(  # noqa: PLR0913 - the members of an error, all by name
    dialect: str,
    *,
    status: int,
    code: str,
    message: str,
    type: str | None = None,
    param: str | None = None,
    extra: Mapping[str, Any] = {},
    openrouter: bool = False,
) -> bytes:
    """An error in the shape of a dialect. `extra` members join the error's own; `type` is OpenAI's word.

    `openrouter`: as OpenRouter has it, with the status for a `code` and our word, beside its own, in `metadata`.
    """
    if dialect == "messages":
        return _encode(_anthropic_error(status, code, message, param, extra))
    error = {
        "message": message,
        "type": type or _type(status, code),
        **_named(status, code, openrouter),
        "param": param,
    }
    return _encode({"error": error | dict(extra)})


def error_event(  # noqa: PLR0913 - the members of an error, all by name
    dialect: str,
    *,
    status: int,
    code: str,
    message: str,
    id: str | None = None,
    created: int | None = None,
    model: str | None = None,
    sequence: int = 0,
    eol: bytes = b"\n",
    openrouter: bool = False,
) -> bytes:
    """The event that ends a stream badly after its status has gone out (routing rule A.7).

    No end marker follows it. `id`, `created` and `model` are those of the answer, as far as they are
    known; `sequence` is the next `sequence_number` (responses), `eol` the line end of the stream,
    `openrouter` as in `error_body`.
    """
    error = {**_named(status, code, openrouter), "type": _type(status, code), "message": message}
    if dialect == "messages":
        return _event(_anthropic_event(status, code, message), eol, b"error")
    if dialect == "responses":
        return _event(_responses_event(code, error, sequence), eol, b"error")
    kind, silence = _CHUNKS.get(dialect, _CHUNKS["chat"])
    known = {"created": created, "model": model}
    chunk = {
        "id": id,
        "object": kind,
        **{name: value for name, value in known.items() if value is not None},
        "error": error,
        "choices": [{"index": 0, **silence, "finish_reason": "error"}],
    }
    return _event(chunk, eol)


def keepalive() -> bytes:
    """The comment that keeps a silent stream open."""
    return b": keep-alive\n\n"


def models_body(
    entries: Sequence[msgspec.Raw | Mapping[str, Any]], total: int, following: str | None = None
) -> bytes:
    """The answer of `GET /models`, in OpenRouter's shape and, by `object`, in OpenAI's.

    `total`: how many there are on all pages. `following`: where the next page is, None behind the last one.
    """
    links = {"next": following}
    return _encode({"data": entries, "total_count": total, "links": links, "object": "list"})


def model_body(entry: msgspec.Raw | Mapping[str, Any]) -> bytes:
    """The answer of `GET /models/{id}`: the entry in `data`, as OpenRouter has it, and around it as OpenAI does."""
    fields = msgspec.json.decode(msgspec.json.encode(entry), type=dict[str, msgspec.Raw])
    owner = msgspec.json.decode(fields["id"], type=str).partition("/")[0]
    return _encode({**fields, "object": "model", "owned_by": owner, "data": entry})


def auto_entry(  # noqa: PLR0913 - the few members of a model that differ from one such entry to another
    id: str,
    name: str,
    context: int | None,
    *,
    max_output: int | None = None,
    created: int = 0,
    inputs: Sequence[str] = ("text",),
    parameters: Sequence[str] = (),
    description: str = "",
) -> dict[str, Any]:
    """A model of our own (`auto`, `auto:<pool>`) as OpenRouter lists models, at no price."""
    return {
        "id": id,
        "canonical_slug": id,
        "hugging_face_id": None,
        "name": name,
        "created": created,
        "description": description,
        "context_length": context,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": list(inputs),
            "output_modalities": ["text"],
            "tokenizer": "Router",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0", "completion": "0"},
        "top_provider": {
            "context_length": context,
            "max_completion_tokens": max_output,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list(parameters),
        "default_parameters": None,
        "supported_voices": None,
        "knowledge_cutoff": None,
        "expiration_date": None,
        "links": {"details": f"/api/v1/models/{id}/endpoints"},
    }


# How a chunk names itself, and a choice of it that says nothing.
_CHUNKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "chat": ("chat.completion.chunk", {"delta": {}}),
    "completions": ("text_completion", {"text": "", "logprobs": None}),
}


def _anthropic_event(status: int, code: str, message: str) -> dict[str, Any]:
    kind = ANTHROPIC_TYPES.get(status) or _family(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message, "code": _code(code)}}


def _anthropic_error(
    status: int, code: str, message: str, param: str | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    body = _anthropic_event(status, code, message)
    rest = {"param": param, **extra} if param else dict(extra)
    request_id = rest.pop("request_id", None)
    body["error"].update(rest)
    return {**body, "request_id": request_id}


def _responses_event(code: str, error: Mapping[str, Any], sequence: int) -> dict[str, Any]:
    """The documented flat event; the SDKs raise only for one that also has an `error` member."""
    return {
        "type": "error",
        "code": code,
        "message": error["message"],
        "param": None,
        "sequence_number": sequence,
        "error": error,
    }


def _type(status: int, code: str) -> str:
    return TYPES.get(code) or STATUS_TYPES.get(status) or _family(status, "server_error")


def _family(status: int, otherwise: str) -> str:
    return "invalid_request_error" if 400 <= status < 500 else otherwise


def _named(status: int, code: str, openrouter: bool) -> dict[str, Any]:
    """What an error is called: by a word, or as OpenRouter does it by a number."""
    known = _code(code)
    if not openrouter:
        return {"code": known}
    word = {"code": known} if isinstance(known, str) else {}
    kind = "context_length_exceeded" if code == "context_too_long" else _openrouters_type(status)
    return {"code": status if word else known, "metadata": {"error_type": kind, **word}}


def _openrouters_type(status: int) -> str:
    family = "invalid_request" if 400 <= status < 500 else "server"
    return OPENROUTER_TYPES.get(status) or family


def _code(code: str) -> str | int:
    """Upstream codes that are numbers stay numbers."""
    return int(code) if code.isdecimal() else code


def _event(body: Mapping[str, Any], eol: bytes, name: bytes = b"") -> bytes:
    start = b"event: " + name + eol if name else b""
    return start + b"data: " + _encode(body) + eol * 2


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry and UTF-8 cannot
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")
