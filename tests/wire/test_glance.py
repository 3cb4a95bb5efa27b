"""The quick look may only pass what the full judgement passes, too."""

import json
from pathlib import Path

import pytest

from keywheel.wire.faults import Phase, Reply, judge
from keywheel.wire.glance import usage_of_good

RECORDED = [
    json.loads(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parent / "replies").glob("200-*.json"))
]
KIND = b"application/json; charset=utf-8"
JSON = {"content-type": KIND.decode()}


def body(record: dict) -> bytes:
    said = record["body"]
    return said.encode() if isinstance(said, str) else json.dumps(said).encode()


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record["name"])
def test_what_passes_at_a_glance_passes_the_judgement(record: dict) -> None:
    if usage_of_good(body(record), "chat", KIND) is not None:
        assert judge(Reply(Phase.BODY, 200, JSON, body(record)), now=0.0) is None


def test_a_usual_answer_passes_with_its_usage() -> None:
    usage = usage_of_good(body(next(r for r in RECORDED if r["name"] == "200-ok")), "chat", KIND)
    assert usage is not None
    assert (usage.tokens_in, usage.tokens_out) == (8, 1)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[" * 5000,
        b'{"choices":[]}',
        b'{"choices":[{"message":{"content":""}}]}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}',
        b'{"choices":[{"message":{"content":"x"},"error":{"code":502}}]}',
        b'{"choices":[{"message":{"content":"x"}}],"error":{"code":502}}',
        b'{"choices":[{"message":{"content":"x"}}],"status":"failed"}',
        b'{"choices":[{"message":{"content":null,"tool_calls":[{}]}}]}',
        b'{"choices":[{"message":{}}]}',
        b'{"choices":[{"message":{"content":7}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
    ],
)
def test_whatever_is_not_plainly_good_is_left_to_the_judgement(said: bytes) -> None:
    assert usage_of_good(said, "chat", KIND) is None


def test_another_dialect_or_type_is_left_to_the_judgement() -> None:
    good = b'{"choices":[{"message":{"content":"x"}}]}'
    assert usage_of_good(good, "chat", KIND) is not None
    assert usage_of_good('{"choices":[{"message":{"content":"é"}}]}'.encode(), "chat", KIND)
    assert usage_of_good(good, "completions", KIND) is None
    assert usage_of_good(good, "chat", b"text/html") is None
