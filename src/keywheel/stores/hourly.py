"""Figures by hour, key, model and client that are not written yet."""

from collections.abc import Iterable
from threading import Lock

from keywheel.core.types import Attempted
from keywheel.stores.contract import Figures
from keywheel.stores.memory import add_up

HOUR = 3_600  # seconds


class Hourly:
    """Sums of attempts, safe to use from several threads."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str, str, str], Figures] = {}
        self._lock = Lock()

    def add(self, event: Attempted) -> None:
        """Count one attempt."""
        judged = event.row != "abandoned"
        self._join(
            Figures(
                int(event.at // HOUR),
                event.key,
                event.model,
                event.client,
                attempts=1,
                succeeded=int(event.ok),
                failed=int(judged and not event.ok),
                tokens_in=event.tokens_in,
                tokens_out=event.tokens_out,
                latency=event.total if judged else 0.0,
                ttft=event.ttft or 0.0,
                first=int(event.ttft is not None),
            )
        )

    def take(self) -> tuple[Figures, ...]:
        """All there are, which are from now on the taker's."""
        with self._lock:
            rows, self._rows = tuple(self._rows.values()), {}
        return rows

    def put_back(self, rows: Iterable[Figures]) -> None:
        """They could not be written."""
        for row in rows:
            self._join(row)

    def _join(self, row: Figures) -> None:
        place = (row.hour, row.key, row.model, row.client)
        with self._lock:
            self._rows[place] = add_up(self._rows.get(place), row)
