"""Ten staged troubles: `keywheel status` and `doctor` name cause, scope, when it is over, and one thing to do."""

import re

import pytest

from tests.cli.commandline import keywheel
from tests.journeys.staged import STAGED, in_trouble


@pytest.mark.parametrize("name", STAGED)
def test_status_names_cause_scope_end_and_one_thing_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_trouble(name, monkeypatch) as (staged, running):
        result = keywheel("status", KEYWHEEL_PORT=running.address.rpartition(":")[2])
    assert result.exit_code in (0, 5), result.output
    lines = result.stdout.splitlines()
    at = next((n for n, line in enumerate(lines) if re.search(staged.cause, line)), None)
    assert at is not None, result.stdout
    whom, action = lines[at + 1], lines[at + 2]
    assert re.search(rf"^\s*{staged.scope}", whom), whom
    assert re.search(staged.end, whom), whom
    assert staged.action in action


@pytest.mark.parametrize("name", STAGED)
def test_doctor_names_cause_scope_end_and_one_thing_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_trouble(name, monkeypatch) as (staged, running):
        result = keywheel(
            "doctor",
            KEYWHEEL_PORT=running.address.rpartition(":")[2],
            OPENROUTER_BASE_URL=running.engine.config.upstream.base_url,
            OPENROUTER_API_KEY=",".join(s.reveal() for s in running.engine.secrets.values()),
        )
    lines = result.stdout.splitlines()
    at = next((n for n, line in enumerate(lines) if re.search(staged.cause, line)), None)
    assert at is not None, result.stdout
    scope = staged.scope.partition(r" \(")[0]
    assert re.search(rf"\[{scope}\]", lines[at]), lines[at]
    assert re.search(r"Over at|No end known", lines[at]), lines[at]
    assert staged.action in lines[at + 1]
