"""One reading of every error envelope, and of what is none."""

import json
from typing import Any

import pytest

from keywheel.wire.envelope import MAX_LOOK, MAX_TEXT, Form, clean, parse, read, read_body

INNER = {"code": 502, "message": "gone"}
ZOD = json.dumps([{"code": "invalid_value", "path": ["x"], "message": "Invalid option"}])


@pytest.mark.parametrize(
    "body",
    [
        {"error": INNER},
        {"error": json.dumps(INNER)},
        {"error": json.dumps({"error": INNER})},
        {"error": {"error": INNER}},
        {"error": [INNER]},
        [{"error": INNER}],
        json.dumps({"error": INNER}),
        {"type": "error", "error": INNER, "request_id": None},
        {"type": "error", **INNER},
        {"type": "response.error", **INNER},
        {"type": "response.failed", "response": {"status": "failed", "error": INNER}},
        {"error": {"code": "502", "message": "gone"}},
        {"error": {"code": 502.0, "message": "gone"}},
        {"error": {"http_status": 502, "message": "gone"}},
        {"error": "gone", "code": 502},
        {"error": {"code": 502, "detail": "gone"}},
        {"error": {"code": 502, "error": "gone"}},
        {"error": True, **INNER},
        {"error": None, "choices": [None, {"error": None}, {"error": INNER}]},
        {"error": INNER, "response": {"id": "resp_x"}},
    ],
)
def test_an_error_is_read_out_of_every_envelope(body: Any) -> None:
    said = read_body(json.dumps(body).encode())
    assert (said.found, said.code, said.message) == (True, "502", "gone")


@pytest.mark.parametrize(
    "body", [{}, [], {"error": None}, {"error": ""}, {"error": {}}, {"choices": [{"error": {}}]}, None, 3]
)  # fmt: skip
def test_no_error_is_found_where_there_is_none(body: Any) -> None:
    assert not read(body).found


def test_what_is_no_error_has_no_kind_and_json_is_no_sentence() -> None:
    assert read({"type": "ping"}).kind == ""
    assert read('{"error":{"code":502}}').message == ""


@pytest.mark.parametrize(("code", "sent"), [("999999", 999_999), ("", 1_000_000), ("-1", -1)])
def test_a_code_has_at_most_six_digits(code: str, sent: int) -> None:
    assert read({"error": {"code": sent}}).code == code


def test_a_validation_error_speaks_with_its_first_issue() -> None:
    said = read({"success": False, "error": {"name": "ZodError", "message": ZOD}})
    assert (said.found, said.message) == (True, "Invalid option")
    assert read({"error": {"message": "[429] too many"}}).message == "[429] too many"
    assert read({"error": {"message": "[]"}}).message == "[]"
    assert read({"error": {"message": f"\n{ZOD}"}}).message == "Invalid option"


@pytest.mark.parametrize("where", ["metadata", "error", "top"])
def test_the_type_is_found_wherever_a_dialect_puts_it(where: str) -> None:
    error: dict[str, Any] = {"message": "x", "metadata": {}, "type": "api_error"}
    body: dict[str, Any] = {"error": error}
    {"metadata": error["metadata"], "error": error, "top": body}[where]["error_type"] = "timeout"
    said = read(body)
    assert (said.type, said.kind) == ("timeout", "api_error")


def test_metadata_may_stand_beside_the_error() -> None:
    said = read({"error": INNER, "metadata": {"provider_name": "P", "headers": {"Retry-After": 9}}})
    assert (said.provider, said.headers) == ("P", {"retry-after": 9})
    assert said.said("provider_name") == "P"
    assert said.said("headers") == ""


def test_a_provider_may_stand_at_the_top() -> None:
    assert read({"error": INNER, "provider": "P"}).provider == "P"


@pytest.mark.parametrize(
    "raw",
    [
        "too long", {"message": "too long"}, '{"message":"too long"}', '{"error":"too long"}', '{"detail":"too long"}',
        ' {"message":"too long"}', '{"error":{"message":"too long"}}', '[{"error":{"message":"too long"}}]',
    ],
)  # fmt: skip
def test_the_providers_words_are_taken_out_of_json(raw: Any) -> None:
    assert read({"error": {"message": "x", "metadata": {"raw": raw}}}).raw == "too long"


def test_line_breaks_that_nobody_escaped_are_read_in_the_providers_words() -> None:
    raw = '{"message":"too\nlong"}'
    assert read({"error": {"message": "x", "metadata": {"raw": raw}}}).raw == "too\nlong"


@pytest.mark.parametrize("raw", ['{"error":{"message":"cut o', "", "[", "{}", "[]"])
def test_the_providers_words_stay_as_they_are_otherwise(raw: str) -> None:
    assert read({"error": {"message": "x", "metadata": {"raw": raw}}}).raw == raw


