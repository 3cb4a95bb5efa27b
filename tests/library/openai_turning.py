"""Run in an environment of its own: the OpenAI SDK on the wheel, through faults to clean answers.

python openai_turning.py
"""

import asyncio
import json
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


def disturb(sim: Simulator, last: str) -> None:
    """A dead key, a saturated provider and an error inside a 200: then a clean answer."""
    for kind in ("key-unknown", "upstream-pool", last):
        sim.fail(kind)


def blocking(sim: Simulator) -> None:
    """Every kind of answer once."""
    with sim.wheel() as wheel, openai.OpenAI(**wheel.for_openai(), max_retries=0) as client:
        create = client.chat.completions.create
        disturb(sim, "error-in-200")
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
        assert raw.headers["x-keywheel-attempts"] == "4"
        assert raw.parse().choices[0].message.content
        disturb(sim, "error-first")
        stream = create(model="auto", messages=HELLO, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        called = create(model="auto", messages=WEATHER, tools=[TOOL])
        assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
        shaped = create(model="auto", messages=HELLO, response_format=SCHEMA)
        assert json.loads(shaped.choices[0].message.content or "") is not None
        assert next(iter(client.models.list())).id == "auto"
        assert refusal(client) == "model_not_free"
        figures = wheel.stats().to_dict()["totals"]
        assert (figures["succeeded"], figures["failed"], figures["abandoned"]) == (4, 1, 0), figures


async def asynchronous(sim: Simulator) -> None:
    """The same with asyncio."""
    async with (
        sim.async_wheel() as wheel,
        openai.AsyncOpenAI(**wheel.for_openai(async_=True), max_retries=0) as client,
    ):
        create = client.chat.completions.create
        disturb(sim, "error-in-200")
        plain = await create(model="auto", messages=HELLO)
        assert plain.choices[0].message.content
        disturb(sim, "error-first")
        stream = await create(model="auto", messages=HELLO, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        called = await create(model="auto", messages=WEATHER, tools=[TOOL])
        assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
        figures = wheel.stats().to_dict()["totals"]
        assert (figures["succeeded"], figures["abandoned"]) == (3, 0), figures


def refusal(client: openai.OpenAI) -> str | None:
    """The code with which a paid model is refused, None if it is served."""
    try:
        client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)
    except openai.BadRequestError as error:
        return error.code
    return None


if __name__ == "__main__":
    with simulator() as running:
        blocking(running)
    with simulator() as running:
        asyncio.run(asynchronous(running))
    print("ok", openai.__version__, keywheel.__version__)
