"""Bodies that are no request, and bodies nested too deep."""

import json

import pytest
from msgspec.json import Decoder

from keywheel.errors import InvalidRequest
from keywheel.wire.members import MAX_DEPTH, MAX_FIELDS, Fields, check_depth, members, value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "ends too early"),
        (b'{"a": 1', "of 7 bytes"),
        (b'{"a": NaN}', "byte 6"),
        (b'{"a": [1,]}', "trailing comma"),
        (b'{"a": 1} x', "trailing characters"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xff"}', "UTF-8 at byte 7"),
        (b"[1]", "JSON array"),
        (b'"x"', "JSON str"),
        (b"<html>", "invalid character"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        members(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert caught.value.param is None


def test_the_last_of_two_members_counts() -> None:
    assert bytes(members(b'{"a": 1, "b": 2, "\\u0061": 3}')["a"]) == b"3"


def test_members_keep_their_order_and_bytes() -> None:
    fields = members(b'{"z": [1,  2], "a": 1.50}')
    assert [(name, bytes(raw)) for name, raw in fields.items()] == [
        ("z", b"[1,  2]"),
        ("a", b"1.50"),
    ]


def test_too_many_fields_are_refused() -> None:
    body = json.dumps({f"f{i}": i for i in range(MAX_FIELDS + 1)}).encode()
    with pytest.raises(InvalidRequest, match="1001 fields"):
        members(body)


def nested(depth: int, inside: str = "") -> bytes:
    opened = "".join('{"a":' if level % 2 else "[" for level in range(depth - 1))
    closed = "".join("}" if level % 2 else "]" for level in reversed(range(depth - 1)))
    return f'{{"x":{opened}{inside}{closed}}}'.encode()


def checked(body: bytes) -> Fields:
    fields = members(body)
    check_depth(body, fields)
    return fields


def test_64_levels_pass_and_65_do_not() -> None:
    inside = '"' + "[{" * 40 + '"'  # brackets in strings count for nothing
    assert checked(nested(MAX_DEPTH, inside))
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        checked(nested(MAX_DEPTH + 1, inside))


@pytest.mark.parametrize("depth", [900, 100_000])
def test_absurd_depth_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        checked(nested(depth, "1"))


@pytest.mark.parametrize(
    "content", ['"[', '\\"[', '\\\\"[', "]]]]\\", '{"code":"a[\\"x\\"]"}', '\\\\\\"{']
)
def test_brackets_and_quotes_in_strings_do_not_count(content: str) -> None:
    body = json.dumps({"messages": [{"content": content, "n": [content]}] * 100}).encode()
    assert checked(body)
    deep = json.dumps({"messages": [content] * 90, "x": json.loads(nested(70, "1"))})
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        checked(deep.encode())


@pytest.mark.parametrize("text", ["plain " * 50, 'quoted \\ "[[[" ' * 50])
@pytest.mark.parametrize(("depth", "fits"), [(1, True), (59, True), (60, False)])
def test_parts_of_messages_count_with_all_that_is_around_them(
    depth: int, fits: bool, text: str
) -> None:
    value = "[" * depth + json.dumps(text) + "]" * depth
    body = '{"messages":[{"content":[{"x":' + value + "}]}]}"
    if fits:
        assert checked(body.encode() + b" " * 5_000)
        return
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        checked(body.encode() + b" " * 5_000)


def test_a_wrong_type_is_named_with_place_and_remedy() -> None:
    fields = members(b'{"models": ["a", 5]}')
    with pytest.raises(InvalidRequest) as caught:
        value(fields, "models", Decoder(list[str] | None))
    assert caught.value.param == "models[1]"
    assert caught.value.message == "`models[1]` is a whole number. Send a string."


def test_a_number_out_of_range_is_named() -> None:
    fields = members(b'{"seed": 1e999}')
    with pytest.raises(InvalidRequest, match=r"`seed` cannot be read: .*range"):
        value(fields, "seed", Decoder(float | None))


def test_an_absent_member_is_none() -> None:
    assert value({}, "seed", Decoder(int)) is None
