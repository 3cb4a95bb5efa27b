"""A view of the running gateway that stays: told by its events, or asked for where those do not come."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from keywheel.cli.manners import console
from keywheel.cli.reading import Line
from keywheel.errors import Error

Json = dict[str, Any]
View = Callable[[Json, float], RenderableType]
POLL = 1.0  # seconds between two questions while events do not come
LAST = 2.0  # seconds that a question under way gets at the end
FRAME = 0.5  # seconds between two pictures: countdowns run in seconds


class Feed:
    """The latest state, and what is wrong with getting it."""

    def __init__(self, line: Line) -> None:
        """Raises `Unreachable` or `Error` when there is none to begin with."""
        self._line = line
        self._stop = Event()
        self._thread = Thread(target=self._run, name="keywheel-feed", daemon=True)
        self.trouble = ""
        self.state: Json = {}
        self._shift = 0.0
        self.take(line.get("/admin/state"))

    def start(self) -> None:
        """Keep it fresh in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more. A thread that reads while Python ends may take the process down with it."""
        self._stop.set()
        self._line.hang_up()
        self._thread.join(LAST)

    def take(self, state: Json) -> None:
        """A newer one."""
        self._shift = state["now"] - time.monotonic()
        self.state, self.trouble = state, ""

    def now(self) -> float:
        """The gateway's clock."""
        return time.monotonic() + self._shift

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(Error):  # the question below says what is wrong
                for state in self._line.states():
                    self.take(state)
                    if self._stop.is_set():
                        return
            try:
                self.take(self._line.get("/admin/state"))
            except Error as error:
                self.trouble = str(error)
            self._stop.wait(POLL)


def watch(line: Line, view: View, *, screen: bool) -> None:
    """Show a view until q or an interrupt."""
    feed = Feed(line)
    feed.start()
    with (
        suppress(KeyboardInterrupt),
        _letters() as letter,
        Live(_picture(feed, view), console=console(), screen=screen, auto_refresh=False) as live,
    ):
        while letter(FRAME) not in ("q", "Q", "\x03"):
            live.update(_picture(feed, view), refresh=True)
    feed.stop()


def _picture(feed: Feed, view: View) -> RenderableType:
    picture = view(feed.state, feed.now())
    if not feed.trouble:
        return picture
    return Group(
        Text(f"✖ {feed.trouble}; what follows is old, and it is tried again", "bold red"), picture
    )


@contextmanager
def _letters() -> Generator[Callable[[float], str]]:
    """A function that waits for a letter from the keyboard: "" when none came in that many seconds."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield _pause
        return
    import termios  # noqa: PLC0415 - not everywhere
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _letter
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _letter(seconds: float) -> str:
    import select  # noqa: PLC0415 - of no use for standard input on Windows

    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if ready else ""


def _pause(seconds: float) -> str:
    time.sleep(seconds)
    return ""
