"""`/metrics` for Prometheus. Nothing is counted here: each scrape reads the same counts as `/admin/stats`.

Labels hold names from the configuration and the catalogue, and words of our own; nothing that a client sends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from keywheel.core.stats import Distribution, Stats
from keywheel.core.sums import Part
from keywheel.engine import Engine

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Json = dict[str, Any]
Labels = tuple[str, ...]
Sample = tuple[Labels, float | Distribution]

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
UP = ("open", "probing")


@dataclass(frozen=True, slots=True)
class View:
    """One moment."""

    state: Json
    stats: Stats


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of metrics. `bounds`: of a histogram, in seconds."""

    name: str
    kind: str
    labels: Labels
    help: str
    read: Callable[[View], Iterable[Sample]]
    bounds: Sequence[float] = ()


def _requests(view: View) -> Iterable[Sample]:
    return view.stats.requests.items()


def _attempts(view: View) -> Iterable[Sample]:
    return view.stats.attempts.items()


def _fallbacks(view: View) -> Iterable[Sample]:
    return (((reason,), count) for reason, count in view.stats.fallbacks.items())


def _key_up(view: View) -> Iterable[Sample]:
    return (((key["name"],), float(key["state"] in UP)) for key in view.state["keys"])


def _blocked(view: View) -> Iterator[Sample]:
    """What always exists is told when it is open, too, so that its series has no gaps."""
    state = view.state
    yield from _closed("provider", [state["provider"]])
    yield from _closed("account", state["accounts"])
    yield from _closed("key", state["keys"])
    yield from _closed("model", state["models"])
    for lane in state["lanes"]:
        if lane["state"] not in UP:
            way = f"{lane.get('key') or lane['account']}+{lane['model']}"
            yield (lane["scope"], way), 1.0


def _closed(scope: str, entries: Iterable[Json]) -> Iterator[Sample]:
    for entry in entries:
        yield (scope, entry.get("name") or entry["id"]), float(entry["state"] not in UP)


def _day_remaining(view: View) -> Iterable[Sample]:
    left = ((a["name"], a["day"]["remaining"]) for a in view.state["accounts"])
    return (((name,), remaining) for name, remaining in left if remaining is not None)


def _minute_free(view: View) -> Iterable[Sample]:
    left = ((a["name"], a["minute"]["free"]) for a in view.state["accounts"])
    return (((name,), free) for name, free in left if free is not None)


def _first_content(view: View) -> Iterable[Sample]:
    return (((name,), tally.ttft) for name, tally in view.stats.models.items())


def _durations(view: View) -> Iterable[Sample]:
    return (((dialect,), each) for dialect, each in view.stats.durations.items())


def _overhead(view: View) -> Iterable[Sample]:
    return (((), view.stats.overhead),)


def _tokens(view: View) -> Iterator[Sample]:
    for name, tally in view.stats.models.items():
        yield (name, "in"), tally.tokens_in
        yield (name, "out"), tally.tokens_out


def _queue(view: View) -> Iterable[Sample]:
    return (((), view.state["pool"]["queue"]["length"]),)


def _cost(view: View) -> Iterable[Sample]:
    return (((), view.stats.totals.cost_usd),)


FIGURES = (
    Figure("keywheel_requests_total", "counter", ("dialect", "outcome"),
        "Client requests that ended: ok, failed (an error was returned), abandoned (the client left).", _requests),
    Figure("keywheel_attempts_total", "counter", ("key", "model", "row"),
        "Upstream requests by what came of them: ok, abandoned, or a row of the classification table.", _attempts),
    Figure("keywheel_key_up", "gauge", ("key",),
        "1 when the key and its account may be used.", _key_up),
    Figure("keywheel_blocked", "gauge", ("scope", "name"),
        "1 when it is closed. Single lanes are named only while they are.", _blocked),
    Figure("keywheel_account_day_remaining", "gauge", ("account",),
        "Free requests left this UTC day.", _day_remaining),
    Figure("keywheel_account_minute_free", "gauge", ("account",),
        "Requests that may be sent now by the minute limit.", _minute_free),
    Figure("keywheel_time_to_first_token_seconds", "histogram", ("model",),
        "From the send to the first content.", _first_content, SECONDS),
    Figure("keywheel_request_duration_seconds", "histogram", ("dialect",),
        "Client requests from their first byte to their last.", _durations, SECONDS),
    Figure("keywheel_overhead_seconds", "histogram", (),
        "What the gateway itself adds to a plain answer.", _overhead, OVERHEAD),
    Figure("keywheel_tokens_total", "counter", ("model", "direction"),
        "Tokens as the upstream reports them: in, out.", _tokens),
    Figure("keywheel_fallbacks_total", "counter", ("reason",),
        "Requests with more than one attempt, by the row of their first failure.", _fallbacks),
    Figure("keywheel_queue_length", "gauge", (),
        "Requests that wait for a lane.", _queue),
    Figure("keywheel_cost_usd_total", "counter", (),
        "US dollars that answers have cost.", _cost),
)  # fmt: skip


class Scrape:
    """All metrics at one moment, as the client library asks for them. `others`: what other workers add."""

    def __init__(self, engine: Engine, others: Sequence[Part] = ()) -> None:
        self._view = View(engine.state(others), engine.counts(others))

    def collect(self) -> "list[Metric]":
        """Every metric. What is registered must have this name."""
        return [_family(figure, self._view) for figure in FIGURES]

    def text(self) -> tuple[bytes, str]:
        """What is answered, and its content type."""
        from prometheus_client import (  # noqa: PLC0415 - only where somebody scrapes
            CONTENT_TYPE_LATEST,
            CollectorRegistry,
            generate_latest,
        )

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry), CONTENT_TYPE_LATEST


class Metrics:
    """Answers scrapes."""

    def __init__(self, engine: Engine, others: Callable[[], Awaitable[Sequence[Part]]]) -> None:
        self._engine = engine
        self._others = others

    async def get(self, _request: Request) -> Response:
        """`GET /metrics`. In a thread: with many keys and models the text is long."""
        others = await self._others()
        body, kind = await asyncio.to_thread(lambda: Scrape(self._engine, others).text())
        return Response(body, 200, {"cache-control": "no-store", "content-type": kind})


def _family(figure: Figure, view: View) -> "Metric":
    from prometheus_client import metrics_core  # noqa: PLC0415 - as above

    if figure.kind == "histogram":
        histogram = metrics_core.HistogramMetricFamily(
            figure.name, figure.help, labels=figure.labels
        )
        for labels, value in figure.read(view):
            if isinstance(value, Distribution):
                histogram.add_metric(labels, _buckets(value, figure.bounds), value.total)
        return histogram
    counts = figure.kind == "counter"
    make = metrics_core.CounterMetricFamily if counts else metrics_core.GaugeMetricFamily
    family = make(figure.name.removesuffix("_total"), figure.help, labels=figure.labels)
    for labels, value in figure.read(view):
        if not isinstance(value, Distribution):
            family.add_metric(labels, value)
    return family


def _buckets(found: Distribution, bounds: Sequence[float]) -> list[tuple[str, float]]:
    counts = zip(bounds, found.up_to(bounds), strict=True)
    return [*((str(bound), float(count)) for bound, count in counts), ("+Inf", float(found.count))]
