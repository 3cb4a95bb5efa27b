"""Deadlines, silent upstreams, full pools: every request ends in time, and the right one is blamed."""

import json
import time
from dataclasses import replace

import httpx2
import pytest

from keywheel import sim
from keywheel.config import Config, UpstreamSettings
from keywheel.core.policy import Limits
from keywheel.gateway import run
from tests.journeys.rig import HELLO, Rig, rig

SLOW = sim.Behaviour(
    ttft=0.0, ttft_spread=0.0, speed=8.0, speed_spread=0.0, answer_tokens=200, answer_spread=0.0
)


def events(running: Rig, headers: dict[str, str]) -> list[str]:
    body = HELLO | {"stream": True}
    with running.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        return [line[6:] for line in reply.iter_lines() if line.startswith("data: ")]


def test_a_deadline_in_a_stream_is_told_in_band_and_blames_nobody() -> None:
    with rig(sim.Scenario(behaviour=SLOW), speed=1.0) as running:
        began = time.monotonic()
        last = json.loads(events(running, {"x-request-timeout": "1"})[-1])
        assert time.monotonic() - began < 2.5
        assert last["error"]["code"] == "deadline_exceeded"
        assert last["choices"][0]["finish_reason"] == "error"
        report = running.http.get("/admin/stats").json()
        assert report["errors"] == []
        assert report["totals"]["failed"] == 1


def test_an_sdk_read_timeout_bounds_plain_answers_and_no_streams() -> None:
    with rig(sim.Scenario(behaviour=replace(SLOW, answer_tokens=12)), speed=1.0) as running:
        assert events(running, {"x-stainless-read-timeout": "1"})[-1] == "[DONE]"


def test_a_silent_model_is_left_for_another_within_the_time_limit() -> None:
    quick = Limits(first_content_min=0.2, first_content_max=0.2, first_content_reasoning=0.2)
    with rig(config=Config(limits=quick)) as running:
        running.world.script("silent", times=1)
        assert events(running, {})[-1] == "[DONE]"
        assert [kind for _, _, kind in running.attempts] == ["silent", "ok"]


def test_comments_keep_a_waiting_client_and_fallback_stays_possible() -> None:
    quick = Limits(
        first_content_min=0.5, first_content_max=0.5, first_content_reasoning=0.5, keepalive=0.1
    )
    with rig(config=Config(limits=quick)) as running:
        running.world.script("silent", times=1)
        body = HELLO | {"stream": True}
        with running.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            assert reply.headers["x-request-id"]
            lines = list(reply.iter_lines())
        assert ": keep-alive" in lines
        assert [line for line in lines if line.startswith("data: ")][-1] == "data: [DONE]"


def test_a_full_connection_pool_closes_nothing() -> None:
    with rig(sim.Scenario(behaviour=SLOW), speed=1.0) as running:
        config = running.engine.config
        narrow = replace(config.upstream, connections=1)
        for inference in running.gateway.hot:
            inference.upstream = run.upstream(replace(config, upstream=narrow))
        body = HELLO | {"stream": True}
        with running.http.stream("POST", "/v1/chat/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            reply = running.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_usable_lane")
        report = running.http.get("/admin/stats").json()
        assert {key["state"] for key in report["keys"]} == {"open"}
        assert running.http.get("/readyz").status_code == 200


def test_a_request_before_the_first_model_list_keeps_its_own_time() -> None:
    with rig(
        config=Config(upstream=UpstreamSettings(base_url="http://127.0.0.1:9/api/v1"))
    ) as running:
        running.engine.ready.clear()
        running.engine.set_ready = lambda: None  # the keeper's first round is not over
        running.engine.ready.clear()
        running.engine.pool.set_models([], 0.0)
        began = time.monotonic()
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(
                f"{running.address}/v1/chat/completions", json=HELLO, timeout=0.3, trust_env=False
            )
        reply = running.chat(headers={"x-request-timeout": "0.5"})
        assert reply.status_code in (503, 504)
        assert time.monotonic() - began < 3.0
