"""Workers are renewed while streams are under way and new ones begin: each runs to its end."""

import json
import signal
import threading
import time
from functools import partial
from pathlib import Path

import httpx2
import pytest

from keywheel import sim
from tests.hosts.rig import Host, account, gateway, upstream
from tests.serving import FREE, SOON, Crowd, eventually, workers

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
# A stream lasts about three seconds: long enough to be under way while workers come and go.
STEADY = sim.Behaviour(
    ttft=0.2, ttft_spread=0.0, speed=40.0, speed_spread=0.0, answer_tokens=120.0, answer_spread=0.0,
    reasoning_share=0.0,
)  # fmt: skip
ROOMY = sim.Account(minute_limit=10**6, day_limit=10**6)
LIMITS = account(0, 10**6, 10**6)


class Readers(Crowd):
    """Clients that read one stream after the other, and note how each ended."""

    def __init__(self, host: Host, count: int) -> None:
        super().__init__([partial(self._run, n) for n in range(count)])
        self.ends: list[str] = []
        self.open = 0
        self._url = f"{host.base}/v1/chat/completions"
        self._lock = threading.Lock()

    def _run(self, number: int) -> None:
        kept = {} if number % 2 else {"connection": "close"}
        with httpx2.Client(trust_env=False, timeout=SOON, headers=kept) as http:
            self.over.wait(number * 0.4)  # so that one is under way at every moment
            while not self.over.is_set():
                self._read(http)

    def _read(self, http: httpx2.Client) -> None:
        with self._lock:
            self.open += 1
        try:
            with http.stream("POST", self._url, json=FREE | {"stream": True}) as answer:
                lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
            whole = lines[-1:] == ["data: [DONE]"] and any(map(_is_finish, lines[:-1]))
            end = f"{answer.status_code} {'whole' if whole else lines[-3:]}"
        except httpx2.HTTPError as error:
            end = repr(error)
        with self._lock:
            self.open -= 1
            self.ends.append(end)


def _is_finish(line: str) -> bool:
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return choices[0].get("finish_reason") == "stop"


def test_streams_under_way_during_a_renewal_run_to_their_end(tmp_path: Path) -> None:
    with (
        upstream(ROOMY, speed=1.0, behaviour=STEADY) as up,
        gateway(tmp_path, "h1", up.variables | LIMITS, "--workers", "2") as host,
        Readers(host, 6) as readers,
    ):
        before = workers(host.process)
        assert eventually(lambda: readers.open >= 5 and len(readers.ends) > 2)
        host.process.send_signal(signal.SIGHUP)
        renewed_at = time.monotonic()
        assert eventually(lambda: len(now := workers(host.process)) == 2 and not now & before, 60.0)
        took, ended = time.monotonic() - renewed_at, len(readers.ends)
        assert eventually(lambda: len(readers.ends) > ended + 6)
    print(f"renewed in {took:.1f} s, {len(readers.ends)} streams, {ended} ended before it was over")
    assert set(readers.ends) == {"200 whole"}
