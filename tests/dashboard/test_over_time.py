"""Figures over days on the page: from what is kept, by key, model, client or day."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keywheel.config import Config, GatewaySettings, StateSettings, UpstreamSettings
from keywheel.gateway import run
from keywheel.gateway.work import Job, opened
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.stores import Figures
from tests.cli.commandline import simulated
from tests.dashboard import past
from tests.dashboard.stage import ADMIN, CONTRASTS, Browser, Json, Page, example, open_page, show
from tests.journeys.rig import HELLO, Rig, rig

EVIL = "<img src=x onerror=\"window.pwned='img'\">"
NOW = example()["now"]
FULL = "The history cannot be read: the disk is full."
MINUTE = 61_000  # milliseconds
# Whether the tab is looked at.
HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with rig() as it:
        yield it


class Archive:
    """Answers `/admin/history` in the gateway's place, and notes what it was asked."""

    def __init__(self, page: Page, now: float = NOW) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.now = now
        self.rows = [_row("one", 740, 720, now), _row(EVIL, 500, 480, now)]
        page.route("**/admin/history*", self._answer)

    def _answer(self, route: Any) -> None:
        self.asked.append(route.request.url.partition("?")[2])
        if self.status == 200:
            route.fulfill(json=past.told(self.rows, self.asked[-1], self.now))
        else:
            route.fulfill(status=self.status, json={"error": {"message": FULL}})


