"""What the tests of the page stand on: a window that notes what it sees, and a gateway's state made up."""

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Browser = Any  # playwright's, which need not be installed
Page = Any
ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"
EXAMPLE = Path(__file__).parents[1] / "gateway" / "state.json"
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (seen) => violations.push(`${seen.violatedDirective} ${seen.blockedURI}`));
"""
STREAM = """
window.EventSource = class extends EventTarget {
  constructor() {
    super();
    setTimeout(() => this.dispatchEvent(new MessageEvent("state", { data: %s })), 0);
  }
  close() {}
};
"""


def open_page(browser: Browser, width: int = 1280, scheme: str = "light") -> Page:
    """A window; `page.heard` are the addresses it asked, `page.troubles` what its console complained of."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(5_000)
    page.heard, page.troubles = [], []
    page.on("request", lambda request: page.heard.append(request.url))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.troubles.append(line.text))
    page.add_init_script(WATCH)
    return page


def show(page: Page, address: str, state: Json) -> None:
    """The page of a running gateway, with another state than the gateway's."""
    page.add_init_script(STREAM % json.dumps(json.dumps(state)))
    page.route("**/admin/state", lambda route: route.fulfill(json=state))
    page.goto(address)
    page.wait_for_selector("#link.is-live")


def example() -> Json:
    """A small pool with several troubles."""
    return json.loads(EXAMPLE.read_text())


def busy() -> Json:
    """The example with an hour of traffic behind it."""
    state = deepcopy(example())
    line = state["timeline"]
    waves = [14 + 9 * math.sin(n / 7) + 4 * math.sin(n / 1.7) for n in range(60)]
    line["requests"] = [round(wave) for wave in waves]
    line["failed"] = [2 if n in (22, 23, 41) else int(n % 17 == 0) for n in range(60)]
    line["abandoned"] = [int(n % 13 == 5) for n in range(60)]
    line["succeeded"] = [
        asked - failed - left
        for asked, failed, left in zip(
            line["requests"], line["failed"], line["abandoned"], strict=True
        )
    ]
    line["attempts"] = line["requests"]
    line["ttft_ms"] = [620 + 180 * math.sin(n / 9) + 60 * math.sin(n * 1.3) for n in range(60)]
    return state
