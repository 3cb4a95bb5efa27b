"""The scanner reads the same however a stream is cut (invariant I27), and what a naive reader reads."""

import json
import random
import re
from typing import Any

import pytest

from keywheel.wire.stream import Scanner
from tests.wire.streaming import (
    CHAT,
    DONE,
    EOLS,
    ERROR,
    HELLO,
    NAMES,
    STOP,
    cut,
    dialect,
    recorded,
    scan,
    single,
    with_eol,
)


@pytest.mark.parametrize("eol", EOLS)
def test_recorded_streams_read_the_same_byte_by_byte_and_in_random_pieces(eol: bytes) -> None:
    chance = random.Random(27)
    for name in NAMES:
        raw = with_eol(recorded(name), eol)
        whole = scan(dialect(name), [raw])
        assert scan(dialect(name), single(raw)) == whole
        for _ in range(10):
            pieces = cut(raw, chance)
            assert scan(dialect(name), pieces) == whole, (name, pieces)


SLIM = [  # what no dialect looks at: the rest has the same places to cut
    (rb'"(object|provider|role|id|item_id|model|message)":"[^"]*",?', b""),
    (rb',"native_finish_reason":(null|"\w*")', b""),
    (rb',?"\w+_details":([{][^}]*[}]|\[[^]]*\])', b""),
    (rb'"(is_byok|created|sequence_number|index|output_index|content_index)":\w+,', b""),
    (rb'"debug":.*}}', b'"debug":{}}'),
]


@pytest.mark.parametrize("eol", EOLS)
def test_recorded_streams_read_the_same_when_cut_at_any_place(eol: bytes) -> None:
    """At every single byte of them, for CR and CR LF at those around a line end."""
    for name in NAMES:
        raw = recorded(name)
        for pattern, short in SLIM:
            raw = re.sub(pattern, short, raw)
        raw = with_eol(raw, eol)
        whole = scan(dialect(name), [raw])
        for at in range(len(raw)):
            if eol == b"\n" or eol in raw[max(0, at - 2) : at + 2]:
                assert scan(dialect(name), [raw[:at], raw[at:]]) == whole, (name, at)


def test_line_ends_may_be_mixed_within_one_event() -> None:
    raw = b": a\r\rdata:1\n\r\ndata:2\r\n\ndata\r\n\r\ndata\n\rdata\n\n:\r\n\n"
    whole = scan(CHAT, [raw])
    assert (whole["events"], whole["comments"], whole["passed"]) == (5, 2, raw)
    for at in range(len(raw)):
        for to in range(at, len(raw)):
            assert scan(CHAT, [raw[:at], raw[at:to], b"", raw[to:]]) == whole, (at, to)


def test_the_lf_of_a_split_crlf_is_passed_on_after_the_end_but_not_after_an_error() -> None:
    scanner = Scanner(CHAT)
    assert scanner.feed(b"data: [DONE]\r\n\r") == b"data: [DONE]\r\n\r"
    assert scanner.done
    assert scanner.mend() == b"\n"  # unless it comes
    assert scanner.feed(b"\ndata: more\r\n\r\n") == b"\n"
    assert scanner.mend() == b""
    assert scanner.feed(b"\n") == b""
    scanner = Scanner(CHAT)
    assert scanner.feed(with_eol(ERROR, b"\r\n")[:-1]) == b""
    assert scanner.feed(b"\n") == b""


# --- against a naive reader ----------------------------------------------------------------------------


