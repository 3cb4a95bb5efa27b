"""What is read of the gateway: its engine's figures, with what other workers of the same gateway add."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keywheel.core.explain import LISTED
from keywheel.core.sums import Part
from keywheel.engine import Engine

if TYPE_CHECKING:
    from keywheel.gateway.peers import Peers

Json = dict[str, Any]
# What workers ask each other.
PART, EXPLAIN, EXPLAINED, SESSIONS = "part", "explain", "explained", "sessions"


class Readings:
    """`peers`: the other workers, None without any."""

    def __init__(self, engine: Engine) -> None:
        self.peers: Peers | None = None
        self._engine = engine

    async def others(self) -> Sequence[Part]:
        """What the other workers add."""
        return await asyncio.to_thread(self.peers.parts) if self.peers else ()

    async def report(self) -> Json:
        """`GET /admin/stats`."""
        return self._engine.report(await self.others())

    async def state(self) -> Json:
        """What `GET /admin/state` tells of the engine."""
        return self._engine.state(await self.others())

    async def explain(self, request_id: str) -> Json | None:
        """Why a request went where it went, whichever worker had it."""
        told = self._engine.explain(request_id)
        if told is None and self.peers:
            found = await asyncio.to_thread(self.peers.ask, EXPLAIN, request_id)
            told = next(iter(found), None)
        return told

    async def explained(self) -> tuple[int, list[Json]]:
        """How many requests are remembered, and the latest in short."""
        told = [self._engine.explained()]
        if self.peers:
            told += await asyncio.to_thread(self.peers.ask, EXPLAINED)
        latest = sorted((each for _, some in told for each in some), key=_began, reverse=True)
        return sum(count for count, _ in told), latest[:LISTED]

    async def tell(self, what: str, news: str) -> None:
        """Let the other workers know."""
        if self.peers:
            await asyncio.to_thread(self.peers.ask, what, news)


def _began(told: Json) -> float:
    return told["began"]
