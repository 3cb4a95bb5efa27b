"""The admin routes over real connections: events arrive, readers that leave are forgotten, counts agree."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2

from keywheel import sim
from keywheel.config import Config, GatewaySettings
from keywheel.secret import Secret
from tests.journeys.rig import rig

ADMIN = "YWRtaW4gYWRtaW4gYWRtaW4gYWRtaW4gMTIzNDU2"


def events(reply: httpx2.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream as they come."""
    name = ""
    for line in reply.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_a_key_that_turns_bad_shows_within_two_seconds() -> None:
    with rig() as running, running.http.stream("GET", "/admin/events") as reply:
        told = events(reply)
        assert next(told)[0] == "state"
        running.world.script("key-unknown", key=0)
        began = time.monotonic()
        running.chat()
        blocked = next(data for name, data in told if name == "blocked")
        assert (blocked["scope"], blocked["name"], blocked["row"]) == (
            "key",
            "primary",
            "10 bad-key",
        )
        state = next(data for name, data in told if name == "state")
        assert time.monotonic() - began < 2.0
        assert {key["name"]: key["state"] for key in state["keys"]}["primary"] == "disabled"
        assert "dead-key" in {found["code"] for found in state["troubles"]}


def test_a_reader_that_leaves_is_forgotten_and_the_end_of_the_gateway_ends_the_stream() -> None:
    with rig() as running:
        live = running.gateway.admin.live
        with running.http.stream("GET", "/admin/events") as reply:
            next(events(reply))
            assert len(live) == 1
        left = time.monotonic()
        while len(live):
            assert time.monotonic() - left < 2.0
            time.sleep(0.005)
        with running.http.stream("GET", "/admin/events") as reply:
            told = events(reply)
            next(told)
            running.gateway.draining = True
            assert [name for name, _ in told][-1] == "end"


def test_state_statistics_and_metrics_agree_after_a_real_run() -> None:
    with rig(sim.Scenario(accounts=(sim.Account(), sim.Account()))) as running:
        running.world.script("502", times=2)
        for _ in range(8):
            running.chat()
        state, stats = (running.http.get(f"/admin/{name}").json() for name in ("state", "stats"))
        text = running.http.get("/metrics").text
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("keywheel_attempts_total{")
        )
        assert state["totals"] == stats["totals"]
        assert counted == stats["totals"]["attempts"] == len(running.attempts)
        assert sum(state["timeline"]["requests"]) == len(state["requests"]) == 8


def test_an_operator_closes_a_model_with_slashes_in_its_name() -> None:
    settings = Config(gateway=GatewaySettings(admin_token=Secret(ADMIN)))
    with rig(config=settings) as running:
        model = running.http.get("/admin/state").json()["models"][0]["id"]
        assert running.http.post(f"/admin/models/{model}/disable").status_code == 401
        headers = {"authorization": f"Bearer {ADMIN}"}
        for name in (model, model.replace("/", "%2F")):
            reply = running.http.post(f"/admin/models/{name}/disable", headers=headers)
            assert (reply.status_code, reply.json()["model"]["state"]) == (200, "disabled")
        assert running.chat().headers["x-keywheel-model"] != model
