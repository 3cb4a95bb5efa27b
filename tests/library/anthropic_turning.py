"""Run in an environment of its own: the Anthropic SDK on the wheel, through faults to clean answers.

python anthropic_turning.py
"""

import asyncio
from typing import Any

import anthropic

import keywheel
from keywheel.testing import Simulator, simulator

ASK: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
WEATHER = ASK | {
    "messages": [{"role": "user", "content": "Use the tool get_weather for Paris"}],
    "tools": [TOOL],
}


def disturb(sim: Simulator, last: str) -> None:
    """A dead key, a saturated provider and an error inside a 200: then a clean answer."""
    for kind in ("key-unknown", "upstream-pool", last):
        sim.fail(kind)


def blocking(sim: Simulator) -> None:
    """Every kind of answer once."""
    options = {"max_retries": 0}
    with sim.wheel() as wheel, anthropic.Anthropic(**wheel.for_anthropic(), **options) as client:
        disturb(sim, "error-in-200")
        plain = client.messages.create(**ASK)
        assert "".join(block.text for block in plain.content if block.type == "text")
        disturb(sim, "error-first")
        with client.messages.stream(**ASK) as stream:
            assert "".join(stream.text_stream)
        called = client.messages.create(**WEATHER)
        assert any(block.type == "tool_use" for block in called.content)
        assert "openai/gpt-4o" in refusal(client)
        figures = wheel.stats().to_dict()["totals"]
        assert (figures["succeeded"], figures["failed"], figures["abandoned"]) == (3, 1, 0), figures


async def asynchronous(sim: Simulator) -> None:
    """The same with asyncio."""
    async with (
        sim.async_wheel() as wheel,
        anthropic.AsyncAnthropic(**wheel.for_anthropic(async_=True), max_retries=0) as client,
    ):
        disturb(sim, "error-in-200")
        plain = await client.messages.create(**ASK)
        assert "".join(block.text for block in plain.content if block.type == "text")
        async with client.messages.stream(**ASK) as stream:
            assert "".join([text async for text in stream.text_stream])


def refusal(client: anthropic.Anthropic) -> str:
    """What is said about a paid model."""
    try:
        client.messages.create(**ASK | {"model": "openai/gpt-4o"})
    except anthropic.BadRequestError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    with simulator() as running:
        blocking(running)
    with simulator() as running:
        asyncio.run(asynchronous(running))
    print("ok", anthropic.__version__, keywheel.__version__)