@pytest.mark.parametrize(
    "odd",
    [
        {"code": True, "message": 3, "metadata": [], "availability": "x", "type": {}},
        {"code": 10**400, "message": None, "metadata": {"headers": [], "raw": 5, "error_type": {}}},
        {"code": 1e999, "message": ["x"], "metadata": 7},
    ],
)
def test_members_of_an_odd_type_read_as_absent(odd: dict[str, Any]) -> None:
    said = read({"error": odd})
    assert said.found
    assert (said.code, said.message, said.type, said.kind, said.raw) == ("", "", "", "", "")
    assert said.headers == said.availability == {}


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.EMPTY, b""),
        (Form.EMPTY, b" \r\n"),
        (Form.HTML, b"\n <html>"),
        (Form.HTML, b"\xef\xbb\xbf<html>"),
        (Form.TEXT, b"X"),
        (Form.TEXT, b"error code: 1015"),
        (Form.TEXT, b"17"),
        (Form.TEXT, b"\xff\xfe"),
        (Form.CUT, b'{"error":'),
        (Form.CUT, b"[" * 100_000),
        (Form.CUT, b'{"error":' * 5_000 + b"1" + b"}" * 5_000),
        (Form.CUT, b'{"error":{"message":"' + b"x" * MAX_LOOK + b'"}}'),
        (Form.CUT, b'{"error":' + b"9" * 5_000 + b"}"),
        (Form.JSON, b'"plain words"'),
        (Form.JSON, b'\xef\xbb\xbf{"a":1}'),
        (Form.JSON, b'{"a":NaN,"b":1e999,"c":"\\ud800","d":"\xff\x01"}'),
    ],
)
def test_what_a_body_is_made_of(form: Form, body: bytes) -> None:
    assert read_body(body).form is form


def test_texts_are_cut_to_what_is_looked_at() -> None:
    assert len(read({"error": "x" * 9_000}).message) == MAX_TEXT
    assert read_body(b'"plain words"').message == "plain words"
    assert read_body(b" error code: 1015\n").message == "error code: 1015"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"NaN", b'{"a":-Infinity}', b'{"a":"\n"}'])
def test_an_answer_is_read_strictly(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(body)


@pytest.mark.parametrize(
    ("why", "body"), [("nested too deep", b"[" * 100_000), ("NaN is not JSON", b"[NaN]")]
)
def test_the_reason_for_refusing_an_answer_is_told(why: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        parse(body)


def test_half_surrogates_are_json_all_the_same() -> None:
    assert parse(b'{"a":"\\ud83d"}') == {"a": "\ud83d"}


@pytest.mark.parametrize("form", ["plain", "in a string", "of the provider"])
def test_half_a_surrogate_pair_changes_nothing_of_what_an_error_is(form: str) -> None:
    error: dict[str, Any] = {
        "code": 429,
        "message": "free-models-per-day \ud83d",
        "metadata": {"error_type": "rate_limit_exceeded", "provider_name": "\ude00"},
    }
    if form == "of the provider":
        error["metadata"]["raw"] = json.dumps({"error": {"message": "busy \ud83d"}})
    inner = json.dumps(error) if form == "in a string" else error
    found = read_body(json.dumps({"error": inner, "user_id": "\ud83d"}).encode())
    assert (found.form, found.found) == (Form.JSON, True)
    assert (found.code, found.type) == ("429", "rate_limit_exceeded")
    assert clean(found.message) == r"free-models-per-day \ud83d"
    assert clean(found.raw) == (r"busy \ud83d" if form == "of the provider" else "")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("key *** bad", f"key sk-or-v1-{'0' * 64} bad"),
        ("key *** bad", "key sk-or-v1-abc...123 bad"),
        ("***", f"sk-proj-{'0' * 20}"),
        ("***", f"AIza{'0' * 30}"),
        ("bearer *** and Bearer ***", "bearer abc and Bearer x.y-z"),
        ("*** asked", "user_2abcdefghijklmnopq asked"),
        ("risk-free task-oriented", "risk-free task-oriented"),
        (r"a\x00b\x9fc\u2029d\u202ee", "a\0b\x9fc\u2029d\u202ee"),
        (r"\ud800", "\ud800"),
        ("blanks around", " blanks around "),
        ("XXXX", "XXXX"),
    ],
)
def test_texts_are_cleaned(shown: str, said: str) -> None:
    assert clean(said) == shown


def test_a_clean_text_is_never_longer_than_asked() -> None:
    assert clean("\x01" * 99, limit=20) == r"\x01\x01\x01\x01\x0…"
    assert clean("x" * 20, limit=20) == "x" * 20
    assert clean("x" * 21, limit=20) == "x" * 19 + "…"
    assert clean("you said abc", flagged="abc") == "you said ***"
    assert clean("you said abc", flagged=" ") == "you said abc"
