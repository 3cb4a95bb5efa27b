"""Scenes of the `anthropic` package."""

import asyncio
from typing import Any

import anthropic
from harness import CITY, PAID, SAID, WEATHER, Told, play

HELLO: dict[str, Any] = {
    "model": "auto", "max_tokens": 256, "messages": [{"role": "user", "content": SAID}],
}  # fmt: skip
ASKING: dict[str, Any] = HELLO | {
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": [{"name": "get_weather", "input_schema": CITY}],
}


def client(address: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=address, auth_token="unused", timeout=20)


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def calls_of(message: Any) -> Any:
    return next([b.name, b.input] for b in message.content if b.type == "tool_use")


def plain(address: str, told: Told) -> None:
    told["text"] = text_of(client(address).messages.create(**HELLO))


def stream(address: str, told: Told) -> None:
    told.update(text="", pieces=0, events=[])
    for event in client(address).messages.create(**HELLO, stream=True):
        told["events"].append(event.type)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            told["text"] += event.delta.text
            told["pieces"] += 1


def tool(address: str, told: Told) -> None:
    message = client(address).messages.create(**ASKING)
    told.update(tool=calls_of(message), stopped=message.stop_reason)


def tool_stream(address: str, told: Told) -> None:
    with client(address).messages.stream(**ASKING) as events:
        told["tool"] = calls_of(events.get_final_message())


def abort(address: str, told: Told) -> None:
    with client(address).messages.stream(**HELLO) as events:
        told["text"] = next(iter(events.text_stream))


def refused(address: str, told: Told) -> None:
    client(address).messages.create(**HELLO | {"model": PAID})


def with_api_key(address: str, told: Told) -> None:
    wire = anthropic.Anthropic(base_url=address, api_key="unused")
    told["text"] = text_of(wire.messages.create(**HELLO))


def asynchronous(address: str, told: Told) -> None:
    asyncio.run(_asynchronous(address, told))


async def _asynchronous(address: str, told: Told) -> None:
    told.update(text="", pieces=0)
    async with anthropic.AsyncAnthropic(base_url=address, auth_token="unused") as wire:
        told["plain"] = text_of(await wire.messages.create(**HELLO))
        async with wire.messages.stream(**HELLO) as events:
            async for text in events.text_stream:
                told["text"] += text
                told["pieces"] += 1


SCENES = {
    "plain": plain, "stream": stream, "tool": tool, "tool-stream": tool_stream, "abort": abort, "error": plain,
    "refused": refused, "spent": plain, "wait": plain, "minute": plain, "broken": stream, "cut": stream,
    "events": stream, "api-key": with_api_key, "async": asynchronous,
}  # fmt: skip

if __name__ == "__main__":
    play(anthropic.__version__, SCENES, anthropic.APIError)
