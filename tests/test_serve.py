"""`keywheel serve` as a process of its own: what it says first, how it ends, and who reads its log."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.serving import FREE, KEY, ask, base_of, ended, is_alive, settings, simulated, started

PAID = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of this process without keys and settings."""
    return settings(tmp_path)


@pytest.fixture
def upstream() -> Iterator[dict[str, str]]:
    """A simulator, and the variables that lead to it with one key."""
    with simulated() as variables:
        yield variables


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


def test_what_was_sent_is_known_after_a_kill(
    tmp_path: Path, environment: dict[str, str], upstream: dict[str, str]
) -> None:
    environment |= upstream
    with httpx2.Client(trust_env=False, timeout=20) as http:
        for before in (0, 3, 6):  # requests of the runs before
            with started(tmp_path, environment) as (process, lines):
                base = base_of(lines)
                used = http.get(f"{base}/admin/state").json()["pool"]["day"]["used"]
                assert [ask(base) for _ in range(3)] == [200] * 3
                process.kill()
            assert used == before


def test_a_start_without_the_upstream_goes_on_with_the_last_good_list(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with simulated() as upstream, started(tmp_path, environment | upstream) as (process, lines):
        assert ask(base_of(lines)) == 200
        before = ids(base_of(lines))
        ended(process, signal.SIGTERM)
    with started(tmp_path, environment | upstream) as (process, lines):
        assert ids(base_of(lines)) == before
        assert len(before) > 5


def ids(base: str) -> list[str]:
    """The models that can be used, best first."""
    listed = httpx2.get(f"{base}/v1/models", trust_env=False, timeout=20).json()["data"]
    return [model["id"] for model in listed]


def test_a_second_gateway_does_not_take_the_state_of_the_first(
    tmp_path: Path, environment: dict[str, str], upstream: dict[str, str]
) -> None:
    environment |= upstream
    with (
        started(tmp_path, environment),
        started(tmp_path, environment) as (second, lines),
    ):
        assert second.wait(20) == 1
        assert second.stderr is not None
        assert "is used by another gateway" in second.stderr.read()
        assert lines == ["", "", ""]


def test_the_simulator_leaves_no_state(tmp_path: Path, environment: dict[str, str]) -> None:
    with started(tmp_path, environment, "--demo") as (process, lines):
        base = base_of(lines)
        assert httpx2.get(f"{base}/admin/state", trust_env=False).json()["mode"] == "simulator"
        ended(process, signal.SIGTERM)
    assert not (tmp_path / "state").exists()


@contextmanager
def in_a_terminal(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """A gateway whose standard output is a terminal: where it listens, and what it said first."""
    screen, terminal = os.openpty()
    command = (sys.executable, "-m", "keywheel", "serve", "--port", "0")
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=terminal, stderr=subprocess.DEVNULL
    ) as process:
        os.close(terminal)
        try:
            text = b""
            while text.count(b"\n") < 3:
                text += os.read(screen, 4_096)
            base = base_of(text.decode().splitlines())
            assert is_alive(base)
            os.set_blocking(screen, False)
            with suppress(BlockingIOError):
                text += os.read(screen, 4_096)
            yield base, text.decode().splitlines()
        finally:
            process.kill()
            os.close(screen)


def test_the_first_start_in_a_terminal_shows_an_admin_token_and_no_later_one_does(
    tmp_path: Path, environment: dict[str, str], upstream: dict[str, str]
) -> None:
    environment |= upstream
    with in_a_terminal(tmp_path, environment) as (base, lines):
        assert lines[3].startswith("Admin token, shown only now: ")
        token = lines[3].rpartition(" ")[2]
    with in_a_terminal(tmp_path, environment) as (base, lines):
        assert len(lines) == 3
        for sent, status in ((token, 200), ("x" * 43, 401)):
            answer = httpx2.post(
                f"{base}/admin/keys/primary/disable",
                headers={"authorization": f"Bearer {sent}"},
                trust_env=False,
            )
            assert answer.status_code == status
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not any(token.encode() in data for data in kept)


def test_without_a_terminal_no_token_is_shown_and_the_log_says_what_to_do(
    tmp_path: Path, environment: dict[str, str], upstream: dict[str, str]
) -> None:
    with started(tmp_path, environment | upstream) as (process, lines):
        assert is_alive(base_of(lines))
        ended(process, signal.SIGTERM)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == ""
        assert "set KEYWHEEL_ADMIN_TOKEN" in process.stderr.read()


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


def test_clients_with_tokens_of_their_own_are_told_apart_in_the_figures(
    tmp_path: Path, environment: dict[str, str], upstream: dict[str, str]
) -> None:
    tokens = [f"client-{number}-{'abcdefgh' * 4}" for number in (1, 2)]
    admin = "admin-" + "ijklmnop" * 4
    tokened = {"KEYWHEEL_TOKENS": ",".join(tokens), "KEYWHEEL_ADMIN_TOKEN": admin}
    with started(tmp_path, environment | upstream | tokened) as (_, lines):
        base = base_of(lines)
        with httpx2.Client(base_url=base, trust_env=False, timeout=20) as http:
            for token in (*tokens, tokens[1]):
                headers = {"authorization": f"Bearer {token}"}
                sent = http.post("/v1/chat/completions", json=FREE, headers=headers)
                assert sent.status_code == 200
            headers = {"authorization": f"Bearer {admin}"}
            told = http.get("/admin/history?by=client", headers=headers)
    rows = {row["client"]: row["succeeded"] for row in told.json()["rows"]}
    assert rows == {"token1": 1, "token2": 2}
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not any(token.encode() in data for token in tokens for data in kept)
