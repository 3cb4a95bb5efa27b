"""The test stand: fake upstream, keywheel and, if installed, nginx, each a process of its own on loopback."""

import http.client
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from .load import HOST, request
from .material import BOUNDLESS, Load
from .processes import Cores, DidNotStart, Program, running

SCRIPTS = Path(__file__).parent.parent
START_PATIENCE = 15.0  # seconds
KEPT_BYTES = 2_000_000  # of prompts for one load: the large ones are made slowly
MOST_CONVERSATIONS = 64
NGINX_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
NO_NGINX = (
    "nginx is missing, so keywheel is measured without the limit beside it and there are no ratios; "
    "to have them: apt-get install nginx-light"
)
# One invented key on one account. Lifted: the free account's 20 requests a minute and 50 a day, and the 512
# connections to the upstream, so that it is the gateway that is measured and not its patience.
SETTINGS = f"""
[accounts.bench]
keys = ["primary"]
per_minute = {BOUNDLESS}
per_day = {BOUNDLESS}

[upstream]
connections = 4096
"""
KEY = "sk-or-v1-" + "0" * 64


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers requests: a proxy, or the upstream itself."""

    name: str
    port: int
    path: str
    program: Program

    def requests(self, load: Load) -> list[bytes]:
        """Requests of a kind, each a conversation of its own."""
        return [request(self.path, body) for body in _bodies(load)]


@cache
def _bodies(load: Load) -> tuple[bytes, ...]:
    count = min(MOST_CONVERSATIONS, KEPT_BYTES // load.prompt_bytes)
    return tuple(map(load.body, range(count)))


@dataclass(frozen=True, slots=True)
class Stand:
    """What runs. `proxies`: keywheel first, then nginx if it is there."""

    direct: Target
    proxies: tuple[Target, ...]


def find_nginx() -> str | None:
    """The path of nginx, None if it is not installed. Only root has its folder in PATH."""
    return shutil.which("nginx", path=NGINX_PLACES)


@contextmanager
def standing(folder: Path, models: int, cores: Cores) -> Generator[Stand]:
    """A stand whose upstream lists so many models; every process is ended with the block."""
    nginx = find_nginx()
    with ExitStack() as stack:
        direct = stack.enter_context(_upstream(folder, models, cores.rest))
        proxies = [stack.enter_context(_keywheel(folder, direct.port, cores.proxy))]
        proxies.append(stack.enter_context(_relay(folder, direct.port, cores.proxy)))
        if nginx:
            proxies.append(stack.enter_context(_nginx(folder, nginx, direct.port, cores.proxy)))
        yield Stand(direct, tuple(proxies))


def versions() -> dict[str, str]:
    """What is measured, and with what."""
    names = ("keywheel", "uvicorn", "uvloop", "httptools")
    found = {name: importlib.metadata.version(name) for name in names}
    found["python"] = sys.version.split()[0]
    nginx = find_nginx()
    if nginx:
        said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        found["nginx"] = said.strip().rpartition("/")[2]
    return found


@contextmanager
def _upstream(folder: Path, models: int, cores: set[int]) -> Generator[Target]:
    port = _free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port), "--models", str(models)]
    environment = {"PYTHONPATH": str(SCRIPTS)}
    with running("upstream", command, folder, environment, cores) as program:
        _await(program, port, "/api/v1/key")
        yield Target("direct", port, "/api/v1/chat/completions", program)


@contextmanager
def _keywheel(folder: Path, upstream: int, cores: set[int]) -> Generator[Target]:
    port = _free_port()
    config = folder / "bench.toml"
    config.write_text(SETTINGS)
    command = [sys.executable, "-m", "keywheel", "serve", "--host", HOST, "--port", str(port)]
    command += ["--config", str(config), "--log-level", "info"]
    environment = {
        "HOME": str(folder),
        "OPENROUTER_API_KEY": KEY,
        "OPENROUTER_BASE_URL": f"http://{HOST}:{upstream}/api/v1",
    }
    with running("keywheel", command, folder, environment, cores) as program:
        _await(program, port, "/readyz")
        yield Target("keywheel", port, "/v1/chat/completions", program)


@contextmanager
def _relay(folder: Path, upstream: int, cores: set[int]) -> Generator[Target]:
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "bench.relay",
        "--port",
        str(port),
        "--upstream",
        str(upstream),
    ]
    with running("relay", command, folder, {"PYTHONPATH": str(SCRIPTS)}, cores) as program:
        _await(program, port, "/v1/key")
        yield Target("bare relay", port, "/v1/chat/completions", program)


@contextmanager
def _nginx(folder: Path, nginx: str, upstream: int, cores: set[int]) -> Generator[Target]:
    port = _free_port()
    template = Template(Path(__file__).with_name("nginx.conf").read_text())
    # workers that gave root up could not enter our folder
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(template.substitute(user=user, folder=folder, upstream=upstream, port=port))
    command = [nginx, "-p", folder, "-c", config, "-e", "stderr"]
    with running("nginx", command, folder, {}, cores) as program:
        _await(program, port, "/v1/key")
        yield Target("nginx", port, "/v1/chat/completions", program)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as bound:
        return bound.getsockname()[1]


def _await(program: Program, port: int, path: str) -> None:
    """Wait until a program answers with 200. Raises DidNotStart."""
    give_up = time.monotonic() + START_PATIENCE
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


def extra_attempts(keywheel: Target) -> int:
    """Upstream requests of keywheel beyond one for each of its clients' requests, as it counts them itself."""
    connection = http.client.HTTPConnection(HOST, keywheel.port, timeout=START_PATIENCE)
    try:
        connection.request("GET", "/admin/stats")
        totals = json.loads(connection.getresponse().read())["totals"]
    finally:
        connection.close()
    return totals["attempts"] - totals["requests"]
