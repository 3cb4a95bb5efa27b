"""Scenes of the `openrouter` package: OpenRouter's own SDK, which checks every field of every answer."""

import asyncio
import json
from importlib.metadata import version
from typing import Any

from harness import CITY, PAID, SAID, WEATHER, Told, play
from openrouter import OpenRouter
from openrouter.errors import OpenRouterError

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": SAID}]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
ASKING: dict[str, Any] = {
    "model": "auto", "messages": [{"role": "user", "content": WEATHER}], "tools": [TOOL],
}  # fmt: skip


def client(address: str) -> OpenRouter:
    return OpenRouter(api_key="unused", server_url=f"{address}/api/v1", timeout_ms=20_000)


def hear(chunk: Any, told: Told) -> None:
    """One chunk. An error in the stream is no exception of this SDK but a field that it reads."""
    if getattr(chunk, "error", None):
        told["in_band"] = {"code": chunk.error.code, "text": chunk.error.message}
    text = chunk.choices[0].delta.content if chunk.choices else None
    told["text"] += text or ""
    told["pieces"] += bool(text)


def plain(address: str, told: Told) -> None:
    with client(address) as wire:
        told["text"] = wire.chat.send(**HELLO).choices[0].message.content


def stream(address: str, told: Told) -> None:
    told.update(text="", pieces=0)
    with client(address) as wire, wire.chat.send(**HELLO, stream=True) as chunks:
        for chunk in chunks:
            hear(chunk, told)


def tool(address: str, told: Told) -> None:
    with client(address) as wire:
        called = wire.chat.send(**ASKING).choices[0].message.tool_calls[0].function
        told["tool"] = [called.name, json.loads(called.arguments)]


def tool_stream(address: str, told: Told) -> None:
    name = arguments = ""
    with client(address) as wire, wire.chat.send(**ASKING, stream=True) as chunks:
        for chunk in chunks:
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    told["tool"] = [name, json.loads(arguments)]


def abort(address: str, told: Told) -> None:
    with client(address) as wire, wire.chat.send(**HELLO, stream=True) as chunks:
        told["text"] = next(t for c in chunks if c.choices and (t := c.choices[0].delta.content))


def refused(address: str, told: Told) -> None:
    with client(address) as wire:
        wire.chat.send(**HELLO | {"model": PAID})


def facts(address: str, told: Told) -> None:
    with client(address) as wire:
        wire.chat.send(**HELLO)
        page = wire.models.list()
        told["models"] = [model.id for model in page.result.data]
        told["more"] = page.next() is not None
        told["usage"] = wire.credits.get_credits().data.total_usage
        day = wire.api_keys.get_current_key_metadata().data.free_model_daily_requests
        told["day"] = [day.used, day.limit - day.remaining]


def responses(address: str, told: Told) -> None:
    with client(address) as wire:
        output = wire.responses.send(model="auto", input=SAID).output
    told["text"] = next(item.content[0].text for item in output if item.type == "message")


def embeddings(address: str, told: Told) -> None:
    with client(address) as wire:
        reply = wire.embeddings.generate(model="auto", input=["one", "two"], dimensions=4)
        told["vectors"] = [len(row.embedding) for row in reply.data]


def asynchronous(address: str, told: Told) -> None:
    asyncio.run(_asynchronous(address, told))


async def _asynchronous(address: str, told: Told) -> None:
    told.update(text="", pieces=0)
    async with client(address) as wire:
        told["plain"] = (await wire.chat.send_async(**HELLO)).choices[0].message.content
        async with await wire.chat.send_async(**HELLO, stream=True) as chunks:
            async for chunk in chunks:
                hear(chunk, told)


SCENES = {
    "plain": plain, "stream": stream, "tool": tool, "tool-stream": tool_stream, "abort": abort, "error": plain,
    "refused": refused, "spent": plain, "wait": plain, "minute": plain, "broken": stream, "cut": stream, "facts": facts,
    "responses": responses, "embeddings": embeddings, "async": asynchronous,
}  # fmt: skip

if __name__ == "__main__":
    play(version("openrouter"), SCENES, OpenRouterError)
