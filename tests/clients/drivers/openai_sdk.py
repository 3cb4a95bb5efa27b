"""Scenes of the `openai` package."""

import asyncio
import json
from typing import Any

import openai
from harness import CITY, PAID, SAID, WEATHER, Told, play

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": SAID}]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
ASKING: dict[str, Any] = {
    "model": "auto", "messages": [{"role": "user", "content": WEATHER}], "tools": [TOOL],
}  # fmt: skip
ANSWER = {"name": "answer", "strict": True, "schema": CITY | {"additionalProperties": False}}


def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="unused", timeout=20)


def plain(address: str, told: Told) -> None:
    told["text"] = client(address).chat.completions.create(**HELLO).choices[0].message.content


def stream(address: str, told: Told) -> None:
    told.update(text="", pieces=0)
    for chunk in client(address).chat.completions.create(**HELLO, stream=True):
        text = chunk.choices[0].delta.content if chunk.choices else None
        told["text"] += text or ""
        told["pieces"] += bool(text)


def tool(address: str, told: Told) -> None:
    message = client(address).chat.completions.create(**ASKING).choices[0].message
    called = message.tool_calls[0].function
    told["tool"] = [called.name, json.loads(called.arguments)]


def tool_stream(address: str, told: Told) -> None:
    name = arguments = ""
    for chunk in client(address).chat.completions.create(**ASKING, stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    told["tool"] = [name, json.loads(arguments)]


def abort(address: str, told: Told) -> None:
    with client(address).chat.completions.create(**HELLO, stream=True) as chunks:
        told["text"] = next(t for c in chunks if (t := c.choices[0].delta.content))


def refused(address: str, told: Told) -> None:
    client(address).chat.completions.create(**HELLO | {"model": PAID})


def parse(address: str, told: Told) -> None:
    form = {"type": "json_schema", "json_schema": ANSWER}
    reply = client(address).chat.completions.create(**HELLO, response_format=form)
    told["parsed"] = json.loads(reply.choices[0].message.content)


def parse_class(address: str, told: Told) -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    reply = client(address).chat.completions.parse(**HELLO, response_format=Place)
    told["parsed"] = reply.choices[0].message.parsed.model_dump()


def responses(address: str, told: Told) -> None:
    told["text"] = client(address).responses.create(model="auto", input=SAID).output_text


def responses_stream(address: str, told: Told) -> None:
    told.update(text="", pieces=0, events=[])
    for event in client(address).responses.create(model="auto", input=SAID, stream=True):
        told["events"].append(event.type)
        if event.type == "response.output_text.delta":
            told["text"] += event.delta
            told["pieces"] += 1


def embeddings(address: str, told: Told) -> None:
    reply = client(address).embeddings.create(model="auto", input=["one", "two"], dimensions=4)
    told["vectors"] = [len(row.embedding) for row in reply.data]


def asynchronous(address: str, told: Told) -> None:
    asyncio.run(_asynchronous(address, told))


async def _asynchronous(address: str, told: Told) -> None:
    told.update(text="", pieces=0)
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="unused") as wire:
        told["plain"] = (await wire.chat.completions.create(**HELLO)).choices[0].message.content
        async for chunk in await wire.chat.completions.create(**HELLO, stream=True):
            text = chunk.choices[0].delta.content if chunk.choices else None
            told["text"] += text or ""
            told["pieces"] += bool(text)


SCENES = {
    "plain": plain, "stream": stream, "tool": tool, "tool-stream": tool_stream, "abort": abort, "error": plain,
    "refused": refused, "spent": plain, "wait": plain, "minute": plain, "broken": stream, "cut": stream, "parse": parse,
    "parse-class": parse_class, "responses": responses, "responses-stream": responses_stream,
    "responses-broken": responses_stream, "embeddings": embeddings, "async": asynchronous,
}  # fmt: skip

if __name__ == "__main__":
    play(openai.__version__, SCENES, openai.APIError)
