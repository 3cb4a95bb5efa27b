"""What the workers of one gateway ask each other, so that each can tell the figures of all.

Every worker answers on a socket of its own in a folder that only this user can enter. A worker that ends leaves its
counts in a file there: sums never shrink because workers were renewed.
"""

import fcntl
import logging
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from keywheel.core.packing import pack, unpack
from keywheel.core.sums import Part, total
from keywheel.gateway.readings import PART

log = logging.getLogger("keywheel.peers")

PATIENCE = 0.5  # seconds that one of the others has to answer
LEFT, LOCK = "left", "lock"
STOP = "stop"
QUESTION = 4_096  # bytes of one at most
Answer = Callable[[str, str], Any]
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class Peers:
    """One worker among the others. `folder`: where they meet. `answer` gives what it is asked: a question, and what
    it is about, as plain values; None where it has nothing to tell."""

    def __init__(self, folder: Path, number: int, answer: Answer) -> None:
        self._folder = folder
        self._path = folder / f"{number}.sock"
        self._answer = answer
        self._path.unlink(missing_ok=True)  # of a worker with this number that was killed
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="keywheel-peers", daemon=True)
        self._thread.start()

    def ask(self, question: str, about: str = "") -> list[Any]:
        """What the others have to tell. Blocks; who does not answer in time is passed over."""
        others = [path for path in sorted(self._folder.glob("*.sock")) if path != self._path]
        told = (_ask(path, question, about) for path in others)
        return [answer for answer in told if answer is not None]

    def parts(self) -> Sequence[Part]:
        """What the others add, and those who have ended. Blocks."""
        with self._locked(fcntl.LOCK_SH):
            left = self._left()
            return [*map(unpack, self.ask(PART)), *([left] if left else [])]

    def leave(self) -> None:
        """Answer no more; what was counted here is left to the others. Calling it again does nothing."""
        if not self._path.exists():
            return
        with self._locked(fcntl.LOCK_EX):
            own = unpack(self._answer(PART, ""))
            left = self._left()
            counts = total([own.stats, *([left.stats] if left else [])])
            new = self._folder / f"{LEFT}.new"
            new.write_bytes(_encode(pack(Part(counts))))
            new.replace(self._folder / LEFT)
            _ask(self._path, STOP, "")
            self._path.unlink(missing_ok=True)
        self._thread.join(PATIENCE)
        self._socket.close()

    # --- inner -----------------------------------------------------------------------------------

    def _left(self) -> Part | None:
        try:
            return unpack(_decode((self._folder / LEFT).read_bytes()))
        except FileNotFoundError:
            return None

    @contextmanager
    def _locked(self, how: int) -> Generator[None]:
        """While one leaves nobody asks, or its counts would be missed or told twice."""
        with (self._folder / LOCK).open("a") as file:
            fcntl.flock(file, how)
            yield

    def _serve(self) -> None:
        while True:
            channel, _ = self._socket.accept()
            with channel, suppress(OSError, ValueError):
                channel.settimeout(PATIENCE)
                asked, _, about = channel.recv(QUESTION).decode().partition("\n")
                if asked == STOP:
                    return
                channel.sendall(_encode(self._tell(asked, about)))

    def _tell(self, asked: str, about: str) -> Any:
        try:
            return self._answer(asked, about)
        except Exception:
            log.exception("what another worker asked could not be answered")
            return None


def _ask(path: Path, question: str, about: str) -> Any:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(PATIENCE)
        try:
            channel.connect(str(path))
            channel.sendall(f"{question}\n{about}".encode()[:QUESTION])
            data = b"".join(iter(lambda: channel.recv(65_536), b""))
            return _decode(data) if data else None
        except OSError as error:  # it has just ended, or hangs
            log.debug("%s does not answer: %s", path.name, error)
            return None
