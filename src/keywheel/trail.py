"""The decision log: every decision with all it was made from, as lines of JSON, for `keywheel replay`.

Taken down where the decision is made, written by a thread of its own. It never makes a request wait: what does not fit
in is dropped, counted and said. The file is its owner's alone, and so is its one predecessor; both are bounded.
"""

import logging
import os
import stat
import threading
import time
from collections import deque
from pathlib import Path

import msgspec

from keywheel.core.decisions import Decision
from keywheel.core.pool import Pool
from keywheel.core.replay import Record, take_down
from keywheel.core.tried import Tried
from keywheel.core.types import Ask

log = logging.getLogger("keywheel.trail")

LARGEST = 64 * 1024 * 1024  # bytes of a file; then it becomes the predecessor of a new one
WAITING = 2_000  # decisions that may wait to be written; about as many kilobytes times four
PAUSE = 0.25  # seconds between two looks at what waits
COMPLAIN = 60.0  # seconds between two words about the same trouble
STOP_PATIENCE = 2.0  # seconds that the last lines get at the end
PRIVATE = 0o600
OLD = ".old"


class Trail:
    """Writes to `path`. Errors of the disk are told in the log and end nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = 0
        self._waiting: deque[Record] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._encode = msgspec.json.Encoder().encode
        self._handle: int | None = None
        self._said = 0  # of the dropped ones
        self._complain_at = 0.0

    @classmethod
    def of(cls, setting: str | None, worker: int) -> "Trail | None":
        """By `log.decisions`; None when it is not set. Each further worker has a file of its own."""
        if not setting:
            return None
        path = Path(setting).expanduser()
        return cls(path.with_name(f"{path.name}.w{worker}") if worker else path)

    def see(self, pool: Pool, ask: Ask, tried: Tried, decision: Decision) -> None:
        """Take a decision down; to be called as `Pool.watch`."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
            return
        try:
            self._waiting.append(take_down(pool, ask, tried, decision))
        except Exception:  # looking on must not end a request
            self.dropped += 1
            log.exception("a decision could not be taken down")

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="keywheel-trail", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        if self._thread:
            self._thread.join(STOP_PATIENCE)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self._write()
        self._write()
        self._leave()

    def _write(self) -> None:
        try:
            while self._waiting:
                self._put(self._encode(self._waiting.popleft()) + b"\n")
        except OSError as error:
            self._leave()
            self.dropped += 1 + len(self._waiting)
            self._waiting.clear()
            self._complain("%s cannot be written: %s", self.path, error.strerror)
        if self.dropped > self._said:
            new, self._said = self.dropped - self._said, self.dropped
            log.warning("%d decisions were not recorded, %d in all", new, self.dropped)

    def _complain(self, text: str, *parts: object) -> None:
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + COMPLAIN
            log.warning(text, *parts)

    # --- the file --------------------------------------------------------------------------------

    def _put(self, line: bytes) -> None:
        """One line, whole: other processes may write to the same file."""
        handle = self._open()
        if os.fstat(handle).st_size + len(line) > LARGEST:
            os.replace(self.path, f"{self.path}{OLD}")
            handle = self._open()
        os.write(handle, line)

    def _open(self) -> int:
        """The file at the path; anew when somebody has put it aside."""
        if self._handle is not None:
            try:
                if os.path.samestat(os.fstat(self._handle), os.stat(self.path)):
                    return self._handle
            except FileNotFoundError:
                pass
            self._leave()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.path, flags | getattr(os, "O_NONBLOCK", 0), PRIVATE)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(0, "it is not a plain file")
        self._handle = handle
        if hasattr(os, "fchmod"):
            os.fchmod(handle, PRIVATE)
        return handle

    def _leave(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
