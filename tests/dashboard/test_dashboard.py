"""The dashboard in a real browser, before a real gateway and the simulator."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keywheel.config import Config, GatewaySettings
from keywheel.core.policy import Limits
from keywheel.secret import Secret
from keywheel.sim import Account, Scenario
from tests.dashboard.stage import (
    ADMIN,
    CONTRASTS,
    Browser,
    Page,
    busy,
    example,
    explanation,
    open_page,
    show,
)
from tests.journeys.rig import Rig, rig

GATEWAY = GatewaySettings(admin_token=Secret(ADMIN))
PAYLOADS = (
    "<img src=x onerror=\"window.pwned='img'\">",
    "<script>window.pwned='script'</script>",
    "\"><svg onload=window.pwned='svg'>",
    "'--><iframe src=javascript:parent.pwned='iframe'>",
    "javascript:window.pwned='link'",
    "${window.pwned='template'}",
    "<b style=color:red>bold</b>&lt;i&gt;\u202e\u0000",
)
# Fields with a fixed set of values; all others may hold texts from outside.
FIXED = {"state", "severity", "outcome", "outlook", "provenance", "mode", "dialect", "scope"}


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with rig(config=Config(gateway=GATEWAY)) as it:
        yield it


def visit(page: Page, it: Rig) -> None:
    page.goto(it.address)
    page.wait_for_selector("#link.is-live")


def cell(key: str, state: str) -> str:
    return f'#ways .cell[data-key="{key}"][data-state="{state}"]'


def log_in(page: Page, token: str) -> None:
    page.fill("#token", token)
    page.click(".login .main")


# --- what is sent ----------------------------------------------------------------------------------


def test_the_page_forbids_all_but_its_own_files_and_is_not_kept(running: Rig) -> None:
    reply = running.http.get("/")
    assert reply.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"


def test_an_asset_is_sent_again_only_when_it_has_changed(running: Rig) -> None:
    first = running.http.get("/assets/page.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = {"if-none-match": first.headers["etag"]}
    assert running.http.get("/assets/page.js", headers=again).status_code == 304


@pytest.mark.parametrize(
    "name", ["index.html", "README.md", "htm.LICENSE", "nothing.js", "../page.py", "..%2fpage.py"]
)
def test_nothing_but_the_assets_is_served(running: Rig, name: str) -> None:
    assert running.http.get(f"/assets/{name}").status_code == 404


def test_another_host_name_gets_no_page(running: Rig) -> None:
    assert running.http.get("/", headers={"host": "evil.example"}).status_code == 403


def test_the_page_weighs_less_than_150_kilobytes(running: Rig, page: Page) -> None:
    visit(page, running)
    paths = [address.removeprefix(running.address) for address in page.heard]
    weight = sum(
        len(running.http.get(path).content) for path in {*paths} if not path.startswith("/admin")
    )
    assert 50_000 < weight < 150_000


# --- in the browser --------------------------------------------------------------------------------


def test_it_loads_without_a_violation_and_asks_nobody_else(running: Rig, page: Page) -> None:
    running.chat()
    visit(page, running)
    page.wait_for_selector("#traffic canvas")
    assert page.evaluate("violations") == []
    assert page.troubles == []
    assert {address for address in page.heard if not address.startswith(running.address)} == set()


def test_a_key_that_turns_bad_turns_red_within_two_seconds(page: Page) -> None:
    with rig() as it:
        visit(page, it)
        page.wait_for_selector(cell("primary", "open"))
        it.world.script("key-unknown", key=0)
        began = time.monotonic()
        it.chat()
        red = page.wait_for_selector(cell("primary", "disabled"))
        assert time.monotonic() - began < 2.0
        ink = red.query_selector("svg").evaluate("mark => getComputedStyle(mark).stroke")
        assert ink == "rgb(198, 47, 60)"
        assert "bad-key" in red.get_attribute("aria-label")
        assert "does not accept key primary" in page.inner_text("#troubles")


def test_the_countdown_reaches_zero_and_the_lane_comes_back(page: Page) -> None:
    config = Config(limits=Limits(max_queue=0))
    with rig(Scenario(accounts=(Account(),)), config) as it:
        for _ in range(19):
            it.chat()
        wait = int(it.chat().headers["retry-after-ms"]) / 1000
        visit(page, it)
        page.wait_for_selector(cell("primary", "closed"))
        it.clock.ahead += wait - 3.0
        it.chat()
        page.wait_for_selector(".headline .countdown >> text=/^0:0[123]$/")
        page.wait_for_selector(cell("primary", "open"))
        assert "Nothing can be served" not in page.inner_text(".pool")


def test_disable_and_enable_work_with_the_token_and_not_without(running: Rig, page: Page) -> None:
    visit(page, running)
    page.click('#keys button[aria-label="Disable secondary"]')
    page.wait_for_selector("dialog[open] #token")
    assert running.key("secondary")["state"] == "open"
    log_in(page, ADMIN[::-1])
    page.wait_for_selector("#login-error >> text='This is not the admin token.'")
    assert running.key("secondary")["state"] == "open"
    log_in(page, ADMIN)
    page.wait_for_selector(cell("secondary", "disabled"))
    assert running.key("secondary")["state"] == "disabled"
    page.click('#keys button[aria-label="Enable secondary"]')
    page.wait_for_selector(cell("secondary", "open"))
    assert running.key("secondary")["state"] == "open"
    page.click("#sign-out")
    page.wait_for_selector("#sign-in")
    page.click('#accounts button[aria-label="Disable account1"]')
    page.wait_for_selector("dialog[open] #token")


def test_a_models_name_with_slashes_can_be_disabled(running: Rig, page: Page) -> None:
    visit(page, running)
    page.click("#sign-in")
    log_in(page, ADMIN)
    page.wait_for_selector("#sign-out")
    page.click("#models tbody tr:nth-child(2) button >> text=Disable")
    page.wait_for_selector('#models tbody tr:nth-child(2)[data-state="disabled"]')
    page.click("#models tbody tr:nth-child(2) button >> text=Enable")
    page.wait_for_selector('#models tbody tr:nth-child(2)[data-state="open"]')


def test_a_name_with_dots_hits_nobody_else(running: Rig, page: Page) -> None:
    state = example()
    state["models"][0]["id"] = "../keys/primary"
    show(page, running.address, state)
    page.click('#models button[aria-label="Disable ../keys/primary"]')
    page.wait_for_selector(".said >> text=cannot be asked for")
    assert not [address for address in page.heard if address.endswith("/disable")]


def test_where_a_token_is_needed_the_page_asks_for_it_first(page: Page) -> None:
    closed = GatewaySettings(admin_token=Secret(ADMIN), require_token=True)
    with rig(config=Config(gateway=closed)) as it:
        page.goto(it.address)
        page.wait_for_selector(".alone #token")
        assert not page.query_selector("#ways")
        log_in(page, ADMIN)
        page.wait_for_selector("#link.is-live")
        page.wait_for_selector("#ways")


def test_a_lost_connection_is_said_and_comes_back(running: Rig, page: Page) -> None:
    visit(page, running)
    page.route("**/admin/*", lambda route: route.abort())
    running.gateway.draining = True
    try:
        page.wait_for_selector("#link.is-lost")
        assert "figures are" in page.inner_text("#link")
    finally:
        running.gateway.draining = False
    page.unroute("**/admin/*")
    page.wait_for_selector("#link.is-live")


def salted(value: Any, salt: Callable[[], str], field: str = "") -> Any:
    """The same state with a payload behind every text that may come from outside."""
    if isinstance(value, dict):
        return {name: salted(one, salt, name) for name, one in value.items()}
    if isinstance(value, list):
        return [salted(one, salt, field) for one in value]
    return value + salt() if isinstance(value, str) and field not in FIXED else value


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_texts_are_shown_as_text(running: Rig, page: Page, payload: str) -> None:
    page.on("dialog", lambda dialog: page.troubles.append(dialog.message))
    show(
        page,
        running.address,
        salted(example(), lambda: payload),
        salted(explanation(), lambda: payload),
    )
    page.hover("#ways tbody .cell >> nth=0")
    page.click("#requests summary >> nth=1")
    page.wait_for_selector("#requests .candidates")
    seen = page.evaluate("document.body.textContent")
    assert seen.count(payload.replace("\0", "\ufffd")) + seen.count(payload) > 50
    assert page.evaluate("window.pwned") is None
    strange = "img:not([src='/assets/icon.svg']), iframe, script, object, style, b[style*=color], a:not(.skip)"
    assert page.locator(f"#page :is({strange})").count() == 0
    assert (page.evaluate("violations"), page.troubles) == ([], [])


def test_the_grid_is_one_stop_and_is_walked_with_arrows(running: Rig, page: Page) -> None:
    show(page, running.address, example())
    page.focus("#ways .cell >> nth=0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") == "tertiary"
    told = page.inner_text("#ways .told")
    assert "tertiary × d/coder-32b:free: disabled: 10 bad-key, the upstream said so" in told
    assert "no end known" in told
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#ways')") is None


def open_first(page: Page) -> None:
    """With the keyboard."""
    page.focus("#requests summary >> nth=0")
    page.keyboard.press("Enter")


def test_a_request_that_is_opened_says_why_it_went_there(page: Page) -> None:
    with rig() as it:
        it.world.script("502")
        it.chat()
        visit(page, it)
        open_first(page)
        page.wait_for_selector("#requests .candidates")
        text = page.inner_text("#requests")
        first, second = it.http.get("/admin/explain").json()["requests"][0], it.attempts
        told = it.http.get(f"/admin/explain/{first['request_id']}").json()
        assert [f"Decision {n} of 2" in text for n in (1, 2)] == [True, True]
        assert "502, 503, `provider_unavailable`" in text
        assert "the model is closed for now until" in text
        taken = page.locator("#requests tr[data-chosen=true] th").all()
        ids = [decision["chosen"]["model"] for decision in told["decisions"]]
        assert (
            [row.get_attribute("title") for row in taken]
            == ids
            == [model for _, model, _ in second]
        )
        assert page.locator("#requests section[aria-label='Decision 1 of 2']").count() == 1
        assert page.locator("[role=region][aria-label='Candidates of decision 1']").count() == 1
        page.focus("#requests summary >> nth=0")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
        assert (page.evaluate("violations"), page.troubles) == ([], [])


def test_an_explanation_is_asked_once(running: Rig, page: Page) -> None:
    show(page, running.address, example())
    for _ in range(3):
        open_first(page)
    page.wait_for_selector("#requests .candidates")
    assert len([address for address in page.heard if "/admin/explain/" in address]) == 1


def test_what_is_not_remembered_is_said(running: Rig, page: Page) -> None:
    show(page, running.address, example())
    page.unroute("**/admin/explain/*")
    open_first(page)
    page.wait_for_selector("#requests >> text=The gateway does not remember this request any more.")


def test_a_gateway_that_does_not_answer_is_asked_again(running: Rig, page: Page) -> None:
    show(page, running.address, example())
    page.route("**/admin/explain/*", lambda route: route.abort())
    open_first(page)
    page.wait_for_selector("#requests >> text=The gateway does not answer.")
    page.route("**/admin/explain/*", lambda route: route.fulfill(json=explanation()))
    open_first(page)
    open_first(page)
    page.wait_for_selector("#requests .candidates")


def fields(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value} | {name for each in value.values() for name in fields(each)}
    return {name for each in value for name in fields(each)} if isinstance(value, list) else set()


def test_the_example_of_an_explanation_has_the_fields_of_a_real_one(running: Rig) -> None:
    id = running.chat().headers["x-request-id"]
    assert fields(explanation()) == fields(running.http.get(f"/admin/explain/{id}").json())


def test_escape_closes_the_login_and_focus_returns(running: Rig, page: Page) -> None:
    visit(page, running)
    page.focus("#sign-in")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.id") == "sign-in"


def test_the_theme_is_kept(running: Rig, page: Page) -> None:
    visit(page, running)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("button >> text=Theme: auto")
    page.click("button >> text=Theme: light")
    assert page.evaluate(ground) != light
    page.reload()
    page.wait_for_selector("button >> text=Theme: dark")
    assert page.evaluate(ground) != light


def test_an_empty_gateway_says_what_to_do(page: Page) -> None:
    with rig(keys=[]) as it:
        visit(page, it)
        assert "Set OPENROUTER_API_KEY" in page.inner_text("#troubles")
        assert "curl" in page.inner_text("#traffic")
        assert "None yet" in page.inner_text("#requests")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window_and_every_text_can_be_read(
    running: Rig, browser: Browser, scheme: str, width: int
) -> None:
    page = open_page(browser, width, scheme)
    show(page, running.address, busy())
    page.click("#requests summary >> nth=1")
    page.wait_for_selector("#requests .candidates")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CONTRASTS) == []
    page.context.close()
