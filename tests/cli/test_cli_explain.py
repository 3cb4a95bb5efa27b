"""`keywheel explain`: why a request went where it went, whole in 80 columns, for people and as JSON."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from keywheel import sim
from keywheel.cli import explaining
from tests.cli.commandline import data, keywheel, refusal
from tests.journeys.rig import Rig, rig

ID = "5ec2e7-1"


def port(running: Rig) -> str:
    return running.address.rpartition(":")[2]


def shown(told: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as got:
        console.print(explaining.story(told))
    return got.get()


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with rig(sim.Scenario(accounts=(sim.Account(), sim.Account()))) as it:
        it.world.script("502")
        it.chat({"x-request-id": ID}, max_tokens=300)
        it.chat({"x-request-id": "5ec2e7-2"}, model="no/such")
        yield it


@pytest.fixture(scope="module")
def told(running: Rig) -> dict[str, Any]:
    return running.http.get(f"/admin/explain/{ID}").json()


def test_a_request_is_explained(running: Rig) -> None:
    result = keywheel("explain", ID, COLUMNS="140", KEYWHEEL_PORT=port(running))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"request {ID} (chat), ")
    assert lines[1].startswith("asked about ")
    assert "a reply of at most 300" in lines[1]
    assert lines[2].startswith("served ")
    assert lines[3].startswith("outcome ● ok, status 200, after ")
    text = "\n".join(lines)
    assert "1. " in text
    assert "2. " in text
    assert "2 key(s) could be used; left 50 today, 19 this minute" in text
    assert "the model is closed for now, until " in text
    assert "10 more that were not needed" in text
    assert "✖" in text
    assert "24 provider-down" in text
    assert "502, 503, `provider_unavailable`" in text
    assert "at fault: model" in text


def test_the_chosen_one_is_marked_and_its_score_adds_up(told: dict[str, Any]) -> None:
    marked = [line.split() for line in shown(told, 140).splitlines() if line.startswith("→")]
    assert [line[2] for line in marked] == [
        decision["chosen"]["model"] for decision in told["decisions"]
    ]
    arrow, _, _, felt, _, answer, _, plus, failures, _, times, price = marked[0]
    assert (arrow, plus, times) == ("→", "+", "×")
    assert float(felt) == pytest.approx((float(answer) + float(failures)) * float(price), abs=0.2)


def test_as_json_it_is_what_the_gateway_tells(running: Rig, told: dict[str, Any]) -> None:
    assert data("explain", ID, KEYWHEEL_PORT=port(running)) == told


def test_without_an_id_the_latest_are_listed(running: Rig) -> None:
    result = keywheel("explain", COLUMNS="120", KEYWHEEL_PORT=port(running))
    assert result.exit_code == 0
    head, refused, served = (line.split() for line in result.stdout.splitlines())
    assert head[:3] == ["at", "outcome", "model"]
    assert ("model_not_free" in refused, refused[-1]) == (True, "5ec2e7-2")
    assert ("ok" in served, served[-1]) == (True, ID)
    listed = data("explain", KEYWHEEL_PORT=port(running))
    assert [each["request_id"] for each in listed["requests"]] == ["5ec2e7-2", ID]


def test_what_was_refused_as_it_stood_says_so(running: Rig) -> None:
    result = keywheel("explain", "5ec2e7-2", KEYWHEEL_PORT=port(running))
    assert "refused as it stood, before anything was decided" in result.stdout
    assert "✖ model_not_free, status 400" in result.stdout
    assert "Attempts" not in result.stdout


def test_an_unknown_request_is_1_and_says_which_id_it_is(running: Rig) -> None:
    said = refusal(1, "explain", "nobody's/../x", KEYWHEEL_PORT=port(running))
    assert "is served here" in said
    said = refusal(1, "explain", "nobodys", KEYWHEEL_PORT=port(running))
    assert "x-request-id" in said
    assert "2 requests are remembered now" in said


def test_no_gateway_is_4() -> None:
    assert refusal(4, "explain", KEYWHEEL_PORT="9").startswith("no gateway answers")


def test_before_the_first_request_it_says_so() -> None:
    console = Console(width=80)
    with console.capture() as got:
        console.print(explaining.latest({"requests": []}))
    assert got.get().strip() == "No request has come yet."


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits_its_terminal_and_cuts_nothing(told: dict[str, Any], width: int) -> None:
    lines = shown(told, width).splitlines()
    assert max(map(len, lines)) <= width
    letters = sorted("".join("".join(lines).split()))
    assert letters == sorted("".join(shown(told, 400).split()))


def test_what_closes_a_candidate_is_told_with_its_end_and_a_list_has_no_scores() -> None:
    candidate = {
        "id": "a/m:free", "rank": None, "score": None, "felt_s": None, "parts": None,
        "until": 1_791_201_600.0, "why_not": "the model is closed for now",
    }  # fmt: skip
    decision = {
        "at": 1_791_201_500.0, "chosen": None, "why": "no model fits the request", "ways": 0, "left_today": None,
        "left_this_minute": None, "at_home": False, "no_lane": "unfit", "candidates": [candidate],
    }  # fmt: skip
    asked = {
        "tokens": 90_000, "reply_tokens": None, "stream": True, "needs": ["tools"], "models": ["a/m:free"],
        "first": "b/n:free", "pinned": True, "strategy": None, "follow_up": True, "deadline": None,
    }  # fmt: skip
    story = {
        "request_id": "x", "dialect": "chat", "began": 1_791_201_500.0, "outcome": "under way", "status": None,
        "code": None, "seconds": None, "served_by": None, "asked": asked, "decisions": [decision], "attempts": [],
    }  # fmt: skip
    text = " ".join(shown(story, 140).split())
    assert (
        "asked about 90,000 tokens; needs tools; one of a/m:free in this order; b/n:free only; streamed; "
        "part of a conversation"
    ) in text
    assert "outcome ◌ under way" in text
    assert "1. no way" in text
    assert "the model is closed for now, until 12:00:00 UTC" in text


def test_what_comes_from_outside_moves_no_cursor(told: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(told).replace("5ec2e7-1", "x\\u001b[2J"))
    assert "\x1b" not in shown(hostile)
