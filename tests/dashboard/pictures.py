"""The pictures in `docs/images`: the page with the example's state in both themes, on a desk and on a phone.

`python -m tests.dashboard.pictures` writes them anew.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.dashboard import past
from tests.dashboard.conftest import FOUND
from tests.dashboard.stage import Browser, Page, busy, explanation, open_page, show
from tests.journeys.rig import rig

IMAGES = Path(__file__).parents[2] / "docs" / "images"
REQUEST = f"#requests li:has([data-id={explanation()['request_id']}])"
UNROLLED = "document.querySelector('.requests').style.maxHeight = 'none'"


def main() -> None:
    """Write them."""
    with rig() as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                page = _opened(browser, running.address, width, scheme)
                _shoot(page, width, f"dashboard-{scheme}-{width}")
                if width > 1000:
                    _shoot_request(page, f"explain-{scheme}")
                page.context.close()
        browser.close()
    if shutil.which("pngquant"):  # a third of the size
        subprocess.run(["pngquant", "--force", "--ext=.png", *IMAGES.glob("*.png")], check=True)


def _opened(browser: Browser, address: str, width: int, scheme: str) -> Page:
    state = busy()
    rows = past.month(state)

    def answer(route: Any) -> None:
        query = route.request.url.partition("?")[2]
        route.fulfill(json=past.told(rows, query, state["now"]))

    page = open_page(browser, width, scheme)
    page.clock.install(time=state["now"])
    page.route("**/admin/history*", answer)
    show(page, address, state)
    page.clock.pause_at(state["now"] + 3)  # no clock runs while they are taken
    page.locator("#past").scroll_into_view_if_needed()
    page.click("#past >> text='7 days'")
    page.wait_for_selector("#past tfoot")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    return page


def _shoot(page: Page, width: int, name: str) -> None:
    """From the top to the end of the figures over time."""
    box = page.locator("#past").bounding_box()
    clip = {"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 24}
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True, clip=clip)


def _shoot_request(page: Page, name: str) -> None:
    """The request that was opened."""
    page.evaluate(UNROLLED)
    page.click(f"{REQUEST} summary")
    page.wait_for_selector("#requests .candidates")
    page.mouse.move(0, 0)
    page.locator(REQUEST).screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
