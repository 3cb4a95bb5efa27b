"""One attempt's answer, judged as it arrives."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest

from keywheel.core.types import Abandoned, Answered, Failed, Outcome
from keywheel.wire import hearing as module
from keywheel.wire.dialects import DIALECTS
from keywheel.wire.hearing import Ending, Finding, Hearing, Stage, Times
from tests.wire.streaming import CHAT, DONE, ERROR, HELLO, STOP, chunk, cut

NOW = 1_000_000.0
TIMES = Times(began=NOW, first_content=8.0, deadline=NOW + 120.0, gap=30.0, silence=90.0)
JSON = ((b"content-type", b"application/json"),)
EVENTS = (
    (b"date", b"x"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
)
GOOD = {
    "object": "chat.completion", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5},
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}  # fmt: skip
COMMENT = b": OPENROUTER PROCESSING\n\n"
THOUGHT = chunk({"reasoning": "hm"}) + chunk(finish="length") + DONE


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def plain(status: int = 200, headers: Any = JSON, **options: Any) -> Hearing:
    """An answer that was not asked for as a stream, and whose head has come."""
    it = Hearing(CHAT, TIMES, **options)
    it.begin(status, headers)
    return it


def streamed(dialect: str = "chat", times: Times = TIMES, headers: Any = EVENTS) -> Hearing:
    """A stream whose head has come."""
    it = Hearing(DIALECTS[dialect], times, stream=True)
    it.begin(200, headers)
    return it


def hear(it: Hearing, pieces: Iterable[bytes], now: float = NOW + 1.0) -> Finding:
    """The first finding, or READING when there is none yet."""
    for piece in pieces:
        if (finding := it.hear(piece, now)) is not Stage.READING:
            return finding
    return Stage.READING


def follow(it: Hearing, pieces: Iterable[bytes], now: float = NOW + 2.0) -> tuple[bytes, Ending]:
    """Everything a client gets of a committed stream, and how it ended."""
    passed, left = bytes(it.held), it.resume(now)
    for piece in pieces:
        if not left or not piece:
            break
        passed += it.scanner.feed(piece)
        left = it.heed(len(piece), now)
    ending = it.conclude(now)
    return passed + ending.tail, ending


def row(finding: Finding | Outcome) -> str:
    """The row that closed it."""
    assert isinstance(finding, Failed)
    return finding.verdict.row.name


# --- how long to wait ------------------------------------------------------------------------------


def test_the_head_of_a_stream_may_take_as_long_as_the_first_content() -> None:
    assert Hearing(CHAT, TIMES, stream=True).patience == 8.0


def test_the_head_of_a_plain_answer_comes_with_its_content_so_it_may_take_half_of_what_is_left() -> (
    None
):
    assert Hearing(CHAT, TIMES).patience == 60.0
    assert Hearing(CHAT, TIMES._replace(first_content=90.0)).patience == 90.0


def test_nothing_may_take_longer_than_the_deadline() -> None:
    assert Hearing(CHAT, TIMES._replace(deadline=NOW + 3.0), stream=True).patience == 3.0
    assert Hearing(CHAT, TIMES._replace(deadline=NOW + 3.0)).patience == 3.0


def test_a_piece_before_the_first_content_is_due_with_it() -> None:
    it = streamed()
    assert it.wait(NOW + 2.0) == 6.0
    assert it.wait(NOW + 9.0) == module.SHORTEST
    assert streamed(times=TIMES._replace(deadline=NOW + 5.0)).wait(NOW + 2.0) == 3.0


def test_blanks_do_not_put_a_plain_answer_off_and_each_piece_of_it_has_its_patience() -> None:
    it = plain()
    assert it.wait(NOW + 50.0) == 10.0
    assert hear(it, [b"\n", b" "]) is Stage.READING
    assert it.wait(NOW + 55.0) == 5.0
    assert hear(it, [b"{"]) is Stage.READING
    assert it.wait(NOW + 59.0) == 60.0


def test_an_answer_that_is_no_stream_is_due_like_the_stream_that_was_asked_for() -> None:
    it = streamed(headers=JSON)
    assert hear(it, [b"{"]) is Stage.READING
    assert it.wait(NOW + 2.0) == 6.0


def test_the_body_of_a_refusal_is_not_waited_for_long() -> None:
    it = plain(429)
    assert it.wait(NOW + 2.0) == module.REFUSAL
    assert it.wait(NOW + 4.0) == module.REFUSAL - 2.0
    assert it.wait(NOW + 90.0) == module.SHORTEST


# --- plain answers ---------------------------------------------------------------------------------


def test_a_plain_answer_is_kept_byte_for_byte_and_accounted_for() -> None:
    it = plain()
    body = encoded(GOOD)
    assert it.hear(body[:9], NOW + 1.0) is Stage.READING
    assert it.hear(body[9:], NOW + 1.5) is Stage.READING
    assert it.hear(b"", NOW + 2.0) == Answered(2.0, 2.0, 3, 2, 0.5, "ok")
    assert it.body == body


def test_an_answer_that_is_good_only_at_a_second_look_is_good() -> None:
    called = {"finish_reason": "tool_calls", "message": {"tool_calls": [{"function": {}}]}}
    answer = GOOD | {"choices": [called]}
    assert hear(plain(), [encoded(answer), b""]) == Answered(1.0, 1.0, 3, 2, 0.5, "ok")
    del answer["usage"]
    assert hear(plain(), [encoded(answer), b""]) == Answered(1.0, 1.0, None, None, 0.0, "ok")


def test_an_empty_answer_is_none() -> None:
    empty = GOOD | {"choices": [{"finish_reason": "stop", "message": {"content": ""}}]}
    finding = hear(plain(), [encoded(empty), b""])
    assert row(finding) == "empty"
    assert isinstance(finding, Failed)
    assert finding.elapsed == 1.0


def test_a_budget_that_went_into_reasoning_is_an_answer_with_its_row() -> None:
    thought = {"finish_reason": "length", "message": {"content": "", "reasoning": "hm"}}
    finding = hear(plain(), [encoded(GOOD | {"choices": [thought]}), b""])
    assert isinstance(finding, Answered)
    assert finding.row == "28b budget-spent-on-reasoning"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"id": "gen-1", "model": "lab/m:free"} | GOOD, "lab/m:free"),
        (GOOD, ""),
        (GOOD | {"choices": [{"finish_reason": "stop", "message": {"content": '"model": "lab/paid"'}}]}, ""),
        (GOOD | {"system_fingerprint": "x" * 5_000, "model": "lab/m:free"}, ""),
    ],
)  # fmt: skip
def test_the_model_that_a_plain_answer_names_is_told(body: Any, model: str) -> None:
    it = plain()
    hear(it, [encoded(body)])
    finding = it.hear(b"", NOW + 2.0)
    assert isinstance(finding, Answered)
    assert finding.model == model


def test_the_model_that_a_stream_names_is_told() -> None:
    it = streamed()
    begin = (
        b'data: {"id":"g","model":"lab/m-20260101:free","choices":[{"delta":{"content":"Hi"}}]}\n\n'
    )
    assert hear(it, [begin]) is Stage.COMMITTED
    _, ending = follow(it, [STOP + DONE])
    assert isinstance(ending.outcome, Answered)
    assert ending.outcome.model == "lab/m-20260101:free"


def test_a_plain_answer_where_a_stream_was_asked_for_is_malformed() -> None:
    thought = {"finish_reason": "length", "message": {"content": "", "reasoning": "hm"}}
    for answer in (GOOD, GOOD | {"choices": [thought]}):
        finding = hear(streamed(headers=JSON), [encoded(answer), b""])
        assert row(finding) == "malformed"


def test_an_error_where_a_stream_was_asked_for_is_that_error() -> None:
    error = {"error": {"code": 429, "message": "m", "metadata": {"provider_name": "P"}}}
    assert row(hear(streamed(headers=JSON), [encoded(error), b""])) == "upstream-pool"


def test_events_without_a_type_are_no_stream() -> None:
    it = streamed(headers=())
    assert not it.streams
    assert row(hear(it, [HELLO, b""])) == "malformed"


def test_an_answer_over_the_limit_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PLAIN", 8)
    it = plain()
    assert it.hear(b"x" * 8, NOW) is Stage.READING
    finding = it.hear(b"x", NOW)
    assert row(finding) == "malformed"
    assert isinstance(finding, Failed)
    assert "8 bytes" in finding.verdict.message


# --- refusals --------------------------------------------------------------------------------------


def test_a_refusal_is_judged_by_status_headers_and_body() -> None:
    body = encoded({"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}})
    it = plain(429)
    assert it.hear(body, NOW) is Stage.READING
    assert row(it.hear(b"", NOW)) == "platform-day"
    assert it.refused_moments == ()


def test_a_moment_that_is_not_believed_is_told() -> None:
    it = plain(503, (*JSON, (b"retry-after", b"-5")))
    assert row(hear(it, [b"{}", b""])) == "provider-down"
    assert len(it.refused_moments) == 1
    assert "-5" in it.refused_moments[0]


def test_of_a_long_refusal_only_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ERROR", 4)
    assert row(hear(plain(500), [b"oops, ", b"never read"])) == "server-error"


def test_a_refusal_whose_body_breaks_off_is_still_that_refusal() -> None:
    it = plain(401)
    assert it.hear(b'{"error"', NOW) is Stage.READING
    finding = it.lose("reset", NOW + 3.0)
    assert row(finding) == "bad-key"


def test_a_privacy_refusal_of_a_restricted_ask_blames_the_ask() -> None:
    body = encoded(
        {"error": {"code": 404, "message": "No endpoints found matching your data policy"}}
    )
    assert row(hear(plain(404), [body, b""])) == "account-settings"
    assert row(hear(plain(404, restricted=True), [body, b""])) == "capability"


# --- no answer -------------------------------------------------------------------------------------


def test_bytes_that_came_all_the_time_are_no_silence() -> None:
    it = plain()
    assert hear(it, [b" "] * 9) is Stage.READING
    finding = it.lose("timeout-silence", NOW + 60.0, detail="nothing for 0.001 s")
    assert isinstance(finding, Failed)
    assert (row(finding), finding.verdict.message) == ("timeout", "no content in time")


def test_a_connection_that_fails_says_whether_anything_was_sent() -> None:
    it = Hearing(CHAT, TIMES)
    finding = it.lose("unreachable", NOW + 0.5, detail="refused", unsent=True)
    assert row(finding) == "unreachable"
    assert isinstance(finding, Failed)
    assert (finding.elapsed, finding.unsent) == (0.5, True)
    assert finding.verdict.message.endswith("refused")


def test_a_time_out_at_the_deadline_is_the_deadlines_doing() -> None:
    it = Hearing(CHAT, TIMES)
    assert row(it.lose("timeout-head", NOW + 119.0)) == "timeout"
    assert it.lose("timeout-head", NOW + 119.96) is Stage.EXPIRED
    for kind in (
        "unreachable",
        "tls-handshake",
        "pool",
    ):  # the wait for a connection, too, ends with the request
        assert it.lose(kind, NOW + 119.96, unsent=True) is Stage.EXPIRED
        assert isinstance(it.lose(kind, NOW + 119.0, unsent=True), Failed)
    assert row(it.lose("reset", NOW + 119.96)) == "unreachable"


# --- streams before the commit ---------------------------------------------------------------------


def test_everything_is_held_until_the_first_content() -> None:
    role = chunk({"role": "assistant"})
    it = streamed()
    assert hear(it, [COMMENT, role]) is Stage.READING
    assert it.hear(HELLO, NOW + 3.0) is Stage.COMMITTED
    assert bytes(it.held) == COMMENT + role + HELLO


def test_how_a_stream_is_cut_changes_nothing() -> None:
    whole = COMMENT + chunk({"role": "assistant"}) + HELLO + STOP + DONE
    for seed in range(20):
        it = streamed()
        pieces = filter(None, cut(whole, random.Random(seed)))
        assert hear(it, pieces) is Stage.COMMITTED
        assert follow(it, pieces)[0] == whole


def test_an_error_before_any_content_is_judged_as_a_plain_one() -> None:
    error = chunk(error={"code": 429, "message": "m", "metadata": {"provider_name": "P"}})
    finding = hear(streamed(), [COMMENT, error])
    assert row(finding) == "upstream-pool"
    assert isinstance(finding, Failed)
    assert finding.verdict.via == "error-first"


def test_an_error_event_that_says_nothing_is_malformed() -> None:
    it = streamed("messages")
    assert row(it.hear(b"event: error\ndata: {}\n\n", NOW)) == "malformed"


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        ([COMMENT, b""], "malformed"),
        ([STOP, DONE], "empty"),
        ([chunk(finish="error")], "finish-error"),
        ([b"data: " + b"x" * (1 << 20)], "malformed"),
    ],
    ids=["cut off", "nothing", "finish error", "an event over the limit"],
)  # fmt: skip
def test_a_stream_without_content_fails_by_how_it_ends(pieces: list[bytes], name: str) -> None:
    assert row(hear(streamed(), pieces)) == name


@pytest.mark.parametrize("end", [DONE, b""], ids=["marked", "unmarked"])
def test_a_stream_that_says_why_it_is_empty_is_passed_on(end: bytes) -> None:
    it = streamed()
    filtered = chunk(finish="content_filter")
    assert hear(it, [filtered, end]) is Stage.COMMITTED
    passed, ending = follow(it, [b""])
    assert passed == filtered + DONE
    assert isinstance(ending.outcome, Answered)


@pytest.mark.parametrize("gap", [b"", b"\n"], ids=["no line end", "one line end"])
def test_an_error_without_its_blank_line_is_judged_as_that_error(gap: bytes) -> None:
    error = chunk(error={"code": 429, "message": "m", "metadata": {"provider_name": "P"}})
    assert row(hear(streamed(), [COMMENT, error.rstrip() + gap, b""])) == "upstream-pool"


@pytest.mark.parametrize("gap", [b"", b"\n"], ids=["no line end", "one line end"])
def test_an_error_without_its_blank_line_after_content_is_told_as_that_error(gap: bytes) -> None:
    it = streamed()
    assert hear(it, [HELLO]) is Stage.COMMITTED
    passed, ending = follow(it, [ERROR.rstrip() + gap])
    assert passed.startswith(HELLO)
    assert b"gone" in ending.tail
    assert b"[DONE]" not in ending.tail


@pytest.mark.parametrize("last", [HELLO, STOP, DONE], ids=["content", "finish", "end marker"])
def test_a_last_event_without_its_blank_line_is_passed_on_with_it(last: bytes) -> None:
    events = [HELLO, STOP, DONE]
    whole = b"".join(events[: events.index(last) + 1])
    it = streamed()
    pieces = iter([whole.rstrip(), b""])
    assert hear(it, pieces) is Stage.COMMITTED
    passed, ending = follow(it, pieces)
    assert passed.startswith(whole)
    assert isinstance(ending.outcome, Answered) is (last is not HELLO)


@pytest.mark.parametrize(
    "rest",
    [
        b'data: {"choices":[',
        b"data: [DON",
        b"data: 1",
        b": a comment",
        b"event: x",
        b"\n",
        b"data: " + b"[" * 99999,
    ],
)
def test_an_event_that_was_cut_is_never_passed_on(rest: bytes) -> None:
    it = streamed()
    assert hear(it, [HELLO]) is Stage.COMMITTED
    passed, ending = follow(it, [STOP + rest])
    assert passed == HELLO + STOP + DONE
    assert isinstance(ending.outcome, Answered)


@pytest.mark.parametrize("limit", ["MAX_HELD", "MAX_HELD_EVENTS"])
def test_a_flood_without_content_is_not_held(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 3)
    finding = hear(streamed(), [chunk({"role": "assistant"})] * 5)
    assert row(finding) == "malformed"
    assert isinstance(finding, Failed)
    assert "no content" in finding.verdict.message


# --- streams after the commit ----------------------------------------------------------------------


def begun(dialect: str = "chat", times: Times = TIMES, first: bytes = HELLO) -> Hearing:
    """A stream that has committed a second after its request."""
    it = streamed(dialect, times)
    assert it.hear(first, NOW + 1.0) is Stage.COMMITTED
    return it


def test_a_clean_end_answers_with_the_time_to_the_first_content() -> None:
    usage = chunk(usage={"prompt_tokens": 3, "completion_tokens": 2})
    passed, ending = follow(begun(), [STOP, usage, DONE, b"never read"], NOW + 5.0)
    assert passed == HELLO + STOP + usage + DONE
    assert ending == (b"", Answered(1.0, 5.0, 3, 2, 0.0, "ok", "m"))


def test_a_whole_stream_in_one_piece_needs_no_further_read() -> None:
    it = begun(first=HELLO + STOP + DONE)
    assert it.resume(NOW + 1.0) == 0.0
    assert it.conclude(NOW + 1.0) == (b"", Answered(1.0, 1.0, None, None, 0.0, "ok", "m"))


def test_a_missing_end_marker_is_added() -> None:
    passed, ending = follow(begun(), [STOP, b""])
    assert passed == HELLO + STOP + DONE
    assert isinstance(ending.outcome, Answered)
    assert ending.outcome.row == "32 done-missing"


HIDDEN = chunk(
    finish="length",
    usage={"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 9}},
)  # fmt: skip


@pytest.mark.parametrize("first", [THOUGHT, HIDDEN + DONE], ids=["shown", "hidden"])
def test_reasoning_that_took_the_whole_budget_is_an_answer(first: bytes) -> None:
    it = begun(first=first)
    _, ending = follow(it, [])
    assert isinstance(ending.outcome, Answered)
    assert ending.outcome.row == "28b budget-spent-on-reasoning"


def test_an_error_after_content_follows_in_the_stream_and_no_end_marker() -> None:
    passed, ending = follow(begun(), [ERROR, DONE])
    assert passed.startswith(HELLO)
    assert b"[DONE]" not in passed
    event = json.loads(passed.removeprefix(HELLO).removeprefix(b"data: "))
    assert (event["id"], event["error"]["code"]) == ("gen-1", 502)
    assert event["choices"][0]["finish_reason"] == "error"
    assert row(ending.outcome) == "broken-after-content"


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([b""], "cut off"),
        ([chunk(finish="error"), b""], "ended in an error"),
        ([b"data: " + b"x" * (1 << 20)], "size limit"),
    ],
)
def test_a_bad_end_after_content_is_told_in_the_stream(pieces: list[bytes], says: str) -> None:
    passed, ending = follow(begun(), pieces)
    assert row(ending.outcome) == "broken-after-content"
    assert (
        says in json.loads(passed.removeprefix(HELLO).removeprefix(b"data: "))["error"]["message"]
    )


def test_an_error_event_after_content_that_says_nothing_is_told_as_well_as_it_can() -> None:
    text = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Hi"}}\n\n'
    passed, ending = follow(begun("messages", first=text), [b"event: error\ndata: {}\n\n"])
    assert row(ending.outcome) == "broken-after-content"
    assert b"event: error" in passed


@pytest.mark.parametrize("kind", ["reset", "timeout-silence", "protocol"])
def test_a_connection_that_fails_after_content_breaks_the_answer(kind: str) -> None:
    it = begun()
    assert it.resume(NOW + 2.0)
    it.break_off(kind, NOW + 4.0)
    tail, outcome = it.conclude(NOW + 4.0)
    assert row(outcome) == "broken-after-content"
    assert b'"error"' in tail


@pytest.mark.parametrize("kind", ["reset", "timeout-silence", "truncated"])
def test_an_answer_with_its_reason_to_finish_is_whole_however_the_connection_ends(
    kind: str,
) -> None:
    it = begun(first=HELLO + STOP)
    assert it.resume(NOW + 2.0)
    it.break_off(kind, NOW + 4.0)
    tail, outcome = it.conclude(NOW + 4.0)
    assert tail == DONE
    assert isinstance(outcome, Answered)
    assert outcome.row == "32 done-missing"


def test_a_stream_that_the_deadline_ends_blames_nobody() -> None:
    it = begun()
    assert it.resume(NOW + 2.0)
    it.break_off("timeout-silence", NOW + 119.96)
    tail, outcome = it.conclude(NOW + 119.96)
    assert outcome == Abandoned("deadline")
    assert b"deadline_exceeded" in tail


# --- the time limit of the next piece --------------------------------------------------------------


def test_a_pause_of_the_client_is_not_the_upstreams() -> None:
    half = chunk({"content": "x" * 99})[:50]
    for excused in (0.0, 40.0):
        it = begun()
        assert it.resume(NOW + 2.0) == 30.0
        it.pardon(excused)
        assert it.scanner.feed(half) == b""
        assert bool(it.heed(len(half), NOW + 50.0)) == bool(excused)


def test_content_puts_the_limit_off_and_comments_do_not() -> None:
    it = begun()
    assert it.resume(NOW + 2.0) == 30.0
    it.scanner.feed(COMMENT)
    assert it.heed(len(COMMENT), NOW + 12.0) == 20.0
    it.scanner.feed(HELLO)
    assert it.heed(len(HELLO), NOW + 20.0) == 30.0


def test_silence_and_deadline_bound_it_too() -> None:
    assert begun(times=TIMES._replace(silence=9.0)).resume(NOW + 2.0) == 9.0
    assert begun(times=TIMES._replace(deadline=NOW + 10.0)).resume(NOW + 2.0) == 8.0


def test_comments_without_end_are_a_pause_that_is_too_long() -> None:
    it = begun()
    it.resume(NOW + 2.0)
    it.scanner.feed(COMMENT)
    assert it.heed(len(COMMENT), NOW + 32.0) == 0.0
    _, outcome = it.conclude(NOW + 32.0)
    assert isinstance(outcome, Failed)
    assert "paused too long" in outcome.verdict.message


def test_content_without_end_meets_the_deadline() -> None:
    it = begun()
    it.resume(NOW + 2.0)
    it.scanner.feed(HELLO)
    assert it.heed(len(HELLO), NOW + 120.0) == 0.0
    assert it.conclude(NOW + 120.0).outcome == Abandoned("deadline")


def test_a_stream_over_the_limit_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAM", 2 * len(HELLO))
    passed, ending = follow(begun(), [HELLO, HELLO, HELLO])
    assert row(ending.outcome) == "broken-after-content"
    assert passed.count(HELLO) == 3
    assert b"size limit" in passed
