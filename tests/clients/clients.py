"""The clients: what is installed for each, which driver plays it, and which scenes it can play.

Every client has an environment of its own, because resolvers go back silently when packages share one.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"
ROOT = Path(__file__).parent.parent.parent
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
INSTALLING = 240.0  # seconds; with a cold cache the largest one takes a minute

COMMON = (
    "plain", "stream", "tool", "tool-stream", "abort", "error", "refused", "spent", "wait", "minute", "broken", "cut",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Client:
    """One SDK in one version."""

    name: str
    packages: tuple[str, ...]  # pinned; the first one is the SDK, whose version the driver tells
    driver: str
    extra: tuple[str, ...] = ()
    #: Scenes that end otherwise than for the others, by the SDK's own design, and what it does.
    differs: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def scenes(self) -> tuple[str, ...]:
        """What it plays."""
        return COMMON + self.extra

    @property
    def version(self) -> str:
        """The version of the SDK."""
        return self.packages[0].rpartition("==" if self.of_python else "@")[2]

    @property
    def of_python(self) -> bool:
        """Whether it is a Python package, not one of npm."""
        return self.driver.endswith(".py")


OPENAI = ("parse", "responses", "responses-stream", "responses-broken", "embeddings")
KEEPS_429 = "this SDK repeats after 5xx and never after 429"
NO_EXCEPTION = "an error in a stream is a field of the chunk, no exception"

CLIENTS = (
    Client("openai-python-3", ("openai==3.54.0",), "openai_sdk.py", (*OPENAI, "parse-class", "async")),
    Client("openai-python-2", ("openai==2.54.0",), "openai_sdk.py", (*OPENAI, "parse-class", "async")),
    Client("anthropic-python", ("anthropic==2.12.0",), "anthropic_sdk.py", ("events", "api-key", "async")),
    Client(
        "openrouter-python", ("openrouter==1.3.84",), "openrouter_sdk.py",
        ("facts", "responses", "embeddings", "async"), {"wait": KEEPS_429, "broken": NO_EXCEPTION},
    ),
    Client("openai-npm", ("openai@7.57.0",), "openai_sdk.mjs", OPENAI),
    Client("anthropic-npm", ("@anthropic-ai/sdk@1.13.0",), "anthropic_sdk.mjs", ("events", "api-key")),
    Client(
        "openrouter-npm", ("@openrouter/sdk@1.3.19",), "openrouter_sdk.mjs", ("facts", "responses", "embeddings"),
        {"wait": KEEPS_429, "broken": NO_EXCEPTION},
    ),
    Client(
        "ai-sdk", ("ai@7.0.173", "@openrouter/ai-sdk-provider@3.1.0"), "ai_sdk.mjs", ("parse",),
        {"spent": "this SDK knows no x-should-retry: it makes its own two repetitions"},
    ),
)  # fmt: skip


class NotInstalled(RuntimeError):
    """An environment could not be made; the message is the installer's."""


def install(client: Client, folder: Path) -> list[str]:
    """Make the client's environment in an empty folder. The command that starts its driver. Raises NotInstalled."""
    return _with_uv(client) if client.of_python else _with_npm(client, folder)


def _with_uv(client: Client) -> list[str]:
    with_packages = [part for package in client.packages for part in ("--with", package)]
    python = [
        UV, "run", "--isolated", "--no-project", "--quiet", "--python", sys.executable, *with_packages, "python",
    ]  # fmt: skip
    _run(client, [*python, "-c", ""], DRIVERS)
    return [*python, str(DRIVERS / client.driver)]


def _with_npm(client: Client, folder: Path) -> list[str]:
    (folder / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
    for name in (
        "harness.mjs",
        client.driver,
    ):  # modules are looked for beside the file that wants them
        shutil.copy(DRIVERS / name, folder)
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error")
    _run(client, ["npm", "install", *quiet, *client.packages], folder)
    return ["node", str(folder / client.driver)]


def _run(client: Client, command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=INSTALLING, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(
            f"{' '.join(client.packages)} could not be installed: {error}"
        ) from error
    if done.returncode:
        raise NotInstalled(
            f"{' '.join(client.packages)} could not be installed; is the package registry within reach?\n"
            f"{done.stdout}{done.stderr}"
        )


def environment() -> dict[str, str]:
    """Ours without what would lead an SDK elsewhere: proxies, keys and addresses of its own."""
    elsewhere = ("OPENAI_", "ANTHROPIC_", "OPENROUTER_", "KEYWHEEL_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)} | {
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
