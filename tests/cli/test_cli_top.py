"""`keywheel top` and `status --watch` on a real terminal: they fit, they live, q and ctrl-c end them with 0."""

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator

import pytest

from tests.journeys.rig import Rig, rig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
PATIENCE = 20.0  # seconds
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def running() -> Generator[Rig]:
    with rig() as it:
        yield it


def on_terminal(command: list[str], until: str, last: bytes, port: str) -> tuple[int, str]:
    """Run a command on a terminal of 80 × 60 until it shows something, then press a key."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 0, 0))
    environment = {
        "PATH": os.environ["PATH"],
        "TERM": "xterm",
        "KEYWHEEL_PORT": port,
        "LANG": "C.UTF-8",
    }
    # Who leads a session and opens a terminal is controlled by it: then ctrl-c is an interrupt.
    opens = f'exec "$0" "$@" < {os.ttyname(theirs)}'
    process = subprocess.Popen(
        ["/bin/sh", "-c", opens, sys.executable, "-m", "keywheel", *command],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen, end = b"", time.monotonic() + PATIENCE
    try:
        while until not in seen.decode(errors="ignore") and time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65_536)
        os.write(ours, last)
        return process.wait(PATIENCE), _CODES.sub("", seen.decode(errors="ignore"))
    finally:
        process.kill()
        os.close(ours)


@pytest.mark.parametrize("command", [["top"], ["status", "--watch"]], ids=" ".join)
@pytest.mark.parametrize("last", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_it_shows_the_gateway_and_ends_with_0(
    running: Rig, command: list[str], last: bytes
) -> None:
    code, text = on_terminal(command, "primary", last, running.address.rpartition(":")[2])
    assert code == 0, text
    assert "of 60 ways open" in text
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]+", text)) <= 80


def test_without_a_gateway_it_is_4() -> None:
    code, text = on_terminal(["top"], "keywheel serve", b"", "9")
    assert code == 4
    assert "no gateway answers at" in text
