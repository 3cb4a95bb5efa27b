"""The frameworks that people build with, each in an environment of its own, through keywheel to the simulator.

What is played is the framework's page of the docs: its blocks, as they are printed, with a dead key (401) and a
saturated provider (429) before the answer. The frameworks play at the same time; every test judges one scene.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.frameworks.frameworks import FRAMEWORKS, PAGES, Framework, Outcome, Show, play
from tests.frameworks.player import IN_THE_WAY

pytestmark = pytest.mark.timeout(
    600
)  # the first one waits for an installation, perhaps behind others

TOGETHER = 2  # cores
SAID = "Simulated answer from "

Shows = dict[str, Future[Show]]


@pytest.fixture(scope="module")
def shows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shows]:
    """The performances of all frameworks that a test asks for, begun."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    asked = (item.callspec.params.get("framework") for item in items if hasattr(item, "callspec"))
    wanted = {each.id for each in asked if isinstance(each, Framework)}
    with ThreadPoolExecutor(TOGETHER) as threads:
        yield {
            each.id: threads.submit(play, each, tmp_path_factory.mktemp(each.id))
            for each in FRAMEWORKS
            if each.id in wanted
        }


# --- judges ---------------------------------------------------------------------------------------


def _answered(outcome: Outcome, framework: Framework) -> None:
    assert outcome.said.startswith("city=" if framework.page == "instructor" else SAID)


def _streamed(outcome: Outcome, framework: Framework) -> None:
    shaped = framework.page in {"instructor", "dspy"}  # what they stream is an object, not text
    assert ("simulated" in outcome.said) if shaped else outcome.said.startswith(SAID)
    assert outcome.pieces > 3


def _called(outcome: Outcome, _framework: Framework) -> None:
    assert outcome.said.startswith("get_weather")
    assert "simulated" in outcome.said, "the argument that the model gave"


def _shaped(outcome: Outcome, _framework: Framework) -> None:
    assert "simulated" in outcome.said
    assert SAID not in outcome.said


SUCCEEDING: dict[str, Callable[[Outcome, Framework], None]] = {
    "plain": _answered,
    "stream": _streamed,
    "asyncio": _answered,
    "tools": _called,
    "structured output": _shaped,
    "the command": _answered,
}
REASONS = {
    "refused": "Model 'openai/gpt-4o' cannot be used",
    "spent": "The free quota of every usable account is used up",
}

# --- tests ----------------------------------------------------------------------------------------


#: (framework, scene) → why it fails.
def _matrix(scenes: Collection[str]) -> list[object]:
    return [
        pytest.param(each, scene, id=f"{each.id}-{scene}")
        for each in FRAMEWORKS
        for scene in each.scenes
        if scene in scenes
    ]


@pytest.mark.parametrize(("framework", "scene"), _matrix(SUCCEEDING))
def test_a_page_works_through_a_dead_key_and_a_saturated_provider(
    shows: Shows, framework: Framework, scene: str
) -> None:
    outcome = shows[framework.id].result().of(scene)
    assert outcome.raised == [], outcome.message
    SUCCEEDING[scene](outcome, framework)
    assert outcome.attempts[:3] == [*IN_THE_WAY, "ok"]
    assert set(outcome.attempts[3:]) <= {"ok"}, "an agent asks again, and meets no further fault"
    assert outcome.open_leases == 0


@pytest.mark.parametrize(("framework", "scene"), _matrix(REASONS))
def test_a_refusal_is_an_exception_that_the_page_names(
    shows: Shows, framework: Framework, scene: str
) -> None:
    outcome = shows[framework.id].result().of(scene)
    expected = framework.refused if scene == "refused" else framework.spent
    assert expected in outcome.raised
    assert REASONS[scene] in outcome.message
    assert outcome.attempts == [], "nothing is sent in vain, however often a framework repeats itself"  # fmt: skip
    assert outcome.open_leases == 0
    assert f"{expected}`" in framework.path.read_text("utf-8")


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda each: each.id)
def test_a_page_names_the_version_that_was_tested(framework: Framework) -> None:
    assert framework.tested in framework.path.read_text("utf-8").replace("\n", " ")


def test_every_page_is_played() -> None:
    assert {each.page for each in FRAMEWORKS} == {page.stem for page in PAGES.glob("*.md")}
