"""A quick look at a whole chat answer: nearly all are good, and a good one need not be taken apart.

What is not plainly good goes to `faults.judge`, which looks at everything.
"""

from typing import Any

import msgspec
from msgspec import Raw

from keywheel.wire.dialects import Usage, read_usage

_NO_USAGE = Usage()
_EMPTY = (b'""', b"null")


class _Message(msgspec.Struct, gc=False):
    content: Raw = Raw(b"null")  # undecoded: a large one would hold up others


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    error: Any = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: Raw = Raw(b"null")
    error: Any = None
    status: Any = None
    type: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def usage_of_good(body: bytes, dialect: str, kind: bytes) -> Usage | None:
    """The usage of an answer that is good beyond doubt; None when it must be judged. `kind`: its content type."""
    if dialect != "chat" or kind.partition(b";")[0] != b"application/json":
        return None
    try:
        answer = _decode(body)
        if not body.isascii():
            str(body, "utf-8")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if answer.error is not None or answer.status is not None or answer.type is not None:
        return None
    for choice in answer.choices:
        content = bytes(memoryview(choice.message.content)[:4])
        if choice.error is not None or choice.finish_reason == "error":
            return None
        if not content.startswith(b'"') or content in _EMPTY:
            return None
    if not answer.choices:
        return None
    return read_usage(b'{"usage":%b}' % answer.usage) or _NO_USAGE
