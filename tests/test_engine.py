"""The engine: one request from `open` to `finish`, what the keeper brings, and many threads at once."""

import json
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from keywheel.config import AccountSettings, Config, ModelSettings, UpstreamSettings
from keywheel.core.policy import Limits
from keywheel.core.rows import ROWS
from keywheel.core.steps import Done, Ended, Refused, Send, Served, Wait
from keywheel.core.types import (
    Abandoned,
    Answered,
    Attempted,
    Event,
    Failed,
    Finished,
    Kind,
    Scope,
    Verdict,
)
from keywheel.engine import Engine
from keywheel.errors import ModelNotFree
from keywheel.flow import Clock, Flow, Terms
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret
from keywheel.wire.ask import Request, read
from keywheel.wire.models import Entry, read_models
from tests.gateway.asgi import served

NOON = 1_791_201_600.0  # 2026-10-05 12:00 UTC
SMALL, LARGE, PAID = "a/small-8b:free", "b/large-70b:free", "c/paid-70b"
TERMS = Terms("r1")
OK = Answered(0.1, 0.2, 10, 5, 0.0, "ok")
SATURATED = Failed(Verdict(ROWS["upstream-pool"]), 0.1)


class Wheel(Engine):
    """An engine with a clock to move, three keys and two free models."""

    def __init__(self, config: Config | None = None, keys: int = 3) -> None:
        self.now = NOON
        self.told: list[Event] = []
        entries = [
            KeyEntry(label(n), Secret(f"sk-or-v1-{n:064x}"), "test") for n in range(1, keys + 1)
        ]
        super().__init__(config or Config(), entries, clock=lambda: self.now)
        self.take_models(models(SMALL, LARGE, PAID))
        self.listen(self.told.append)

    def begin(self, terms: Terms = TERMS, **fields: Any) -> Flow:
        return self.open(request(**fields), terms)

    def send(self, flow: Flow) -> Send:
        step = self.advance(flow)
        assert isinstance(step, Send)
        return step

    def serve(self, **fields: Any) -> Send:
        """One request that succeeds at once."""
        flow = self.begin(**fields)
        step = self.send(flow)
        assert isinstance(self.advance(flow, Ended(self.now, OK)), Served)
        return step


def models(*names: str) -> tuple[Entry, ...]:
    listed = [served(name, "0.1" if name == PAID else "0") for name in names]
    return read_models(json.dumps({"data": listed}).encode())


def request(**fields: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "Hello"}]} | fields
    return read(json.dumps(body).encode(), "chat")


# --- one request -----------------------------------------------------------------------------------


def test_a_request_is_reserved_sent_settled_and_counted() -> None:
    wheel = Wheel()
    flow = wheel.begin()
    step = wheel.send(flow)
    account = wheel.report()["accounts"][0]
    assert (account["day"]["used"], wheel.pool.open_leases) == (1, 1)
    result = wheel.advance(flow, Ended(wheel.now, OK))
    assert isinstance(result, Served)
    assert (result.lease, wheel.pool.open_leases) == (step.lease, 0)
    wheel.finish(
        Finished(wheel.now, "r1", "chat", "ok", 200, "", 1, "primary", "account1", SMALL, 0.2)
    )
    totals = wheel.report()["totals"]
    assert (totals["requests"], totals["succeeded"], totals["attempts"]) == (1, 1, 1)
    assert (totals["tokens_in"], totals["tokens_out"]) == (10, 5)
    assert [type(event) for event in wheel.told] == [Attempted, Finished]


def test_a_failure_leads_to_another_lane() -> None:
    wheel = Wheel()
    flow = wheel.begin()
    first = wheel.send(flow)
    second = wheel.advance(flow, Ended(wheel.now, SATURATED))
    assert isinstance(second, Send)
    assert second.lease.model != first.lease.model
    result = wheel.advance(flow, Ended(wheel.now, OK))
    assert isinstance(result, Served)
    assert [each.row for each in result.tries] == ["20 upstream-pool", "ok"]


def test_a_stream_that_has_committed_is_settled_at_its_end_and_only_once() -> None:
    wheel = Wheel()
    flow = wheel.begin(stream=True)
    step = wheel.send(flow)
    assert isinstance(wheel.advance(flow, Done(wheel.now)), Served)
    assert wheel.pool.open_leases == 1
    wheel.settle(step.lease, OK)
    wheel.settle(step.lease, Abandoned("client gone"))
    assert (wheel.pool.open_leases, len(wheel.told)) == (0, 1)


