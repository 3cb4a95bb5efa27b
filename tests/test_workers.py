"""`keywheel serve --workers N`: one port, one state, several processes that come and go."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from keywheel import sim
from tests.serving import (
    FREE,
    KEY,
    SOON,
    Crowd,
    ask,
    base_of,
    ended,
    eventually,
    settings,
    simulated,
    started,
    workers,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
ROOMY = sim.Scenario(accounts=(sim.Account(minute_limit=100_000, day_limit=100_000),))
ROOMY_HERE = {"KEYWHEEL_ACCOUNTS__A__KEYS": "primary", "KEYWHEEL_ACCOUNTS__A__PER_MINUTE": "100000"}


@contextmanager
def served(
    folder: Path, count: int = 2, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gateway with workers that all serve, and where it listens."""
    with simulated(ROOMY) as upstream:
        environment = settings(folder) | upstream | ROOMY_HERE | variables
        options = ("--workers", str(count), "--log-level", "warning")
        with started(folder, environment, *options) as (process, lines):
            try:
                yield process, base_of(lines)
            finally:
                process.terminate()


def day_used(base: str) -> set[int]:
    """What the workers say, each asked on a connection of its own, that was sent today."""
    asked = [httpx2.get(f"{base}/admin/state", trust_env=False, timeout=SOON) for _ in range(8)]
    return {answer.json()["pool"]["day"]["used"] for answer in asked}


def test_what_one_worker_sends_the_others_know(tmp_path: Path) -> None:
    with served(tmp_path, 3) as (process, base):
        assert len(workers(process)) == 3
        assert [ask(base) for _ in range(12)] == [200] * 12
        assert eventually(lambda: day_used(base) == {12})


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_forgotten(tmp_path: Path) -> None:
    with served(tmp_path) as (process, base):
        before = workers(process)
        assert [ask(base) for _ in range(4)] == [200] * 4
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert ask(base) == 200
        assert eventually(lambda: len(workers(process) - {victim}) == 2)
        assert eventually(lambda: day_used(base) == {5})
        assert before - {victim} <= workers(process)


class Load(Crowd):
    """Clients that ask without a pause: some keep their connection, some take a new one each time."""

    def __init__(self, base: str, kept: int, fresh: int) -> None:
        super().__init__([*[self._keep] * kept, *[self._renew] * fresh])
        self.statuses: Counter[object] = Counter()
        self._base = base

    def _keep(self) -> None:
        with httpx2.Client(trust_env=False, timeout=SOON) as http:
            while not self.over.is_set():
                self._ask(http)

    def _renew(self) -> None:
        while not self.over.is_set():
            with httpx2.Client(trust_env=False, timeout=SOON) as http:
                self._ask(http)

    def _ask(self, http: httpx2.Client) -> None:
        try:
            answer = http.post(f"{self._base}/v1/chat/completions", json=FREE)
            self.statuses[answer.status_code] += 1
        except httpx2.HTTPError as error:
            self.statuses[repr(error)] += 1


def test_a_renewal_under_load_fails_no_request(tmp_path: Path) -> None:
    with served(tmp_path) as (process, base), Load(base, kept=2, fresh=2) as load:
        before = workers(process)
        assert eventually(lambda: load.statuses[200] > 10)
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(workers(process)) == 2 and not workers(process) & before)
        after = load.statuses[200]
        assert eventually(lambda: load.statuses[200] > after + 10)
    assert set(load.statuses) == {200}


def test_a_renewal_takes_up_what_the_settings_say_now(tmp_path: Path) -> None:
    def models() -> set[int]:
        asked = [httpx2.get(f"{base}/v1/models", trust_env=False, timeout=SOON) for _ in range(6)]
        return {len(answer.json()["data"]) for answer in asked}

    with served(tmp_path) as (process, base):
        before = workers(process)
        assert eventually(lambda: len(models()) == 1)
        (many,) = models()
        (tmp_path / "keywheel.toml").write_text('models.exclude = ["nvidia/*"]\n')
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(workers(process)) == 2 and not workers(process) & before)
        assert eventually(lambda: max(models()) < many)


