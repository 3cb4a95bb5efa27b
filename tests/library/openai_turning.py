"""Run in an environment of its own: the OpenAI SDK on the wheel, through faults to clean answers.

python openai_turning.py
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai

import keywheel
from keywheel.testing import Simulator, simulator

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: list[Any] = [{"role": "user", "content": "Use the tool get_weather for Paris"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


WAY = ["key-unknown", "upstream-pool"]  # a 401 and a 429


def through(sim: Simulator, last: str) -> None:
    """A dead key, a saturated provider and an error inside a 200: then a clean answer."""
    for kind in (*WAY, last):
        sim.fail(kind)


def clean(sim: Simulator, last: str, figures: dict[str, Any]) -> None:
    """The program saw one answer, and nothing of what stood before it."""
    assert sim.attempts == [*WAY, last, "ok"], sim.attempts
    ended = (figures["succeeded"], figures["failed"], figures["abandoned"])
    assert ended == (1, 0, 0), figures


# --- what is asked, and what has to come --------------------------------------------------------------

PLAIN: dict[str, Any] = {"messages": HELLO}
STREAM: dict[str, Any] = {"messages": HELLO, "stream": True}
TOOLS: dict[str, Any] = {"messages": WEATHER, "tools": [TOOL]}
SHAPED: dict[str, Any] = {"messages": HELLO, "response_format": SCHEMA}


def said(reply: Any) -> None:
    """A text."""
    assert reply.choices[0].message.content


def called(reply: Any) -> None:
    """The call of a tool."""
    assert reply.choices[0].message.tool_calls[0].function.name == "get_weather"


def shaped(reply: Any) -> None:
    """An object of the shape that was asked for."""
    assert isinstance(json.loads(reply.choices[0].message.content)["city"], str)


def streamed(chunks: list[Any]) -> None:
    """The pieces of a text."""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def streamed_call(chunks: list[Any]) -> None:
    """The pieces of a call."""
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    names = [call.function.name for delta in deltas for call in delta.tool_calls or ()]
    assert "get_weather" in names, names


SCENES: tuple[tuple[dict[str, Any], str, Callable[[Any], None]], ...] = (
    (PLAIN, "error-in-200", said),
    (TOOLS, "error-in-200", called),
    (SHAPED, "error-in-200", shaped),
    (STREAM, "error-first", streamed),
    (STREAM | TOOLS, "error-first", streamed_call),
)


def blocking() -> None:
    """Every kind of answer, each through the faults."""
    for ask, last, judge in SCENES:
        with (
            simulator() as sim,
            sim.wheel() as wheel,
            openai.OpenAI(**wheel.for_openai(), max_retries=0) as client,
        ):
            through(sim, last)
            reply = client.chat.completions.create(model="auto", **ask)
            judge(list(reply) if "stream" in ask else reply)
            clean(sim, last, wheel.stats().to_dict()["totals"])


async def asynchronous() -> None:
    """The same with asyncio."""
    for ask, last, judge in SCENES:
        with simulator() as sim:
            async with (
                sim.async_wheel() as wheel,
                openai.AsyncOpenAI(**wheel.for_openai(async_=True), max_retries=0) as client,
            ):
                through(sim, last)
                reply = await client.chat.completions.create(model="auto", **ask)
                judge([chunk async for chunk in reply] if "stream" in ask else reply)
                clean(sim, last, wheel.stats().to_dict()["totals"])


def otherwise() -> None:
    """Headers, the list of models, a refusal."""
    with (
        simulator() as sim,
        sim.wheel() as wheel,
        openai.OpenAI(**wheel.for_openai(), max_retries=0) as client,
    ):
        sim.fail("502")
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
        assert raw.headers["x-keywheel-attempts"] == "2"
        story = wheel.explain(raw.parse()._request_id or "")
        assert story, "the SDK's own id of a request is the wheel's"
        assert story["outcome"] == "ok"
        assert next(iter(client.models.list())).id == "auto"
        assert refusal(client) == "model_not_free"


def refusal(client: openai.OpenAI) -> str | None:
    """The code with which a paid model is refused, None if it is served."""
    try:
        client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)
    except openai.BadRequestError as error:
        return error.code
    return None


if __name__ == "__main__":
    blocking()
    asyncio.run(asynchronous())
    otherwise()
    print("ok", openai.__version__, keywheel.__version__)
