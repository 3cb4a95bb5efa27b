"""Logs: their shape, what they keep quiet about, and that a log nobody reads stops nobody."""

import asyncio
import io
import json
import logging
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import structlog

from keywheel.config import LogSettings
from keywheel.core.types import Attempted, Blocked, Kind, Provenance, Reopened, Scope
from keywheel.gateway import logs
from keywheel.secret import Secret

KEY = "sk-or-v1-" + "c0ffee" * 10
TOKEN = "tok/en+with.odd~signs-0123456789abcdef"
SECRETS = (Secret(KEY), Secret(TOKEN))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The process's logging is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    tell = logs._tell_request
    logs._throttle = logs.Throttle()
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    logs._tell_request = tell


def written(out: io.StringIO | None = None, **settings: Any) -> io.StringIO:
    """Logging goes to the buffer that is returned."""
    out = out or io.StringIO()
    logs.set_up(LogSettings(**settings), SECRETS, out)
    return out


def objects(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


# --- shape -----------------------------------------------------------------------------------------


def test_json_goes_where_no_terminal_is() -> None:
    out = written()
    structlog.get_logger("keywheel.a").info("request", status=200, key=None)
    logging.getLogger("keywheel.b").warning("late by %d s", 5, extra={"model": "m"})
    first, second = objects(out)
    assert (first["event"], first["status"], first["level"]) == ("request", 200, "info")
    assert first["logger"] == "keywheel.a"
    assert "key" not in first
    assert (second["event"], second["model"], second["level"]) == ("late by 5 s", "m", "warning")
    assert first["timestamp"].endswith("Z")


def test_text_goes_to_a_terminal() -> None:
    out = written(Terminal())
    structlog.get_logger("keywheel.a").info("request", status=200)
    assert "\x1b[" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize(("format", "starts"), [("json", "{"), ("text", "2")])
def test_the_format_can_be_chosen(format: str, starts: str) -> None:
    for out in (Terminal(), io.StringIO()):
        written(out, format=format)
        structlog.get_logger("keywheel.a").info("request")
        assert out.getvalue().removeprefix("\x1b[2m").startswith(starts)


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])  # fmt: skip
def test_the_level_holds_for_both_kinds_of_logger(level: str, count: int) -> None:
    out = written(level=level)
    for logger in (structlog.get_logger("keywheel.a"), logging.getLogger("keywheel.b")):
        logger.debug("a")
        logger.info("b")
        logger.warning("c")
    assert len(objects(out)) == 2 * count


def test_the_noise_of_libraries_is_off() -> None:
    out = written(level="debug")
    for name in ("uvicorn.error", "uvicorn.access", "httpx2", "httpcore2.connection", "asyncio"):
        logging.getLogger(name).info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert out.getvalue() == ""
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")
    assert [each["event"] for each in objects(out)] == ["Exception in ASGI application"]


def test_setting_up_twice_writes_once() -> None:
    written()
    out = written()
    logging.getLogger("keywheel").warning("once")
    assert len(objects(out)) == 1


# --- events ----------------------------------------------------------------------------------------


def test_changes_of_state_are_told_as_warnings() -> None:
    out = written(level="warning")
    scope = Scope(Kind.MODEL, "a/b:free")
    logs.tell(Blocked(1.0, scope, 61.04, "saturated", Provenance.HEURISTIC))
    logs.tell(Blocked(1.0, scope, float("inf"), "bad-key", Provenance.AUTHORITATIVE))
    logs.tell(Reopened(2.0, scope, "probe"))
    first, second, third = objects(out)
    assert (first["event"], first["scope"], first["name"]) == ("blocked", "model", "a/b:free")
    assert (first["reason"], first["provenance"], first["until"]) == ("saturated", "heuristic", 61.0)  # fmt: skip
    assert "until" not in second
    assert (third["event"], third["why"]) == ("reopened", "probe")


@pytest.mark.parametrize(("level", "told"), [("debug", 1), ("info", 0)])
def test_each_step_of_a_recovery_is_told_at_debug(level: str, told: int) -> None:
    out = written(level=level)
    good = Attempted(1.0, "r1", "k1", "a1", "m1", "ok", "", True, 0.5, 1.0)
    bad = good._replace(row="24 provider-down", scope="model", ok=False, total=1.23456)
    for event in (bad, good):
        logs.tell(event)
    records = objects(out)
    assert len(records) == told
    for record in records:
        assert (record["event"], record["level"], record["id"]) == ("attempt failed", "debug", "r1")
        assert (record["key"], record["account"], record["model"]) == ("k1", "a1", "m1")
        assert (record["row"], record["scope"], record["seconds"]) == (
            "24 provider-down",
            "model",
            1.235,
        )


# --- secrets ---------------------------------------------------------------------------------------

KEY_BODY = KEY.removeprefix("sk-or-v1-")
UNKNOWN = "sk-or-v1-" + "deadbeef" * 8


def in_base64(text: str, before: str = "", after: str = "") -> str:
    return b64encode((before + text + after).encode()).decode()


