"""Our own words to clients: the shapes that their SDKs read."""

import json
from typing import Any

import msgspec
import pytest

from keywheel.wire.dialects import DIALECTS
from keywheel.wire.replies import (
    auto_entry,
    error_body,
    error_event,
    is_openrouters,
    keepalive,
    model_body,
    models_body,
)
from keywheel.wire.stream import Scanner


def body(dialect: str, **members: Any) -> Any:
    return json.loads(error_body(dialect, **{"message": "No.", **members}))


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "embeddings"])
def test_an_error_has_openais_members_and_the_extra_ones(dialect: str) -> None:
    extra = {"retry_after": 7, "blocked": {"day": 3}}
    assert body(dialect, status=429, code="quota_exhausted", param="model", extra=extra) == {
        "error": {"message": "No.", "type": "rate_limit_exceeded", "code": "quota_exhausted",
                  "param": "model", "retry_after": 7, "blocked": {"day": 3}},
    }  # fmt: skip


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "embeddings"])
def test_openrouters_own_clients_get_the_status_for_a_code_and_the_word_beside(
    dialect: str,
) -> None:
    error = body(dialect, status=429, code="quota_exhausted", param="model", openrouter=True)
    assert error == {
        "error": {"message": "No.", "type": "rate_limit_exceeded", "code": 429,
                  "metadata": {"error_type": "rate_limit_exceeded", "code": "quota_exhausted"}, "param": "model"},
    }  # fmt: skip


def test_a_code_of_the_upstream_that_is_a_number_needs_no_word() -> None:
    error = body("chat", status=502, code="524", openrouter=True)["error"]
    assert (error["code"], error["metadata"]) == (524, {"error_type": "provider_unavailable"})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_too_long", "context_length_exceeded"),
        (400, "model_not_free", "invalid_request"),
        (405, "method_not_allowed", "invalid_request"),
        (401, "unauthorized", "authentication"),
        (413, "payload_too_large", "payload_too_large"),
        (500, "internal_error", "server"),
        (503, "no_usable_lane", "provider_overloaded"),
        (504, "deadline_exceeded", "timeout"),
    ],
)
def test_they_also_get_openrouters_own_word(status: int, code: str, kind: str) -> None:
    error = body("chat", status=status, code=code, openrouter=True)["error"]
    assert (error["code"], error["metadata"]) == (status, {"error_type": kind, "code": code})


def test_messages_are_the_same_for_everyone() -> None:
    assert body("messages", status=400, code="c", openrouter=True) == body(
        "messages", status=400, code="c"
    )


@pytest.mark.parametrize(
    ("path", "theirs"),
    [("/api/v1/models", True), ("/api/v1", False), ("/v1/models", False), ("/api/v10/x", False), ("", False)],
)  # fmt: skip
def test_openrouters_path_is_known_by_its_beginning(path: str, theirs: bool) -> None:
    assert is_openrouters(path) is theirs


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", "invalid_request_error"),
        (400, "context_too_long", "invalid_request_error"),
        (400, "model_not_free", "invalid_request_error"),
        (401, "unauthorized", "authentication_error"),
        (404, "not_found", "invalid_request_error"),
        (405, "method_not_allowed", "invalid_request_error"),
        (413, "payload_too_large", "invalid_request_error"),
        (429, "quota_exhausted", "rate_limit_exceeded"),
        (502, "upstream_failed", "upstream_error"),
        (503, "no_usable_lane", "service_unavailable_error"),
        (504, "deadline_exceeded", "timeout_error"),
        (402, "payment_required", "insufficient_quota"),
        (422, "odd", "invalid_request_error"),
        (500, "odd", "server_error"),
    ],
)
def test_the_type_follows_from_the_code_then_from_the_status(
    status: int, code: str, kind: str
) -> None:
    assert body("chat", status=status, code=code)["error"]["type"] == kind


def test_a_type_that_is_given_wins_and_a_numeric_code_stays_a_number() -> None:
    error = body("chat", status=429, code="429", type="insufficient_quota")["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", 429)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"),
        (403, "permission_error"), (404, "not_found_error"), (413, "request_too_large"),
        (429, "rate_limit_error"), (500, "api_error"), (502, "api_error"), (503, "overloaded_error"),
        (504, "timeout_error"), (529, "overloaded_error"),
    ],
)  # fmt: skip
def test_messages_get_anthropics_shape_and_types(status: int, kind: str) -> None:
    extra = {"request_id": "req-1", "retry_after": 7}
    assert body("messages", status=status, code="c", type="openai", param="model", extra=extra) == {
        "type": "error",
        "error": {
            "type": kind,
            "message": "No.",
            "code": "c",
            "param": "model",
            "retry_after": 7,
        },
        "request_id": "req-1",
    }
    assert body("messages", status=status, code="c")["request_id"] is None


