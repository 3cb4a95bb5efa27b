"""The command: reads the arguments, measures section by section, shows the result."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import measure, table
from .figures import Section
from .load import BadReply
from .material import MODELS
from .measure import QUICK, Plan
from .processes import DidNotStart, pinned, share_out
from .stand import NO_NGINX, Stand, extra_attempts, find_nginx, standing, versions

Measure = Callable[[Stand, Plan], Section]
SHARED: dict[str, Measure] = {
    "cpu": measure.cpu,
    "latency": measure.latency,
    "first-byte": measure.first_byte,
}
FRESH: dict[str, Measure] = {"memory": measure.memory}  # on a stand that has done nothing yet
FAILED, INTERRUPTED = 1, 130
OPEN_FILES = 8192  # each open stream takes two in a proxy
STREAMS_PER_MODEL = 4  # keywheel begins with 8 requests at once to a model and learns from there
NUMBERS: dict[str, tuple[type[int] | type[float], float, float, str]] = {
    "rounds": (int, 1, 50, "of every measurement"),
    "concurrency": (int, 1, 32, "connections of the closed loop"),
    "rate": (float, 1, 1000, "requests a second of the open loop"),
    "spacing": (float, 0.001, 0.1, "seconds between two events of a paced stream"),
    "streams": (int, 1, 1000, "open at once, for memory"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 when something failed, or 130 when interrupted."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _raise_open_files()
    if not find_nginx():
        _say(NO_NGINX)
    began = time.monotonic()
    try:
        sections = _measured(options.section or (*SHARED, *FRESH), _plan(options))
    except (BadReply, DidNotStart, TimeoutError) as error:
        _say(str(error) or "a proxy did not answer in time")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    environment = _environment(time.monotonic() - began)
    if options.json:
        print(json.dumps(table.record(environment, sections), indent=2, ensure_ascii=False))
    else:
        print(table.text(environment, sections))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench_overhead.py",
        description="What keywheel costs per request and per event, beside nginx, on loopback.",
    )
    parser.add_argument("--quick", action="store_true", help="15 seconds instead of a minute")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument(
        "--section", action="append", choices=(*SHARED, *FRESH), help="only this; may be repeated"
    )
    for name, (kind, least, most, what) in NUMBERS.items():
        usual = getattr(Plan(), name)
        parser.add_argument(
            f"--{name}",
            type=_between(kind, least, most),
            help=f"{what}: {least:g} to {most:g}, usually {usual:g}",
        )
    return parser.parse_args(arguments)


def _between(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must lie between {least:g} and {most:g}")
        return value

    return number


def _plan(options: argparse.Namespace) -> Plan:
    given = {name: getattr(options, name) for name in NUMBERS}
    base = QUICK if options.quick else Plan()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _measured(names: Iterable[str], plan: Plan) -> list[Section]:
    """The sections in the order of the tables above, whatever order they were asked for in."""
    wanted = set(names)
    _, rest = share_out(os.sched_getaffinity(0))
    with pinned(rest):
        shared = _on_stand(MODELS, [SHARED[n] for n in SHARED if n in wanted], plan)
        fresh = _on_stand(
            plan.streams // STREAMS_PER_MODEL, [FRESH[n] for n in FRESH if n in wanted], plan
        )
    return shared + fresh


def _on_stand(models: int, wanted: Sequence[Measure], plan: Plan) -> list[Section]:
    if not wanted:
        return []
    with _folder() as folder, standing(folder, models) as stand:
        sections = [take(stand, plan) for take in wanted]
        extra = extra_attempts(stand.proxies[0])
    if extra:
        _say(f"keywheel made {extra} attempts more than requests: its figures contain retries")
    return sections


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="keywheel-bench-") as name:
        yield Path(name)


def _environment(seconds: float) -> dict[str, Any]:
    proxy, rest = share_out(os.sched_getaffinity(0))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{seconds:.0f} s",
        **versions(),
        "cores": f"{os.cpu_count()} (proxy on {_names(proxy)}, load and upstream on {_names(rest)})",
    }


def _names(cores: set[int]) -> str:
    return "+".join(map(str, sorted(cores)))


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr)
