"""Whatever else the docs show as code is run, read or checked too, or stands here with the reason why not."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keywheel import config, sim
from keywheel.environment import gather
from keywheel.pytest_plugin import keywheel_sim
from keywheel.stores.sqlite import SqliteStore
from keywheel.testing import Simulator
from tests.library.test_docs_blocks import ELSEWHERE, PAGES, ROOT, gateway

__all__ = ["gateway", "keywheel_sim"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}[^\n]*\n)+)")
GENERATED = re.compile(r"<!-- begin ([a-z-]+) -->.*?<!-- end \1 -->", re.DOTALL)
SIMULATOR = "localhost:8788"
SERVERS = ("keywheel sim", "keywheel serve")
PATIENCE = 30.0  # seconds for a command


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page that is not Python."""

    page: str
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Its lines without comments."""
        return [line.partition("  #")[0].strip() for line in self.text.splitlines() if line.strip()]


def blocks() -> Iterator[Block]:
    """Every block that neither the tests of Python blocks, nor those of the frameworks, nor the docs script know."""
    for path in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]:
        if ELSEWHERE in path.parents:
            continue  # each of these pages is played as a whole
        page, text = str(path.relative_to(ROOT)), GENERATED.sub("", path.read_text("utf-8"))
        for language, code in FENCED.findall(text):
            if language != "python":
                yield Block(page, language, code)
        for code in INDENTED.findall(FENCED.sub("", text)):
            yield Block(page, "", code)


# --- what can be done with a block -----------------------------------------------------------------


def run(block: Block, there: "Place") -> None:
    """Commands."""
    for line in block.lines:
        if line.startswith(SERVERS):
            there.serve(line)
        else:
            there.call(line)


def know(block: Block, _there: "Place") -> None:
    """Targets of make: running `make test` here would run this test."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {line.split()[1] for line in block.lines} <= set(targets)


def take(block: Block, there: "Place") -> None:
    """Variables, in the file that the page names."""
    file = there.folder / ".env.local"
    file.write_text(block.text.replace("…", "0a" * 32))
    file.chmod(0o600)
    found = gather(environment={}, folder=there.folder)
    assert [entry.label for entry in found.keys] == ["primary"]
    assert found.warnings == ()


def load(block: Block, there: "Place") -> None:
    """TOML: settings, or the scenario of a simulator."""
    if block.page == "docs/simulator.md":
        file = there.folder / "mine.toml"
        file.write_text(block.text)
        assert sim.World(sim.scenario(str(file)))
    else:
        assert config.load([config.from_toml(block.text, block.page)]).origins


def parse(block: Block, _there: "Place") -> None:
    """An answer of the gateway, with figures of an example."""
    assert json.loads(block.text)["schema_version"] == 1


WAYS: tuple[tuple[Callable[[Block], bool], Callable[[Block, "Place"], None]], ...] = (
    (lambda block: block.language == "toml", load),
    (lambda block: block.language == "json", parse),
    (lambda block: all(line.startswith(("keywheel ", "curl ")) for line in block.lines), run),
    (lambda block: all(line.startswith("make ") for line in block.lines), know),
    (lambda block: all(re.match("[A-Z_0-9]+=", line) for line in block.lines), take),
)
#: (page, first word) → why nobody runs it.
NOT_RUN = {
    ("docs/metrics.md", "scrape_configs:"): "it is Prometheus that reads it",
    ("docs/routing.md", "J"): "a formula",
    ("CONTRIBUTING.md", "core/"): "a tree of folders",
    ("docs/cli.md", "2."): "a part of what a command prints",
    ("docs/operations.md", "pip"): "it asks a package index",
    ("docs/traces.md", "pip"): "it asks a package index; tests/test_traces.py runs the rest",
}


class Place:
    """An empty folder, a simulator and a gateway for commands to find."""

    def __init__(self, folder: Path, sim: Simulator, gateway: str) -> None:
        self.folder = folder
        self._simulator = sim.base_url.removesuffix("/api/v1")
        port = gateway.rpartition(":")[2]
        bin = Path(sys.executable).parent
        home = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "STATE")}
        ours = ("KEYWHEEL", "OPENROUTER")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._variables = {
            **kept, **sim.environment, **home, "KEYWHEEL_PORT": port, "PATH": f"{bin}:{os.environ['PATH']}",
        }  # fmt: skip
        (folder / "state" / "keywheel").mkdir(parents=True)
        SqliteStore(folder / "state" / "keywheel" / "state.db").close()

    def call(self, line: str) -> None:
        """A command that ends."""
        if line.startswith("curl ") and not shutil.which("curl"):
            pytest.skip("this machine has no curl")
        line = line.replace(SIMULATOR, self._simulator).replace("curl ", "curl -sSf ", 1)
        done = subprocess.run(
            ["sh", "-ec", line], cwd=self.folder, env=self._variables, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr

    def serve(self, line: str) -> None:
        """A command that serves until it is ended, on a free port."""
        with subprocess.Popen(
            ["sh", "-ec", f"exec {line} --port 0"], cwd=self.folder, env=self._variables, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            said = ""
            while "http://" not in said and (more := process.stdout.readline()):
                said += more
            process.send_signal(signal.SIGTERM)  # maybe before it has begun to listen for it
            process.wait(PATIENCE)
        assert "http://" in said, said
        assert process.returncode in {0, -signal.SIGTERM}, said


def way(block: Block) -> Callable[[Block, Place], None] | None:
    """What is done with it."""
    return next((do for fits, do in WAYS if fits(block)), None)


FOUND = list(blocks())


@pytest.mark.parametrize(
    "block", [each for each in FOUND if way(each)], ids=lambda each: f"{each.page}-{each.lines[0]}"
)
def test_a_block_of_the_docs_does_what_it_says(
    block: Block, keywheel_sim: Simulator, gateway: str, tmp_path: Path
) -> None:
    do = way(block)
    assert do
    do(block, Place(tmp_path, keywheel_sim, gateway))


def test_a_block_that_nobody_runs_says_why() -> None:
    left = {(each.page, each.lines[0].split()[0]) for each in FOUND if not way(each)}
    assert left == set(NOT_RUN)
