"""Run in an environment of its own: the Anthropic SDK on the wheel, through faults to clean answers.

python anthropic_turning.py
"""

import asyncio
import json
from typing import Any

import anthropic

import keywheel
from keywheel.testing import Simulator, simulator

ASK: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
ONCE: dict[str, Any] = {"max_retries": 0}
TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
WEATHER = ASK | {
    "messages": [{"role": "user", "content": "Use the tool get_weather for Paris"}],
    "tools": [TOOL],
}


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SHAPED = ASK | {"output_config": {"format": {"type": "json_schema", "schema": CITY}}}
WAY = ["key-unknown", "upstream-pool"]  # a 401 and a 429
SCENES = ((ASK, "said"), (WEATHER, "called"), (SHAPED, "shaped"))


def through(sim: Simulator, last: str) -> None:
    """A dead key, a saturated provider and an error inside a 200: then a clean answer."""
    for kind in (*WAY, last):
        sim.fail(kind)


def clean(sim: Simulator, last: str, figures: dict[str, Any]) -> None:
    """The program saw one answer, and nothing of what stood before it."""
    assert sim.attempts == [*WAY, last, "ok"], sim.attempts
    ended = (figures["succeeded"], figures["failed"], figures["abandoned"])
    assert ended == (1, 0, 0), figures


def judge(message: Any, kind: str) -> None:
    """A text, the call of a tool, or an object of the shape that was asked for."""
    text = "".join(block.text for block in message.content if block.type == "text")
    match kind:
        case "said":
            assert text
        case "called":
            assert any(block.type == "tool_use" for block in message.content)
        case _:
            assert isinstance(json.loads(text)["city"], str)


def blocking() -> None:
    """Every kind of answer, plain and streamed, each through the faults."""
    for ask, kind in SCENES:
        for last in ("error-in-200", "error-first"):
            with (
                simulator() as sim,
                sim.wheel() as wheel,
                anthropic.Anthropic(**wheel.for_anthropic(), **ONCE) as client,
            ):
                through(sim, last)
                if last == "error-in-200":
                    judge(client.messages.create(**ask), kind)
                else:
                    with client.messages.stream(**ask) as stream:
                        judge(stream.get_final_message(), kind)
                clean(sim, last, wheel.stats().to_dict()["totals"])


async def asynchronous() -> None:
    """The same with asyncio."""
    for ask, kind in SCENES:
        for last in ("error-in-200", "error-first"):
            with simulator() as sim:
                async with (
                    sim.async_wheel() as wheel,
                    anthropic.AsyncAnthropic(**wheel.for_anthropic(async_=True), **ONCE) as client,
                ):
                    through(sim, last)
                    if last == "error-in-200":
                        judge(await client.messages.create(**ask), kind)
                    else:
                        async with client.messages.stream(**ask) as stream:
                            judge(await stream.get_final_message(), kind)
                    clean(sim, last, wheel.stats().to_dict()["totals"])


def otherwise() -> None:
    """A paid model."""
    with (
        simulator() as sim,
        sim.wheel() as wheel,
        anthropic.Anthropic(**wheel.for_anthropic(), **ONCE) as client,
    ):
        assert "openai/gpt-4o" in refusal(client)


def refusal(client: anthropic.Anthropic) -> str:
    """What is said about a paid model."""
    try:
        client.messages.create(**ASK | {"model": "openai/gpt-4o"})
    except anthropic.BadRequestError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    blocking()
    asyncio.run(asynchronous())
    otherwise()
    print("ok", anthropic.__version__, keywheel.__version__)
