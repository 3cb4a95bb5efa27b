"""A quick look at a whole chat answer: nearly all are good, and a good one need not be taken apart.

What is not plainly good goes to `faults.judge`, which looks at everything.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from keywheel.wire.dialects import Usage, read_usage

_NO_USAGE = Usage()


class _Message(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    error: Any = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]
    error: Any = None
    status: Any = None
    type: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def usage_of_good(body: bytes, dialect: str, headers: Mapping[str, str]) -> Usage | None:
    """The usage of an answer that is good beyond doubt; None when it must be judged."""
    if dialect != "chat" or headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if answer.error is not None or answer.status is not None or answer.type is not None:
        return None
    for choice in answer.choices:
        if (
            choice.error is not None
            or choice.finish_reason == "error"
            or not choice.message.content
        ):
            return None
    return (read_usage(body) or _NO_USAGE) if answer.choices else None
