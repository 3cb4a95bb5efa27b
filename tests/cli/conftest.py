"""Where commands run in tests: an empty folder, and one simulator for all that read only."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import Variables, simulated


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no keys and no settings."""
    for name in list(os.environ):
        if name.startswith(("OPENROUTER", "KEYWHEEL", "COLUMNS", "NO_COLOR", "FORCE_COLOR")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def upstream() -> Iterator[Variables]:
    with simulated() as (_, variables):
        yield variables
