"""The test stand: a fake upstream and the proxies in front of it, each a process of its own on loopback."""

import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from . import rivals
from .contenders import CONTENDERS, Contender, find_nginx
from .load import HOST, request
from .material import Load
from .processes import Cores, DidNotStart, Program, running, say

SCRIPTS = Path(__file__).parent.parent
START_PATIENCE = 15.0  # seconds
KEPT_BYTES = 2_000_000  # of prompts for one load: the large ones are made slowly
MOST_CONVERSATIONS = 64
NO_NGINX = (
    "nginx is missing, so keywheel is measured without the limit beside it and there are no ratios; "
    "to have them: apt-get install nginx-light"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers requests: a proxy, or the upstream itself."""

    name: str
    port: int
    path: str
    program: Program
    lines: tuple[str, ...] = ()
    exact: bool = True  # a stream arrives with the events that the upstream sent
    may_fail: bool = False

    def requests(self, load: Load) -> list[bytes]:
        """Requests of a kind, each a conversation of its own."""
        return [request(self.path, body, *self.lines) for body in _bodies(load)]


@cache
def _bodies(load: Load) -> tuple[bytes, ...]:
    count = min(MOST_CONVERSATIONS, KEPT_BYTES // load.prompt_bytes)
    return tuple(map(load.body, range(count)))


@dataclass(frozen=True, slots=True)
class Stand:
    """What runs. `proxies`: keywheel first, then the others that are installed."""

    direct: Target
    proxies: tuple[Target, ...]


def contenders(*, with_rivals: bool) -> tuple[Contender, ...]:
    """Those that are installed."""
    return tuple(c for c in CONTENDERS if (with_rivals or not c.rival) and c.version())


@contextmanager
def standing(
    folder: Path,
    models: int,
    cores: Cores,
    measured: Sequence[Contender],
    watched: Sequence[str] = (),
) -> Generator[Stand]:
    """A stand whose upstream lists so many models; every process is ended with the block.

    `watched`: what keywheel is started with instead of `-m keywheel`.
    """
    with ExitStack() as stack:
        direct = stack.enter_context(_upstream(folder, models, cores.rest))
        proxies: list[Target] = []
        for contender in measured:
            try:
                proxy = _proxy(contender, folder, direct.port, cores.proxy, watched)
                proxies.append(stack.enter_context(proxy))
            except DidNotStart as error:
                if not contender.rival:
                    raise
                say(f"{contender.name} is left out: {error}")
        yield Stand(direct, tuple(proxies))


@contextmanager
def _upstream(folder: Path, models: int, cores: set[int]) -> Generator[Target]:
    port = _free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port), "--models", str(models)]
    environment = {"PYTHONPATH": str(SCRIPTS)}
    with running("upstream", command, folder, environment, cores) as program:
        _await(program, port, "/api/v1/key", START_PATIENCE)
        yield Target("direct", port, "/api/v1/chat/completions", program)


@contextmanager
def _proxy(
    contender: Contender, folder: Path, upstream: int, cores: set[int], watched: Sequence[str]
) -> Generator[Target]:
    port = _free_port()
    values = _values(folder, upstream, port)

    def fill(text: str) -> str:
        return Template(text).safe_substitute(values)

    if contender.file:
        name, text = contender.file
        (folder / name).write_text(fill(text))
    command = [fill(part) for part in contender.command]
    if watched and contender.name == "keywheel":
        command[1:3] = watched
    environment = {name: fill(value) for name, value in contender.environment.items()}
    program_name = contender.name.replace(" ", "-")
    with running(program_name, command, folder, environment, cores) as program:
        _await(program, port, contender.ready, contender.patience)
        lines = tuple(map(fill, contender.lines))
        yield Target(
            contender.name, port, "/v1/chat/completions", program, lines,
            exact=not contender.rewrites, may_fail=contender.rival,
        )  # fmt: skip


def _values(folder: Path, upstream: int, port: int) -> Mapping[str, object]:
    """What stands for the names in the texts of a contender."""
    return {
        "python": sys.executable,
        "scripts": SCRIPTS,
        "folder": folder,
        "port": port,
        "upstream": upstream,
        "nginx": find_nginx() or "",
        # workers that gave root up could not enter our folder
        "user": "user root;" if os.geteuid() == 0 else "",
        "litellm": rivals.LITELLM,
        "portkey": rivals.PORTKEY_START,
    }


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as bound:
        return bound.getsockname()[1]


def _await(program: Program, port: int, path: str, patience: float) -> None:
    """Wait until a program answers with 200. Raises DidNotStart."""
    give_up = time.monotonic() + patience
    while not _answers(port, path):
        program.check()
        if time.monotonic() > give_up:
            raise DidNotStart(program.explain(f"does not answer {path} with 200"))
        time.sleep(0.02)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=START_PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ask(target: Target, path: str) -> Any:
    """What a GET answers, read as JSON."""
    connection = http.client.HTTPConnection(HOST, target.port, timeout=START_PATIENCE)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def extra_attempts(keywheel: Target) -> int:
    """Upstream requests of keywheel beyond one for each of its clients' requests, as it counts them itself."""
    totals = ask(keywheel, "/admin/stats")["totals"]
    return totals["attempts"] - totals["requests"]