SHOWN = [
    KEY,
    f"Bearer {KEY}",
    f"authorization: bearer {KEY}\r\n",
    KEY_BODY,
    KEY[:20],
    KEY_BODY[:8],
    f"{KEY[:15]}...{KEY[-4:]}",
    f"'{KEY}'",
    f"https://x/?key={KEY}&a=1",
    f"user:{KEY}@host",
    in_base64(KEY),
    in_base64(KEY, before="a:"),
    in_base64(KEY, before="ab:", after=":b"),
    in_base64(KEY_BODY),
    TOKEN,
    TOKEN[:9],
    quote(TOKEN, safe=""),
    json.dumps({"token": TOKEN}),
    in_base64(TOKEN),
    in_base64(TOKEN, before="u:"),
    UNKNOWN,
    f"Incorrect API key provided: {UNKNOWN[:13]}**",
    in_base64(UNKNOWN, before="x"),
    "Bearer abcdefghijklmnop",
    "AIza" + "S" * 35,
]
PARTS = [
    KEY[9:17], TOKEN[:8], quote(TOKEN, safe="")[:8], UNKNOWN[9:13], "abcdefgh", "SSSS",
    *(in_base64(secret, before="." * shift)[4:14] for secret in (KEY_BODY, TOKEN) for shift in range(3)),
]  # fmt: skip


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("text", SHOWN)
def test_no_part_of_a_secret_is_written(text: str, format: str) -> None:
    """In the message, in arguments, in fields, in nested fields, in errors and their causes."""
    out = written(format=format)
    logger, native = structlog.get_logger("keywheel.a"), logging.getLogger("keywheel.b")
    logger.warning(text, field=text, nested={"a": [text]}, raw=text.encode(), secret=SECRETS[0])
    native.warning("got %s", text, extra={"field": text})
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise KeyError(text) from error
    except KeyError:
        logger.exception("failed", field=text)
        native.exception("failed %r", text)
    said = out.getvalue()
    assert "***" in said
    assert not [part for part in PARTS if part in said]


def test_a_traceback_shows_no_local_variables() -> None:
    out = written(Terminal())

    def fail(header: str) -> None:
        raise RuntimeError("no word about it")

    try:
        fail(TOKEN)
    except RuntimeError:
        logging.getLogger("keywheel").exception("failed")
        structlog.get_logger("keywheel.x").exception("failed")
    assert out.getvalue().count("RuntimeError: no word about it") == 2
    assert "header" not in out.getvalue()


@pytest.mark.parametrize(
    "line",
    ["nothing to hide", "the bearer of news", "sk-or-v1-", "account1 primary meta-llama/x:free ok"],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert logs.Redactor(SECRETS)(None, "", line) == line


@pytest.mark.parametrize("short", ["a", "redis"])
def test_a_password_that_is_a_word_does_not_blot_out_lines(short: str) -> None:
    line = "the redis at 10.0.0.1 is asked again"
    assert logs.Redactor([Secret(short)])(None, "", line) == line


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "password", ["first-8-@behind", "a!b&c#d:e:behind", 'q"uo\\te"s,behind', "with a blank, behind"]
)
def test_nothing_of_a_password_is_written_behind_a_sign_in_it(password: str, format: str) -> None:
    redact = logs.Redactor([Secret(password)])
    for text in (password, quote(password, safe=""), quote(password)):
        line = json.dumps({"event": f"at {text} it"}) if format == "json" else f"at {text} it"
        said = redact(None, "", line)
        assert "***" in said
        assert "behind" not in said
        assert said.endswith((" it", ' it"}'))


# --- forged lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil",
    ["\r\n", "\n", "\x1b[2J", "\x9b2J", "\u2028", "\u2029", "\x00", "\x7f", "\u202e", "\x85"],
)
@pytest.mark.parametrize("format", ["json", "text"])
def test_no_text_moves_the_cursor_or_forges_a_line(evil: str, format: str) -> None:
    out = written(format=format)
    text = f"a{evil}2026-01-01 [info] forged"
    structlog.get_logger("keywheel.a").warning(text, field=text)
    logging.getLogger("keywheel.b").warning(text, extra={"field": text})
    assert evil not in out.getvalue().replace("\n", "", 2 if evil == "\n" else 0)
    assert len(out.getvalue().splitlines()) == 2


def test_half_a_surrogate_pair_can_be_written() -> None:
    out = written()
    structlog.get_logger("keywheel.a").warning("x\ud800", field="y\udfff")
    assert objects(out)[0]["event"] == "x\\ud800"


# --- nobody reads ----------------------------------------------------------------------------------


def test_a_broken_pipe_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = os.fdopen(writer, "w", buffering=1)
    logs.set_up(LogSettings(), SECRETS, out)
    for _ in range(3):
        structlog.get_logger("keywheel.a").warning("request")
        logging.getLogger("keywheel.b").warning("request")
    with pytest.raises(BrokenPipeError):
        out.close()
    assert capsys.readouterr().err == ""


