"""The official SDKs, old and new, each in an environment of its own, with keywheel inside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keywheel

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")


def run(script: str, package: str) -> str:
    """The output of a script that has keywheel and one package at its disposal."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    isolated = (UV, "run", "--isolated", "--no-project", "--quiet", "--python", sys.executable)
    done = subprocess.run(
        (*isolated, "--with-editable", str(ROOT), "--with", package, "python", script),
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("version", ["3.54.0", "2.54.0"])
def test_the_openai_sdk_turns_on_the_wheel(version: str) -> None:
    output = run("openai_turning.py", f"openai=={version}")
    assert output == f"ok {version} {keywheel.__version__}"


@pytest.mark.parametrize(
    "version",
    [
        "2.12.0",
        "1.17.0",
        "0.125.0",  # the older httpx
    ],
)
def test_the_anthropic_sdk_turns_on_the_wheel(version: str) -> None:
    output = run("anthropic_turning.py", f"anthropic=={version}")
    assert output == f"ok {version} {keywheel.__version__}"
