"""`keywheel explain`: why a request went where it went, or the latest requests to choose from."""

import math
from typing import Any
from urllib.parse import quote

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keywheel.cli.manners import console, print_json
from keywheel.cli.phrases import clock, count, plain
from keywheel.cli.reading import line
from keywheel.cli.view import QUIET

Json = dict[str, Any]
OUTCOMES = {"ok": ("●", "green"), "failed": ("✖", "red"), "abandoned": ("○", "yellow")}
RUNNING = ("◌", "cyan")
NEXT = 4  # candidates that are shown behind the one that was taken
SCORES = "felt: seconds to an answer + what failures cost, times what its place in the list costs; the least is best"


@click.command()
@click.argument("request_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole of GET /admin/explain.")
def explain(request_id: str | None, as_json: bool) -> None:
    """Why a request went where it went: the candidates with scores and reasons, the attempts, the outcome.

    REQUEST_ID is the x-request-id of the answer; without it the latest requests are listed. The running gateway
    remembers the latest 500. Ends with 1 for a request that is not remembered, with 4 when no gateway answers.
    """
    path = (
        "/admin/explain" if request_id is None else f"/admin/explain/{quote(request_id, safe=':')}"
    )
    told = line().get(path)
    if as_json:
        print_json(told)
    else:
        console().print(latest(told) if request_id is None else story(told))


# --- the list --------------------------------------------------------------------------------------


def latest(told: Json) -> RenderableType:
    """The latest requests in short."""
    if not told["requests"]:
        return Text("No request has come yet.", QUIET)
    table = _table(
        ("at", "outcome", "model", "key", "tries", "took", "request id"), "tries", "took"
    )
    for each in told["requests"]:
        served: Json = each["served_by"] or {}
        table.add_row(
            _clock(each["began"]),
            outcome(each),
            plain(served.get("model", "")),
            plain(served.get("key", "")),
            str(each["attempts"]),
            _seconds(each["seconds"]),
            plain(each["request_id"]),
        )
    return table


# --- one request -----------------------------------------------------------------------------------


def story(told: Json) -> Group:
    """All of it."""
    parts: list[RenderableType] = [_head(told)]
    for number, decision in enumerate(told["decisions"], 1):
        parts += [Text(), *_decision(number, decision)]
    if told["decisions"]:
        parts.append(Text(f"\n{SCORES}", QUIET))
    if told["attempts"]:
        parts += [Text("\nAttempts", "bold"), _attempts(told["attempts"])]
    return Group(*parts)


def outcome(told: Json) -> Text:
    """A sign and a word."""
    sign, style = OUTCOMES.get(told["outcome"], RUNNING)
    failed = told["outcome"] == "failed"
    word = (told["code"] or told["status"]) if failed else told["outcome"]
    return Text(f"{sign} {plain(word)}", style)


def _head(told: Json) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET)
    grid.add_column(overflow="fold")
    grid.add_row(
        "request",
        f"{plain(told['request_id'])} ({plain(told['dialect'])}), {_clock(told['began'])} UTC",
    )
    grid.add_row("asked", _asked(told["asked"]))
    served = told["served_by"]
    grid.add_row("served", _lane(served) if served else "not served")
    end = outcome(told)
    if told["status"]:
        end.append(f", status {told['status']}", "")
    if told["seconds"] is not None:
        end.append(f", after {_seconds(told['seconds'])}", "")
    grid.add_row("outcome", end)
    return grid


def _asked(asked: Json | None) -> str:
    if asked is None:
        return "refused as it stood, before anything was decided"
    parts = [f"about {count(asked['tokens'])} tokens"]
    if asked["reply_tokens"]:
        parts.append(f"a reply of at most {count(asked['reply_tokens'])}")
    if asked["needs"]:
        parts.append(f"needs {', '.join(map(plain, asked['needs']))}")
    if asked["models"]:
        by = f", {plain(asked['strategy'])}" if asked["strategy"] else " in this order"
        parts.append(f"one of {', '.join(map(plain, asked['models']))}{by}")
    if asked["first"]:
        word = "only" if asked["pinned"] else "first"
        parts.append(f"{plain(asked['first'])} {word}")
    parts += [
        word
        for name, word in (("stream", "streamed"), ("follow_up", "part of a conversation"))
        if asked[name]
    ]
    return "; ".join(parts)