def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as (process, base):
        before = workers(process)
        (tmp_path / "keywheel.toml").write_text("models.exclud = 3\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        said = ""
        while "the renewal is given up" not in said:
            said = process.stderr.readline()
            assert "Traceback" not in said
        assert workers(process) == before
        assert ask(base) == 200


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_all_end_together(tmp_path: Path, by: signal.Signals, code: int) -> None:
    with served(tmp_path) as (process, base):
        assert ask(base) == 200
        children = workers(process)
        got, _ = ended(process, by)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert got == code
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    with served(tmp_path) as (process, _):
        children = workers(process)
        process.kill()
        process.wait(SOON)
        assert eventually(lambda: not any(map(is_running, children)))


def is_running(number: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("url", "code", "sentence"),
    [
        ("memory:", 3, 'state.url: "memory:" is not shared by several workers'),
        ("sqlite:/proc/no/state.db", 1, "/proc/no"),
    ],
)
def test_a_state_that_cannot_be_used_is_said_before_anything_is_served(
    tmp_path: Path, url: str, code: int, sentence: str
) -> None:
    variables = {"OPENROUTER_API_KEY": KEY, "KEYWHEEL_STATE__URL": url}
    environment = settings(tmp_path) | variables
    with started(tmp_path, environment, "--workers", "2") as (process, lines):
        assert process.wait(SOON) == code
        assert process.stderr is not None
        assert sentence in process.stderr.read()
        assert lines == ["", "", ""]


# --- figures of all ----------------------------------------------------------------------------------


def told(base: str, path: str, headers: dict[str, str] | None = None) -> list[httpx2.Response]:
    """What the workers answer, each asked on a connection of its own."""
    address = f"{base}{path}"
    return [httpx2.get(address, headers=headers, trust_env=False, timeout=SOON) for _ in range(8)]


def requests_counted(base: str) -> set[int]:
    metrics = [
        sum(
            int(float(line.rpartition(" ")[2]))
            for line in answer.text.splitlines()
            if line.startswith("keywheel_requests_total{")
        )
        for answer in told(base, "/metrics")
    ]
    stats = [answer.json()["totals"]["requests"] for answer in told(base, "/admin/stats")]
    state = [answer.json()["totals"]["requests"] for answer in told(base, "/admin/state")]
    return {*metrics, *stats, *state}


def test_every_worker_tells_the_figures_of_all_and_none_is_lost_by_a_renewal(
    tmp_path: Path,
) -> None:
    with served(tmp_path, 3) as (process, base):
        before = workers(process)
        answers = [
            httpx2.post(f"{base}/v1/chat/completions", json=FREE, trust_env=False, timeout=SOON)
            for _ in range(12)
        ]
        assert eventually(lambda: requests_counted(base) == {12})
        request_id = answers[0].headers["x-request-id"]
        for answer in told(base, f"/admin/explain/{request_id}"):
            assert answer.json()["request_id"] == request_id
        for answer in told(base, "/admin/explain"):
            listed = answer.json()
            assert (listed["remembered"], len(listed["requests"])) == (12, 12)
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(workers(process)) == 3 and not workers(process) & before)
        assert requests_counted(base) == {12}


def test_a_login_at_one_worker_holds_at_all_until_the_logout(tmp_path: Path) -> None:
    admin, client = "a1" * 8 + "bcdefghij" * 2, "c1" * 8 + "bcdefghij" * 2
    variables = {"KEYWHEEL_ADMIN_TOKEN": admin, "KEYWHEEL_TOKENS": client}
    with served(tmp_path, 3, **variables) as (_, base):
        login = httpx2.post(f"{base}/login", json={"token": admin}, trust_env=False, timeout=SOON)
        cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
        read = {answer.status_code for answer in told(base, "/admin/stats", cookie)}
        assert read == {200}
        httpx2.post(f"{base}/logout", headers=cookie, trust_env=False, timeout=SOON)
        read = {answer.status_code for answer in told(base, "/admin/stats", cookie)}
        assert read == {401}
