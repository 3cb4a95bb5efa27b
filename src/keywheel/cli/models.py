"""`keywheel models`: what can be used, in which order, how it does, and why the rest is not used."""

import json
from contextlib import suppress
from typing import IO, Any

import click

from keywheel.cli.manners import Unreachable, print_json, print_table, say
from keywheel.cli.reading import from_gateway
from keywheel.config import Config
from keywheel.environment import gather
from keywheel.errors import Error

Row = dict[str, Any]
HEAD = ("rank", "id", "context", "can", "state", "TTFT ms", "tokens/s", "success", "why not")


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Also those that are no candidates, and why.")
@click.option(
    "--for-prompt",
    "prompt",
    type=click.File("rb"),
    help="Which would take this: a text, or the JSON body of a chat request; - reads standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def models(show_all: bool, prompt: IO[bytes] | None, as_json: bool) -> None:
    """The free models that the upstream lists now, in order of preference.

    State, time to first token, speed and success come from the running gateway, if there is one.
    """
    config = gather().config
    request = _request(prompt.read()) if prompt else None
    live = _live()
    rows = [row | live.get(row["id"], UNSEEN) for row in _listed(config, request, show_all)]
    if as_json:
        wanted = {"tokens": request.tokens, "needs": sorted(request.needs)} if request else {}
        print_json({"models": rows, **({"prompt": wanted} if request else {})})
        return
    if request:
        needs = f", needs {', '.join(sorted(request.needs))}" if request.needs else ""
        say(f"about {request.tokens} tokens{needs}")
    print_table(HEAD, map(_cells, rows))


# --- what is listed --------------------------------------------------------------------------------


def _listed(config: Config, request: Any, show_all: bool) -> list[Row]:
    from keywheel.catalog import Catalog, Unavailable  # noqa: PLC0415 - most commands ask nobody
    from keywheel.flow import Clock  # noqa: PLC0415
    from keywheel.wire.menu import menu  # noqa: PLC0415

    with Catalog(config.upstream) as catalog:
        try:
            entries = catalog.models()
        except Unavailable as error:
            raise Unreachable(f"{config.upstream.base_url}: {error}") from None
    if request:
        entries = [entry for entry in entries if not entry.model.embeds]
    now = Clock()()
    found = menu(entries, config.taste, now)
    misfits = _misfits(found, request, config, now) if request else {}
    rows = [_row(entry, rank, misfits.get(entry.id)) for rank, entry in enumerate(found.ordered, 1)]
    if request:
        rows.sort(key=lambda row: row["why_not"] is not None)
    if show_all:
        chosen = found.candidates
        rest = (entry for entry in entries if entry.id not in chosen)
        rows += [_row(entry, None, found.refusal(entry, now)) for entry in rest]
    return rows


def _misfits(found: Any, request: Any, config: Config, now: float) -> dict[str, str | None]:
    """Why models would not take a request, asked of the same core that serves requests."""
    from keywheel.core.pool import Pool  # noqa: PLC0415
    from keywheel.core.types import Account, Ask, Key  # noqa: PLC0415

    pool = Pool(config.policy)
    pool.set_keys([Account("any", per_day=None)], [Key("any", "any")])
    pool.set_models([entry.model for entry in found.ordered], now)
    ask = Ask(tokens=request.tokens, reply_tokens=request.reply_tokens, needs=request.needs)
    return {state.model.id: why for state, why in pool.survey(ask, now)}


def _request(content: bytes) -> Any:
    """A chat request: as it is, or around a text."""
    from keywheel.wire.ask import read  # noqa: PLC0415

    with suppress(ValueError):
        if isinstance(body := json.loads(content), dict) and "messages" in body:
            return read(content, "chat")
    text = content.decode("utf-8", "replace")
    return read(json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), "chat")


def _row(entry: Any, rank: int | None, why_not: str | None) -> Row:
    return {
        "rank": rank,
        "id": entry.id,
        "context": entry.model.context,
        "can": sorted(entry.model.can),
        "why_not": why_not,
    }


# --- how it does -----------------------------------------------------------------------------------

UNSEEN: Row = {
    "state": None, "reason": None, "until": None, "ttft_ms": None, "tokens_per_second": None, "success_rate": None,
}  # fmt: skip


def _live() -> dict[str, Row]:
    """By id, what the running gateway knows; nothing without one."""
    try:
        report = from_gateway("/admin/stats")
    except Error:
        return {}
    return {
        row["id"]: {name: row[name] for name in UNSEEN} | {"ttft_ms": row["ttft_ms"]["p50"]}
        for row in report["models"]
    }


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row["rank"] or ""),
        row["id"],
        str(row["context"]),
        ", ".join(row["can"]),
        row["reason"] or row["state"] or "",
        _number(row["ttft_ms"]),
        _number(row["tokens_per_second"]),
        "" if row["success_rate"] is None else f"{row['success_rate']:.0%}",
        row["why_not"] or "",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
