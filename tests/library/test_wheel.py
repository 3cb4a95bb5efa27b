"""`Keywheel` and `AsyncKeywheel`: answers, streams, errors, settings."""

import gc
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

import keywheel
from keywheel import client
from keywheel.core.types import Attempted, Finished
from keywheel.testing import Simulator
from tests.library.probing import HELLO, ONCE, totals, under_way

pytestmark = pytest.mark.anyio


def test_an_answer_says_who_gave_it_and_what_it_took(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        sim.fail("502")
        reply = wheel.chat("Hello", max_tokens=30)
    assert reply.text == reply.raw["choices"][0]["message"]["content"]
    assert reply.key in {"primary", "secondary"}
    assert (reply.attempts, len(reply.request_id)) == (2, 24)
    assert (reply.usage.tokens_in or 0) > 0
    assert "raw" not in repr(reply)


def test_a_list_of_messages_is_taken_as_it_is(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        assert wheel.chat(
            [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
        )


def test_a_stream_gives_text_and_tells_the_rest_at_its_end(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        with wheel.stream("Hello", max_tokens=30) as pieces:
            said = list(pieces)
        assert "".join(said) == pieces.text
        assert len(said) > 1
        assert (pieces.usage.tokens_out or 0) > 0
        assert (pieces.key, pieces.attempts) == ("primary", 1)
        assert totals(wheel.engine)["succeeded"] == 1


def test_a_stream_that_breaks_off_raises_after_what_came(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        sim.fail("break-after-content")
        pieces = wheel.stream("Hello")
        with pytest.raises(keywheel.UpstreamFailed, match="broke off") as failed:
            list(pieces)
    assert pieces.text
    assert failed.value.attempts == 1


def test_complete_takes_openais_parameters_and_no_stream(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        with pytest.raises(keywheel.InvalidRequest, match=r"stream\(\)"):
            wheel.complete(messages=[], stream=True)
        with pytest.raises(keywheel.InvalidRequest, match="JSON"):
            wheel.chat("Hello", temperature=object())


@pytest.mark.parametrize("messages", [None, 5, b"Hello", {"role": "user", "content": "Hello"}])
def test_what_is_no_list_of_messages_is_refused_before_anything_is_sent(
    sim: Simulator, messages: Any
) -> None:
    with sim.wheel() as wheel:
        for ask in (wheel.chat, wheel.stream):
            with pytest.raises(keywheel.InvalidRequest, match="a str, or a list") as refused:
                ask(messages)
            assert refused.value.param == "messages"
    assert sim.attempts == []


def test_refusals_are_exceptions_with_what_a_program_needs(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        with pytest.raises(keywheel.ModelNotFree) as refused:
            wheel.chat("Hello", model="openai/gpt-4o")
        assert (refused.value.status, refused.value.param, refused.value.attempts) == (
            400,
            "model",
            0,
        )
        sim.fail("day", times=50)
        with pytest.raises(keywheel.RequestFailed):
            wheel.chat("Hello")  # finds it out
        with pytest.raises(keywheel.QuotaExhausted) as spent:
            wheel.chat("Hello")
        assert (spent.value.retry_after or 0) > 0
        with pytest.raises(keywheel.QuotaExhausted):
            wheel.stream("Hello")
        assert under_way(wheel.engine) == 0


def test_a_wheel_explains_why_a_request_went_where_it_went(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        sim.fail("502")
        reply = wheel.chat("Hello", max_tokens=5)
        told = wheel.explain(reply.request_id)
        assert told is not None
        assert (told["request_id"], told["outcome"]) == (reply.request_id, "ok")
        assert [attempt["row"] for attempt in told["attempts"]] == ["24 provider-down", "ok"]
        assert told["served_by"]["key"] == reply.key
        assert told["decisions"][0]["candidates"]
        with wheel.stream("Hello") as pieces:
            under = wheel.explain(pieces.request_id)
            assert under is not None
            assert under["outcome"] == "under way"
        left = wheel.explain(pieces.request_id)
        assert left is not None
        assert left["outcome"] == "abandoned"
        assert wheel.explain("nobody's") is None
    with pytest.raises(keywheel.Closed):
        wheel.explain(reply.request_id)


def test_what_an_sdk_asked_is_explained_by_the_id_of_its_answer(sim: Simulator) -> None:
    with sim.wheel() as wheel, httpx2.Client(transport=wheel.transport(), timeout=30.0) as http:
        sim.fail("503", times=20)
        reply = http.post(ONCE, json=HELLO)
        assert reply.status_code >= 500
        told = wheel.explain(reply.headers["x-request-id"])
    assert told is not None
    assert (told["outcome"], told["served_by"]) == ("failed", None)
    assert len(told["attempts"]) == int(reply.headers["x-keywheel-attempts"])


def test_a_failed_request_is_explained_by_the_id_that_its_exception_has(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        sim.fail("503", times=20)
        with pytest.raises(keywheel.RequestFailed) as failed:
            wheel.chat("Hello")
        told = wheel.explain(failed.value.request_id)
    assert told is not None
    assert len(told["attempts"]) == failed.value.attempts


def test_listeners_hear_of_every_attempt_and_of_the_end(sim: Simulator) -> None:
    heard = list[Any]()
    late = list[Any]()
    with sim.wheel(on_event=heard.append) as wheel:
        wheel.chat("Hello")
        wheel.on_event(late.append)
        wheel.chat("Hello")
    assert [type(event) for event in heard] == [Attempted, Finished] * 2
    assert len(late) == 2


def test_a_listener_that_fails_ends_nothing(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_event: object) -> None:
        raise ZeroDivisionError

    with sim.wheel(on_event=fail) as wheel:
        assert wheel.chat("Hello").text
    assert "a listener failed" in caplog.text


def test_models_are_the_usable_ones(sim: Simulator) -> None:
    with sim.wheel() as wheel:
        ids = [model["id"] for model in wheel.models()]
    assert ids[0] == "auto"
    assert all(id.startswith("auto") or id.endswith(":free") for id in ids)


def test_nothing_is_opened_before_the_first_request(sim: Simulator) -> None:
    before = threading.active_count()
    wheel = sim.wheel()
    wheel.stats()
    wheel.transport()
    assert threading.active_count() == before
    wheel.chat("Hello")
    assert threading.active_count() > before
    wheel.close()
    assert threading.active_count() == before


def keepers() -> int:
    return sum(thread.name == "keywheel-keeper" for thread in threading.enumerate())


@pytest.mark.filterwarnings("ignore:.*unclosed <socket")  # what Python says of them, rightly
def test_wheels_that_nobody_closed_are_ended_by_the_next_one(sim: Simulator) -> None:
    before = keepers()
    for _ in range(3):
        sim.wheel().chat("Hello", max_tokens=5)
    gc.collect()
    stream = sim.wheel().stream("Hello", max_tokens=5)  # holds its wheel
    with sim.wheel() as wheel:
        wheel.stats()
        give_up = time.monotonic() + 5
        while keepers() > before + 1 and time.monotonic() < give_up:
            time.sleep(0.005)
        assert keepers() == before + 1
        assert list(stream)
        del stream
        gc.collect()
        wheel.stats()
        while keepers() > before and time.monotonic() < give_up:
            time.sleep(0.005)
        assert keepers() == before


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # Python 3.12 on: threads are running
def test_a_forked_child_ends_nothing_of_the_wheels_its_parent_dropped(sim: Simulator) -> None:
    wheel = sim.wheel()
    wheel.chat("Hello", max_tokens=5)
    closed = list[int]()
    engine, close = wheel.engine, wheel.engine.close

    def note() -> None:
        closed.append(os.getpid())
        close()

    engine.close = note  # pyright: ignore
    child = os.fork()
    if child == 0:  # no assertion here may reach pytest
        code = 1
        try:
            del wheel
            gc.collect()
            with sim.wheel() as own:
                own.stats()
            code = 2 if closed else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wheel.close()
    assert closed == [os.getpid()]


def test_a_closed_wheel_says_so(sim: Simulator) -> None:
    wheel = sim.wheel()
    wheel.close()
    wheel.close()
    with pytest.raises(keywheel.Closed):
        wheel.chat("Hello")


def test_a_wheel_without_a_key_is_refused() -> None:
    with pytest.raises(keywheel.ConfigError, match="OPENROUTER_API_KEY"):
        keywheel.Keywheel()
    with pytest.raises(keywheel.ConfigError, match="cannot be an API key"):
        keywheel.Keywheel(["two words, not a key"])
    wrong: Any = None
    with pytest.raises(keywheel.ConfigError, match="OPENROUTER_API_KEY"):
        keywheel.Keywheel(wrong)
    with pytest.raises(keywheel.ConfigError, match=r"keys\[1\] is of type NoneType"):
        keywheel.Keywheel(["sk-or-v1-" + "0a" * 32, wrong])


def test_one_key_need_not_stand_in_a_list() -> None:
    wheel = keywheel.Keywheel("sk-or-v1-" + "0a" * 32)
    assert list(wheel.engine.secrets) == ["primary"]
    wheel.close()


def test_keys_and_settings_can_come_from_the_environment_or_a_file(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, value in sim.environment.items():
        monkeypatch.setenv(name, value)
    with keywheel.Keywheel.from_env() as wheel:
        assert wheel.chat("Hello").text
    file = tmp_path / "mine.toml"
    file.write_text("[limits]\nattempts = 2\n")
    with keywheel.Keywheel.from_config(file) as wheel:
        assert wheel.engine.config.limits.attempts == 2


def test_the_plain_functions_share_one_wheel(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in sim.environment.items():
        monkeypatch.setenv(name, value)
    client.forget()
    with httpx2.Client(transport=keywheel.transport(), timeout=30.0) as http:
        url = "https://openrouter.ai/api/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        assert http.post(url, json=body).status_code == 200
    assert keywheel.get_api_stats().to_dict()["totals"]["succeeded"] == 1
    assert isinstance(keywheel.async_transport(), httpx2.AsyncBaseTransport)
    assert keywheel.for_openai()["base_url"] == sim.base_url
    client.forget()


def test_without_keys_the_plain_functions_say_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("OPENROUTER_API_KEY", "OPENROUTER_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    client.forget()
    with pytest.raises(keywheel.ConfigError, match="OPENROUTER_API_KEY"):
        keywheel.for_openai()
    client.forget()


def test_the_library_sets_no_logging_up() -> None:
    handlers = logging.getLogger("keywheel").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


async def test_the_same_with_asyncio(sim: Simulator) -> None:
    async with sim.async_wheel() as wheel:
        sim.fail("error-in-200")
        reply = await wheel.complete(messages=[{"role": "user", "content": "Hello"}])
        assert reply.attempts == 2
        async with await wheel.stream("Hello", max_tokens=30) as pieces:
            said = [piece async for piece in pieces]
        assert "".join(said) == pieces.text
        sim.fail("break-after-content")
        broken = await wheel.stream("Hello")
        with pytest.raises(keywheel.UpstreamFailed):
            _ = [piece async for piece in broken]
        with pytest.raises(keywheel.ModelNotFree):
            await wheel.chat("Hello", model="no/such")
        assert (await wheel.models())[0]["id"] == "auto"
        told = wheel.explain(reply.request_id)
        assert told is not None
        assert (len(told["attempts"]), told["outcome"]) == (2, "ok")
        assert under_way(wheel.engine) == 0
