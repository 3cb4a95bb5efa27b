"""The read model for a terminal: what is wrong first, then the pool, accounts, keys and models.

`now` is the gateway's clock. Colour says nothing that a sign or a word does not say, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keywheel.cli.phrases import clock, count, plain, share, span

Json = dict[str, Any]
Sign = tuple[str, str]  # a letter and its style

STATES: dict[str, Sign] = {
    "open": ("●", "green"),
    "closed": ("◐", "yellow"),
    "probing": ("◌", "cyan"),
    "disabled": ("○", "red"),
}
POOL: dict[str, Sign] = {
    "ready": ("●", "bold green"),
    "degraded": ("▲", "bold yellow"),
    "exhausted": ("✖", "bold red"),
}
GRAVITY: dict[str, Sign] = {
    "critical": ("✖", "bold red"),
    "error": ("✖", "red"),
    "warning": ("▲", "yellow"),
    "info": ("○", "cyan"),
}
OUTLOOKS = {"lasts": "lasts", "spent": "spent", "idle": "idle", "unmetered": "no limit"}
BAR = 8  # letters
SCARCE = 0.2  # of the day's requests left; less is shown in yellow
AFFECTED = 4  # names that a trouble lists
FIRST = 5  # models that are always shown
QUIET = "dim"


def status(state: Json, now: float, address: str) -> Group:
    """All of it."""
    parts: list[RenderableType] = [headline(state, now, address), glance(state, now)]
    for title, table in (
        ("Troubles", troubles(state, now)),
        ("Accounts", accounts(state, now)),
        ("Keys", keys(state, now)),
        ("Models", models(state, now)),
    ):
        if table.row_count:
            parts += [Text(), Text(title, "bold"), table]
    return Group(*parts)


# --- the whole -------------------------------------------------------------------------------------


def headline(state: Json, now: float, address: str) -> Text:
    """Who tells this."""
    invented = "simulator: answers are invented" if state["mode"] == "simulator" else "live"
    parts = [
        f"keywheel {plain(state['version'])}",
        invented,
        f"up {span(now - state['since'])}",
        address,
    ]
    return Text(" · ".join(parts), QUIET)


def glance(state: Json, now: float) -> Text:
    """The pool in one or two lines."""
    pool = state["pool"]
    word = "shutting down" if state["draining"] else pool["state"]
    sign, style = POOL[pool["state"]]
    first = [f"{pool['lanes']['usable']} of {pool['lanes']['total']} ways open"]
    if pool["opens_at"]:
        first.append(
            f"the first opens in {span(pool['opens_at'] - now)} ({clock(pool['opens_at'], now)})"
        )
    if pool["in_flight"]:
        first.append(f"{pool['in_flight']} under way")
    if pool["queue"]["length"]:
        first.append(f"{pool['queue']['length']} waiting")
    text = Text().append(f"{sign} {word}", style).append("".join(f" · {part}" for part in first))
    day, minute = pool["day"], pool["minute"]
    if day["resets_at"]:
        text.append(
            f"\n  {count(day['remaining'])} of {count(day['limit'])} requests left today · "
            f"{minute['free']} of {minute['limit']} this minute · new day in {span(day['resets_at'] - now)}",
        )
    return text


# --- troubles --------------------------------------------------------------------------------------


def troubles(state: Json, now: float) -> Table:
    """Each with its cause, whom it concerns, when it is over, and one thing to do."""
    grid = _signed()
    for found in state["troubles"]:
        sign, style = GRAVITY[found["severity"]]
        text = Text().append(plain(found["cause"]), style if found["severity"] != "info" else None)
        text.append(f"\n{_whom(found)} · {_times(found, now)}", QUIET)
        text.append(f"\n→ {plain(found['action'])}")
        grid.add_row(Text(sign, style), text)
    return grid


def causes(state: Json, now: float, most: int) -> Table:
    """The gravest, with when they are over."""
    grid = _signed()
    found = state["troubles"]
    for each in found[:most]:
        sign, style = GRAVITY[each["severity"]]
        text = Text.assemble((plain(each["cause"]), style), (f" · {_times(each, now)}", QUIET))
        grid.add_row(Text(sign, style), text)
    if len(found) > most:
        grid.add_row(
            "", Text(f"and {len(found) - most} more; keywheel status says what to do", QUIET)
        )
    return grid


def _signed() -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    return grid


def _whom(found: Json) -> str:
    """Scope and name, the latter where the cause does not say it."""
    scope, name, affected = found["scope"], plain(found["name"]), found["affects"]
    told = scope if scope == name or name in found["cause"] else f"{scope} {name}"
    more = ", …" if affected[AFFECTED:] else ""
    return f"{told} ({', '.join(map(plain, affected[:AFFECTED]))}{more})" if affected else told


def _times(found: Json, now: float) -> str:
    end = found["until"]
    over = f"over in {span(end - now)} ({clock(end, now)})" if end else "no end known"
    return f"since {span(now - found['since'])} · {over}" if found["since"] else over


# --- accounts, keys, models ------------------------------------------------------------------------


def accounts(state: Json, now: float) -> Table:
    """Requests left today and this minute."""
    table = _table(("account", "state", "back in", "left today", "minute", "outlook"))
    for entry in state["accounts"]:
        minute = entry["minute"]
        of = "" if minute["limit"] is None else f"/{minute['limit']}"
        table.add_row(
            plain(entry["name"]),
            standing(entry),
            back(entry, now),
            left_today(entry["day"]),
            f"{minute['used']}{of}",
            outlook(entry["forecast"], now),
        )
    return table


def keys(state: Json, now: float) -> Table:
    """How each does."""
    table = _table(
        ("key", "account", "state", "back in", "tries", "success", "last error"),
        tries="right",
        success="right",
    )
    for entry in state["keys"]:
        table.add_row(
            plain(entry["name"]),
            plain(entry["account"]),
            standing(entry),
            back(entry, now),
            count(entry["attempts"]),
            share(entry["success_rate"]),
            Text(plain(entry["last_error"] or ""), QUIET),
        )
    return table


def models(state: Json, now: float, most: int | None = None) -> Table:
    """In the order of the list: the first ones, and those that were used or are closed."""
    head = ("model", "state", "first", "tok/s", "ok")
    table = _table(head, **dict.fromkeys(head[2:], "right"))
    told = [entry for entry in state["models"] if entry["rank"] <= FIRST or _has_news(entry)][:most]
    for entry in told:
        ttft, ends = entry["ttft_ms"]["p50"], back(entry, now)
        table.add_row(
            plain(entry["id"]),
            standing(entry).append(f" {ends}" if ends else "", QUIET),
            "" if ttft is None else f"{ttft / 1e3:.1f} s",
            count(entry["tokens_per_second"]),
            share(entry["success_rate"]),
        )
    if more := len(state["models"]) - len(told):
        table.add_row(Text(f"{more} more: keywheel models", QUIET))
    return table


def _has_news(entry: Json) -> bool:
    return bool(entry["attempts"]) or entry["state"] != "open"


def requests(state: Json, most: int) -> Table:
    """The last ones."""
    table = _table(("at", "outcome", "model", "key", "tries", "took"), tries="right", took="right")
    for entry in state["requests"][:most]:
        word = (
            entry["outcome"] if entry["outcome"] != "failed" else entry["code"] or entry["status"]
        )
        table.add_row(
            clock(entry["at"], entry["at"]).removesuffix(" UTC"),
            Text(plain(word), {"ok": "green", "failed": "red"}.get(entry["outcome"], "yellow")),
            plain(entry["model"] or ""),
            plain(entry["key"] or ""),
            str(entry["attempts"]),
            f"{entry['duration_ms'] / 1e3:.1f} s",
        )
    return table


def standing(entry: Json) -> Text:
    """A sign, and the state or why it is not open."""
    sign, style = STATES[entry["state"]]
    word = entry["state"] if entry["reason"] is None else plain(entry["reason"])
    return Text.assemble((sign, style), (f" {word}", QUIET if entry["state"] == "open" else ""))


def back(entry: Json, now: float) -> str:
    """When it opens."""
    if entry["state"] in ("open", "probing"):
        return ""
    return span(entry["until"] - now) if entry["until"] else "–"


def left_today(day: Json) -> Text:
    """A bar and the figure."""
    if day["limit"] is None:
        return Text(f"{count(day['used'])} sent", QUIET)
    rest = day["remaining"] / day["limit"] if day["limit"] else 0.0
    style = "red" if rest <= 0 else "yellow" if rest < SCARCE else "green"
    full = min(BAR, -int(-rest * BAR // 1)) if rest > 0 else 0
    bar = Text.assemble(("━" * full, style), ("━" * (BAR - full), "bright_black"))
    return bar.append(f" {count(day['remaining'])} of {count(day['limit'])}")


def outlook(forecast: Json, now: float) -> str:
    """Whether the day lasts."""
    if forecast["outlook"] == "ends":
        return f"ends in {span(forecast['ends_at'] - now)}"
    return OUTLOOKS[forecast["outlook"]]


NAME = len("quaternary")  # columns that the first cell of a row keeps in the narrowest terminal


def _table(head: Sequence[str], **justify: Any) -> Table:
    table = Table(box=None, pad_edge=False, header_style=QUIET)
    for title in head:
        least = NAME if title == head[0] else None
        justified = justify.get(title, "left")
        table.add_column(title, overflow="fold", justify=justified, min_width=least)
    return table


# --- traffic ---------------------------------------------------------------------------------------

STEPS = " ▁▂▃▄▅▆▇█"


def traffic(state: Json) -> Text:
    """The last hour, a letter a minute."""
    counts = state["timeline"]["requests"]
    totals = state["totals"]
    text = Text.assemble(("".join(spark(counts)), "cyan"))
    return text.append(
        f"\n{count(sum(counts))} requests in the last hour · since the start {_totals(totals)}",
        QUIET,
    )


def _totals(totals: Json) -> str:
    return ", ".join(f"{count(totals[name])} {word}" for name, word in _TOTALS if totals[name])


_TOTALS = (
    ("requests", "requests"),
    ("failed", "failed"),
    ("fallbacks", "fell back"),
    ("rate_limited", "rate limited"),
)


def spark(counts: Iterable[int]) -> Iterator[str]:
    """Columns of letters, the highest count being a full one."""
    counts = list(counts)
    top = max(counts, default=0) or 1
    return (STEPS[-(-number * (len(STEPS) - 1) // top)] for number in counts)
