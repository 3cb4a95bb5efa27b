"""An HTTP answer as a value: status, headers, timed pieces, and how it ends."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import Any

import msgspec

Headers = list[tuple[bytes, bytes]]
Piece = tuple[float, bytes]  # seconds to wait before it, bytes

# On every answer, as measured; browsers cannot read the limits' headers.
COMMON: Headers = [
    (b"server", b"cloudflare"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"X-Generation-Id,X-Provider-Name,request-id,cf-ray"),
    (b"referrer-policy", b"no-referrer, strict-origin-when-cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]


class Ending(Enum):
    """How an answer ends."""

    CLEAN = auto()
    DROPPED = auto()  # the connection is closed before the answer is complete
    HANGING = auto()  # nothing more comes, and nothing is closed


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `delay` passes before its first byte; infinite: it never begins."""

    status: int
    headers: Headers
    pieces: Iterable[Piece]
    delay: float = 0.0
    ending: Ending = Ending.CLEAN

    @property
    def whole(self) -> bool:
        """Whether everything comes in one piece."""
        return isinstance(self.pieces, tuple) and self.ending is Ending.CLEAN


encode = msgspec.json.encode


def json_reply(
    status: int, body: Any, *, number: int = 0, delay: float = 0.0, extra: Headers | None = None
) -> Reply:
    """An answer in JSON. `body` may be encoded already."""
    data = body if isinstance(body, bytes) else encode(body)
    return Reply(
        status, headers(b"application/json", number, extra or []), ((0.0, data),), delay=delay
    )


def headers(content_type: bytes, number: int, extra: Headers) -> Headers:
    """The headers of an answer."""
    ray = f"{(number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF:016x}-FRA".encode()
    return [(b"content-type", content_type), (b"cf-ray", ray), *COMMON, *extra]


def generation_id(at: float, number: int) -> str:
    """`gen-<unix seconds>-<20 alphanumerics>`, the same for the same moment and number."""
    digest = sha256(f"{at}/{number}".encode()).digest()
    return f"gen-{int(at)}-{b64encode(digest, altchars=b'zZ')[:20].decode()}"
