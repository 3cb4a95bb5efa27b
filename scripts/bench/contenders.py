"""Who is measured: one row each, with how it is started and what a request to it needs.

In every text `$NAME` stands for a value of the stand: `python`, `scripts`, `folder`, `port`, `upstream` (a port),
`nginx`, `user` (a line for nginx.conf), `litellm`, `portkey` (paths of what `rivals` has installed).
"""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import rivals
from .material import BOUNDLESS

NGINX_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
NGINX_CONF = Path(__file__).with_name("nginx.conf")
KEY = "sk-or-v1-" + "0" * 64
MASTER = "sk-bench-0123456789abcdef0123456789abcdef"  # LiteLLM does not start without one

# One invented key on one account. Lifted: the free account's 20 requests a minute and 50 a day, and the 512
# connections on either side, so that it is the gateway that is measured and not its patience.
KEYWHEEL_TOML = f"""
[accounts.bench]
keys = ["primary"]
per_minute = {BOUNDLESS}
per_day = {BOUNDLESS}

[upstream]
connections = 4096

[gateway]
connections = 4096
"""
LITELLM_YAML = """
model_list:
  - model_name: auto
    litellm_params:
      model: openai/bench/model:free
      api_base: http://127.0.0.1:$upstream/api/v1
      api_key: bench
      allowed_openai_params: ["user"]
litellm_settings:
  num_retries: 0
  telemetry: false
"""
# Portkey listens on every address of the machine; a benchmark listens on loopback only.
ON_LOOPBACK = (
    'data:text/javascript,import net from "node:net"; const listen = net.Server.prototype.listen; '
    "net.Server.prototype.listen = function (port, ...rest) "
    '{ return listen.call(this, Number(port), "127.0.0.1", rest.at(-1)); };'
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy. `ready`: a path that answers 200 when it serves. `lines`: further header lines of a request."""

    name: str
    command: tuple[str, ...]
    ready: str
    version: Callable[[], str | None]  # None where it is not installed
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    file: tuple[str, str] | None = None  # a configuration: its name in the folder, and its text
    lines: tuple[str, ...] = ()
    patience: float = 15.0  # seconds to start
    rewrites: bool = False  # it writes streams anew, with other events than came
    rival: bool = False  # started only when asked for; one that fails gets no figure


def find_nginx() -> str | None:
    """The path of nginx, None if it is not installed. Only root has its folder in PATH."""
    return shutil.which("nginx", path=NGINX_PLACES)


def _nginx_version() -> str | None:
    nginx = find_nginx()
    if not nginx:
        return None
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


CONTENDERS = (
    Contender(
        "keywheel",
        ("$python", "-m", "keywheel", "serve", "--host", "127.0.0.1", "--port", "$port",
         "--config", "$folder/bench.toml", "--log-level", "info", "--log-format", "json"),
        "/readyz",
        partial(importlib.metadata.version, "keywheel"),
        {
            "HOME": "$folder",
            "XDG_STATE_HOME": "$folder/state",  # nobody's real state is opened
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": "http://127.0.0.1:$upstream/api/v1",
            "PYTHONPATH": "$scripts",  # for `bench.watched`
        },
        ("bench.toml", KEYWHEEL_TOML),
    ),
    Contender(
        "bare relay",
        ("$python", "-m", "bench.relay", "--port", "$port", "--upstream", "$upstream"),
        "/v1/key",
        partial(importlib.metadata.version, "uvicorn"),
        {"PYTHONPATH": "$scripts"},
    ),
    Contender(
        "nginx",
        ("$nginx", "-p", "$folder", "-c", "$folder/nginx.conf", "-e", "stderr"),
        "/v1/key",
        _nginx_version,
        file=("nginx.conf", NGINX_CONF.read_text()),
    ),
    Contender(
        "LiteLLM",
        ("$litellm", "--config", "$folder/litellm.yaml", "--host", "127.0.0.1", "--port", "$port",
         "--telemetry", "False"),
        "/health/liveliness",
        rivals.litellm_version,
        {
            "PATH": os.defpath,
            "HOME": "$folder",
            "LITELLM_MASTER_KEY": MASTER,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it fetches prices from the net otherwise
            "LITELLM_LOG": "ERROR",
        },
        ("litellm.yaml", LITELLM_YAML),
        (f"x-litellm-api-key: Bearer {MASTER}",),
        patience=180.0,
        rewrites=True,
        rival=True,
    ),
    Contender(
        "Portkey",
        ("node", "--import", ON_LOOPBACK, "$portkey", "--port=$port", "--headless"),
        "/",
        rivals.portkey_version,
        {"PATH": os.environ.get("PATH", os.defpath), "HOME": "$folder", "NODE_ENV": "production"},
        lines=(
            "x-portkey-provider: openai",
            "x-portkey-custom-host: http://127.0.0.1:$upstream/api/v1",
        ),
        patience=60.0,
        rival=True,
    ),
)  # fmt: skip
