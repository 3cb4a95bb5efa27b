"""The frameworks: what is installed for each, which scenes its page of the docs has, and what it raises.

Every framework has an environment of its own, because resolvers go back silently when packages share one.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.clients.clients import UV, NotInstalled, environment

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs" / "frameworks"
PLAYER = Path(__file__).parent / "player.py"
AS_OF = "2026-11-22"  # what a framework itself does not pin is no newer
INSTALLING = 180.0  # seconds; with a cold cache the largest one takes about 20
PLAYING = 90.0  # seconds; the longest needs 8
# A registry out of reach is told soon, not after uv's own patience of minutes.
PATIENCE = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "2"}

ALWAYS = ("plain", "stream", "asyncio", "refused", "spent")


class Outcome(msgspec.Struct, frozen=True):
    """What came of a scene: what it printed or raised, and what the upstream saw."""

    scene: str
    said: str
    pieces: int  # how often something was printed
    raised: list[str]  # the classes of the exception, its own one first
    message: str
    attempts: list[str]
    open_leases: int


@dataclass(frozen=True, slots=True)
class Show:
    """What came of all scenes of a framework. `wrong`: what ended them before their time."""

    outcomes: dict[str, Outcome]
    wrong: str

    def of(self, scene: str) -> Outcome:
        """The outcome of one scene."""
        assert scene in self.outcomes, self.wrong or f"a page without a section {scene!r}"
        return self.outcomes[scene]


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework in one version, and how it says that a request is refused or the quota used up."""

    page: str
    packages: tuple[str, ...]  # pinned
    refused: str
    spent: str
    extra: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    name: str = ""  # where it is not the page's

    @property
    def id(self) -> str:
        """What the tests call it."""
        return self.name or self.page

    @property
    def scenes(self) -> tuple[str, ...]:
        """What its page has to show."""
        return tuple(scene for scene in ALWAYS if scene not in self.never) + self.extra

    @property
    def path(self) -> Path:
        """Its page."""
        return PAGES / f"{self.page}.md"

    @property
    def tested(self) -> str:
        """The package that it is, and the version."""
        package, _, version = self.packages[0].partition("==")
        return f"{package.partition('[')[0]} {version}"


BOTH = ("tools", "structured output")
OPENAI = ("BadRequestError", "RateLimitError")

FRAMEWORKS = (
    Framework("openai", ("openai==3.54.0",), *OPENAI, BOTH, name="openai-3"),
    Framework("openai", ("openai==2.54.0",), *OPENAI, BOTH, name="openai-2"),
    Framework("anthropic", ("anthropic==2.12.0",), *OPENAI, ("tools",)),
    Framework("langchain", ("langchain-openai==1.7.3", "openai==3.54.0"), *OPENAI, BOTH),
    Framework(
        "langchain-openrouter", ("langchain-openrouter==0.2.9",),
        "BadRequestResponseError", "TooManyRequestsResponseError", ("tools",),
    ),
    Framework(
        "llama-index", ("llama-index-llms-openai-like==0.8.1", "openai==2.54.0"), *OPENAI, BOTH,
    ),
    Framework(
        "pydantic-ai", ("pydantic-ai-slim[openai]==2.68.0", "openai==3.54.0"),
        "ModelHTTPError", "ModelHTTPError", BOTH,
    ),
    Framework("litellm", ("litellm==1.110.2", "openai==2.54.0"), *OPENAI, ("tools",)),
    Framework(
        "instructor", ("instructor==1.17.0", "openai==3.3.0"),
        "InstructorRetryException", "InstructorRetryException",
    ),
    Framework(
        "dspy", ("dspy==3.4.1", "litellm==1.110.2", "openai==3.54.0"),
        "LMInvalidRequestError", "LMRateLimitError", ("structured output",),
    ),
    Framework(
        "llm", ("llm==0.36", "openai==3.54.0"), *OPENAI, (*BOTH, "the command"), ("asyncio",),
    ),
)  # fmt: skip


def play(framework: Framework, home: Path) -> Show:
    """Install the framework and play its page, with an empty folder for its home. Raises NotInstalled."""
    with_packages = [part for package in framework.packages for part in ("--with", package)]
    # Editable: of a folder that it has built once uv takes the old wheel, whatever the source says now.
    python = (
        UV, "run", "--isolated", "--no-project", "--quiet", "--python", sys.executable, "--exclude-newer", AS_OF,
        "--with-editable", str(ROOT), *with_packages, "python",
    )  # fmt: skip
    wrong = _run((*python, "-c", ""), home, INSTALLING)
    if wrong:
        what = " ".join(framework.packages)
        raise NotInstalled(
            f"{what} could not be installed; is the package registry within reach?\n{wrong}"
        )
    wrong = _run((*python, str(PLAYER), str(framework.path)), home, PLAYING)
    lines = (home / "told").read_text("utf-8").splitlines()
    outcomes = [msgspec.json.decode(line, type=Outcome) for line in lines]
    return Show({outcome.scene: outcome for outcome in outcomes}, wrong)


def _run(command: tuple[str, ...], home: Path, seconds: float) -> str:
    """Run a command with its words in the file `told`. What went wrong; nothing if all is well."""
    with (
        (home / "told").open("w") as told,
        (home / "complaints").open("w") as complaints,
        subprocess.Popen(
            command, cwd=home, env=_surroundings(), stdout=told, stderr=complaints, stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = f"none after {seconds:.0f} s"
        finally:
            # uv waits for its Python, which would outlive it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code == 0:
        return ""
    return f"exit code {code}\n{(home / 'complaints').read_text('utf-8')[-4000:]}"


def _surroundings() -> dict[str, str]:
    """Bytecode is kept: half of a framework's time is its import."""
    ours = {
        name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    return PATIENCE | ours
