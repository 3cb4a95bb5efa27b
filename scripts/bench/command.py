"""The command: reads the arguments, measures section by section, shows the result and writes it into the docs."""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import resource
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from . import lasting, measure, page, rivals, spent, table
from .contenders import Contender, find_nginx
from .figures import Section
from .load import BadReply
from .material import MODELS
from .measure import QUICK, Plan
from .processes import Cores, DidNotStart, busy, pinned, say, share_out
from .stand import NO_NGINX, Stand, contenders, extra_attempts, standing

Measure = Callable[[Stand, Plan], Section]
SHARED: dict[str, Measure] = {
    "cpu": measure.cpu,
    "latency": measure.latency,
    "first-byte": measure.first_byte,
}
FRESH: dict[str, Measure] = {"memory": lasting.memory}  # on a stand that has done nothing yet
WATCHED: dict[str, Measure] = {"soak": lasting.soak, "profile": spent.profile}  # keywheel alone
WATCH = ("-m", "bench.watched")
FAILED, INTERRUPTED = 1, 130
QUIET = (
    0.2  # of the machine's CPU time; where others take more, figures are shown but not written down
)
OPEN_FILES = 8192  # each open stream takes two in a proxy
STREAMS_PER_MODEL = 4  # keywheel begins with 8 requests at once to a model and learns from there
NUMBERS: dict[str, tuple[type[int] | type[float], float, float, str]] = {
    "rounds": (int, 1, 50, "of every measurement"),
    "concurrency": (int, 1, 32, "connections of the closed loop"),
    "rate": (float, 50, 1000, "requests a second of the open loop"),
    "spacing": (float, 0.001, 0.1, "seconds between two events of a paced stream"),
    "streams": (int, 1, 2000, "open at once, for memory"),
    "soak_seconds": (float, 1, 3600, "of the soak"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 when something failed, or 130 when interrupted."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _end)
    _raise_open_files()
    taken = busy()
    began = time.monotonic()
    cores = share_out(os.sched_getaffinity(0))
    try:
        for failure in rivals.install() if options.rivals else ():
            say(failure)
        if not find_nginx():
            say(NO_NGINX)
        measured = contenders(with_rivals=options.rivals)
        wanted = _wanted(options)
        sections = _measured(wanted, _plan(options), cores, measured)
    except (BadReply, DidNotStart, TimeoutError) as error:
        say(str(error) or "a proxy did not answer in time")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    environment = _environment(time.monotonic() - began, cores, measured)
    environment["CPU taken by others before"] = f"{taken:.0%}"
    if options.json:
        print(json.dumps(table.record(environment, sections), indent=2, ensure_ascii=False))
    elif options.markdown:
        print(table.markdown(environment, sections))
    else:
        print(table.text(environment, sections))
    block = _block(options)
    if block and taken > QUIET:
        say("the page is not written: others use the machine, and what they take is in the figures")
    elif block:
        page.write(block, table.markdown(environment, sections))
        say(f"written into {page.PAGE}")
    return 0


def _wanted(options: argparse.Namespace) -> Sequence[str]:
    alone = [name for name in WATCHED if getattr(options, name)]
    return options.section or alone or (*SHARED, *FRESH)


def _block(options: argparse.Namespace) -> str | None:
    """Which part of the page a run writes anew: a run in full, of one kind."""
    if options.quick or options.section or options.profile:
        return None
    if any(getattr(options, name) is not None for name in NUMBERS):
        return None
    return "soak" if options.soak else "rivals" if options.rivals else "overhead"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench_overhead.py",
        description="What keywheel costs per request and per event, beside nginx, on loopback.",
    )
    parser.add_argument("--quick", action="store_true", help="15 seconds instead of a minute")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--markdown", action="store_true", help="tables as the docs have them")
    parser.add_argument(
        "--rivals", action="store_true", help="LiteLLM and Portkey too, installed into .tools/"
    )
    parser.add_argument(
        "--soak",
        action="store_true",
        help="only a minute of mixed requests, and what is left of it",
    )
    parser.add_argument(
        "--profile", action="store_true", help="only the functions that take the CPU time"
    )
    parser.add_argument(
        "--section", action="append", choices=(*SHARED, *FRESH), help="only this; may be repeated"
    )
    for name, (kind, least, most, what) in NUMBERS.items():
        usual = getattr(Plan(), name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
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


def _measured(
    names: Iterable[str], plan: Plan, cores: Cores, measured: Sequence[Contender]
) -> list[Section]:
    """The sections, in the order of the tables above."""
    wanted = set(names)
    shared, fresh, watched = (
        [take for name, take in kind.items() if name in wanted] for kind in (SHARED, FRESH, WATCHED)
    )
    many = max(MODELS, plan.streams // STREAMS_PER_MODEL)
    with pinned(cores.rest):
        return [
            *_on_stand(MODELS, shared, plan, cores, measured),
            *_on_stand(many, fresh, plan, cores, measured),
            *_on_stand(MODELS, watched, plan, cores, measured[:1], WATCH),
        ]


def _on_stand(
    models: int,
    wanted: Sequence[Measure],
    plan: Plan,
    cores: Cores,
    measured: Sequence[Contender],
    watched: Sequence[str] = (),
) -> list[Section]:
    if not wanted:
        return []
    with (
        tempfile.TemporaryDirectory(prefix="keywheel-bench-") as folder,
        standing(Path(folder), models, cores, measured, watched) as stand,
    ):
        sections = [take(stand, plan) for take in wanted]
        extra = extra_attempts(stand.proxies[0])
    if extra > 0:
        say(f"keywheel made {extra} attempts more than requests: its figures contain retries")
    return sections


def _environment(seconds: float, cores: Cores, measured: Iterable[Contender]) -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{seconds:.0f} s",
        **{contender.name: contender.version() or "" for contender in measured},
        **{name: importlib.metadata.version(name) for name in ("uvloop", "httptools")},
        "Python": python(),
        "CPU": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": f"{os.cpu_count()} ({cores})",
    }


def python() -> str:
    """Version of Python, and how it says it was built: without profile-guided optimisation it is slower. Debian's
    has it without this word."""
    word = "--enable-optimizations"
    told = "with" if word in str(sysconfig.get_config_var("CONFIG_ARGS")) else "without"
    return f"{sys.version.split()[0]} (configured {told} {word})"


def cpu_model(cpuinfo: str) -> str:
    """The name of the processor in a /proc/cpuinfo."""
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.M)
    return found[1] if found else platform.machine()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(_number: int, _frame: object) -> None:
    """SIGTERM ends like Ctrl-C, which the event loop knows how to take: all that was started is ended first."""
    signal.raise_signal(signal.SIGINT)
