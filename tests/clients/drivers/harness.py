"""Plays scenes with one SDK: their names come in line by line, what came of each goes out as a JSON line.

In: {"scene": NAME, "address": "http://…"}. Out: first {"version": …}, then for every scene what its function told,
with `raised` for an error of the SDK's own and `crashed` for any other.
"""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]
Scene = Callable[[str, Told], None]  # (address, told)

SAID = "Hello"
WEATHER = "Use the tool get_weather for Paris"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PAID = "openai/gpt-4o"


def play(version: str, scenes: dict[str, Scene], error: type[Exception]) -> None:
    """Play what is asked for until the input ends. `error`: what all errors of the SDK derive from."""
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        told: Told = {}
        try:
            scenes[order["scene"]](order["address"], told)
        except error as raised:
            told["raised"] = describe(raised)
        except Exception:
            told["crashed"] = traceback.format_exc()
        print(json.dumps(told), flush=True)


def describe(error: Exception) -> Told:
    """An SDK's error: its class and status, and what the body says of it."""
    inner = _inner(getattr(error, "body", None))
    metadata = inner.get("metadata") or {}
    return {
        "type": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "kind": inner.get("type"),
        "codes": [inner.get("code"), metadata.get("code"), metadata.get("error_type")],
        "text": str(error)[:500],
    }


def _inner(body: Any) -> Told:
    """The error object of a body, whose envelope some SDKs take off."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return {}
    if not isinstance(body, dict):
        return {}
    return body["error"] if isinstance(body.get("error"), dict) else body