def test_without_a_usable_lane_a_request_is_refused_with_the_cause() -> None:
    for wheel, cause in ((Wheel(keys=0), "empty"), (Wheel(), "disabled")):
        for name in wheel.secrets:
            assert wheel.operate("disable", Scope(Kind.KEY, name))
        result = wheel.advance(wheel.begin())
        assert isinstance(result, Refused)
        assert result.no_lane is not None
        assert result.no_lane.cause == cause
        assert not wheel.usable()


# --- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "first", "exactly"),
    [
        ({}, None, ()),
        ({"model": "auto"}, None, ()),
        ({"model": LARGE}, LARGE, ()),
        ({"models": [LARGE, SMALL]}, None, (LARGE, SMALL)),
        ({"model": SMALL, "models": [LARGE]}, None, (LARGE,)),
        ({"models": ["auto", LARGE]}, None, (LARGE,)),
    ],
)
def test_how_models_are_asked_for(
    fields: dict[str, Any], first: str | None, exactly: tuple[str, ...]
) -> None:
    ask = Wheel().begin(**fields).ask
    assert (ask.first, ask.models) == (first, exactly)


@pytest.mark.parametrize("model", [SMALL, LARGE])
def test_a_model_that_is_asked_for_comes_first(model: str) -> None:
    assert Wheel().serve(model=model).lease.model == model


@pytest.mark.parametrize(
    ("model", "why"),
    [(PAID, "paid"), ("d/unknown", "does not list it"), ("b/large-70b", "does not list it")],
)
def test_a_model_that_may_not_be_used_is_refused_with_the_reason(model: str, why: str) -> None:
    wheel = Wheel()
    for fields in ({"model": model}, {"models": [SMALL, model]}):
        with pytest.raises(ModelNotFree, match=why) as caught:
            wheel.begin(**fields)
        assert (caught.value.status, caught.value.param) == (400, "model")
    assert wheel.pool.open_leases == 0


def test_an_excluded_model_is_no_candidate() -> None:
    wheel = Wheel(Config(models=ModelSettings(exclude=("b/*",))))
    with pytest.raises(ModelNotFree, match="excluded by configuration"):
        wheel.begin(model=LARGE)


def test_before_the_first_list_no_model_is_called_paid() -> None:
    wheel = Wheel()
    wheel.take_models(())
    result = wheel.advance(wheel.begin(model=LARGE))
    assert isinstance(result, Refused)
    assert result.no_lane is not None
    assert result.no_lane.cause == "empty"


@pytest.mark.parametrize(
    ("stream", "patience", "seconds"),
    [(False, None, 120), (True, None, 300), (False, 7.0, 7), (True, 7.0, 7), (False, 1e5, 120)],
)
def test_the_deadline_is_the_clients_or_ours_whichever_comes_first(
    stream: bool, patience: float | None, seconds: float
) -> None:
    ask = Wheel().begin(Terms("r1", patience), stream=stream).ask
    assert ask.deadline - NOON == seconds


def test_how_long_a_request_may_wait_is_bounded_by_a_setting() -> None:
    wheel = Wheel(Config(limits=Limits(max_wait=600.0)))
    now = wheel.clock()
    patient = wheel.begin(Terms("r1", patience=1000.0, max_wait=3600.0)).ask
    assert patient.max_wait == 600.0
    assert patient.latest == pytest.approx(now + 1000.0, abs=60.0)
    assert wheel.begin(Terms("r1", max_wait=60.0)).ask.max_wait == 60.0
    assert wheel.begin(TERMS).ask.latest == float("inf")


@pytest.mark.parametrize(
    ("terms", "limits", "pinned"),
    [(TERMS, Limits(), False), (Terms("r", pinned=True), Limits(), True), (TERMS, Limits(fallback="never"), True)],
)  # fmt: skip
def test_fallback_can_be_switched_off(terms: Terms, limits: Limits, pinned: bool) -> None:
    assert Wheel(Config(limits=limits)).begin(terms, model=SMALL).ask.pinned is pinned


# --- accounts --------------------------------------------------------------------------------------


def test_keys_take_turns() -> None:
    wheel = Wheel()
    served_by = Counter(wheel.serve().lease.key for _ in range(30))
    assert served_by == {"primary": 10, "secondary": 10, "tertiary": 10}


