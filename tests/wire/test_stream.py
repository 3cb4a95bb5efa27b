"""The scanner: recorded streams, the shortcut for alike events, and single rules."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from keywheel.wire.dialects import DIALECTS, Dialect, Usage
from keywheel.wire.stream import Scanner
from tests.wire.streaming import (
    CHAT,
    DONE,
    EOLS,
    ERROR,
    HELLO,
    NAMES,
    STOP,
    STREAMS,
    chunk,
    dialect,
    recorded,
    scan,
    single,
    with_eol,
)

ENDS = {  # row of the classification table → what `end` says
    "0 ok": None,
    "28 empty": "empty",
    "28b budget-spent-on-reasoning": "budget-spent-on-reasoning",
    "30 error-first (as 24)": "error",
    "31 broken-after-content": "truncated",
    "32 done-missing": "done-missing",
}


# --- recorded streams ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_is_read_as_noted(name: str) -> None:
    noted = json.loads((STREAMS / f"{name}.json").read_text())
    seen = scan(dialect(name), [recorded(name)])
    stream, usage = noted["stream"], seen["usage"]
    assert seen["events"] == stream["data_events"]
    assert seen["comments"] == stream["comments"]
    assert seen["finish_reason"] == stream["finish_reason"]
    assert seen["done"] == stream["done"]
    assert seen["has_text"] == bool(stream["text"] or stream["tool_calls"])
    assert seen["has_reasoning"] == bool(stream["reasoning"])
    assert (usage and usage.tokens_in + usage.tokens_out) == stream["usage_total_tokens"]
    error = json.loads(seen["error"])["error"] if seen["error"] else None
    assert (error and {k: error[k] for k in ("code", "message")}) == stream["error"]
    assert seen["end"] == ("error" if error else ENDS[noted["expect"]["row"]])


@pytest.mark.parametrize("name", NAMES)
def test_it_commits_at_the_first_event_with_content(name: str) -> None:
    noted = json.loads((STREAMS / f"{name}.json").read_text())["stream"]["commit_event"]
    scanner, committed_at = Scanner(dialect(name)), None
    for byte in single(recorded(name)):
        scanner.feed(byte)
        if scanner.committed and committed_at is None:
            committed_at = scanner.events
    assert committed_at == noted


@pytest.mark.parametrize(
    ("name", "kept"),
    [("error-first", 1), ("error-after-tokens", 1), ("truncated-inside-event", 1)],
)
def test_an_error_event_and_an_unfinished_one_are_kept_back(name: str, kept: int) -> None:
    raw = recorded(name)
    blocks = re.split(rb"(?<=\n\n)", raw.rstrip(b"\n"))
    assert scan(CHAT, [raw])["passed"] == b"".join(blocks[:-kept])


# --- the shortcut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [1, 20])
@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("chat", HELLO),
        ("chat", chunk({"content": "", "reasoning": "So", "reasoning_details": [{"text": "So"}]})),
        ("completions", b'data: {"choices":[{"text":"Hello"}]}\n\n'),
        (
            "messages",
            b'event: x\ndata: {"type":"content_block_delta","delta":{"text":"Hello"}}\n\n',
        ),
        ("responses", b'data: {"type":"a.delta","sequence_number":8,"item":{},"delta":"He"}\n\n'),
    ],
)
def test_alike_events_are_passed_on_undecoded_as_the_same_object(
    name: str, event: bytes, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = Scanner(DIALECTS[name])
    scanner.feed(event)
    monkeypatch.setattr(Dialect, "hear", None)
    data = re.sub(rb"Hello|So|He|8", rb"0 other", event) * events
    assert scanner.feed(data) is data
    assert scanner.events == scanner.content_events == 1 + events


@pytest.mark.parametrize(
    ("first", "then", "changes"),
    [
        (chunk({"content": "x"}), chunk({"content": ""}), {}),
        (chunk({"content": "a", "role": "b"}), chunk({"content": "b", "role": "a"}), {}),
        (
            chunk({"content": "x"}),
            chunk({"content": "x"}, finish="stop"),
            {"finish_reason": "stop"},
        ),
        (chunk({"content": "x"}, finish="length"), chunk({"content": "y"}, finish="length"), {}),
        (chunk({"reasoning": "x"}), chunk({"content": "x"}), {"has_text": True}),
        (
            chunk({"content": "x"}, usage={"prompt_tokens": 1}),
            chunk({"content": "x"}, usage={"prompt_tokens": 2}),
            {"usage": Usage(2)},
        ),
        (
            chunk({"content": "x"}),
            chunk({"content": "x"}, error={"code": 1}),
            {"content_events": 1},
        ),
    ],
)
def test_an_event_that_differs_in_more_than_its_text_is_decoded(
    first: bytes, then: bytes, changes: dict[str, Any]
) -> None:
    scanner = Scanner(CHAT)
    scanner.feed(first + then)
    apart = Scanner(CHAT)
    apart.feed(then)
    assert scanner.content_events == 1 + apart.content_events
    assert {name: getattr(scanner, name) for name in changes} == changes


def test_half_an_emoji_passes_unchanged() -> None:
    raw = chunk({"content": "X"}).replace(b"X", rb"\ud83d") + chunk({"content": "y"})
    assert Scanner(CHAT).feed(raw) == raw


def test_a_text_that_also_stands_elsewhere_is_no_mould() -> None:
    scanner = Scanner(CHAT)
    scanner.feed(chunk({"content": "m"}) + chunk({"content": "gen-1"}, id="gen-2"))
    data = chunk({"content": "stop"}, finish="stop")
    assert scanner.feed(data) == data
    assert (scanner.finish_reason, scanner.id, scanner.model) == ("stop", "gen-1", "m")


def test_comments_within_alike_events_are_counted() -> None:
    scanner = Scanner(CHAT)
    for _ in range(3):
        scanner.feed(b": wait\n" + HELLO)
    assert (scanner.comments, scanner.content_events) == (3, 3)


# --- single rules -----------------------------------------------------------------------------------------


def test_a_raw_line_end_in_a_text_breaks_the_event() -> None:
    for eol in EOLS:
        for line_end in (b"\n", b"\r"):
            start = with_eol(HELLO, eol)
            seen = scan(CHAT, [start + start.replace(b"Hello", b"a" + line_end + b"b")])
            assert (seen["events"], seen["content_events"]) == (2, 1)


def test_nothing_follows_the_end_marker_or_an_error() -> None:
    scanner = Scanner(CHAT)
    assert scanner.feed(HELLO + STOP + DONE + HELLO) == HELLO + STOP + DONE
    assert scanner.feed(HELLO) == b""
    assert (scanner.events, scanner.end()) == (3, None)
    scanner = Scanner(CHAT)
    assert scanner.feed(HELLO + ERROR + HELLO + DONE) == HELLO
    assert (scanner.done, scanner.error, scanner.end()) == (False, ERROR[6:-2], "error")


def test_a_finish_error_without_an_error_object_stops_the_stream_and_has_no_payload() -> None:
    seen = scan(CHAT, [HELLO + chunk(finish="error") + DONE])
    assert seen["passed"] == HELLO
    assert (seen["finish_error"], seen["error"], seen["end"]) == (True, None, "finish-error")


def test_the_name_of_an_event_counts_when_its_data_has_no_type() -> None:
    assert scan(CHAT, [b'event: error\ndata: {"message":"x"}\n\n'])["error"] == b'{"message":"x"}'


@pytest.mark.parametrize("eol", EOLS)
def test_a_missing_end_marker_is_mended_in_the_line_ends_of_the_stream(eol: bytes) -> None:
    seen = scan(CHAT, [with_eol(HELLO + STOP, eol)])
    assert (seen["end"], seen["mend"], seen["eol"]) == ("done-missing", with_eol(DONE, eol), eol)
    assert Scanner(DIALECTS["messages"]).mend() == b""


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        (b"", "truncated"),
        (b": wait\n\n", "truncated"),
        (HELLO, "truncated"),
        (HELLO + DONE, None),
        (DONE, "empty"),
        (STOP + DONE, "empty"),
        (STOP, "empty"),
        (chunk(finish="length") + DONE, "empty"),
        (chunk(finish="content_filter") + DONE, None),
        (chunk({"reasoning": "hm"}) + STOP + DONE, None),
        (chunk({"reasoning": "hm"}) + chunk(finish="length"), "budget-spent-on-reasoning"),
        (HELLO + chunk(finish="length") + DONE, None),
    ],
)
def test_the_end_is_judged_by_content_and_finish(stream: bytes, end: str | None) -> None:
    assert scan(CHAT, [stream])["end"] == end


@pytest.mark.parametrize(
    ("reasoning", "end"), [(600, "budget-spent-on-reasoning"), (90, "empty"), (0, "empty")]
)
def test_hidden_reasoning_that_took_the_budget_shows_in_the_bill(reasoning: int, end: str) -> None:
    usage = {
        "completion_tokens": 600,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    assert scan(CHAT, [chunk(finish="length", usage=usage) + DONE])["end"] == end


def test_a_later_report_of_usage_keeps_the_figures_it_leaves_out() -> None:
    seen = scan(
        DIALECTS["messages"],
        [
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":0}}}\n\n'
            b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":4}}\n\n'
        ],
    )
    assert seen["usage"] == Usage(9, 4)


@pytest.mark.parametrize("eol", EOLS)
def test_an_event_over_the_limit_stops_the_stream_and_one_at_the_limit_does_not(eol: bytes) -> None:
    start = with_eol(HELLO, eol)
    size = len(start) - len(eol)
    pieces: tuple[Callable[[bytes], list[bytes]], ...] = (lambda raw: [raw], single)
    for split in pieces:
        assert scan(CHAT, split(start + start), event_limit=size)["passed"] == start + start
        longer = start.replace(b"Hello", b"Hello!")
        seen = scan(CHAT, split(start + longer + start), event_limit=size)
        assert (seen["passed"], seen["overflow"], seen["end"]) == (start, True, "too-large")
        seen = scan(CHAT, split(b"x" * (size + 1)), event_limit=size)
        assert (seen["passed"], seen["end"]) == (b"", "too-large")


def test_a_large_event_in_single_bytes_takes_no_more_than_linear_work() -> None:
    searched = 0

    class Counted(Scanner):
        def _end_of_event(self, data: bytes | bytearray, at: int) -> int:
            nonlocal searched
            searched += len(data) - at
            return super()._end_of_event(data, at)

    for start in (b"data: ", b": \r\rdata: "):
        scanner, searched = Counted(CHAT), 0
        for byte in single(start + b"x" * 5_000):
            scanner.feed(byte)
        assert searched < 15_000
