"""Several questions at once; who waits for more than a second is told for what."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from keywheel.cli.manners import say

T = TypeVar("T")
AT_ONCE = 8  # questions under way: nobody's edge takes that for an attack
SILENT = 1.0  # seconds


def together(what: str, jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The answers in the order of the questions. `what`: for the person who waits, e.g. "asking about 4 keys"."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(job) for job in jobs]
        done, open_ = wait(asked, timeout=SILENT)
        if open_:
            _show(what, asked, len(done))
        return [each.result() for each in asked]


def _show(what: str, asked: Sequence[Future[T]], done: int) -> None:
    if not sys.stderr.isatty():
        say(f"{what} …")
        wait(asked)
        return
    columns = (TextColumn(f"{what} …"), BarColumn(20), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=len(asked), completed=done)
        left = {each for each in asked if not each.done()}
        while left:
            _, left = wait(left, return_when=FIRST_COMPLETED)
            progress.update(task, completed=len(asked) - len(left))
