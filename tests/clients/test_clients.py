"""Real clients, each in an environment of its own, against gateway and simulator on loopback: scenes × clients.

The clients play at the same time, each its scenes in turn; every test judges one scene of one client.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.clients.clients import CLIENTS, Client
from tests.clients.scenes import SCENES
from tests.clients.stage import Outcome, play

pytestmark = pytest.mark.timeout(400)  # the first one waits for an installation

TOGETHER = 3  # two cores are busy with that

Shows = dict[str, Future[dict[str, Outcome]]]


@pytest.fixture(scope="module")
def shows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shows]:
    """The performances of all clients that a test asks for, begun."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    clients = (item.callspec.params.get("client") for item in items if hasattr(item, "callspec"))
    wanted = {client.name for client in clients if isinstance(client, Client)}
    settings = {name: scene.setting for name, scene in SCENES.items()}
    with ThreadPoolExecutor(TOGETHER) as threads:
        yield {
            client.name: threads.submit(
                play, client, tmp_path_factory.mktemp(client.name), settings
            )
            for client in CLIENTS
            if client.name in wanted
        }


def _matrix() -> Iterator[object]:
    for client in CLIENTS:
        marks = [] if client.of_python else [NEEDS_NPM]
        for scene in client.scenes:
            yield pytest.param(client, scene, id=f"{client.name}-{scene}", marks=marks)


NEEDS_NPM = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@pytest.mark.parametrize(("client", "scene"), list(_matrix()))
def test_a_client_gets_what_it_expects(shows: Shows, client: Client, scene: str) -> None:
    outcome = shows[client.name].result()[scene]
    assert "crashed" not in outcome.told, outcome.told["crashed"]
    SCENES[scene].judge(outcome, client)