def test_half_a_surrogate_pair_in_a_message_does_no_harm() -> None:
    assert body("chat", status=400, code="c", message="a\ud83d")["error"]["message"] == "a?"


# --- events in a stream -------------------------------------------------------------------------------


def event(dialect: str, **members: Any) -> bytes:
    return error_event(dialect, status=502, code="upstream_failed", message="gone", **members)


def test_the_error_event_of_a_chat_has_exactly_the_documented_shape() -> None:
    assert event("chat", id="gen-1") == (
        b'data: {"id":"gen-1","object":"chat.completion.chunk","error":{"code":"upstream_failed",'
        b'"type":"upstream_error","message":"gone"},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n'
    )


def test_it_carries_what_is_known_of_the_answer() -> None:
    said = json.loads(event("chat", created=7, model="m")[6:])
    assert (said["id"], said["created"], said["model"]) == (None, 7, "m")


def test_completions_get_a_text_choice() -> None:
    assert json.loads(event("completions")[6:])["choices"] == [
        {"index": 0, "text": "", "logprobs": None, "finish_reason": "error"}
    ]


def test_messages_get_a_named_event() -> None:
    assert event("messages", id="gen-1") == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"gone",'
        b'"code":"upstream_failed"}}\n\n'
    )


def test_responses_get_the_flat_event_with_an_error_for_the_sdks_that_look_for_one() -> None:
    name, data = event("responses", sequence=4).splitlines()[:2]
    error = {"code": "upstream_failed", "type": "upstream_error", "message": "gone"}
    assert name == b"event: error"
    assert json.loads(data[6:]) == {
        "type": "error", "code": "upstream_failed", "message": "gone", "param": None,
        "sequence_number": 4, "error": error,
    }  # fmt: skip


def test_the_error_event_for_openrouters_clients_has_a_number() -> None:
    error = {
        "code": 502, "metadata": {"error_type": "provider_unavailable", "code": "upstream_failed"},
        "type": "upstream_error", "message": "gone",
    }  # fmt: skip
    assert json.loads(event("chat", openrouter=True)[6:])["error"] == error
    flat = json.loads(event("responses", openrouter=True).splitlines()[1][6:])
    assert (flat["code"], flat["error"]) == ("upstream_failed", error)


@pytest.mark.parametrize("eol", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "messages"])
def test_our_scanner_reads_our_events_as_errors_without_an_end_marker(
    dialect: str, eol: bytes
) -> None:
    scanner = Scanner(DIALECTS[dialect])
    assert scanner.feed(event(dialect, eol=eol)) == b""
    assert (scanner.events, scanner.done, scanner.end()) == (1, False, "error")


def test_the_keep_alive_is_a_comment() -> None:
    scanner = Scanner(DIALECTS["chat"])
    assert scanner.feed(keepalive()) == b": keep-alive\n\n"
    assert (scanner.comments, scanner.events) == (1, 0)


# --- models ------------------------------------------------------------------------------------------


def test_the_model_list_keeps_upstream_entries_byte_for_byte() -> None:
    raw = b'{"id": "a/b:free",  "pricing": {"prompt": "0"}}'
    answer = models_body([{"id": "auto"}, msgspec.Raw(raw)], 2)
    assert answer == (
        b'{"data":[{"id":"auto"},'
        + raw
        + b'],"total_count":2,"links":{"next":null},"object":"list"}'
    )


def test_our_own_entry_has_every_member_that_openrouter_demands() -> None:
    entry = auto_entry(
        "auto", "Best", 9_000, max_output=500, inputs=("text", "image"), parameters=("tools",)
    )
    demanded = {"id", "canonical_slug", "name", "created", "pricing", "context_length", "architecture",
                "top_provider", "per_request_limits", "supported_parameters", "default_parameters",
                "supported_voices", "links"}  # fmt: skip
    assert demanded <= entry.keys()
    assert entry["pricing"] == {"prompt": "0", "completion": "0"}
    assert entry["architecture"]["modality"] == "text+image->text"
    assert entry["top_provider"] == {
        "context_length": 9_000,
        "max_completion_tokens": 500,
        "is_moderated": False,
    }


def test_one_model_is_found_where_each_api_looks_for_it() -> None:
    raw = b'{"id": "a/b:free", "created": 7, "pricing": {"prompt": "0"}}'
    told = json.loads(model_body(msgspec.Raw(raw)))
    assert told["data"] == json.loads(raw)
    assert (told["id"], told["object"], told["created"], told["owned_by"]) == (
        "a/b:free",
        "model",
        7,
        "a",
    )
