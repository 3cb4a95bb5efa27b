"""Other gateways, installed into `.tools/` when they are asked for: LiteLLM from PyPI, Portkey from npm."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / ".tools"
LITELLM = TOOLS / "litellm" / "bin" / "litellm"
PORTKEY = TOOLS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
PORTKEY_START = PORTKEY / "build" / "start-server.js"
# With newer versions of the server it stands on, this one answers every stream with status 500.
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.7"},
}
PATIENCE = 600.0  # seconds for an installation


def install() -> list[str]:
    """Install those that are missing; a sentence for each that cannot be."""
    failed: list[str] = []
    for name, found, put in (
        ("LiteLLM", LITELLM, _install_litellm),
        ("Portkey", PORTKEY_START, _install_portkey),
    ):
        if found.exists():
            continue
        try:
            put()
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name} is not measured, it could not be installed: {error}")
    return failed


def litellm_version() -> str | None:
    """Which LiteLLM is installed, None if none is."""
    found = next((TOOLS / "litellm").glob("lib/*/site-packages/litellm-*.dist-info"), None)
    return found.name.removeprefix("litellm-").removesuffix(".dist-info") if found else None


def portkey_version() -> str | None:
    """Which of Portkey's gateways is installed, None if none is."""
    try:
        return str(json.loads((PORTKEY / "package.json").read_text())["version"])
    except FileNotFoundError:
        return None


def _install_litellm() -> None:
    uv = shutil.which("uv") or str(TOOLS / "bin" / "uv")
    folder = TOOLS / "litellm"
    _run(uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder))
    _run(uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), "litellm[proxy]")


def _install_portkey() -> None:
    folder = TOOLS / "portkey"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps(PORTKEY_PACKAGE))
    npm = shutil.which("npm") or "npm"
    _run(npm, "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", at=folder)


def _run(*command: str, at: Path | None = None) -> None:
    subprocess.run(command, cwd=at, check=True, timeout=PATIENCE, stdout=sys.stderr)
