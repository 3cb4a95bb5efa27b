"""Ten staged troubles: the page names cause, scope, when it is over, and one thing to do."""

import re

import pytest

from tests.dashboard.stage import Page
from tests.journeys.staged import STAGED, in_trouble


@pytest.mark.parametrize("name", STAGED)
def test_the_page_names_cause_scope_end_and_one_thing_to_do(
    name: str, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_trouble(name, monkeypatch) as (staged, running):
        page.goto(running.address)
        page.wait_for_selector("#link.is-live")
        shown = [" ".join(text.split()) for text in page.locator(".trouble").all_inner_texts()]
        found = next((text for text in shown if re.search(staged.cause, text)), None)
    assert found is not None, shown
    assert re.search(staged.scope.partition(r" \(")[0], found), found
    assert re.search(r"over in \d|no end known", found), found
    assert staged.action in found