def test_configured_accounts_have_their_limits() -> None:
    team = AccountSettings(keys=("primary", "tertiary"), per_minute=100, per_day=7, concurrency=2)
    wheel = Wheel(Config(accounts={"team": team}))
    accounts = {account["name"]: account for account in wheel.report()["accounts"]}
    assert accounts["team"]["keys"] == ["primary", "tertiary"]
    assert (accounts["team"]["day"]["limit"], accounts["team"]["minute"]["limit"]) == (7, 95)
    assert accounts["account2"]["day"]["limit"] == 50


def test_a_configured_name_never_takes_in_a_key_that_is_not_its_own() -> None:
    team = AccountSettings(keys=("primary",), per_day=1000)
    wheel = Wheel(Config(accounts={"account2": team}))
    assert [account["keys"] for account in wheel.report()["accounts"]] == [
        ["primary"], ["secondary"], ["tertiary"],
    ]  # fmt: skip


def test_what_was_sent_before_the_account_was_known_still_counts() -> None:
    wheel = Wheel(keys=2)
    wheel.serve()
    wheel.serve()
    wheel.take_group("primary", "a")
    wheel.take_group("secondary", "a")
    (account,) = wheel.report()["accounts"]
    assert (account["keys"], account["day"]["used"]) == (["primary", "secondary"], 2)


# --- what the keeper and the operator bring --------------------------------------------------------


def test_a_new_list_keeps_what_was_learnt() -> None:
    wheel = Wheel()
    wheel.serve(model=SMALL)
    wheel.take_models(models(SMALL, "d/new-9b:free"))
    report = {row["id"]: row for row in wheel.report()["models"]}
    assert set(report) == {SMALL, "d/new-9b:free"}
    assert report[SMALL]["success_rate"] == 1.0


def test_models_are_listed_best_first_without_closed_ones() -> None:
    wheel = Wheel()
    assert {entry.id for entry in wheel.models()} == {SMALL, LARGE}
    best = wheel.models()[0].id
    assert wheel.serve().lease.model == best
    wheel.operate("disable", Scope(Kind.MODEL, best))
    assert best not in [entry.id for entry in wheel.models()]


def test_a_list_that_changes_while_it_is_read_harms_nobody() -> None:
    wheel = Wheel()
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            wheel.take_models(models(LARGE))
            wheel.take_models(models(SMALL, LARGE))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        sizes = {len(wheel.models()) for _ in range(200)}
    finally:
        stop.set()
        changing.join()
    assert sizes <= {1, 2}


def test_the_operator_is_told_when_there_is_no_such_thing() -> None:
    wheel = Wheel()
    assert not wheel.operate("disable", Scope(Kind.KEY, "nobody"))
    assert wheel.operate("disable", Scope(Kind.KEY, "primary"))
    assert "primary" not in {wheel.serve().lease.key for _ in range(6)}
    assert wheel.operate("enable", Scope(Kind.KEY, "primary"))
    assert "primary" in {wheel.serve().lease.key for _ in range(6)}


def test_a_listener_that_fails_keeps_nobody_from_anything(caplog: pytest.LogCaptureFixture) -> None:
    wheel = Wheel()
    heard: list[Event] = []

    def fail(_event: Event) -> None:
        raise RuntimeError("a bug in a listener")

    wheel.listen(fail)
    wheel.listen(heard.append)
    wheel.serve()
    assert len(heard) == 1
    assert wheel.report()["totals"]["attempts"] == 1
    assert "a listener failed" in caplog.text


def narrow() -> Wheel:
    """One key whose account takes one request at a time."""
    return Wheel(Config(accounts={"one": AccountSettings(("primary",), concurrency=1)}), keys=1)


def test_who_waits_for_a_lane_is_woken_when_one_is_free() -> None:
    engine = narrow()
    first, second = engine.begin(), engine.begin()
    lease = engine.send(first).lease
    assert isinstance(engine.advance(second), Wait)
    second.wake = (woken := threading.Event()).set
    engine.advance(first, Ended(engine.now, OK))
    assert woken.is_set()
    step = engine.advance(second, Done(engine.now))
    assert isinstance(step, Send)
    assert step.lease.number == lease.number + 1


def test_a_driver_that_was_not_asleep_yet_sees_that_it_was_woken() -> None:
    engine = narrow()
    first, second = engine.begin(), engine.begin()
    lease = engine.send(first).lease
    engine.advance(second)
    engine.settle(lease, OK)
    assert second.woken


