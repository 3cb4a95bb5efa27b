"""Run in an environment of its own against a gateway: OpenRouter's own SDK, which checks every field of every answer.

python openrouter_sdk.py BASE_URL
"""

import sys
from importlib.metadata import version

from openrouter import OpenRouter

HELLO = [{"role": "user", "content": "Hello"}]


def main(base_url: str) -> None:
    """Everything that the gateway answers in OpenRouter's shape, once."""
    with OpenRouter(api_key="unused", server_url=base_url) as client:
        page = client.models.list()
        ids = [model.id for model in page.result.data]
        assert ids[0] == "auto"
        assert len(ids) > 1
        assert page.next() is None
        plain = client.chat.send(model="auto", messages=HELLO)
        assert plain.choices[0].message.content
        with client.chat.send(model=ids[1], messages=HELLO, stream=True) as pieces:
            text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
        assert text
        assert client.credits.get_credits().data.total_usage == 0
        day = client.api_keys.get_current_key_metadata().data.free_model_daily_requests
        assert (day.used, day.remaining) == (2, day.limit - 2)
    print("ok", version("openrouter"))


if __name__ == "__main__":
    main(sys.argv[1])
