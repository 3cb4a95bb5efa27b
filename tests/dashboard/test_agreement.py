"""Whoever tells the figures of a run tells the same ones, to the last count."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

import keywheel
from keywheel import client, sim
from keywheel.gateway import create_app
from keywheel.gateway.run import in_thread, listen
from keywheel.sim import Account, Behaviour, Kind, Scenario
from tests.cli.commandline import data
from tests.dashboard.stage import Page

TROUBLED = Scenario(
    accounts=(Account(day_limit=1_000), Account(day_limit=1_000, keys=2)),
    behaviour=Behaviour(faults={Kind.UNAVAILABLE: 0.2, Kind.UPSTREAM_POOL: 0.1}),
)
ASKED = 24  # requests, every third one streamed, one of them wrong
Json = dict[str, Any]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A gateway on the default wheel of this process, after a run with troubles."""
    app = sim.create_app(sim.World(TROUBLED, seed=3), speed=float("inf"))
    with listen("127.0.0.1", 0) as behind, in_thread(app, behind) as upstream:
        monkeypatch.setenv("OPENROUTER_BASE_URL", f"{upstream}/api/v1")
        monkeypatch.setenv("OPENROUTER_API_KEY", ",".join(sim.demo_keys(TROUBLED)))
        client.forget()
        with listen("127.0.0.1", 0) as bound, in_thread(create_app(), bound) as serving:
            run(serving)
            yield serving
    client.forget()


def run(address: str) -> None:
    with httpx2.Client(base_url=address, trust_env=False, timeout=30) as http:
        for number in range(ASKED):
            model = "no/such-model" if number == 7 else "auto"
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            http.post("/v1/chat/completions", json=body | {"stream": number % 3 == 0})


def scraped(address: str) -> dict[str, Counter[tuple[str, ...]]]:
    """Samples of `/metrics` by name and labels."""
    text = httpx2.get(f"{address}/metrics", trust_env=False, timeout=30).text
    found: dict[str, Counter[tuple[str, ...]]] = {}
    for line in text.splitlines():
        if sample := re.fullmatch(r"(\w+?)(?:\{(.*)\})? ([0-9.e+-]+)", line):
            labels = tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', sample[2] or ""))
            found.setdefault(sample[1], Counter())[labels] += float(sample[3])  # type: ignore[assignment]
    return found


def test_library_routes_metrics_command_and_page_agree_to_the_last_count(
    address: str, page: Page
) -> None:
    stats = httpx2.get(f"{address}/admin/stats", trust_env=False, timeout=30).json()
    state = httpx2.get(f"{address}/admin/state", trust_env=False, timeout=30).json()
    metrics = scraped(address)
    totals = stats["totals"]
    assert totals["requests"] == ASKED
    assert totals["attempts"] > totals["requests"] - 1  # some were tried again
    assert totals["failed"] >= 1

    told = [
        keywheel.get_api_stats().to_dict(),
        data("stats", KEYWHEEL_PORT=address.rpartition(":")[2]),
    ]
    for other in told:
        assert json.loads(json.dumps(other["totals"])) == totals
        for kind in ("keys", "models", "errors"):
            assert [*map(counts, other[kind])] == [*map(counts, stats[kind])]
    assert state["totals"] == totals
    assert [*map(counts, state["keys"])] == [*map(counts, stats["keys"])]

    attempts = metrics["keywheel_attempts_total"]
    assert sum(metrics["keywheel_requests_total"].values()) == totals["requests"]
    assert (
        sum(n for (_, out), n in metrics["keywheel_requests_total"].items() if out == "ok")
        == totals["succeeded"]
    )
    assert sum(attempts.values()) == totals["attempts"]
    for key in stats["keys"]:
        assert (
            sum(n for (name, *_), n in attempts.items() if name == key["name"]) == key["attempts"]
        )
    for error in stats["errors"]:
        assert sum(n for (*_, row), n in attempts.items() if row == error["row"]) == error["count"]

    page.goto(address)
    page.wait_for_selector("#link.is-live")
    for key in stats["keys"]:
        row = page.locator(f'tr[data-key="{key["name"]}"]').inner_text()
        assert str(key["attempts"]) in re.split(r"\s+", row)
    figures = " ".join(page.locator("#answered").inner_text().split())
    assert f"{totals['requests']} requests, {totals['fallbacks']} fallback" in figures


def counts(entry: Json) -> Json:
    """What is counted of a key, a model or an error."""
    named = ("name", "id", "attempts", "succeeded", "failed", "count", "success_rate")
    return {name: entry[name] for name in named if name in entry}
