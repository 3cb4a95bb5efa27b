"""How long an exchange with the upstream may take, and the ways in which it may end without an answer."""

from math import inf
from typing import Literal

import msgspec

NotReached = Literal["unreachable", "tls", "tls-handshake", "pool"]
BadAnswer = Literal["reset", "truncated", "too-large", "protocol"]
Limit = Literal["timeout-head", "timeout-silence", "timeout-write"]
Kind = NotReached | BadAnswer | Limit


class Timeouts(msgspec.Struct, frozen=True, gc=False):
    """How long each part of a request may take, in seconds (routing rule A.7). (A Struct, as one is made for every
    request.)"""

    connect: float = 5.0  # name, TCP and TLS together
    head: float = 30.0  # from the last request byte to the complete response head
    silence: float = 90.0  # longest time without any byte while the body is read
    write: float = 10.0  # longest time in which the peer takes nothing of the request
    pool: float = 2.0  # waiting for a free connection
    total: float = inf  # all of it together, to the last byte of the answer


class UpstreamError(Exception):
    """The upstream could not be asked, or did not give a whole, well-formed answer.

    `kind` says how; `sent` is true when a byte of the request may have left, so that the
    upstream may have counted it.
    """

    def __init__(self, kind: Kind, message: str, *, sent: bool) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind: Kind = kind
        self.sent: bool = sent
