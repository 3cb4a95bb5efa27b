"""What the tests of the library share: a simulator, and the leftovers nobody may leave."""

import gc
import threading
from collections.abc import Iterator

import pytest

from keywheel.testing import Simulator, simulator


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A calm simulator; afterwards no thread of ours is left that was not there before."""
    before = set(threading.enumerate())
    with simulator() as running:
        yield running
    gc.collect()
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name.startswith("keywheel")] == []
