"""keywheel with an ear for signals: `python -m bench.watched serve …` does what `keywheel serve …` does.

SIGUSR1 writes the number of asyncio tasks into the file `tasks`. SIGUSR2 begins to sample where CPU time goes, a
second one ends it and writes `profile.json`: samples by function, self and with what it calls.
"""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

from keywheel.cli import cli

INTERVAL = 0.001  # seconds of CPU between two samples; the kernel may make it longer


class Sampler:
    """Looks at the Python stack each time some CPU was spent: unlike a tracer it slows nothing down."""

    def __init__(self) -> None:
        self._own: Counter[str] = Counter()
        self._with_called: Counter[str] = Counter()
        self._on = False

    def turn(self, _signal: int, _frame: FrameType | None) -> None:
        """Begin, or end and write."""
        self._on = not self._on
        if self._on:
            signal.signal(signal.SIGPROF, self._look)
            signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
            return
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        told = {"self": self._own.most_common(), "cumulative": self._with_called.most_common()}
        Path("profile.json").write_text(json.dumps(told))

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)
            names.append(f"{code.co_filename}:{code.co_firstlineno} {name}")
            frame = frame.f_back
        self._own.update(names[:1])
        self._with_called.update(set(names))


def _tell_tasks(_signal: int, _frame: FrameType | None) -> None:
    Path("tasks").write_text(str(len(asyncio.all_tasks())))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _tell_tasks)
    signal.signal(signal.SIGUSR2, Sampler().turn)
    cli()
