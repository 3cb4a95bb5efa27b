"""Every block of Python in the README and the docs runs, against the simulator."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from keywheel import client
from keywheel.config import Config, UpstreamSettings
from keywheel.engine import Engine
from keywheel.gateway import run
from keywheel.keys import KeyEntry, label
from keywheel.pytest_plugin import keywheel_sim
from keywheel.secret import Secret
from keywheel.testing import Simulator

__all__ = ["keywheel_sim"]
ROOT = Path(__file__).parent.parent.parent
GATEWAY = "http://127.0.0.1:8787"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Pages whose blocks need a package that this environment has not: each is run in an environment of its own.
ELSEWHERE = ROOT / "docs" / "frameworks"


def blocks() -> Iterator[object]:
    for page in PAGES:
        if ELSEWHERE in page.parents:
            continue
        for number, match in enumerate(BLOCK.finditer(page.read_text("utf-8")), 1):
            yield pytest.param(match[1], id=f"{page.relative_to(ROOT)}-{number}")


@pytest.fixture
def gateway(keywheel_sim: Simulator) -> Iterator[str]:
    """A running gateway, where a block talks to one."""
    entries = [KeyEntry(label(n), Secret(k), "test") for n, k in enumerate(keywheel_sim.keys, 1)]
    config = replace(Config(), upstream=UpstreamSettings(base_url=keywheel_sim.base_url))
    engine = Engine(config, entries)
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(run.build(engine), bound) as address:
        yield address


@pytest.mark.parametrize("block", list(blocks()))
def test_a_block_of_the_docs_runs(
    block: str, request: pytest.FixtureRequest, keywheel_sim: Simulator, tmp_path: Path
) -> None:
    if GATEWAY in block:
        block = block.replace(GATEWAY, request.getfixturevalue("gateway"))
    module = ModuleType("example")
    code = tmp_path / "example.py"
    code.write_text(block)
    sys.modules["example"] = module
    try:
        exec(compile(block, str(code), "exec"), module.__dict__)  # noqa: S102 - our own docs
        for name, test in list(vars(module).items()):
            if name.startswith("test_"):
                test(keywheel_sim)
    finally:
        del sys.modules["example"]
        client.forget()  # an example need not close its client


def test_there_are_blocks_in_the_readme_and_in_the_pages_of_the_library() -> None:
    for page in ("README.md", "docs/library.md", "docs/testing.md"):
        assert BLOCK.search((ROOT / page).read_text("utf-8"))


def test_every_page_of_a_framework_is_linked_from_the_page_of_the_library() -> None:
    library = (ROOT / "docs" / "library.md").read_text("utf-8")
    assert [
        page.name for page in ELSEWHERE.glob("*.md") if f"](frameworks/{page.name})" not in library
    ] == []
