"""Reads what an upstream answer says about an error, whichever of the known envelopes it came in.

Chat, messages, responses and validation have an envelope each; codes are numbers, numeric strings or words;
an error may be a string, or JSON in a string. What is missing or of an odd type reads as absent, so reading
never fails.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn, cast

import msgspec

from keywheel.wire.patterns import SECRETS, UNSEEN

MAX_LOOK = 64 * 1024  # bytes of an error that are looked at
MAX_TEXT = 4 * 1024  # characters of each text in it; the longest on record has 400
MAX_MESSAGE = 300  # characters of an upstream's text that are shown (requirement C10)
HIDDEN = "***"

Object = Mapping[str, object]
_NOTHING: Object = {}


class Form(StrEnum):
    """What a body is made of."""

    JSON = "json"
    CUT = "cut"  # begins like JSON and is none
    HTML = "html"
    TEXT = "text"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Envelope:
    """An error, in one shape. `found`: there was an error object, not just a text beside nothing.

    `code`: as sent, "429" or "server_error". `type`: the stable `error_type`. `kind`: the dialect's own type.
    `raw`: the provider's words, taken out of JSON where they are wrapped in it. `headers`: those that the
    body repeats, names lower case.
    """

    form: Form = Form.JSON
    found: bool = False
    message: str = ""
    code: str = ""
    type: str = ""
    kind: str = ""
    provider: str = ""
    raw: str = ""
    metadata: Object = field(default_factory=dict[str, object])
    availability: Object = field(default_factory=dict[str, object])
    headers: Mapping[str, object] = field(default_factory=dict[str, object])

    def said(self, member: str) -> str:
        """A member of the metadata, if it is a text."""
        return text(self.metadata.get(member))


def parse(body: bytes) -> object:
    """The value of a JSON body as any client could read it. Raises ValueError."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        # Half surrogates are valid JSON that our fast decoder refuses; the slow one judges.
        return _parse_slowly(body.decode("utf-8-sig"), strict=True, constant=_refuse)


def parse_loosely(body: bytes) -> object:
    """The value of a JSON body, bad UTF-8, NaN and bare control characters forgiven. Raises ValueError."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _parse_slowly(body.decode("utf-8-sig", "replace"), strict=False, constant=float)


def _parse_slowly(said: str, *, strict: bool, constant: Callable[[str], object]) -> object:
    try:
        return json.loads(said, strict=strict, parse_constant=constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def read_body(body: bytes) -> Envelope:
    """The error in the body of a refusal."""
    start = body.lstrip(b" \t\r\n\xef\xbb\xbf")
    if not start:
        return Envelope(Form.EMPTY)
    if start.startswith(b"<"):
        return Envelope(Form.HTML)
    try:
        value = parse_loosely(body[:MAX_LOOK])
    except ValueError:
        value = None
    if isinstance(value, dict | list | str):
        return read(cast("object", value))
    if start.startswith((b"{", b"[")):
        return Envelope(Form.CUT)
    return Envelope(Form.TEXT, message=start[:MAX_TEXT].decode("utf-8", "replace").strip())


def read(value: object) -> Envelope:
    """The error in a decoded body, or in the payload of an event."""
    outer = _outer(_unfold(value))
    error = _error_in(outer)
    found = error is not None
    inner = outer if error is None else error
    metadata = _object(inner.get("metadata")) or _object(outer.get("metadata"))
    return Envelope(
        found=found,
        message=_message(inner) or ("" if found else text(value)),
        code=_code(inner) or _code(outer),
        type=text(metadata.get("error_type") or inner.get("error_type") or outer.get("error_type")),
        kind=text(inner.get("type")) if found else "",
        provider=text(metadata.get("provider_name")) or text(outer.get("provider")),
        raw=_raw(metadata.get("raw")),
        metadata=metadata,
        availability=_object(inner.get("availability")),
        headers=_headers(metadata.get("headers")),
    )


def _unfold(value: object) -> object:
    """What a string of JSON, or a list around the error, holds."""
    inner = _nested(value) if isinstance(value, str) else value
    if not isinstance(inner, list):
        return inner
    return next(iter(cast("list[object]", inner)), None)


def _nested(said: str) -> object:
    """The value of JSON in a string; the string when it is none."""
    if not said.lstrip().startswith(("{", "[")):
        return said
    try:
        return _parse_slowly(said[:MAX_LOOK], strict=False, constant=float)
    except ValueError:
        return said


def _outer(value: object) -> Object:
    """The object that has the error: the `response` of an event, if that is where it is."""
    outer = _object(value)
    return outer if outer.get("error") else _object(outer.get("response")) or outer


def _error_in(outer: Object) -> Object | None:
    """The error object; None when there is none. `"error": null` is no error."""
    error = _unfold(outer.get("error")) or _choice_error(outer)
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict):
        found = cast("Object", error)
        return _object(found.get("error")) or found
    return outer if error or outer.get("type") in ("error", "response.error") else None


def _choice_error(outer: Object) -> object:
    choices = outer.get("choices")
    listed = cast("list[object]", choices) if isinstance(choices, list) else []
    return next((error for choice in listed if (error := _object(choice).get("error"))), None)


def _message(inner: Object) -> str:
    """The error's sentence. A validation error is a list of issues in a string: the first one speaks."""
    members = ("message", "detail", "error")
    said = next((said for member in members if (said := text(inner.get(member)))), "")
    if not said.lstrip().startswith("["):
        return said
    return text(_object(_unfold(said)).get("message")) or said


def _code(inner: Object) -> str:
    named = (inner.get(name) for name in ("code", "http_status", "error_code"))
    code = next((code for code in named if code is not None), None)
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code) if abs(code) < 1_000_000 else ""
    return text(code)


def _raw(raw: object) -> str:
    value = _unfold(raw)
    inner = _object(_object(value).get("error")) or _object(value)
    return _message(inner) or text(raw)


def _headers(said: object) -> Mapping[str, object]:
    return {name.lower(): value for name, value in _object(said).items()}


def _object(value: object) -> Object:
    return cast("Object", value) if isinstance(value, dict) else _NOTHING


def text(value: object) -> str:
    """A text, cut to what is looked at; "" for anything else."""
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def clean(said: str, flagged: str = "", limit: int = MAX_MESSAGE) -> str:
    """An upstream's text as it may be logged and shown: no secrets, no flagged input, one line, `limit` characters."""
    if flagged.strip():
        said = said.replace(flagged, HIDDEN)
    said = SECRETS.sub(lambda match: (match["lead"] or "") + HIDDEN, said)
    said = said.strip()[: limit + 1]  # escaping only adds
    said = UNSEEN.sub(lambda match: match.group().encode("unicode_escape").decode(), said)
    return said if len(said) <= limit else said[: limit - 1] + "…"
