"""Programs that share a state: what one sends the others know, and so does the next start."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import keywheel
from keywheel.config import Config, StateSettings, UpstreamSettings
from keywheel.errors import StoreError
from keywheel.secret import Secret
from keywheel.stores import open_state
from keywheel.testing import Simulator

PROGRAM = """
import sys, keywheel
with keywheel.Keywheel.from_env() as wheel:
    wheel.chat("Hello")
    print(sum(account["day"]["used"] for account in wheel.stats().to_dict()["accounts"]))
"""


def settings(sim: Simulator, folder: Path) -> Config:
    url = Secret(f"sqlite:{folder}/state.db")
    return replace(
        Config(), upstream=UpstreamSettings(base_url=sim.base_url), state=StateSettings(url=url)
    )


def used(wheel: Any) -> int:
    return sum(account["day"]["used"] for account in wheel.stats().to_dict()["accounts"])


def test_a_program_that_starts_anew_knows_what_was_sent(sim: Simulator, tmp_path: Path) -> None:
    for before in (0, 2):
        with keywheel.Keywheel(sim.keys, config=settings(sim, tmp_path)) as wheel:
            assert used(wheel) == before
            for _ in range(2):
                wheel.chat("Hello")
            assert used(wheel) == before + 2


def test_processes_with_one_state_count_together(sim: Simulator, tmp_path: Path) -> None:
    environment = {
        "OPENROUTER_API_KEY": ",".join(sim.keys),
        "OPENROUTER_BASE_URL": sim.base_url,
        "KEYWHEEL_STATE__URL": f"sqlite:{tmp_path}/state.db",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    with keywheel.Keywheel(sim.keys, config=settings(sim, tmp_path)) as wheel:
        wheel.chat("Hello")
        for total in (2, 3):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert int(done.stdout) == total


def test_a_file_that_a_gateway_uses_is_refused(sim: Simulator, tmp_path: Path) -> None:
    config = settings(sim, tmp_path)
    gateway = open_state(config.state)
    with (
        keywheel.Keywheel(sim.keys, config=config) as wheel,
        pytest.raises(StoreError, match="is used by another gateway"),
    ):
        wheel.chat("Hello")
    gateway.close()


def test_without_the_setting_nothing_is_written(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with sim.wheel() as wheel:
        wheel.chat("Hello")
    assert not (tmp_path / "state").exists()
