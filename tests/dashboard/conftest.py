"""A real Chromium: the distribution's, steered by playwright. Without one these tests are skipped."""

import shutil
from collections.abc import Iterator

import pytest

from tests.dashboard.stage import Browser, Page, open_page

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module only: playwright's event loop must not outlive it."""
    api = pytest.importorskip("playwright.sync_api")
    if not FOUND:
        pytest.skip("no Chromium; Debian and Ubuntu have it as the package chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=FOUND,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A wide window without a past."""
    opened = open_page(browser)
    yield opened
    opened.context.close()
