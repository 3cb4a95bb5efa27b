"""The fixture for pytest: `pytest_plugins = ["keywheel.pytest_plugin"]` in `conftest.py`."""

from collections.abc import Iterator

import pytest

from keywheel import client
from keywheel.testing import Simulator, simulator


@pytest.fixture
def keywheel_sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator, and an environment in which the default wheel finds it: `for_openai()` needs nothing more."""
    with simulator() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        client.forget()
        yield running
        client.forget()
