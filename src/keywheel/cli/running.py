"""What `keywheel doctor` makes of a running gateway: its troubles, and the three usual complaints."""

from collections.abc import Iterator
from typing import Any

from keywheel.cli.checks import OK, PROBLEM, WARNING, Check
from keywheel.cli.phrases import clock, plain, share

Json = dict[str, Any]
VERDICTS = {"critical": PROBLEM, "error": PROBLEM, "warning": WARNING, "info": OK}
SIMULATOR = "simulator"
FAILING = 0.5  # share of attempts: the limit of the error window, too
ENOUGH = 5  # attempts before a share means anything
SLOW = 10_000.0  # milliseconds to the first word; usual are 1-3 s
# Who is at fault → what to do about many errors.
REMEDIES = {
    "key": "Look at the key's last error in `keywheel status`; `keywheel keys check` asks OpenRouter about it",
    "account": "The account's limits are the cause: slow down, wait, or see its trouble above",
    "model": "Other models take over by themselves; put failing ones behind with models.preferred or models.exclude",
    "provider": "The upstream itself fails: see https://status.openrouter.ai",
    "client": "The requests themselves are refused: look at `errors` in `keywheel stats --json`",
}
OTHERWISE = "Look at `errors` in `keywheel stats --json`, and the row in docs/routing.md"


def gateway(state: Json, address: str) -> Iterator[Check]:
    """Everything about the gateway that runs."""
    pool, now = state["pool"], state["now"]
    lanes = pool["lanes"]
    yield Check(
        "gateway",
        OK,
        f"runs at {address}, version {plain(state['version'])}, {lanes['usable']} of {lanes['total']} ways open",
    )
    if state["mode"] == SIMULATOR:
        remedy = "For OpenRouter's own, set OPENROUTER_API_KEY and start it again"
        yield Check(SIMULATOR, OK, "its answers are invented, and so is its upstream", remedy)
    for found in state["troubles"]:
        until = f"Over at {clock(found['until'], now)}." if found["until"] else "No end known."
        yield Check(
            plain(found["code"]),
            VERDICTS.get(found["severity"], WARNING),
            f"{plain(found['cause'])} [{plain(found['scope'])}] {until}",
            plain(found["action"]),
        )
    yield from _all_keys_failing(state)
    yield from _errors(state)
    yield from _slow(state)


def _all_keys_failing(state: Json) -> Iterator[Check]:
    """ "All keys failing": what they have in common."""
    closed = [key for key in state["keys"] if key["state"] in ("closed", "disabled")]
    if not closed or len(closed) < len(state["keys"]):
        return
    reasons = sorted({plain(key["row"] or key["reason"]) for key in closed})
    ends = [key["until"] for key in closed if key["until"]]
    first = f"; the first opens at {clock(min(ends), state['now'])}" if ends else ""
    told = f"all {len(closed)} keys are closed: {', '.join(reasons)}{first}"
    remedy = (
        "One reason for all is rarely the keys: see docs/operations.md"
        if len(reasons) == 1 and len(closed) > 1
        else "See docs/operations.md"
    )
    yield Check("all keys failing", PROBLEM, told, remedy)


def _errors(state: Json) -> Iterator[Check]:
    """ "High error rates": who is at fault most often."""
    good = sum(key["succeeded"] for key in state["keys"])
    bad = sum(key["failed"] for key in state["keys"])
    if not good + bad:
        return
    told = f"{share(good / (good + bad))} of {good + bad} attempts succeeded"
    if good + bad < ENOUGH or bad <= (good + bad) * FAILING:
        yield Check("errors", OK, told)
        return
    worst = max(state["errors"], key=lambda error: error["count"], default=None)
    if worst is None:
        yield Check("high error rates", WARNING, told, OTHERWISE)
        return
    most = f"; most often {plain(worst['row'])} ({worst['count']} times, at fault: {worst['scope'] or 'nobody'})"
    yield Check(
        "high error rates", WARNING, told + most, REMEDIES.get(worst["scope"] or "", OTHERWISE)
    )


def _slow(state: Json) -> Iterator[Check]:
    """ "Slow responses": models that let wait, or a line of requests that wait for a way."""
    length = state["pool"]["queue"]["length"]
    if length:
        yield Check(
            "slow responses",
            WARNING,
            f"{length} request(s) wait for a way",
            "The minute limits are the cause: spread the load over the minute",
        )
    seen = [
        (model["ttft_ms"]["p50"], model["id"])
        for model in state["models"]
        if model["ttft_ms"]["p50"]
    ]
    slow = [
        f"{plain(id)} ({ttft / 1e3:.0f} s)"
        for ttft, id in sorted(seen, reverse=True)
        if ttft > SLOW
    ]
    if slow:
        limit = f"{SLOW / 1e3:.0f} s to the first word"
        told = f"{len(slow)} of {len(seen)} models take more than {limit}: {', '.join(slow[:3])}"
        yield Check(
            "slow responses",
            WARNING,
            told,
            'Set models.strategy = "fastest", or put faster ones first with models.preferred',
        )
    elif seen:
        yield Check(
            "speed",
            OK,
            f"first words after {min(seen)[0] / 1e3:.1f} to {max(seen)[0] / 1e3:.1f} s (medians by model)",
        )
