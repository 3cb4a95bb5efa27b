"""Run in an environment of its own against a gateway: plain, streamed and tool-call answers, errors by name.

python openai_sdk.py BASE_URL
"""

import sys

import openai

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "Use the tool get_weather for Paris"}]
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def main(base_url: str) -> None:
    """Every kind of answer once."""
    client = openai.OpenAI(base_url=base_url, api_key="unused")
    plain = client.chat.completions.create(model="auto", messages=HELLO)
    assert plain.choices[0].message.content
    stream = client.chat.completions.create(model="auto", messages=HELLO, stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert text
    called = client.chat.completions.create(model="auto", messages=WEATHER, tools=[TOOL])
    assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert refusal(client) == "model_not_free"
    print("ok", openai.__version__)


def refusal(client: openai.OpenAI) -> str | None:
    """The code with which a paid model is refused, None if it is served."""
    try:
        client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)
    except openai.BadRequestError as error:
        return error.code
    return None


if __name__ == "__main__":
    main(sys.argv[1])