def _decision(number: int, decision: Json) -> list[RenderableType]:
    chosen = decision["chosen"]
    said = [plain(decision["why"])]
    if decision["ways"]:
        said.append(f"{decision['ways']} key(s) could be used")
    if decision["left_today"] is not None:
        left = f"{count(decision['left_today'])} today, {decision['left_this_minute']} this minute"
        said.append(f"left {left}")
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    grid.add_row(Text(f"{number}.", "bold"), Text(_lane(chosen) if chosen else "no way", "bold"))
    grid.add_row("", Text(f"{_clock(decision['at'])} UTC: {'; '.join(said)}", QUIET))
    return [grid, _candidates(decision)] if decision["candidates"] else [grid]


def _candidates(decision: Json) -> Table:
    """What was passed with its reason, what was taken, and a few of those that were not needed."""
    candidates: list[Json] = decision["candidates"]
    lane: Json = decision["chosen"] or {}
    chosen = lane.get("model")
    taken = next((n for n, each in enumerate(candidates) if each["id"] == chosen), len(candidates))
    table = _table(
        ("", "place", "model", "felt", "answer", "failures", "× place"),
        "place", "felt", "answer", "failures", "× place",
    )  # fmt: skip
    for n, each in enumerate(candidates[: taken + 1 + NEXT]):
        parts: Json = each["parts"] or {}
        table.add_row(
            "→" if n == taken else "",
            str(each["rank"] or ""),
            _candidate(each, n - taken),
            _seconds(each["felt_s"]),
            _seconds(parts.get("answer_s")),
            f"+ {_seconds(parts['failures_s'])}" if parts else "",
            f"× {math.exp(parts['place']):.2f}" if parts else "",
        )
    if (more := len(candidates) - taken - 1 - NEXT) > 0:
        table.add_row("", "", Text(f"{more} more that were not needed", QUIET))
    return table


def _candidate(each: Json, after: int) -> Text:
    """Its id, and why it was passed. `after`: its distance behind the one that was taken."""
    text = Text(plain(each["id"]), "" if after else "bold")
    if after > 0 or not each["why_not"]:
        return text
    opens = f", until {_clock(each['until'])} UTC" if each["until"] else ""
    return text.append(f"\n{plain(each['why_not'])}{opens}", QUIET)


def _attempts(attempts: list[Json]) -> Table:
    table = _table(("", "at", "row", "model", "key", "took", "first"), "took", "first")
    for each in attempts:
        sign, style = RUNNING if each["ok"] is None else OUTCOMES["ok" if each["ok"] else "failed"]
        row = Text(plain(each["row"]))
        if each["means"]:
            row.append(f"\n{plain(each['means'])}", QUIET)
        if each["scope"]:
            row.append(f"\nat fault: {plain(each['scope'])}", QUIET)
        table.add_row(
            Text(sign, style),
            _clock(each["at"]),
            row,
            plain(each["model"]),
            f"{plain(each['key'])} ({plain(each['account'])})",
            _milliseconds(each["duration_ms"]),
            _milliseconds(each["ttft_ms"]),
        )
    return table


def _lane(lane: Json) -> str:
    return f"{plain(lane['model'])} with {plain(lane['key'])} ({plain(lane['account'])})"


def _table(head: tuple[str, ...], *right: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    for title in head:
        table.add_column(title, overflow="fold", justify="right" if title in right else "left")
    return table


def _clock(moment: float) -> str:
    return clock(moment, moment).removesuffix(" UTC")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _milliseconds(milliseconds: float | None) -> str:
    return "" if milliseconds is None else _seconds(milliseconds / 1e3)
