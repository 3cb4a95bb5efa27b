"""What may befall a connection, and the weather that a whole run of tests was asked to take place in."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from urllib.parse import urlsplit

# Bytes of a read that are sliced, and of a read as large as only a part of megabytes is; the rest follows whole, unless
# a rate is kept, as megabytes would only take time.
FINE, COARSE = 1024, 64
LARGE = 16 * 1024
VARIABLE = "KEYWHEEL_TEST_WEATHER"


class End(Enum):
    """What happens when `after` bytes of the answers have passed."""

    STALL = auto()  # nothing more, and nothing is closed
    RESET = auto()  # RST
    FIN = auto()
    HALF_CLOSE = auto()  # FIN, while the other direction stays open


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The faults of one connection. Times in seconds, offsets in bytes of all that the server answers."""

    latency: float = 0.0  # before the first answer
    jitter: float = 0.0  # at most this, after every piece, both ways
    rate: float = inf  # bytes a second, both ways
    slice: int = 0  # bytes of one write, both ways; 0: as they come
    after: int | None = None
    end: End = End.STALL
    corrupt: int | None = None  # offset of a byte whose bits arrive turned over

    def ends_with(self, *ends: End) -> bool:
        """Whether one of these ends comes some time."""
        return self.after is not None and self.end in ends

    def cut(self, data: bytes) -> list[bytes]:
        """The writes that bytes are passed on in."""
        size = self.slice or len(data)
        fine = len(data)
        if self.slice and self.rate == inf:
            fine = min(fine, FINE if fine < LARGE else COARSE)
        pieces = [data[start : min(start + size, fine)] for start in range(0, fine, size)]
        return [*pieces, data[fine:]] if fine < len(data) else pieces

    def pause(self, size: int, chance: random.Random) -> float:
        """Seconds to wait behind a piece."""
        return size / self.rate + (chance.uniform(0, self.jitter) if self.jitter else 0.0)

    def corrupted(self, data: bytes, passed: int) -> bytes:
        """What becomes of bytes of which the first is at the offset `passed`."""
        at = -1 if self.corrupt is None else self.corrupt - passed
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


# What `KEYWHEEL_TEST_WEATHER` may say.
KNOWN = {"slices": Weather(slice=1), "jitter": Weather(jitter=0.010)}


def asked() -> Weather | None:
    """The weather that this run was asked for."""
    name = os.environ.get(VARIABLE)
    return KNOWN[name] if name else None


@contextmanager
def under_weather(url: str) -> Iterator[str]:
    """Another address of the same server, behind the weather that this run was asked for; usually the same."""
    weather = asked()
    if not weather:
        yield url
        return
    from tests.faultproxy.proxy import proxied  # which needs this module

    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    with proxied((parts.hostname, parts.port), weather) as (host, port):
        yield url.replace(parts.netloc, f"{host}:{port}")
