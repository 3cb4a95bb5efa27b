"""The state file as a file: who may read it, who may use it, how it comes into being, how it is put aside."""

import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from keywheel.errors import StoreError
from keywheel.stores.contract import PATIENCE

FILE, FOLDER = 0o600, 0o700
SIDE_FILES = ("-wal", "-shm", "-journal")
PAUSE = 0.01  # seconds between two looks at a lock


@contextmanager
def told(path: Path) -> Generator[None]:
    """Turn what the system says into a sentence that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        sentence = f"{path} cannot be used as state file: {error.strerror}"
        remedy = '; choose another with state.url = "sqlite:PATH", or "memory:" to keep nothing'
        raise StoreError(sentence + remedy) from None


def prepare_folder(path: Path) -> None:
    """Make the folder of a state file, readable by its owner only. Raises `StoreError`."""
    folder = path.parent
    with told(path):
        folder.mkdir(mode=FOLDER, parents=True, exist_ok=True)
        facts = folder.stat()
    if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
        raise StoreError(f"{folder} can be changed by every user of this machine; chmod o-w it")


def guard(path: Path) -> None:
    """Refuse a file that is not ours, and close ours to others. Raises `StoreError`."""
    for name in (path, *(Path(f"{path}{side}") for side in SIDE_FILES)):
        with told(name):
            if not os.path.lexists(name):
                continue
            facts = name.lstat()
            if not stat.S_ISREG(facts.st_mode):
                raise StoreError(f"{name} is not a plain file; it is not used as state file")
            if sys.platform != "win32" and facts.st_uid != os.geteuid():
                raise StoreError(f"{name} belongs to another user; it is not used as state file")
            if facts.st_mode & 0o077:
                name.chmod(FILE)


def create(path: Path, build: Callable[[Path], None]) -> None:
    """Make a new file with what `build` writes: whole or not at all, also if the process is killed meanwhile. A
    sibling's file that came first stays."""
    draft = Path(f"{path}.{uuid4().hex}.new")
    with told(path):
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE))
        try:
            build(draft)
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def set_aside(path: Path, now: float) -> Path:
    """Rename a file with its side files, so that a new one can begin; the new name. Raises `StoreError`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = Path(f"{path}.{stamp}")
    with told(path):
        for side in ("", *SIDE_FILES):
            if os.path.lexists(f"{path}{side}"):
                Path(f"{path}{side}").rename(f"{aside}{side}")
    return aside


class Occupancy:
    """Who uses a state file: one process, or the workers of one gateway, which know each other by `group`.

    A lock of the system on a file beside it, which ends with the process. Whoever has it alone writes its group there;
    whoever shares it looks whether the group is its own.
    """

    def __init__(self, path: Path, group: str | None) -> None:
        self._path = Path(f"{path}.lock")
        with told(self._path):
            flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
            self._handle: int | None = os.open(self._path, flags, FILE)
            os.chmod(self._path, FILE)
        if not self._enter(group):
            self.leave()
            name = f"{path} is used by another gateway"
            raise StoreError(f"{name}; stop that one, or give this one its own with state.url")

    def leave(self) -> None:
        """Let others use the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _enter(self, group: str | None) -> bool:
        if group is None:
            return self._lock(shared=False)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:  # a sibling may be alone for the moment it takes to write
            if self._lock(shared=False):
                self._write(group)
            if self._lock(shared=True):
                if self._read() == group:
                    return True
                self._unlock()
            time.sleep(PAUSE)
        return False

    def _lock(self, *, shared: bool) -> bool:
        if sys.platform == "win32" or self._handle is None:
            return True  # there the file system itself keeps a file that is open from others
        import fcntl  # noqa: PLC0415 - not everywhere

        try:
            fcntl.flock(self._handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(self) -> None:
        if sys.platform != "win32" and self._handle is not None:
            import fcntl  # noqa: PLC0415 - not everywhere

            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _write(self, group: str) -> None:
        assert self._handle is not None  # noqa: S101 - it was locked just now
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, group.encode(), 0)

    def _read(self) -> str:
        assert self._handle is not None  # noqa: S101 - it was opened
        return os.pread(self._handle, 200, 0).decode(errors="replace")
