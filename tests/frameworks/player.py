"""Run in a framework's own environment: plays its page of the docs against the simulator.

python player.py PAGE

Every section of the page is a scene: its blocks run as they are printed, with a dead key and a saturated provider in
the way. Two more scenes run the first block where it has to fail. A scene is one line of JSON on standard output.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from keywheel import client, sim
from keywheel.config import Config, UpstreamSettings
from keywheel.engine import Engine
from keywheel.gateway import run
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.testing import Simulator, simulator

IN_THE_WAY = ("key-unknown", "upstream-pool")  # a 401 and a 429
GATEWAY = "http://127.0.0.1:8787"
PAID = "openai/gpt-4o"
AUTO = re.compile(r"(?<=[\"/])auto(?=\")")
SECTION = re.compile(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALM = sim.scenario("calm")
SPENT = replace(CALM, accounts=tuple(sim.Account(used_today=50) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Block:
    """Code of a page, and the section that it stands in."""

    section: str
    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Blocks to run, those that have to be run before, and what is against them."""

    name: str
    blocks: tuple[Block, ...]
    before: tuple[Block, ...] = ()
    world: sim.Scenario = CALM
    faults: tuple[str, ...] = IN_THE_WAY


@dataclass(frozen=True, slots=True)
class House:
    """A simulator, and on it the wheels that a page can use."""

    sim: Simulator
    home: Path
    gateway: Engine | None = None
    address: str = GATEWAY

    @property
    def open_leases(self) -> int:
        """What has not come back, of both wheels."""
        engines = [client.default_engine(), *([self.gateway] if self.gateway else [])]
        return sum(engine.pool.open_leases for engine in engines)

    def run(self, blocks: tuple[Block, ...], names: dict[str, Any]) -> None:
        """Run blocks as a reader would. Raises what they raise."""
        for block in blocks:
            code = block.code.replace(GATEWAY, self.address)
            match block.language:
                case "python":
                    exec(compile(code, block.section, "exec"), names)  # noqa: S102 - our own docs
                case "yaml":
                    (self.home / "extra-openai-models.yaml").write_text(code, "utf-8")
                case "sh":
                    done = subprocess.run(("sh", "-ec", code), check=True, stdout=subprocess.PIPE)
                    print(done.stdout.decode())
                case other:
                    raise ValueError(f"a page has a block of {other}, which nobody runs")


class Pieces(io.StringIO):
    """Standard output that counts how often something was said."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def write(self, text: str) -> int:
        self.count += bool(text.strip())
        return super().write(text)


def blocks(page: str) -> Iterator[Block]:
    """The code of a page, in its order."""
    section = "plain"
    for heading, language, code in SECTION.findall(page):
        if heading:
            section = heading.lower()
        else:
            yield Block(section, language, code)


def scenes(page: str) -> Iterator[Scene]:
    """A page's sections, then what has to fail."""
    found = list(blocks(page))
    first = found[0]
    for section in dict.fromkeys(block.section for block in found):
        its = tuple(block for block in found if block.section == section)
        yield Scene(section, its, () if first in its else (first,))
    paid = replace(first, code=AUTO.sub(PAID, first.code))
    yield Scene("refused", (paid,), faults=())
    yield Scene("spent", (first,), world=SPENT, faults=())


@contextmanager
def house(world: sim.Scenario, home: Path, *, with_gateway: bool) -> Generator[House]:
    """A fresh simulator which the default wheel finds, and where a page wants one a gateway."""
    with ExitStack() as stack:
        running = stack.enter_context(simulator(world))
        os.environ.update(running.environment)
        client.forget()
        stack.callback(client.forget)
        if not with_gateway:
            yield House(running, home)
            return
        entries = [KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(running.keys, 1)]
        engine = Engine(Config(upstream=UpstreamSettings(base_url=running.base_url)), entries)
        bound = stack.enter_context(run.listen("127.0.0.1", 0))
        address = stack.enter_context(run.in_thread(run.build(engine), bound))
        yield House(running, home, engine, address)


def play(scene: Scene, there: House) -> dict[str, Any]:
    """What came of a scene."""
    names: dict[str, Any] = {"__name__": "example"}
    with redirect_stdout(io.StringIO()):
        there.run(scene.before, names)
    seen = len(there.sim.attempts)
    for kind in scene.faults:
        there.sim.fail(kind)
    error: Exception | None = None
    with redirect_stdout(Pieces()) as said:
        try:
            there.run(scene.blocks, names)
        except Exception as raised:  # the test says whether it had to
            error = raised
    return {
        "scene": scene.name,
        "said": said.getvalue(),
        "pieces": said.count,
        "raised": [kind.__name__ for kind in type(error).__mro__] if error else [],
        "message": str(error or ""),
        "attempts": [str(kind) for kind in there.sim.attempts[seen:]],
        "open_leases": there.open_leases,
    }


def settle_in(home: Path) -> None:
    """Let the framework find nothing of this machine's user, and nothing that is kept between scenes."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the gateway's
    os.environ |= {
        "HOME": str(home),
        "LLM_USER_PATH": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch prices from the Internet
        "KEYWHEEL_STATE__URL": "memory:",
    }


def main() -> None:
    """Play the page that the command line names; the current folder is its home."""
    home, out, page = Path.cwd(), sys.stdout, Path(sys.argv[1]).read_text("utf-8")
    settle_in(home)
    for scene in scenes(page):
        with house(scene.world, home, with_gateway=GATEWAY in page) as there:
            print(json.dumps(play(scene, there)), file=out, flush=True)


if __name__ == "__main__":
    main()
