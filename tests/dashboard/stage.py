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
# Texts whose contrast with the ground behind them is below WCAG's 4.5.
CONTRASTS = """() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll("#page *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.slice(0, 30)} ${element.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""


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


def show(page: Page, address: str, state: Json, why: Json | None = None) -> None:
    """The page of a running gateway, with another state than the gateway's. `why`: what it explains of any request."""
    page.add_init_script(STREAM % json.dumps(json.dumps(state)))
    page.route("**/admin/state", lambda route: route.fulfill(json=state))
    page.route("**/admin/explain/*", lambda route: route.fulfill(json=why or explanation()))
    page.goto(address)
    page.wait_for_selector("#link.is-live")


def example() -> Json:
    """A small pool with several troubles."""
    return json.loads(EXAMPLE.read_text())


def explanation() -> Json:
    """A request that fell back once, of the example's pool."""
    served = {"key": "secondary", "account": "lab", "model": "b/large-70b:free"}
    failed = {"key": "quaternary", "account": "account4", "model": "a/small-8b:free"}
    at = 1_791_201_344.0
    told = {"ways": 3, "left_today": 49, "left_this_minute": 18, "at_home": False, "no_lane": None}
    why = "the first usable model, with the key whose account has most left"
    first = [
        _candidate("a/small-8b:free", 1, 3.1, 3.1, None),
        _candidate("b/large-70b:free", 2, 2.9, 3.3, "a better one was usable"),
        _candidate("d/coder-32b:free", 4, 6.0, 3.3, "a better one was usable"),
    ]
    second = [
        _candidate("a/small-8b:free", 1, 3.1, 6.2, "the model is closed for now", at + 16),
        _candidate("b/large-70b:free", 2, 2.9, 3.3, None),
        first[2],
    ]
    second.sort(key=lambda candidate: candidate["felt_s"])
    attempt = {"tokens_in": 0, "tokens_out": 0, "at": at + 1}
    return {
        "schema_version": 1, "request_id": "r042", "began": at, "dialect": "chat", "outcome": "ok", "status": 200,
        "code": None, "seconds": 2.9, "served_by": served,
        "asked": {
            "tokens": 1_240, "reply_tokens": 400, "stream": True, "needs": ["json_schema"], "models": [], "first": None,
            "pinned": False, "strategy": None, "follow_up": False, "deadline": at + 120,
        },
        "decisions": [
            {"at": at, "chosen": failed, "why": why, "candidates": first, **told},
            {"at": at + 1, "chosen": served, "why": why, "candidates": second, **told},
        ],
        "attempts": [
            {
                **failed, **attempt, "row": "20 upstream-pool", "scope": "model", "ok": False, "ttft_ms": None,
                "duration_ms": 640.0, "means": "429 of the provider's pool: every key alike",
            },
            {
                **served, **attempt, "row": "ok", "scope": None, "ok": True, "ttft_ms": 510.0, "duration_ms": 2_260.0,
                "means": None,
            },
        ],
    }  # fmt: skip


def _candidate(
    id: str, rank: int, answer: float, failures: float, why: str | None, until: float | None = None
) -> Json:
    place = (rank - 1) * math.log(1.3)
    felt = (answer + failures) * math.exp(place)
    return {
        "id": id, "rank": rank, "score": math.log(felt), "felt_s": felt,
        "parts": {"answer_s": answer, "failures_s": failures, "place": place}, "until": until, "why_not": why,
    }  # fmt: skip


def busy() -> Json:
    """The example with an hour of traffic behind it, all of it by one key with one model."""
    state = deepcopy(example())
    line, totals = state["timeline"], state["totals"]
    waves = [4 + 2.4 * math.sin(n / 7) + 1.2 * math.sin(n / 1.7) for n in range(60)]
    line["requests"] = [round(wave) for wave in waves]
    line["failed"] = [1 if n in (22, 23, 41) else int(n % 29 == 0) for n in range(60)]
    line["abandoned"] = [int(n % 23 == 5) for n in range(60)]
    line["succeeded"] = [
        max(0, asked - failed - left)
        for asked, failed, left in zip(
            line["requests"], line["failed"], line["abandoned"], strict=True
        )
    ]
    line["requests"] = [
        sum(three)
        for three in zip(line["succeeded"], line["failed"], line["abandoned"], strict=True)
    ]
    line["attempts"] = [*line["requests"]]
    line["attempts"][-1] += totals["attempts"] - totals["requests"]
    line["ttft_ms"] = [620 + 180 * math.sin(n / 9) + 60 * math.sin(n * 1.3) for n in range(60)]
    more = sum(line["requests"]) - totals["requests"]
    for name in ("requests", "attempts", "succeeded", "failed", "abandoned"):
        totals[name] = sum(line[name])
    _sent(state, more)
    state["since"] -= 3_000
    state["uptime"] += 3_000
    return state


def _sent(state: Json, more: int) -> None:
    """The account `club` has sent `more` requests, with its only key."""
    club = next(one for one in state["accounts"] if one["name"] == "club")
    told = str(club["day"]["remaining"])
    for day in (club["day"], state["pool"]["day"]):
        day["used"] += more
        day["remaining"] -= more
    club["forecast"]["ends_at"] -= more / club["forecast"]["per_hour"] * 3_600
    for one in state["troubles"]:
        one["cause"] = one["cause"].replace(told, str(club["day"]["remaining"]))
    key = next(one for one in state["keys"] if one["account"] == "club")
    model = max(state["models"], key=lambda one: one["attempts"])
    key["attempts"] += more
    model["attempts"] += more
