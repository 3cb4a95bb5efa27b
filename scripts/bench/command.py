"""The command: reads the arguments, measures section by section, shows the result."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from . import measure, table
from .figures import Section
from .load import BadReply
from .material import MODELS
from .measure import QUICK, Plan
from .processes import Cores, DidNotStart, pinned, share_out
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
    "rate": (float, 50, 1000, "requests a second of the open loop"),
    "spacing": (float, 0.001, 0.1, "seconds between two events of a paced stream"),
    "streams": (int, 1, 1000, "open at once, for memory"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 when something failed, or 130 when interrupted."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _end)
    _raise_open_files()
    if not find_nginx():
        _say(NO_NGINX)
    began = time.monotonic()
    cores = share_out(os.sched_getaffinity(0))
    try:
        sections = _measured(options.section or (*SHARED, *FRESH), _plan(options), cores)
    except (BadReply, DidNotStart, TimeoutError) as error:
        _say(str(error) or "a proxy did not answer in time")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    environment = _environment(time.monotonic() - began, cores)
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


def _measured(names: Iterable[str], plan: Plan, cores: Cores) -> list[Section]:
    """The sections, in the order of the tables above."""
    wanted = set(names)
    shared = [take for name, take in SHARED.items() if name in wanted]
    fresh = [take for name, take in FRESH.items() if name in wanted]
    many = max(MODELS, plan.streams // STREAMS_PER_MODEL)
    with pinned(cores.rest):
        return _on_stand(MODELS, shared, plan, cores) + _on_stand(many, fresh, plan, cores)


def _on_stand(models: int, wanted: Sequence[Measure], plan: Plan, cores: Cores) -> list[Section]:
    if not wanted:
        return []
    with (
        tempfile.TemporaryDirectory(prefix="keywheel-bench-") as folder,
        standing(Path(folder), models, cores) as stand,
    ):
        sections = [take(stand, plan) for take in wanted]
        extra = extra_attempts(stand.proxies[0])
    if extra:
        _say(f"keywheel made {extra} attempts more than requests: its figures contain retries")
    return sections


def _environment(seconds: float, cores: Cores) -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{seconds:.0f} s",
        **versions(),
        "cores": f"{os.cpu_count()} ({cores})",
    }


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(_number: int, _frame: object) -> None:
    """SIGTERM ends like Ctrl-C, which the event loop knows how to take: all that was started is ended first."""
    signal.raise_signal(signal.SIGINT)


def _say(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr)
