"""`/metrics`: the documented names, the same counts as everywhere else, and no label from outside."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keywheel.core.types import Attempted, Finished, Kind, Scope
from keywheel.gateway.metrics import FIGURES, Scrape
from tests.core.build import answered, failed
from tests.gateway.asgi import HELLO, HOST, app
from tests.gateway.example import MODELS, Stage

ROOT = Path(__file__).parent.parent.parent
# The names and labels of the contract.
NAMES = {
    "keywheel_requests_total": {"dialect", "outcome"}, "keywheel_attempts_total": {"key", "model", "row"},
    "keywheel_key_up": {"key"}, "keywheel_blocked": {"scope", "name"},
    "keywheel_account_day_remaining": {"account"}, "keywheel_account_minute_free": {"account"},
    "keywheel_time_to_first_token_seconds": {"model"}, "keywheel_request_duration_seconds": {"dialect"},
    "keywheel_overhead_seconds": set(), "keywheel_tokens_total": {"model", "direction"},
    "keywheel_fallbacks_total": {"reason"}, "keywheel_queue_length": set(), "keywheel_cost_usd_total": set(),
}  # fmt: skip
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(stage: Stage) -> Series:
    text = Scrape(stage.engine).text()[0].decode()
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert len(found) == sum(not line.startswith("#") for line in text.splitlines())
    return found


def total(series: Series, metric: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(v for (name, have), v in series.items() if name == metric and have >= wanted)


def busy() -> Stage:
    stage = Stage()
    stage.request(failed("upstream-pool"), answered(), models=MODELS[:2])
    stage.request(failed("bad-key"), answered(ttft=3.0))
    stage.request(
        failed("server-error"), outcome="failed", code="upstream_failed", models=MODELS[3:]
    )
    stage.request(outcome="failed", code="quota_exhausted")
    stage.request(answered(), outcome="abandoned")
    stage.request(failed("account-settings"), answered(), models=MODELS[2:3])
    return stage


def test_the_table_has_exactly_the_documented_names() -> None:
    assert {figure.name: set(figure.labels) for figure in FIGURES} == NAMES


def test_a_scrape_has_every_name_and_no_other() -> None:
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in scrape(busy())}
    assert names == set(NAMES)


def test_metrics_and_statistics_agree_to_the_last_count() -> None:
    stage = busy()
    series, told = scrape(stage), stage.engine.report()
    totals = told["totals"]
    assert total(series, "keywheel_requests_total") == totals["requests"] == 6
    for outcome, name in (("ok", "succeeded"), ("failed", "failed"), ("abandoned", "abandoned")):
        assert total(series, "keywheel_requests_total", outcome=outcome) == totals[name]
    assert total(series, "keywheel_attempts_total") == totals["attempts"] == 8
    assert total(series, "keywheel_fallbacks_total") == totals["fallbacks"] == 3
    assert total(series, "keywheel_tokens_total", direction="in") == totals["tokens_in"]
    assert total(series, "keywheel_tokens_total", direction="out") == totals["tokens_out"]
    assert total(series, "keywheel_cost_usd_total") == totals["cost_usd"]
    for key in told["keys"]:
        attempts = total(series, "keywheel_attempts_total", key=key["name"])
        assert attempts == key["attempts"]
        ok = total(series, "keywheel_attempts_total", key=key["name"], row="ok")
        assert ok == key["succeeded"]
        assert total(series, "keywheel_key_up", key=key["name"]) == (key["state"] == "open")
    for error in told["errors"]:
        assert total(series, "keywheel_attempts_total", row=error["row"]) == error["count"]
    for account in told["accounts"]:
        left = total(series, "keywheel_account_day_remaining", account=account["name"])
        assert left == account["day"]["remaining"]
    assert totals == stage.state()["totals"]


def test_histograms_grow_to_their_count() -> None:
    series = scrape(busy())
    buckets: defaultdict[frozenset[tuple[str, str]], list[tuple[float, float]]] = defaultdict(list)
    for (name, labels), value in series.items():
        if name == "keywheel_time_to_first_token_seconds_bucket":
            bound = float(dict(labels)["le"])
            buckets[frozenset(each for each in labels if each[0] != "le")].append((bound, value))
    assert len(buckets) == 4
    for labels, found in buckets.items():
        counts = [count for _, count in sorted(found)]
        assert counts == sorted(counts)
        assert counts[-1] == series["keywheel_time_to_first_token_seconds_count", labels]
    slow = frozenset({("model", MODELS[0])})
    assert series["keywheel_time_to_first_token_seconds_sum", slow] == pytest.approx(0.0)
    assert total(series, "keywheel_overhead_seconds_count") == 3
    assert total(series, "keywheel_request_duration_seconds_count", dialect="chat") == 6


def test_what_is_closed_is_told_by_scope_and_name() -> None:
    stage = busy()
    stage.engine.operate("disable", Scope(Kind.ACCOUNT, "club"))
    series = scrape(stage)
    closed = {
        f"{dict(labels)['scope']} {dict(labels)['name']}"
        for (name, labels), value in series.items()
        if name == "keywheel_blocked" and value
    }
    assert {"account club", f"model {MODELS[0]}"} <= closed
    assert any(name.startswith("account+model ") for name in closed)
    assert total(series, "keywheel_blocked", scope="provider", name="openrouter") == 0


def test_ten_thousand_names_from_outside_leave_the_series_as_they_are() -> None:
    stage = busy()
    before = set(scrape(stage))
    for number in range(10_000):
        stage.engine.finish(
            Finished(
                stage.now, f"client-{number}", "chat", "failed", 400, f"code-{number}", 0, "", "", "", 0.1
            )
        )  # fmt: skip
    assert set(scrape(stage)) == before


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_model_names_that_clients_invent_leave_the_series_as_they_are() -> None:
    it = app()
    await it.call("POST", "/v1/chat/completions", body=HELLO | {"model": "invented/first"})
    before = (await it.call("GET", "/metrics")).body.count(b"\n")
    for number in range(300):
        headers = (
            HOST,
            (b"x-request-id", b"client-%d" % number),
            (b"x-session-id", b"s%d" % number),
        )
        body = HELLO | {"model": f"invented/{number}", "user": f"u{number}"}
        reply = await it.call("POST", "/v1/chat/completions", headers, body)
        assert reply.status == 400
    reply = await it.call("GET", "/metrics")
    assert reply.body.count(b"\n") == before
    assert b"invented" not in reply.body
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_no_fault_with_a_scrape_or_the_alerts() -> None:
    text = Scrape(busy().engine).text()[0]
    command = ["promtool", "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    rules = ["promtool", "check", "rules", str(ROOT / "deploy" / "alerts.yml")]
    assert subprocess.run(rules, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("file", ["alerts.yml", "grafana-dashboard.json"])
def test_what_is_deployed_asks_for_metrics_and_labels_that_exist(file: str) -> None:
    text = (ROOT / "deploy" / file).read_text("utf-8")
    asked = {re.sub(r"_(bucket|count|sum)$", "", n) for n in re.findall(r"keywheel_[a-z_]+", text)}
    assert asked <= set(NAMES)
    assert asked
    if file.endswith("json"):
        assert asked == set(NAMES)
        places = [panel["gridPos"] for panel in json.loads(text)["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)


def filled(keys: int) -> Stage:
    """Keys by sixty models, each lane with an attempt."""
    models = [f"lab/model-{number}:free" for number in range(60)]
    stage = Stage(tuple(f"key{number}" for number in range(keys)), tuple(models))
    for number in range(keys):
        for model in models:
            name = f"key{number}"
            stage.engine.stats.record(
                Attempted(stage.now, "r", name, "a", model, "ok", "", True, 0.5, 1.0)
            )
    return stage


def least(*works: Callable[[], object]) -> list[float]:
    """CPU seconds of each, the least of seven, taken in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(7):
        for work, spent in zip(works, times, strict=True):
            began = thread_time()
            work()
            spent.append(thread_time() - began)
    return [min(spent) for spent in times]


def test_a_scrape_grows_no_faster_than_the_lanes() -> None:
    few, many = filled(10), filled(50)
    small, large = least(Scrape(few.engine).collect, Scrape(many.engine).collect)
    assert large < 5 * small
    small, large = least(lambda: Scrape(few.engine), lambda: Scrape(many.engine))
    assert large < 5 * small
    assert len(scrape(many)) > 3_000


def test_a_scrape_holds_the_lock_for_a_small_part_of_its_time() -> None:
    engine = filled(50).engine
    locked, whole = least(lambda: Scrape(engine), lambda: Scrape(engine).text())
    assert locked < whole / 4
