"""`GET /admin/history`: figures over time, by key, model, hour or day, from what is kept."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from keywheel.core.report import SCHEMA_VERSION
from keywheel.core.types import DAY
from keywheel.engine import Engine
from keywheel.errors import StoreError
from keywheel.gateway.admin import NEVER_KEPT
from keywheel.problems import Problem
from keywheel.stores import Figures
from keywheel.stores.hourly import HOUR

Json = dict[str, Any]
LATEST = 1e11  # UTC seconds, in the year 5138
COUNTS = ("attempts", "succeeded", "failed", "tokens_in", "tokens_out")
# What figures are added up by. Moments are UTC seconds: the beginning of the hour or the day.
BY: Mapping[str, Callable[[Figures], str | int]] = {
    "key": lambda row: row.key,
    "model": lambda row: row.model,
    "client": lambda row: row.client,
    "hour": lambda row: row.hour * HOUR,
    "day": lambda row: row.hour * HOUR // int(DAY) * int(DAY),
}


class Archives:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, request: Request) -> Response:
        """`since` and `until` are UTC seconds: without them today, and now. `by`: one of `BY`."""
        now = self._engine.clock()
        asked = request.query_params
        by = asked.get("by", "key")
        since = _moment(asked.get("since"), now // DAY * DAY)
        until = _moment(asked.get("until"), now)
        if since is None or until is None:
            return _refuse(_wrong("since", "since and until are UTC seconds since 1970."))
        if by not in BY:
            return _refuse(_wrong("by", f"by is one of {', '.join(BY)}."))
        try:  # the store may take its time: not on the event loop
            rows = await asyncio.to_thread(self._engine.history, since, until)
        except StoreError as error:
            return _refuse(
                Problem(503, "state_unavailable", f"The history cannot be read: {error}.")
            )
        told = history(rows, by, since, until)
        return Response(msgspec.json.encode(told), 200, NEVER_KEPT, "application/json")


def history(rows: Iterable[Figures], by: str, since: float, until: float) -> Json:
    """Figures added up, as the route and `keywheel stats --since` tell them. `rows` are whole hours."""
    rows = tuple(rows)
    groups: dict[str | int, list[Figures]] = {}
    for row in rows:
        groups.setdefault(BY[by](row), []).append(row)
    return {
        "schema_version": SCHEMA_VERSION,
        "since": since,
        "until": until,
        "by": by,
        "rows": [{by: name, **_sums(groups[name])} for name in sorted(groups, key=str)],
        "totals": _sums(rows),
    }


def _sums(rows: Iterable[Figures]) -> Json:
    rows = tuple(rows)
    told: Json = {name: sum(getattr(row, name) for row in rows) for name in COUNTS}
    judged = told["succeeded"] + told["failed"]
    first = sum(row.first for row in rows)
    return told | {
        "success_rate": round(told["succeeded"] / judged, 4) if judged else None,
        "latency_ms": _mean(sum(row.latency for row in rows), judged),
        "ttft_ms": _mean(sum(row.ttft for row in rows), first),
    }


def _moment(text: str | None, usual: float) -> float | None:
    """UTC seconds as asked for, None for what is no moment that a store could look for."""
    try:
        moment = usual if text is None else float(text)
    except ValueError:
        return None
    return moment if 0 <= moment < LATEST else None


def _mean(seconds: float, number: int) -> float | None:
    return round(seconds / number * 1e3, 1) if number else None


def _wrong(param: str, message: str) -> Problem:
    return Problem(400, "invalid_request", message, param=param, final=True)


def _refuse(problem: Problem) -> Response:
    return Response(problem.body("chat"), problem.status, problem.headers(), "application/json")
