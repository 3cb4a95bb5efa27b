"""A worker's part of the sums as plain values, and back: it travels to other processes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from keywheel.core.history import Minute
from keywheel.core.stats import Distribution, ErrorCount, Stats, Tally
from keywheel.core.sums import Part
from keywheel.core.totals import Totals
from keywheel.core.types import Attempted, Finished

Json = dict[str, Any]
_TIMES = ("latency", "ttft")


def pack(part: Part) -> Json:
    """Lists, dictionaries, texts and numbers."""
    stats = part.stats
    return {
        "minutes": dict(part.minutes),
        "accounts": dict(part.accounts),
        "models": dict(part.models),
        "waiting": part.waiting,
        "since": stats.since,
        "totals": asdict(stats.totals),
        "tallies": [_tallies(stats.keys), _tallies(stats.models)],
        "errors": [asdict(error) for error in stats.errors.values()],
        "requests": [[*labels, n] for labels, n in stats.requests.items()],
        "attempts": [[*labels, n] for labels, n in stats.attempts.items()],
        "fallbacks": dict(stats.fallbacks),
        "durations": {name: each.pack() for name, each in stats.durations.items()},
        "overhead": stats.overhead.pack(),
        "timeline": [_plain(minute) for minute in stats.history.kept],
        "tried": [[*event] for event in stats.history.events if isinstance(event, Attempted)],
        "ended": [[*event] for event in stats.history.events if isinstance(event, Finished)],
    }


def unpack(told: Json) -> Part:
    """What `pack` packed."""
    stats = Stats(told["since"])
    stats.totals = Totals(**told["totals"])
    for tallies, more in zip((stats.keys, stats.models), told["tallies"], strict=True):
        for name, values in more.items():
            times = {name: Distribution.unpack(values[name]) for name in _TIMES}
            tallies[name] = Tally(**values | times)
    stats.errors = {error["row"]: ErrorCount(**error) for error in told["errors"]}
    stats.requests = Counter({(a, b): n for a, b, n in told["requests"]})
    stats.attempts = Counter({(a, b, c): n for a, b, c, n in told["attempts"]})
    stats.fallbacks = Counter(told["fallbacks"])
    for name, values in told["durations"].items():
        stats.durations[name] = Distribution.unpack(values)
    stats.overhead = Distribution.unpack(told["overhead"])
    events = [
        *(Attempted(*each) for each in told["tried"]),
        *(Finished(*each) for each in told["ended"]),
    ]
    stats.history.fill(events, _minutes(told["timeline"]))
    return Part(stats, told["minutes"], told["accounts"], told["models"], told["waiting"])


def _tallies(tallies: Mapping[str, Tally]) -> Json:
    return {
        name: {
            **{field: getattr(tally, field) for field in tally.__slots__ if field not in _TIMES},
            **{field: getattr(tally, field).pack() for field in _TIMES},
        }
        for name, tally in tallies.items()
    }


def _plain(minute: Minute) -> Json:
    return {each.name: getattr(minute, each.name) for each in fields(minute)}


def _minutes(told: Iterable[Json]) -> list[Minute]:
    minutes = [Minute(**each) for each in told]
    for minute in minutes:
        minute.accounts = Counter(minute.accounts)
    return minutes
