"""What counts requests fails under a running gateway: nothing hangs, it is told with a remedy, and heals by itself."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from keywheel import sim
from tests.hosts.rig import Host, Line, Load, account, gateway, upstream
from tests.serving import FREE, SOON, eventually
from tests.stores.server import Server, redis_server

ANSWERS = 5.0  # seconds in which a busy machine answers a request that waits for no store
ROOMY = sim.Account(minute_limit=10**6, day_limit=10**6)
LIMITS = account(0, 10**6, 10**6)
SILENT, UNUSABLE = "state-silent", "state-unusable"


def asked(host: Host) -> httpx2.Response:
    """One request, answered in time whatever the store does."""
    url = f"{host.base}/v1/chat/completions"
    return httpx2.post(url, json=FREE, trust_env=False, timeout=ANSWERS)


def well(host: Host) -> None:
    """Until it serves: it knows its models a moment after it listens."""
    assert eventually(lambda: is_well(host)), asked(host).text


def is_well(host: Host) -> bool:
    return asked(host).status_code == 200 and not {SILENT, UNUSABLE} & set(host.troubles())


def trouble(host: Host, code: str) -> str:
    """The sentence of one kind of trouble, empty without it."""
    return str(host.troubles().get(code, {}).get("cause", ""))


# --- a shared store --------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, server: Server) -> Iterator[Host]:
    line = Line(server.port)
    state = {"KEYWHEEL_STATE__URL": f"redis://127.0.0.1:{line.port}/0"}
    with upstream(ROOMY) as up:
        variables = up.variables | LIMITS | state | {"KEYWHEEL_LIMITS__MAX_QUEUE": "0"}
        with gateway(tmp_path, "h1", variables, line=line) as running:
            well(running)
            yield running
    line.close()


def told(host: Host) -> str:
    """What `keywheel status` shows."""
    port = host.base.rpartition(":")[2]
    command = (sys.executable, "-m", "keywheel", "status")
    environment = os.environ | {"KEYWHEEL_PORT": port, "COLUMNS": "200"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SOON, check=False
    ).stdout


def test_a_store_that_is_gone_is_told_and_nothing_waits_for_it(host: Host) -> None:
    assert host.line is not None
    host.line.cut()
    assert eventually(lambda: SILENT in host.troubles())
    refused = asked(host)
    assert refused.status_code == 503
    assert "the state store is in trouble" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "5"
    assert "does not answer" in told(host)
    host.line.heal()
    well(host)


def test_a_store_that_is_slow_is_told_and_nothing_waits_for_it(host: Host) -> None:
    assert host.line is not None
    host.line.delay = 2.0
    assert eventually(lambda: SILENT in host.troubles())
    began = time.monotonic()
    assert asked(host).status_code == 503
    assert time.monotonic() - began < 2.0
    host.line.delay = 0.0
    host.line.heal()
    well(host)


def test_a_store_that_was_emptied_is_told_and_trusted_again_when_the_key_was_read(
    host: Host, server: Server
) -> None:
    with server.client() as client:
        client.flushall()
    assert eventually(lambda: "has lost" in trouble(host, SILENT))
    assert asked(host).status_code == 503
    well(host)


def test_a_script_that_was_lost_is_brought_again_and_nobody_notices(
    host: Host, server: Server
) -> None:
    for _ in range(3):
        with server.client() as client:
            client.script_flush()
        assert asked(host).status_code == 200
    assert host.troubles() == {}


# --- a file ----------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "keywheel-test", str(folder))
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


def fill(disk: Path) -> Path:
    """A file that takes what is left."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4_096)
        except OSError:
            return path


def exhausted(host: Host) -> httpx2.Response:
    """The first answer of a gateway that cannot count any more."""
    found: list[httpx2.Response] = []
    assert eventually(lambda: (found.append(asked(host)), found[-1].status_code != 200)[1])
    return found[-1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_what_must_be_counted_and_hangs_nothing(
    tmp_path: Path, disk: Path, workers: int
) -> None:
    variables = LIMITS | {"KEYWHEEL_STATE__URL": f"sqlite:{disk}/state.db"}
    options = ("--workers", "2") if workers > 1 else ()
    with (
        upstream(ROOMY, daily_counter=False) as up,
        gateway(tmp_path, "h1", up.variables | variables, *options) as host,
    ):
        well(host)
        filler = fill(disk)
        assert exhausted(host).status_code == 503
        assert eventually(lambda: "disk is full" in trouble(host, UNUSABLE))
        with Load([host], each=4):
            time.sleep(1.0)
        assert set(host.statuses) <= {200, 503}
        filler.unlink()
        well(host)
        assert eventually(lambda: up.count() <= host.used())  # the other worker has told its own


def test_a_disk_that_fails_stops_what_must_be_counted_until_a_new_start(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    variables = LIMITS | {"KEYWHEEL_STATE__URL": f"sqlite:{path}"}
    with upstream(ROOMY, daily_counter=False) as up:
        with gateway(tmp_path, "h1", up.variables | variables) as host:
            well(host)
            resource.prlimit(
                host.process.pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY)
            )
            assert exhausted(host).status_code == 503
            assert "failed to write" in trouble(host, UNUSABLE)
            resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
            assert asked(host).status_code == 503, "a file that failed once is not trusted again"
        true = up.count()
        with gateway(tmp_path, "h1", up.variables | variables) as host:
            assert true <= host.used() <= true + 2
            well(host)
