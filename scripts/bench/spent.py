"""Where the CPU time of a plain request goes, function by function, from samples of a watched keywheel."""

import json
import signal
import time
from pathlib import Path

import uvloop

from .figures import Figure, Row, Section
from .load import PATIENCE, closed_loop, connected
from .material import Load
from .measure import US, Plan, run
from .stand import Stand, Target

FILE = "profile.json"
SECONDS = 8.0
MOST = 25
LOAD = Load("plain")


def profile(stand: Stand, plan: Plan) -> Section:
    """Self time of the functions that take most of it, in µs a request. Wants keywheel to be watched."""
    keywheel = stand.proxies[0]
    cost = run(uvloop.new_event_loop, _sampled(keywheel, plan))
    samples = _samples(keywheel.program.log.with_name(FILE))
    whole = sum(samples.values()) or 1
    rows = (
        Row(_short(name), {keywheel.name: Figure(count / whole * cost)})
        for name, count in sorted(samples.items(), key=lambda item: -item[1])[:MOST]
    )
    return Section(f"Self time in µs of {cost:.0f} µs a plain request, {whole} samples", (*rows,))


async def _sampled(target: Target, plan: Plan) -> float:
    requests = target.requests(LOAD)
    async with connected(target.port, plan.concurrency) as connections:
        await closed_loop(connections, requests, 0, 1.0)
        target.program.process.send_signal(signal.SIGUSR2)
        before = target.program.cpu()
        count = await closed_loop(connections, requests, 0, SECONDS)
        cost = (target.program.cpu() - before) / count * US
        target.program.process.send_signal(signal.SIGUSR2)
        return cost


def _samples(file: Path) -> dict[str, int]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if file.exists():
            try:
                return dict(json.loads(file.read_text())["self"])
            except json.JSONDecodeError:  # it is being written
                pass
        time.sleep(0.05)
    raise TimeoutError("keywheel does not tell its samples")


def _short(name: str) -> str:
    """Without the folders that lead to a package."""
    for part in ("/src/", "/site-packages/", "/python3"):
        name = name.rpartition(part)[2]
    return name