def naive(raw: bytes) -> dict[str, Any]:
    """The same reading of a chat stream, event after event, without any shortcut."""
    seen: dict[str, Any] = {"events": 0, "comments": 0, "content_events": 0, "done": False,
                            "has_text": False, "has_reasoning": False, "finish_reason": None,
                            "error": None}  # fmt: skip
    data: list[bytes] = []
    comments = 0
    lines = re.split(rb"\r\n|\r|\n", raw.removeprefix(b"\xef\xbb\xbf"))
    for line in lines[:-1]:
        name, _, value = line.partition(b":")
        comments += line.startswith(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line:
            seen["comments"] += comments
            comments = 0
        if not line and data:
            seen["events"] += 1
            _naive_event(b"\n".join(data), seen)
            data = []
            if seen["done"] or seen["error"]:
                break
    return seen


def _naive_event(payload: bytes, seen: dict[str, Any]) -> None:
    seen["done"] = payload == b"[DONE]"
    try:
        body = json.loads(payload)
    except ValueError:
        return
    if not body:
        return
    choice = body["choices"][0]
    seen["finish_reason"] = choice["finish_reason"] or seen["finish_reason"]
    if body.get("error"):
        seen["error"] = payload
        return
    text, reasoning = choice["delta"].get("content"), choice["delta"].get("reasoning")
    seen["content_events"] += bool(text or reasoning)
    seen["has_text"] = seen["has_text"] or bool(text)
    seen["has_reasoning"] = seen["has_reasoning"] or bool(reasoning)


WORDS = ["Hello", " ", "e", "m", "assistant", "content", '"', "\\", "\n", '"error":{"code":1}', "[DONE]",
         "data: [DONE]", '"finish_reason":"stop"', "Grüße 🙂", "\u2028", '","role":"x', "\r", "null", ""]  # fmt: skip


def invented(chance: random.Random) -> bytes:
    """A stream that says everything in all manners."""
    compact = chance.choice([(",", ":"), (", ", ": ")])
    ascii_only, eol = chance.random() < 0.5, chance.choice([*EOLS, None])
    role = {"role": "assistant"} if chance.random() < 0.5 else {}
    out = [chance.choice([b"", b"\xef\xbb\xbf"])]
    for _ in range(chance.randint(1, 14)):
        text = "".join(chance.choices(WORDS, k=chance.randint(1, 2)))
        body: dict[str, Any] = {"id": "gen-1", "choices": [{"index": 0, "delta": {"content": text, **role},
                                                            "finish_reason": None}]}  # fmt: skip
        match chance.randint(0, 19):
            case 0:
                body["choices"][0]["finish_reason"] = "stop"
            case 1:
                body["error"] = {"message": text}
            case 2 | 3 | 4:
                body["choices"][0]["delta"] = {"content": "", **role, "reasoning": text}
            case 5:
                body["error"] = None
        payload = json.dumps(body, separators=compact, ensure_ascii=ascii_only).encode()
        lines = {0: [b": wait", b"data:" + payload], 1: [b"data: [DONE]"], 2: [b": wait"],
                 3: [b"id: 1", b"data: " + payload, b"retry: 3"], 4: [b"data: " + payload[:9]],
                 5: [b""], 6: [b"data: {}", b"data"]}.get(chance.randint(0, 25), [b"data: " + payload])  # fmt: skip
        out += [line + (eol or chance.choice(EOLS)) for line in (*lines, b"")]
    return b"".join(out)


def test_invented_streams_read_as_a_naive_reader_reads_them_however_they_are_cut() -> None:
    chance = random.Random(5)
    reached = dict.fromkeys(("done", "error", "has_reasoning", "finish_reason"), 0)
    for _ in range(100):
        raw = invented(chance)
        whole = scan(CHAT, [raw])
        assert {**whole, **naive(raw)} == whole, raw
        assert raw.startswith(whole["passed"])
        for pieces in (single(raw), cut(raw, chance), raw.splitlines(keepends=True)):
            assert scan(CHAT, pieces) == whole, pieces
        for name in reached:
            reached[name] += bool(whole[name])
    assert min(reached.values()) > 10


def test_noise_neither_crashes_nor_depends_on_the_cut() -> None:
    chance = random.Random(9)
    bits = [HELLO, STOP, DONE, b"\n", b"\r", b"data: ", b"data", b":", b"\x00", b"\xff", b"{", b'"', b"\\",
            b"event: error", b"event: x", b'data: {"choices":[{"delta":{"content":"', b"Hello",
            b'"},"finish_reason":null}]}']  # fmt: skip
    for _ in range(200):
        raw = b"".join(chance.choices(bits, k=chance.randint(1, 12)))
        whole = scan(CHAT, [raw], event_limit=90)
        assert scan(CHAT, single(raw), event_limit=90) == whole, raw
        assert scan(CHAT, cut(raw, chance), event_limit=90) == whole, raw
