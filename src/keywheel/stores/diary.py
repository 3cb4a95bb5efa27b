"""What a worker writes down beside a shared store, so that a restart goes on with its own counts and the same share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from keywheel.core.share import Place, Record
from keywheel.stores.contract import Archive, Caller


class Own(NamedTuple):
    """One send of this worker."""

    account: str
    lease: str
    at: float


@dataclass(frozen=True, slots=True)
class Page:
    """Who wrote it, its share, its counts by account and date, and its sends of the last minute."""

    caller: Caller
    record: Record
    mine: Mapping[Place, int]
    sends: tuple[Own, ...]


class Diary:
    """One page in an archive, by the name of the slot."""

    def __init__(self, archive: Archive, slot: str) -> None:
        self._archive = archive
        self._name = f"ledger:{slot}"

    def write(self, page: Page) -> None:
        """Replace the page. Raises `StoreError`."""
        body = {
            "caller": page.caller,
            "heard_at": page.record.heard_at,
            "parts": [(*place, n) for place, n in page.record.parts.items()],
            "mine": [(*place, n) for place, n in page.mine.items()],
            "sends": page.sends,
        }
        self._archive.save(self._name, json.dumps(body).encode())

    def read(self) -> Page | None:
        """The page, None if there is none that can be read: then nothing is known, which is not zero."""
        data = self._archive.load(self._name)
        try:
            return _page(json.loads(data)) if data else None
        except (ValueError, TypeError, KeyError):
            return None


def _page(body: Any) -> Page:
    record = Record(float(body["heard_at"]), _by_place(body["parts"]))
    sends = tuple(Own(*row) for row in body["sends"])
    return Page(Caller(*body["caller"]), record, _by_place(body["mine"]), sends)


def _by_place(rows: Any) -> dict[Place, int]:
    return {(str(account), int(day)): int(n) for account, day, n in rows}