def test_a_record_that_cannot_be_written_is_named_without_its_text() -> None:
    out = written()
    logging.getLogger("keywheel.b").warning("%d is no number", KEY)
    assert out.getvalue() == "a log record of keywheel.b was lost: TypeError\n"


def test_a_closed_stream_stops_nobody() -> None:
    out = written()
    out.close()
    logging.getLogger("keywheel.b").warning("request")


# --- the line of a request -------------------------------------------------------------------------

LINE = logs.Line("r1", "ok", 200, ["k a/b:free ok"], 0.25, key="k", account="a", model="a/b:free")


async def told(out: io.StringIO, *lines: logs.Line) -> str:
    """What is written once the lines have waited long enough."""
    for line in lines:
        logs.tell_request(line)
    await asyncio.sleep(logs.FLUSH * 1.2)
    return out.getvalue()


def test_a_request_is_told_in_one_line_of_json() -> None:
    out = written()
    asyncio.run(told(out, LINE))
    (record,) = objects(out)
    assert datetime.fromisoformat(record.pop("timestamp")).timestamp() == pytest.approx(
        time.time(), abs=5
    )
    assert record == {
        "id": "r1", "outcome": "ok", "status": 200, "tries": ["k a/b:free ok"], "seconds": 0.25, "key": "k",
        "account": "a", "model": "a/b:free", "event": "request", "level": "info", "logger": "keywheel.request",
    }  # fmt: skip


def test_requests_for_which_nothing_was_tried_are_told_once_a_second() -> None:
    now = 100.0
    throttle = logs.Throttle(lambda: now)
    refused = logs.Line("r", "failed", 503, [], 0.0, code="no_usable_lane")
    tried = logs.Line("r", "failed", 503, ["k m 23"], 0.0, code="no_usable_lane")
    assert [throttle.admits(refused) for _ in range(5)] == [True, False, False, False, False]
    assert throttle.admits(tried)
    assert throttle.admits(LINE)
    assert refused.unsaid is None
    now = 101.0
    assert throttle.admits(refused)
    assert refused.unsaid == 4


def test_a_line_says_how_many_were_left_out() -> None:
    out = written()
    line = logs.Line("r2", "failed", 429, [], 0.0, code="quota_exhausted")
    asyncio.run(told(out, line, line))
    assert len(objects(out)) == 1


def test_lines_are_written_together_and_before_any_later_record() -> None:
    async def scene() -> None:
        logs.tell_request(LINE)
        logs.tell_request(LINE)
        assert out.getvalue() == ""
        logging.getLogger("keywheel.b").warning("later")
        assert [each["event"] for each in objects(out)] == ["request", "request", "later"]
        logs.tell_request(LINE)
        logging.getLogger().handlers[0].flush()  # as at the end of the process
        assert len(objects(out)) == 4

    out = written()
    asyncio.run(scene())


@pytest.mark.parametrize("evil", ["\u2028", "\x7f", "\x9b2J", "\x1b[2J", "\n"])
def test_the_line_of_a_request_moves_no_cursor(evil: str) -> None:
    out = written()
    line = logs.Line("r1", "failed", 400, [], 0.1, code=f"a{evil}b")
    assert evil not in asyncio.run(told(out, line)).removesuffix("\n")
    assert [each["event"] for each in objects(out)] == ["request"]


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("text", SHOWN)
def test_the_line_of_a_request_shows_no_secret(text: str, format: str) -> None:
    out = written(format=format)
    said = asyncio.run(told(out, logs.Line(text, "ok", 200, [text], 0.1, dropped=(text,))))
    assert "***" in said
    assert not [part for part in PARTS if part in said]


def test_requests_are_text_on_a_terminal_and_silent_above_their_level() -> None:
    assert not asyncio.run(told(written(Terminal()), LINE)).startswith("{")
    assert asyncio.run(told(written(level="warning"), LINE)) == ""


@pytest.mark.parametrize("evil", ["\u2028", "\x7f", "\x9b2J", "\x1b[2J", "\n"])
def test_without_set_up_the_line_is_a_record_of_the_standard_library(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], evil: str
) -> None:
    logs._tell_request = logs._tell_host
    with caplog.at_level("INFO", logger="keywheel"):
        logs.tell_request(
            msgspec.structs.replace(LINE, model=f"a{evil}b", tries=[f"k a{evil}b ok"])
        )
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("keywheel.request", "INFO")
    assert vars(record).items() >= {"id": "r1", "outcome": "ok", "key": "k", "code": None}.items()
    assert evil not in record.getMessage()
    caplog.clear()
    with caplog.at_level("WARNING", logger="keywheel"):
        logs.tell_request(LINE)
    assert (caplog.records, capsys.readouterr()) == ([], ("", ""))


def test_lines_that_nobody_reads_stop_nobody() -> None:
    out = written()

    async def scene() -> None:
        logs.tell_request(LINE)
        out.close()
        await asyncio.sleep(logs.FLUSH * 1.2)

    asyncio.run(scene())
