"""Values of the upstream's JSON, read without trusting them: what is missing or of another type is None or empty."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, TypeVar, cast

from msgspec.json import Decoder

T = TypeVar("T")
MAX_SIZE = 1 << 24  # bytes of a payload, requirement C17; the real model list has about 2 MB

# Group 1 is no half: escaped backslashes, so that `\\ud83d` stays what it is, or a whole surrogate pair.
_HALF = re.compile(
    rb"\\(?:(\\(?:\\\\)*|u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2})|u[dD][89a-fA-F][\da-fA-F]{2})"
)


class BadCatalogue(Exception):
    """The payload as a whole is unusable: keep what was known before."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(payload: bytes, decoder: Decoder[Any], max_size: int) -> Any:
    """A payload of a known form. Raises `BadCatalogue`."""
    if len(payload) > max_size:
        raise BadCatalogue(f"{len(payload)} bytes are more than {max_size}")
    try:
        return read(payload, decoder)
    except (ValueError, RecursionError) as error:
        raise BadCatalogue(f"not the expected JSON: {error}") from None


def read(payload: bytes, decoder: Decoder[T]) -> T:
    """Decode JSON; one text that can be none does not make the rest unreadable. Raises ValueError or RecursionError."""
    try:
        if not payload.isascii():
            str(payload, "utf-8")  # what is not decoded is not checked either
        return decoder.decode(payload)
    except ValueError:
        return decoder.decode(mend(payload))


def mend(payload: bytes) -> bytes:
    """JSON with U+FFFD for what no text can hold: halves of surrogate pairs, and bytes that are not UTF-8."""
    if not payload.isascii():
        payload = payload.decode("utf-8-sig", "replace").encode()
    return _HALF.sub(lambda found: found[0] if found[1] else rb"\ufffd", payload)


def to_amount(price: Any) -> Decimal | None:
    """A price as an exact number: rounding must not make a tiny one zero."""
    if isinstance(price, bool) or not isinstance(price, str | int | float):
        return None
    try:
        amount = Decimal(str(price).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def to_moment(value: Any) -> float | None:
    """A date (its first second) or an instant as UTC seconds."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def to_number(value: Any) -> float | None:
    """A finite number, given as one or as text."""
    amount = to_amount(value)
    number = None if amount is None else float(amount)
    return number if number is not None and isfinite(number) else None


def to_count(value: Any) -> int | None:
    """A whole number of at least one."""
    number = to_number(value)
    return int(number) if number and number >= 1 else None


def to_text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def to_mapping(value: Any) -> Mapping[str, Any]:
    """An object as it is, anything else as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def to_sequence(value: Any) -> list[Any]:
    """A list as it is, anything else as an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def to_strings(value: Any) -> list[str]:
    """The texts of a list."""
    return [text for text in to_sequence(value) if isinstance(text, str)]
