"""`keywheel serve` as a process of its own: what it says first, how it ends, and who reads its log."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

KEY = "sk-or-v1-" + "5ec2e7" * 10
PAID = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of this process without keys and settings."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("OPENROUTER", "KEYWHEEL"))}
    return kept | {"XDG_CONFIG_HOME": str(tmp_path)}


@contextmanager
def started(
    folder: Path, environment: dict[str, str], *args: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process and its three lines of greeting; killed at the end if it still runs."""
    command = (sys.executable, "-m", "keywheel", "serve", "--port", "0", *args)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().strip() for _ in range(3)]
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], by: signal.Signals) -> tuple[int, float]:
    """Exit code, and the seconds it took to end."""
    began = time.monotonic()
    process.send_signal(by)
    return process.wait(20), time.monotonic() - began


def test_the_demo_from_its_first_line_to_its_end(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with started(tmp_path, environment, "--demo") as (process, lines):
        assert process.stderr is not None
        assert "serves from the built-in simulator (no OPENROUTER_API_KEY is set)" in lines[0]
        url = lines[1].removeprefix("OpenAI base URL: ") + "/chat/completions"
        with httpx2.Client(trust_env=False, timeout=20) as http:
            assert http.post(url, json=PAID).status_code == 400
            record = json.loads(process.stderr.readline())
            assert (record["event"], record["status"]) == ("request", 400)

            process.stderr.close()  # nobody reads the log any more
            for _ in range(3):
                assert http.post(url, json=PAID).status_code == 400
        code, seconds = ended(process, signal.SIGTERM)
        assert (code, seconds < 5) == (0, True)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_an_upstream_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, environment: dict[str, str], by: signal.Signals, code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1"
        environment |= {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": url}
        with started(tmp_path, environment, "--demo") as (process, lines):
            assert lines[0].endswith(f"serves from {url} with 1 key(s)")
            assert process.stderr is not None
            silent.accept()[0].close()
            got, seconds = ended(process, by)
            said = process.stderr.read()
    assert (got, seconds < 5) == (code, True)
    assert "Traceback" not in said
    assert KEY[9:17] not in said


def test_a_broken_pipe_is_silent(tmp_path: Path, environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = (sys.executable, "-m", "keywheel", "config", "show", "--json")
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