def _row(key: str, attempts: int, succeeded: int, now: float = NOW) -> Figures:
    sums = {"succeeded": succeeded, "failed": attempts - succeeded, "tokens_in": 9 * succeeded}
    return Figures(int(now // 3_600), key, "m", attempts=attempts, **sums)


@pytest.fixture
def archive(page: Page, running: Rig) -> Archive:
    """The section is in view, with figures."""
    it = Archive(page)
    page.clock.install(time=NOW)
    show(page, running.address, example())
    look(page)
    page.wait_for_selector("#past table")
    return it


def look(page: Page) -> None:
    """Bring the section into view."""
    page.locator("#past").scroll_into_view_if_needed()


def press(page: Page, word: str) -> None:
    """By keyboard."""
    button = page.locator(f"#past .choice button >> text='{word}'")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"


def pass_a_minute(page: Page) -> None:
    """The page's clock goes on; what it asks then is noted before this question is answered."""
    page.clock.run_for(MINUTE)
    page.evaluate("fetch('/healthz').then((answer) => answer.text())")


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
        assert f"since={today - days * 86_400}&by=key" in archive.asked[-2:]
    for word in ("Model", "Client", "Day"):
        press(page, word)
        page.wait_for_selector(f"#past th >> text='{word}'")
        assert any(asked.endswith(f"by={word.lower()}") for asked in archive.asked[-2:])
    assert "2026-10-05" in table.inner_text()


def test_names_from_outside_are_shown_as_text(page: Page, archive: Archive) -> None:
    assert EVIL in page.locator("#past tbody").inner_text()
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("window.violations") == []


def test_what_is_missing_is_said_with_what_to_do(page: Page, archive: Archive) -> None:
    kept, archive.rows = archive.rows, []
    press(page, "7 days")
    page.wait_for_selector("#past >> text=Nothing is kept for this span.")
    archive.status = 503
    press(page, "30 days")
    page.wait_for_selector(f"#past >> text={FULL}")
    archive.status, archive.rows = 200, kept
    page.click("#past >> text=Ask again")
    page.wait_for_selector("#past table")


def test_page_and_docs_say_in_the_same_words_when_figures_come(
    page: Page, archive: Archive
) -> None:
    archive.rows = []
    press(page, "7 days")
    told = page.inner_text("#past .empty")
    said = re.search(r"[^.]*\bonce a minute\b[^.]*\.", told)
    assert said, told
    docs = Path(__file__).parents[2] / "docs" / "admin.md"
    assert said[0].strip() in docs.read_text("utf-8")


# --- what is asked, and when -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_gets_the_login_form(page: Page, archive: Archive, status: int) -> None:
    archive.status = status
    page.route("**/admin/state", lambda route: route.fulfill(status=status))
    page.click("#past >> text='7 days'")
    page.wait_for_selector(".alone #token")
    assert not page.query_selector("#past")


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_why_gets_the_login_form(
    page: Page, archive: Archive, status: int
) -> None:
    page.unroute("**/admin/explain/*")
    for path in ("state", "explain/*"):
        page.route(f"**/admin/{path}", lambda route: route.fulfill(status=status))
    page.click("#requests summary >> nth=0")
    page.wait_for_selector(".alone #token")


def test_after_the_login_the_figures_come_by_themselves(page: Page) -> None:
    closed = GatewaySettings(admin_token=Secret(ADMIN), require_token=True)
    with rig(config=Config(gateway=closed)) as it:
        archive = Archive(page, it.clock())
        page.goto(it.address)
        for _ in range(2):  # the second time, the session has ended
            page.fill(".alone #token", ADMIN)
            page.click(".login .main")
            page.wait_for_selector("#link.is-live")
            look(page)
            page.wait_for_selector("#past table")
            page.context.clear_cookies()
            archive.status = 401
            page.click("#past >> text='7 days'")
            page.wait_for_selector(".alone #token")
            archive.status = 200


def test_a_failed_refresh_leaves_the_figures_and_says_their_age_and_why(
    page: Page, archive: Archive
) -> None:
    archive.status = 503
    pass_a_minute(page)
    note = page.wait_for_selector("#past .stale")
    words = " ".join(note.inner_text().split())
    assert words == f"These figures are from 11:55; asking again failed: {FULL} Ask again"
    assert "1,240" in page.inner_text("#past tfoot")
    pass_a_minute(page)
    assert "These figures are from 11:55" in page.inner_text("#past .stale")
    archive.status, archive.rows = 200, [_row("one", 750, 700)]
    page.click("#past >> text=Ask again")
    page.wait_for_selector("#past .stale", state="detached")
    assert "750" in page.inner_text("#past tbody")


def test_nothing_is_asked_while_nobody_sees_it(page: Page, running: Rig) -> None:
    archive = Archive(page)
    page.clock.install(time=NOW)
    show(page, running.address, example())
    pass_a_minute(page)
    assert archive.asked == []
    look(page)
    page.wait_for_selector("#past table")
    once = len(archive.asked)
    page.evaluate("scrollTo(0, 0)")
    pass_a_minute(page)
    assert len(archive.asked) == once
    with page.expect_request("**/admin/history*"):
        look(page)


def test_a_hidden_tab_asks_nothing_and_asks_at_once_when_it_is_shown(
    page: Page, archive: Archive
) -> None:
    once = len(archive.asked)
    page.evaluate(HIDDEN, True)
    pass_a_minute(page)
    assert len(archive.asked) == once
    page.clock.pause_at(NOW + 3_600)  # no tick helps
    with page.expect_request("**/admin/history*"):
        page.evaluate(HIDDEN, False)


def test_what_is_in_view_is_asked_once_a_minute(page: Page, archive: Archive) -> None:
    once = len(archive.asked)
    page.clock.run_for(30_000)
    assert len(archive.asked) == once
    with page.expect_request("**/admin/history*"):
        page.clock.run_for(31_000)


# --- how it looks ----------------------------------------------------------------------------------

# Of each table, how far the text of the first column stands from its edge, heading, rows and sum.
EDGES = """() => [...document.querySelectorAll("table.list")].map((table) => [...new Set(
  [...table.rows].map((row) => row.cells[0]).map((cell) => getComputedStyle(cell).paddingLeft))])"""


@pytest.mark.parametrize(("width", "edge"), [(1280, "18px"), (390, "12px")])
def test_names_stand_below_their_heading(
    running: Rig, browser: Browser, width: int, edge: str
) -> None:
    page = open_page(browser, width)
    Archive(page)
    show(page, running.address, example())
    look(page)
    page.wait_for_selector("#past tfoot")
    page.click("#requests summary >> nth=1")
    page.wait_for_selector("#requests .candidates")
    assert page.evaluate(EDGES) == [[edge]] * 5
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_figures_fit_the_window_and_can_be_read(
    running: Rig, browser: Browser, scheme: str, width: int
) -> None:
    page = open_page(browser, width, scheme)
    Archive(page)
    show(page, running.address, example())
    look(page)
    good = page.wait_for_selector("#past .bars .good")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CONTRASTS) == []
    ink = good.evaluate("bar => getComputedStyle(bar).backgroundColor")
    assert ink == {"light": "rgb(43, 138, 87)", "dark": "rgb(92, 201, 141)"}[scheme]
    page.context.close()


# Each bar: its name, what it tells, and the heights of its parts in hundredths of the whole.
BARS = """() => [...document.querySelectorAll("#past .bars > div")].map((bar) => [bar.dataset.bar, bar.title,
  Object.fromEntries([...bar.children].map((part) =>
    [part.className, Math.round(100 * part.getBoundingClientRect().height / bar.parentElement.clientHeight)]))])"""


def test_each_day_is_a_bar_of_what_was_answered_abandoned_and_failed(
    page: Page, archive: Archive
) -> None:
    today = archive.rows[0]
    earlier = today._replace(
        hour=today.hour - 48, attempts=400, succeeded=200, failed=120, key="two"
    )
    archive.rows = [today._replace(attempts=800, succeeded=800, failed=0), earlier]
    press(page, "7 days")
    page.wait_for_selector("#past .bars")
    names, titles, heights = zip(*page.evaluate(BARS), strict=True)
    assert names == tuple(
        f"2026-{day}" for day in ("09-29", "09-30", *(f"10-0{n}" for n in range(1, 6)))
    )
    assert titles[4:] == (
        "2026-10-03: 400, 200 answered, 120 failed, 80 abandoned",
        "2026-10-04: 0, 0 answered, 0 failed, 0 abandoned",
        "2026-10-05: 800, 800 answered, 0 failed, 0 abandoned",
    )
    assert heights == ({}, {}, {}, {}, {"bad": 15, "faint": 10, "good": 25}, {}, {"good": 100})
    assert page.get_attribute("#past .bars[role=img]", "aria-label") == (
        "Attempts by day, 2026-09-29 to 2026-10-05: 1,200, 1,000 answered, 120 failed, 80 abandoned. "
        "Most: 800, 2026-10-05."
    )
    assert page.inner_text("#past figcaption").startswith("Attempts by day")


def test_today_has_a_bar_for_each_hour(page: Page, archive: Archive) -> None:
    names, _, heights = zip(*page.evaluate(BARS), strict=True)
    assert names == tuple(f"{hour:02}:00 UTC" for hour in range(24))
    assert [n for n, parts in enumerate(heights) if parts] == [int(NOW % 86_400 // 3_600)]


def test_the_bars_are_asked_for_only_where_the_table_does_not_have_them(
    page: Page, archive: Archive
) -> None:
    press(page, "7 days")
    page.wait_for_selector("#past .bars")
    assert [asked.rpartition("=")[2] for asked in archive.asked[-2:]] == ["key", "day"]
    once = len(archive.asked)
    press(page, "Day")
    page.wait_for_selector("#past .bars")
    assert len(archive.asked) == once + 1


# --- the whole way ---------------------------------------------------------------------------------


@contextmanager
def keeping() -> Iterator[httpx2.Client]:
    """A gateway that keeps its figures, in memory; its first attempt fails."""
    with simulated() as (world, variables):
        world.script("502")
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


def _milliseconds(value: float) -> str:
    """As the page writes them, for less than ten seconds."""
    return f"{int(value + 0.5)} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{share * 100:.1f} %"


SHOWN: dict[str, Callable[[Json], str]] = {
    "Attempts": lambda row: f"{row['attempts']:,}",
    "Answered": lambda row: _percent(row["success_rate"]),
    "Tokens in": lambda row: f"{row['tokens_in']:,}",
    "Tokens out": lambda row: f"{row['tokens_out']:,}",
    "TTFT, mean": lambda row: _milliseconds(row["ttft_ms"]),
    "Answer, mean": lambda row: _milliseconds(row["latency_ms"]),
}


def test_the_page_shows_what_the_gateway_keeps(page: Page) -> None:
    with keeping() as http:
        for number in range(5):
            asked = HELLO | {"stream": number % 2 == 0}
            assert http.post("/v1/chat/completions", json=asked).status_code == 200
        page.goto(str(http.base_url))
        look(page)
        page.wait_for_selector("#past table")
        told = http.get("/admin/history?by=key").json()
        heads, *rows = page.evaluate(
            "[...document.querySelectorAll('#past tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        assert page.evaluate("window.violations") == []
    assert (told["totals"]["attempts"], told["totals"]["failed"]) == (6, 1)
    assert heads == ["Key", *SHOWN]
    expected = [
        {"Key": row["key"]} | {name: read(row) for name, read in SHOWN.items()}
        for row in told["rows"]
    ]
    if len(expected) > 1:
        expected.append(
            {"Key": "All"} | {name: read(told["totals"]) for name, read in SHOWN.items()}
        )
    assert [dict(zip(heads, row, strict=True)) for row in rows] == expected
