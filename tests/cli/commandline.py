"""Runs commands without a process of their own, and says what must be true of all of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result

from keywheel import sim
from keywheel.cli import cli
from keywheel.gateway import run

KEY = "sk-or-v1-" + "5ec2e7" * 10
TOKEN = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
AWAY = "http://127.0.0.1:9/api/v1"
Variables = dict[str, str]


@contextmanager
def simulated(scenario: sim.Scenario | None = None) -> Iterator[tuple[sim.World, Variables]]:
    """A simulator, and the variables that lead to it."""
    scenario = scenario or sim.scenario("calm")
    world = sim.World(scenario, seed=1)
    app = sim.create_app(world, speed=float("inf"))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as url:
        keys = ",".join(sim.demo_keys(scenario))
        yield world, {"OPENROUTER_BASE_URL": f"{url}/api/v1", "OPENROUTER_API_KEY": keys}


def keywheel(*args: str, input: str | None = None, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(cli, args, input=input, prog_name="keywheel")


def data(*args: str, **variables: str) -> Any:
    """The object that a command prints with `--json`."""
    result = keywheel(*args, "--json", **variables)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    body = json.loads(result.stdout)
    assert body["schema_version"] == 1
    return body


def refusal(code: int, *args: str, **variables: str) -> str:
    """The one sentence on standard error with which a command ends; nothing on standard output."""
    result = keywheel(*args, **variables)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("keywheel: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("keywheel: ").strip()
