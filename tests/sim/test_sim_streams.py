"""Streams against recorded ones, byte for byte where only ids and words differ."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from keywheel.sim import Account, Behaviour, Scenario, World
from tests.sim.client import FREE, PLAIN, Answer, Client

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded"
Serve = Callable[..., tuple[Client, World]]
CALM = Scenario(dated_slugs=0)
COMMENT = ": OPENROUTER PROCESSING"
PARIS = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"const": "Paris"}}},
    },
}


async def stream(serve: Serve, kind: str = "ok", model: str = FREE, **fields: Any) -> Answer:
    client, world = serve(CALM)
    world.script(kind)
    return await client.chat(model, stream=True, **fields)


def outline(text: str) -> list[str]:
    """The lines of a stream without ids, words and figures; runs of equal lines count once."""
    text = re.sub(
        r'"(id|model|provider|content|reasoning|text|arguments|name)":"[^"]+"', r'"\1":"…"', text
    )
    text = re.sub(r'"arguments":"(\\.|[^"\\])*"', '"arguments":"…"', text)
    text = re.sub(r'":\d+', '":0', text)
    events = text.split("\n\n")
    return [line for line, _ in groupby(events)]


def frames(answer: Answer) -> str:
    return answer.body.decode()


@pytest.mark.parametrize(
    ("name", "model", "fields"),
    [
        ("plain", "google/gemma-4-31b-it:free", {}),
        ("reasoning-first", FREE, {}),
    ],
)
async def test_a_stream_is_framed_as_recorded(
    serve: Serve, name: str, model: str, fields: dict[str, Any]
) -> None:
    wanted = (RECORDED / f"{name}.sse").read_bytes().decode()
    answer = await stream(serve, model=model, **fields)
    assert outline(frames(answer)) == outline(wanted)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "kind"), [("empty-stop", "empty"), ("error-after-tokens", "break-after-content")]
)
async def test_a_broken_stream_is_framed_as_recorded(serve: Serve, name: str, kind: str) -> None:
    wanted = (RECORDED / f"{name}.sse").read_bytes().decode()
    answer = await stream(serve, kind, model="google/gemma-4-31b-it:free")
    assert outline(frames(answer)) == outline(wanted)


async def test_an_error_before_the_first_token_has_empty_choices(serve: Serve) -> None:
    wanted = (RECORDED / "error-first.sse").read_bytes().decode().removeprefix(f"{COMMENT}\n\n")
    told = await stream(serve, "error-in-200", "nvidia/nemotron-3-ultra-550b-a55b:free")
    assert told.status == 200
    ids = r"gen-\d+-\w+|\"created\":\d+"
    # The capture has the error's code first; the order of its fields is not held to.
    assert json.loads(re.sub(ids, "x", frames(told)[6:]).replace('x,"model', '"x":0,"model')) == (
        json.loads(re.sub(ids, "x", wanted[6:]).replace('x,"model', '"x":0,"model'))
    )


async def test_the_documented_first_error_has_a_choice_that_failed(serve: Serve) -> None:
    first, done = (await stream(serve, "error-first")).events()
    assert first["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    assert first["error"]["code"] == 502
    assert done == "[DONE]"


async def test_a_paid_answer_names_its_cost(serve: Serve) -> None:
    client, _ = serve(Scenario(accounts=(Account(credits=5),)))
    told = await client.chat("openai/gpt-4o-mini", stream=True, max_tokens=10)
    cost = told.events()[-2]["usage"]["cost"]
    assert cost == pytest.approx(9 * 0.00000015 + 10 * 0.0000006)


async def test_tool_calls_come_in_fragments(serve: Serve) -> None:
    answer = await stream(serve, model="google/gemma-4-31b-it:free", tools=[PARIS],
                          tool_choice="required")  # fmt: skip
    wanted = (RECORDED / "tool-call-fragments.sse").read_bytes().decode()
    shapes = {line for line in outline(wanted) if '"index":0,"id":"…","type"' in line}
    assert shapes & set(outline(frames(answer)))
    parts = [
        call["function"]["arguments"]
        for event in answer.events()[:-1]
        for call in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert len(parts) > 2
    assert json.loads("".join(parts)) == {"city": "Paris"}
    assert answer.events()[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_finish_comes_twice_and_the_usage_before_done(serve: Serve) -> None:
    *_, finish, usage, done = (await stream(serve, max_tokens=9)).events()
    assert finish["choices"][0]["finish_reason"] == usage["choices"][0]["finish_reason"] == "length"
    assert "usage" not in finish
    assert usage["usage"]["completion_tokens"] == 9
    assert done == "[DONE]"


async def test_a_stream_says_what_the_whole_answer_says(serve: Serve) -> None:
    told = await stream(serve)
    client, world = serve(CALM)
    world.script("ok")
    whole = (await client.chat(FREE)).json()["choices"][0]["message"]
    deltas = [event["choices"][0]["delta"] for event in told.events()[:-1]]
    assert "".join(delta["content"] for delta in deltas) == whole["content"]
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == whole["reasoning"]
    assert all(delta["role"] == "assistant" for delta in deltas)


async def test_one_id_runs_through_the_stream(serve: Serve) -> None:
    answer = await stream(serve)
    assert {event["id"] for event in answer.events()[:-1]} == {answer.headers["x-generation-id"]}


async def test_a_stream_without_done(serve: Serve) -> None:
    last = (await stream(serve, "no-done")).events()[-1]
    assert "usage" in last


async def test_a_truncated_stream_ends_without_a_finish(serve: Serve) -> None:
    answer = await stream(serve, "truncated")
    reasons = [event["choices"][0]["finish_reason"] for event in answer.events()]
    assert answer.complete
    assert set(reasons) == {None}


async def test_lines_end_with_lf_only(serve: Serve) -> None:
    answer = await stream(serve)
    assert b"\r" not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_each_event_is_sent_by_itself(serve: Serve) -> None:
    answer = await stream(serve)
    assert len(answer.pieces) == len(answer.events())


def slow(seconds: float) -> Scenario:
    return replace(CALM, behaviour=Behaviour(ttft=seconds, ttft_spread=0, speed=50, speed_spread=0))


async def test_a_slow_start_is_bridged_by_comments(serve: Serve, slept: list[float]) -> None:
    client, _ = serve(slow(8.5), speed=1.0)
    lines = (await client.chat(PLAIN, stream=True)).body.decode().split("\n\n")
    assert lines.index(next(line for line in lines if line.startswith("data:"))) == 4
    assert lines[:4] == [COMMENT] * 4
    assert slept[:5] == pytest.approx([5.0, 1.0, 1.0, 1.0, 0.5])


async def test_a_quick_start_has_no_comments(serve: Serve) -> None:
    client, _ = serve(slow(4.9), speed=1.0)
    assert COMMENT not in (await client.chat(PLAIN, stream=True)).body.decode()


async def test_tokens_come_at_the_models_speed(serve: Serve, slept: list[float]) -> None:
    client, _ = serve(slow(1.0), speed=1.0)
    await client.chat(PLAIN, stream=True, max_tokens=10)
    assert slept == pytest.approx([1.0] + [0.02] * 11)


async def test_speed_divides_every_wait(serve: Serve, slept: list[float]) -> None:
    client, _ = serve(slow(1.0), speed=10.0)
    await client.chat(PLAIN, stream=True, max_tokens=10)
    assert sum(slept) == pytest.approx(0.1 + 0.002 * 11, abs=0.004)


async def test_a_whole_answer_takes_as_long_as_its_tokens(serve: Serve, slept: list[float]) -> None:
    client, _ = serve(slow(1.0), speed=1.0)
    await client.chat(PLAIN, max_tokens=10)
    assert slept == pytest.approx([1.2])
