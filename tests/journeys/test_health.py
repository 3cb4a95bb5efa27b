"""Keys that fail too often, clients that leave, an upstream that is away."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from keywheel import sim
from keywheel.config import Config, ModelSettings, UpstreamSettings
from keywheel.core.policy import Limits
from keywheel.engine import Engine
from keywheel.gateway import run
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from tests.journeys.rig import HELLO, Rig, rig

ROOMY = sim.Account(minute_limit=10_000, day_limit=10_000)
PAST_A_LADDER = 20.0  # seconds after which a model's first guessed block is over


def disable_primary(running: Rig) -> None:
    """Let every attempt on the first key fail until it is disabled."""
    running.world.script("502", key=0, times=5)
    for _ in range(40):
        running.chat()
        if running.key("primary")["state"] != "open":
            return
        running.clock.ahead += PAST_A_LADDER
    raise AssertionError("never disabled")


def test_a_key_over_half_errors_is_disabled_at_the_fifth_sample_and_probed_once_after_300_s() -> (
    None
):
    with rig(sim.Scenario(accounts=(ROOMY, ROOMY))) as running:
        disable_primary(running)
        key = running.key("primary")
        assert (key["reason"], key["attempts"]) == ("error rate 5/5", 5)
        assert key["until"] - running.clock() == pytest.approx(300, abs=5)

        running.clock.ahead += 290
        assert {running.chat().headers["x-keywheel-key"] for _ in range(4)} == {"secondary"}

        running.clock.ahead += 15
        with ThreadPoolExecutor(6) as threads:
            served = list(threads.map(lambda _: running.chat().headers["x-keywheel-key"], range(6)))
        assert served.count("primary") >= 1
        assert running.key("primary")["state"] == "open"


def test_a_client_that_leaves_mid_stream_closes_the_upstream_and_blames_nobody() -> None:
    slow = sim.Behaviour(ttft=0.0, speed=5.0, answer_tokens=400, answer_spread=0.0)
    with rig(sim.Scenario(behaviour=slow), speed=1.0) as running:
        body = HELLO | {"stream": True}
        with running.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = reply.iter_lines()  # dropped, it would close the connection at once
            next(lines)
            assert running.gateway.upstream.open_connections == 1
        left = time.monotonic()
        while running.gateway.upstream.open_connections or running.engine.pool.open_leases:
            assert time.monotonic() - left < 1.0
            time.sleep(0.005)  # a busy loop here would take the processor from the gateway's thread
        report = running.http.get("/admin/stats").json()
        assert report["errors"] == []
        assert {key["state"] for key in report["keys"]} == {"open"}
        assert sum(key["failed"] for key in report["keys"]) == 0


def test_an_upstream_that_is_away_is_named_within_the_time_limit_and_serving_goes_on() -> None:
    nowhere = Config(upstream=UpstreamSettings(base_url="http://127.0.0.1:9/api/v1"))
    engine = Engine(nowhere, [KeyEntry("primary", Secret("sk-or-v1-" + "0" * 64), "test")])
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(run.build(engine), bound) as address:
        engine.ready.wait(10)
        with rig() as other:
            for _ in range(2):
                reply = other.http.post(f"{address}/v1/chat/completions", json=HELLO)
                assert reply.status_code == 503
                assert reply.json()["error"]["code"] == "no_usable_lane"
            assert other.http.get(f"{address}/healthz").status_code == 200
            assert other.http.get(f"{address}/readyz").status_code == 503


def test_an_upstream_that_goes_away_is_a_502_or_503_and_comes_back() -> None:
    with rig(config=Config(limits=Limits(max_queue=0))) as running:
        config = running.engine.config
        good = running.gateway.upstream
        away = replace(config.upstream, base_url="http://127.0.0.1:9/api/v1")
        for inference in running.gateway.hot:
            inference.upstream = run.upstream(replace(config, upstream=away))
        replies = [running.chat() for _ in range(3)]
        assert {reply.status_code for reply in replies} <= {502, 503}
        for inference in running.gateway.hot:
            inference.upstream = good
        running.clock.ahead += 60
        assert running.chat().status_code == 200
        accounts = running.http.get("/admin/stats").json()["accounts"]
        assert (
            sum(account["day"]["used"] for account in accounts) == 1
        )  # nothing was sent, nothing is charged


def test_no_secret_reaches_an_answer_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with rig() as running, caplog.at_level("DEBUG"):
        running.world.script("key-unknown", key=0)
        running.world.script("key-limit", key=1)
        texts = [running.chat().text for _ in range(6)]
        texts += [
            running.http.get(path).text
            for path in ("/admin/stats", "/v1/models", "/readyz", "/v1/nothing")
        ]
        secrets = [key.removeprefix("sk-or-v1-") for key in sim.demo_keys()]
        seen = "\n".join([*texts, caplog.text])
        assert not [secret for secret in secrets if secret in seen]


def test_with_nine_of_ten_keys_dead_the_tenth_answers() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(),) * 10)) as running:
        for number in range(9):
            running.world.script("key-unknown", key=number)
        reply = running.chat()
        assert (reply.status_code, reply.headers["x-keywheel-attempts"]) == (200, "10")
        assert running.chat().headers["x-keywheel-attempts"] == "1"


def test_with_no_free_model_left_the_answer_is_an_honest_503() -> None:
    with rig(config=Config(models=ModelSettings(exclude=("*",)))) as running:
        reply = running.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_usable_lane")
        assert running.http.get("/healthz").status_code == 200


def test_when_all_is_closed_the_answer_says_when_it_opens_and_keeps_its_word() -> None:
    limits = Limits(max_queue=0)
    with rig(sim.Scenario(accounts=(sim.Account(),)), Config(limits=limits)) as running:
        for _ in range(19):
            assert running.chat().status_code == 200
        refused = running.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exhausted")
        wait = int(refused.headers["retry-after-ms"]) / 1000
        running.clock.ahead += wait - 1.2
        assert running.chat().status_code == 429
        running.clock.ahead += 1.2
        assert running.engine.usable()
