"""Real clients, each in an environment of its own, against gateway and simulator on loopback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.rig import Rig, rig

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")


@pytest.fixture
def running() -> Iterator[Rig]:
    with rig() as it:
        yield it


def run(*command: str, folder: Path = HERE) -> str:
    """The command's output; what went wrong becomes the failure's text."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_python(script: str, package: str, address: str) -> str:
    """The output of a script that has one package at its disposal."""
    isolated = (UV, "run", "--isolated", "--no-project", "--quiet", "--python", sys.executable)
    return run(*isolated, "--with", package, "python", script, address).strip()


@pytest.mark.parametrize("version", ["3.54.0", "2.54.0"])
def test_the_openai_python_sdk(running: Rig, version: str) -> None:
    output = run_python("openai_sdk.py", f"openai=={version}", f"{running.address}/v1")
    assert output == f"ok {version}"


@pytest.mark.parametrize("version", ["1.3.84"])
def test_openrouters_own_sdk(running: Rig, version: str) -> None:
    """It validates strictly: a field of another type than OpenRouter's is an error."""
    address = f"{running.address}/api/v1"
    output = run_python("openrouter_sdk.py", f"openrouter=={version}", address)
    assert output == f"ok {version}"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_openai_npm_sdk(running: Rig, tmp_path: Path) -> None:
    for name in ("package.json", "openai_sdk.mjs"):
        shutil.copy(HERE / name, tmp_path)
    run("npm", "install", "--no-audit", "--no-fund", "--silent", folder=tmp_path)
    assert run("node", "openai_sdk.mjs", f"{running.address}/v1", folder=tmp_path).strip() == "ok"
