"""The top-level members of a request body, undecoded, with typed access to single ones.

Members stay `msgspec.Raw`: what nobody looks at costs nothing and survives byte for byte. Of a member that is
named twice the last one counts, as JSON parsers do, and only that one is sent on.
"""

import re
from collections.abc import Iterable
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from keywheel.errors import InvalidRequest

MAX_FIELDS = 1_000  # top-level members; the longest documented list has 41
MAX_DEPTH = 64  # requirement C17: what other parsers on the way can take

PARTS = 4  # levels down to the parts of messages: list, message, content, part
SMALL = 4096  # bytes of a body whose brackets are soon counted

Fields: TypeAlias = dict[str, Raw]
T = TypeVar("T")

_OBJECT = Decoder(dict[str, Raw])
_LIST = Decoder(list[Raw])
_OBJECTS = Decoder(list[dict[str, Raw]])
_WRONG_TYPE = re.compile(r"Expected `(.+?)`, got `(.+?)`")
_WORDS = {  # for msgspec's
    "str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "an array",
    "object": "an object",
}  # fmt: skip
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_OPENERS = bytes(byte for byte in range(0x100) if byte not in b"[{")
_NO_BRACKETS = bytes(byte for byte in range(0x100) if byte not in b'[]{}"')


def members(body: bytes) -> Fields:
    """Split a body into its members in the order sent. Raises InvalidRequest."""
    try:
        if not body.isascii():
            str(body, "utf-8")
        fields = _OBJECT.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The body is not UTF-8 at byte {error.start}. Encode the JSON as UTF-8."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        raise _malformed(body, error) from None
    if len(fields) > MAX_FIELDS:
        raise InvalidRequest(f"The body has {len(fields)} fields. Send at most {MAX_FIELDS}.")
    return fields


def check_depth(body: bytes, fields: Fields) -> None:
    """Refuse a body, split into its members, that is nested too deep. Raises InvalidRequest."""
    if len(body) < SMALL and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    if any(_is_too_deep(raw, MAX_DEPTH - 1, PARTS) for raw in fields.values()):
        raise _too_deep()


def value(fields: Fields, name: str, decoder: Decoder[T]) -> T | None:
    """One member as the decoder's type, None when it is absent. Raises InvalidRequest that names the place."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise _misfit(name, str(error)) from None


def _malformed(body: bytes, error: msgspec.DecodeError) -> InvalidRequest:
    if isinstance(error, msgspec.ValidationError):
        found = _WRONG_TYPE.search(str(error))
        kind = found[2] if found else "something else"
        return InvalidRequest(f"The body is a JSON {kind}. Send a JSON object.")
    text = str(error).removeprefix("JSON is malformed: ")
    if "truncated" in text:
        text = f"it ends too early, or a \\u escape is half a surrogate pair (of {len(body)} bytes)"
    return InvalidRequest(f"The body is not valid JSON: {text}. Correct it and send again.")


def _misfit(name: str, text: str) -> InvalidRequest:
    text, _, path = text.partition(" - at `$")
    param = name + path.rstrip("`")
    found = _WRONG_TYPE.search(text)
    if not found:
        return InvalidRequest(f"`{param}` cannot be read: {text}. Correct it.", param=param)
    wanted = " or ".join([_WORDS.get(kind, kind) for kind in found[1].split(" | ")])
    is_there = _WORDS.get(found[2], found[2])
    return InvalidRequest(f"`{param}` is {is_there}. Send {wanted}.", param=param)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels. Flatten it.")


def _is_too_deep(raw: Raw, limit: int, looks: int) -> bool:
    """Whether a value is nested deeper than `limit`. The outer levels are taken apart, since what is large in a
    request is the text in them, and a text has no depth."""
    view = memoryview(raw)
    if len(view) <= 2 * limit or view[0] not in b"[{":
        return False
    if looks <= 0:
        return _depth_exceeds(bytes(view), limit)
    levels, inner = _inner(raw, view[0])
    return any(_is_too_deep(each, limit - levels, looks - levels) for each in inner)


def _inner(raw: Raw, opener: int) -> tuple[int, Iterable[Raw]]:
    """The values in a list or an object, and how many levels down. A list of objects is read once, not twice."""
    if opener == ord("{"):
        return 1, _OBJECT.decode(raw).values()
    try:
        return 2, [each for one in _OBJECTS.decode(raw) for each in one.values()]
    except msgspec.ValidationError:
        return 1, _LIST.decode(raw)


def _depth_exceeds(body: bytes, limit: int) -> bool:
    """Whether valid JSON is nested deeper than `limit`, without a loop over its characters.

    What is left of a body after its strings and everything but brackets are taken out loses its innermost
    pairs in each round, so the rounds it survives are its depth.
    """
    if len(body.translate(None, _NO_OPENERS)) <= limit:
        return False
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes that meet are removed together, which keeps what is inside a string inside.
    quoted = body.translate(_BRACKETS, _NO_BRACKETS).replace(b'""', b"")
    skeleton = b"".join(quoted.split(b'"')[::2])
    for _ in range(limit):
        skeleton = skeleton.replace(b"[]", b"")
        if not skeleton:
            return False
    return True
