"""Figures over days on the page: from what is kept, by key, model, client or day."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from keywheel.config import Config, StateSettings, UpstreamSettings
from keywheel.gateway import run
from keywheel.gateway.work import Job, opened
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from tests.cli.commandline import simulated
from tests.dashboard.stage import Page, example, show
from tests.journeys.rig import HELLO, Rig, rig

TOTALS = {
    "attempts": 1_240, "succeeded": 1_200, "failed": 40, "tokens_in": 9, "tokens_out": 8, "success_rate": 0.9677,
    "latency_ms": 2_310.4, "ttft_ms": 812.0,
}  # fmt: skip
EVIL = "<img src=x onerror=\"window.pwned='img'\">"


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with rig() as it:
        yield it


class Archive:
    """Answers `/admin/history` in the gateway's place, and notes what it was asked."""

    def __init__(self, page: Page) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.names = ["one", EVIL]
        page.route("**/admin/history*", self._answer)

    def _answer(self, route: Any) -> None:
        self.asked.append(route.request.url.partition("?")[2])
        by = self.asked[-1].rpartition("=")[2]
        if self.status != 200:
            error = {"message": "The history cannot be read: the disk is full."}
            route.fulfill(status=self.status, json={"error": error})
            return
        rows = [{by: 1_791_158_400 if by == "day" else name, **TOTALS} for name in self.names]
        route.fulfill(json={"schema_version": 1, "by": by, "rows": rows, "totals": TOTALS})


@pytest.fixture
def archive(page: Page, running: Rig) -> Archive:
    it = Archive(page)
    show(page, running.address, example())
    page.wait_for_selector("#past table")
    return it


def press(page: Page, word: str) -> None:
    """By keyboard."""
    button = page.locator(f"#past .choice button >> text='{word}'")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"


def test_span_and_grouping_are_chosen_by_keyboard(page: Page, archive: Archive) -> None:
    table = page.locator("#past table")
    assert "1,240" in table.inner_text()
    assert "96.8 %" in table.inner_text()
    assert page.locator("#past tfoot").inner_text().startswith("All")
    starts = {"Today": 0, "7 days": 6, "30 days": 29}
    today = int(re.findall(r"since=(\d+)", archive.asked[-1])[0])
    for word, days in starts.items():
        press(page, word)
        page.wait_for_selector("#past table")
        assert archive.asked[-1] == f"since={today - days * 86_400}&by=key"
    for word in ("Model", "Client", "Day"):
        press(page, word)
        page.wait_for_selector(f"#past th >> text='{word}'")
        assert archive.asked[-1].endswith(f"by={word.lower()}")
    assert "2026-10-05" in table.inner_text()


def test_names_from_outside_are_shown_as_text(page: Page, archive: Archive) -> None:
    assert EVIL in page.locator("#past tbody").inner_text()
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("window.violations") == []


def test_what_is_missing_is_said_with_what_to_do(page: Page, archive: Archive) -> None:
    archive.names = []
    press(page, "7 days")
    page.wait_for_selector("#past >> text=Nothing was kept yet")
    archive.status = 503
    press(page, "30 days")
    page.wait_for_selector("#past >> text=The history cannot be read: the disk is full.")
    archive.status, archive.names = 200, ["one"]
    page.click("#past >> text=Ask again")
    page.wait_for_selector("#past table")


@contextmanager
def keeping() -> Iterator[httpx2.Client]:
    """A gateway that keeps its figures, in memory."""
    with simulated() as (_, variables):
        config = replace(
            Config(),
            upstream=UpstreamSettings(base_url=variables["OPENROUTER_BASE_URL"]),
            state=StateSettings(url=Secret("memory:")),
        )
        values = variables["OPENROUTER_API_KEY"].split(",")
        keys = [KeyEntry(label(n), Secret(key), "test") for n, key in enumerate(values, 1)]
        with (
            opened(Job(config, keys)) as app,
            run.listen("127.0.0.1", 0) as bound,
            run.in_thread(app, bound) as address,
            httpx2.Client(base_url=address, trust_env=False, timeout=30) as http,
        ):
            yield http


def test_the_page_shows_what_the_gateway_keeps(page: Page) -> None:
    with keeping() as http:
        for _ in range(3):
            assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
        told = http.get("/admin/history?by=key").json()
        page.goto(str(http.base_url))
        page.wait_for_selector("#past table")
        for row in told["rows"]:
            text = page.locator(f"#past tr[data-row='{row['key']}']").inner_text()
            assert str(row["attempts"]) in re.split(r"\s+", text)
        assert page.evaluate("window.violations") == []
    assert told["totals"]["attempts"] == 3
