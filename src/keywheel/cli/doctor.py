"""`keywheel doctor` and `keywheel keys check`: what is wrong, and one thing to do about each."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from keywheel.cli.manners import NO_KEYS, Unreachable, console, print_json, print_table
from keywheel.cli.phrases import count, plain
from keywheel.cli.reading import line
from keywheel.cli.view import QUIET, Sign
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError, Error

Json = dict[str, Any]
VERDICTS: dict[str, Sign] = {
    "ok": ("✓", "green"),
    "warning": ("▲", "yellow"),
    "problem": ("✖", "bold red"),
}
FAILED = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look for what is wrong, with or without a running gateway: keys and who shares an account, quota, credits,
    privacy settings, clock, versions, exposure, files, errors and speed; with one remedy each.

    Ends with 0 when there is no problem, else 1.
    """
    checks = [*_checks(gather())]
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "counts": _counts(checks)})
    else:
        _show(checks)
    if any(check.verdict == "problem" for check in checks):
        context.exit(FAILED)


def _checks(found: Environment) -> Iterator[Any]:
    from keywheel.cli import checks, running  # noqa: PLC0415 - most commands look at nothing

    runs = [*_running()]
    yield from checks.machine(found)
    if found.keys or not any(check.name == running.SIMULATOR for check in runs):
        yield from _upstream(found)
    yield from runs


def _upstream(found: Environment) -> Iterator[Any]:
    from keywheel.catalog import Unavailable  # noqa: PLC0415 - most commands ask nobody
    from keywheel.cli import checks, inquiry  # noqa: PLC0415

    address = found.config.upstream.base_url
    with inquiry.catalog_of(found) as catalog:
        try:
            menu = inquiry.ask_models(found, catalog)
        except Unavailable as error:
            remedy = "Check this machine's connection, upstream.base_url, and https://status.openrouter.ai"
            yield checks.Check("upstream", checks.PROBLEM, f"{address}: {error}", remedy)
            return
        yield checks.Check("upstream", checks.OK, f"{address} answers")
        yield checks.models(len(menu.candidates))
        if not found.keys:
            yield checks.Check("keys", checks.PROBLEM, "no key is set", NO_KEYS.partition(": ")[2])
            return
        answers = inquiry.ask_keys(found, catalog)
        yield from checks.keys(answers, time.time())
        yield from checks.clock(answers)
        yield from checks.accounts(inquiry.ask_accounts(found, answers, catalog, menu.candidates))


def _running() -> Iterator[Any]:
    from keywheel.cli import checks, running  # noqa: PLC0415

    to = line()
    try:
        state = to.get("/admin/state")
    except Unreachable:
        yield checks.Check(
            "gateway", checks.OK, f"none runs at {to.address}", "Start one with: keywheel serve"
        )
        return
    except Error as error:
        yield checks.Check("gateway", checks.WARNING, str(error))
        return
    yield from running.gateway(state, to.address)


def _counts(checks: list[Any]) -> Json:
    return {verdict: sum(check.verdict == verdict for check in checks) for verdict in VERDICTS}


def _show(checks: list[Any]) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    for check in checks:
        sign, style = VERDICTS[check.verdict]
        text = Text.assemble((plain(check.told), "" if check.verdict == "ok" else style))
        if check.remedy:
            text.append(f"\n→ {plain(check.remedy)}", QUIET if check.verdict == "ok" else None)
        grid.add_row(Text(sign, style), plain(check.name), text)
    counts = _counts(checks)
    last = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    screen = console()
    screen.print(grid)
    screen.print(Text(f"\n{last}", QUIET))


# --- keys check ------------------------------------------------------------------------------------


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.pass_context
def check_keys(context: click.Context, as_json: bool) -> None:
    """Ask OpenRouter about every key (costs no quota): is it valid, which account, what is left today.

    Ends with 0 when all are valid, 1 when one is not, 4 when none could be asked.
    """
    from keywheel.cli import inquiry  # noqa: PLC0415 - most commands ask nobody

    found = gather()
    if not found.keys:
        raise ConfigError(NO_KEYS)
    with inquiry.catalog_of(found) as catalog:
        answers = inquiry.ask_keys(found, catalog)
    if all(answer.check is None for answer in answers):
        raise Unreachable(f"{found.config.upstream.base_url}: {answers[0].fault}")
    rows = [_key_row(answer) for answer in answers]
    if as_json:
        print_json({"keys": rows})
    else:
        print_table(
            ("key", "account", "valid", "left today", "spending limit left", "from"),
            map(_cells, rows),
        )
    if not all(row["valid"] for row in rows):
        context.exit(FAILED)


def _key_row(answer: Any) -> Json:
    facts = answer.check.facts if answer.check else None
    return {
        "name": answer.label,
        "account": answer.account,
        "valid": answer.check.passed if answer.check else None,
        "fault": answer.fault or None,
        "free_used": facts.free_used if facts else None,
        "free_limit": facts.free_limit if facts else None,
        "limit_remaining": facts.limit_remaining if facts else None,
        "expires_at": facts.expires_at if facts else None,
        "origin": answer.origin,
    }


def _cells(row: Json) -> tuple[str, ...]:
    valid = {True: "yes", False: "no", None: f"not asked: {row['fault']}"}[row["valid"]]
    limit, used = row["free_limit"], row["free_used"]
    left = (
        "" if limit is None or used is None else f"{count(max(0, limit - used))} of {count(limit)}"
    )
    money = row["limit_remaining"]
    return (
        row["name"],
        row["account"] if row["valid"] else "",
        valid,
        left,
        "" if money is None else f"{money:.2f} USD",
        row["origin"],
    )