def test_an_abandoned_request_gives_its_place_to_the_next() -> None:
    engine = narrow()
    first, second, third = engine.begin(), engine.begin(), engine.begin()
    lease = engine.send(first).lease
    engine.advance(second)
    engine.advance(third)
    engine.settle(lease, OK)
    assert (second.woken, third.woken) == (True, False)
    engine.abandon(second)
    engine.abandon(second)
    assert third.woken
    assert isinstance(engine.advance(third, Done(engine.now)), Send)


def test_a_free_model_that_charged_raises_an_alarm_and_gets_no_further_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Wheel()
    flow = engine.begin()
    model = engine.send(flow).lease.model
    engine.advance(flow, Ended(engine.now, OK._replace(cost=0.002)))
    assert [r.levelname for r in caplog.records if f"ALARM: {model}" in r.getMessage()] == ["ERROR"]
    assert {engine.serve().lease.model for _ in range(4)} == {SMALL, LARGE} - {model}


def test_a_model_whose_last_day_has_come_leaves_without_a_new_list() -> None:
    engine = Wheel()
    listed = [served(SMALL), served(LARGE) | {"expiration_date": "2026-10-06"}]
    engine.take_models(read_models(json.dumps({"data": listed}).encode()))
    engine.tidy()
    assert LARGE in engine.pool.roster.models
    engine.now += 43_200
    engine.tidy()
    assert list(engine.pool.roster.models) == [SMALL]


def test_a_model_that_an_accounts_settings_hide_is_closed_for_its_keys_alone() -> None:
    engine = Wheel()
    engine.take_visible("primary", frozenset({LARGE}))
    used = {
        (step.lease.key, step.lease.model) for step in (engine.serve(model=SMALL) for _ in range(9))
    }
    assert ("primary", SMALL) not in used
    engine.take_visible("primary", frozenset({LARGE, SMALL}))
    used = {
        (step.lease.key, step.lease.model) for step in (engine.serve(model=SMALL) for _ in range(9))
    }
    assert ("primary", SMALL) in used


def test_the_same_conversation_of_two_clients_is_two_and_no_id_is_kept() -> None:
    engine = Wheel()
    flows = [
        engine.open(request(session_id="canary"), Terms("r1", client=name))
        for name in ("one", "two")
    ]
    kept = {flow.ask.conversation for flow in flows}
    assert len(kept) == 2
    assert not any("canary" in (name or "") for name in kept)


def test_listeners_are_called_outside_the_lock() -> None:
    """A listener may ask for figures."""
    wheel = Wheel()
    seen: list[int] = []
    wheel.listen(lambda _event: seen.append(wheel.report()["totals"]["attempts"]))
    wheel.serve()
    assert seen == [1]


# --- life ------------------------------------------------------------------------------------------


def test_starting_twice_starts_once_and_closing_twice_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    away = Config(upstream=UpstreamSettings(base_url="http://127.0.0.1:9/api/v1"))
    wheel = Wheel(away, keys=1)
    before = threading.active_count()
    wheel.start()
    wheel.start()
    assert threading.active_count() <= before + 2  # the keeper and perhaps one check
    assert wheel.ready.wait(5)
    wheel.close()
    wheel.close()
    assert caplog.text == ""


def test_the_clock_does_not_follow_a_wall_clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= clock() - before < 60


# --- threads ---------------------------------------------------------------------------------------


def test_many_threads_lose_no_place_and_charge_every_request_once() -> None:
    roomy = AccountSettings(keys=("primary", "secondary"), per_minute=10_000, per_day=10_000)
    wheel = Wheel(Config(accounts={"all": roomy}), keys=2)
    start = threading.Barrier(8, timeout=5)

    def ask_often(number: int) -> int:
        start.wait()
        sent = 0
        for turn in range(40):
            flow = wheel.begin(stream=turn % 2 == 0)
            wheel.send(flow)
            sent += 1
            if turn % 2 == 0:
                result = wheel.advance(flow, Done(wheel.now))
                assert isinstance(result, Served)
                wheel.settle(result.lease, OK if number % 2 else Abandoned("client gone"))
            else:
                assert isinstance(wheel.advance(flow, Ended(wheel.now, OK)), Served)
            if turn == 20:
                wheel.take_models(models(SMALL, LARGE))
                wheel.report()
        return sent

    with ThreadPoolExecutor(8) as threads:
        sent = sum(threads.map(ask_often, range(8)))
    report = wheel.report()
    assert sent == 320
    assert wheel.pool.open_leases == 0
    assert report["totals"]["attempts"] == sent
    assert report["accounts"][0]["day"]["used"] == sent
    assert sum(key["attempts"] for key in report["keys"]) == sent
