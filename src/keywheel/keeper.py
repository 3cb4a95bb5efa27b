"""The one background thread: model list, key checks, clock comparison, lost leases. Nothing it does uses quota."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

from keywheel.catalog import Catalog, KeyCheck, Unavailable
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.types import Event
from keywheel.secret import Secret
from keywheel.wire.facts import KeyFacts
from keywheel.wire.models import Entry

log = logging.getLogger("keywheel.keeper")

TICK = 0.5  # seconds between two looks at what is due
FIRST_RETRY, LAST_RETRY = 2.0, 300.0  # seconds between tries after the upstream could not be asked
SKEW_NOTED, SKEW_WARNED = 2.0, 5.0  # seconds of difference to the upstream's clock
AT_ONCE = 8  # keys checked at the same time
STOP_PATIENCE = 1.0  # seconds that a check under way gets at the end

Change = Callable[[Pool, float], Iterable[Event] | None]


class Subject(Protocol):
    """What the keeper keeps: the engine, as far as the keeper needs it."""

    @property
    def secrets(self) -> Mapping[str, Secret]: ...
    def clock(self) -> float: ...
    def note(self, change: Change) -> bool: ...
    def take_models(self, entries: Iterable[Entry]) -> None: ...
    def take_visible(self, label: str, visible: frozenset[str]) -> None: ...
    def tidy(self) -> None: ...
    def take_group(self, label: str, account: str | None) -> None: ...
    def set_ready(self) -> None: ...


class Pause:
    """When to try again: doubling from FIRST_RETRY to LAST_RETRY, back to nothing after a success."""

    __slots__ = ("_length", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._length = FIRST_RETRY

    @property
    def fresh(self) -> bool:
        """Nothing has failed since the last success."""
        return self._length == FIRST_RETRY

    def failed(self, now: float) -> None:
        """It did not work: wait longer."""
        self.until = now + self._length
        self._length = min(LAST_RETRY, self._length * 2)

    def worked(self, until: float = 0.0) -> None:
        """It worked: the next time is as planned."""
        self.until = until
        self._length = FIRST_RETRY


class View:
    """One account's own list of models, looked at with one of its keys."""

    __slots__ = ("label", "pause")

    def __init__(self, label: str) -> None:
        self.label = label
        self.pause = Pause()


class Keeper:
    """Runs until it is stopped. What cannot be done now is tried again later."""

    def __init__(self, subject: Subject, catalog: Catalog, refresh: float) -> None:
        self._subject = subject
        self._catalog = catalog
        self._refresh = refresh
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keywheel-keeper", daemon=True)
        self._list = Pause()
        self._keys: dict[str, Pause] = {}
        self._views: dict[str, View] = {}  # by account: its keys see the same models
        self._may_warn = threading.Lock()  # taken by the one warning, never given back

    def start(self) -> None:
        """Begin in the background; the subject is told when the first round is over."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connections."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_PATIENCE)
        self._catalog.close()

    def round(self) -> None:
        """Do what is due now."""
        now = self._subject.clock()
        self._subject.tidy()
        if now >= self._list.until:
            self._attempt("the model list", self._list, self._take_models)
        self._in_parallel(partial(self._look_at, label) for label in self._due())
        self._in_parallel(
            partial(self._look_through, view)
            for view in self._views.values()
            if view.pause.until <= now
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.round()
            except Exception:  # the thread must live: what failed is logged and tried again
                log.exception("a round of the keeper failed")
            self._subject.set_ready()
            self._stop.wait(TICK)

    def _attempt(self, what: str, pause: Pause, work: Callable[[], None]) -> None:
        """Nothing that fails stops the rest, and nothing is tried again at once. Only the first failure is loud."""
        try:
            work()
        except Exception as error:
            if self._stop.is_set():
                return  # the connections were closed under it
            level = logging.WARNING if pause.fresh else logging.INFO
            pause.failed(self._subject.clock())
            known = isinstance(error, Unavailable)
            told = "%s could not be looked at, what is known stays: %s"
            log.log(level if known else logging.ERROR, told, what, error, exc_info=not known)

    def _take_models(self) -> None:
        self._subject.take_models(self._catalog.models())
        self._list.worked(self._subject.clock() + self._refresh)

    def _due(self) -> list[str]:
        due: list[str] = []

        def look(pool: Pool, now: float) -> Iterable[Event]:
            due.extend(label for label in pool.due_checks(now) if self._pause(label).until <= now)
            return pool.expire(now)

        self._subject.note(look)
        return due

    def _pause(self, label: str) -> Pause:
        return self._keys.setdefault(label, Pause())

    def _in_parallel(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Ask several things, AT_ONCE at a time. The threads of an executor would hold up the end of the process."""
        waiting = deque(jobs)
        workers = [
            threading.Thread(target=self._work_off, args=(waiting,), daemon=True)
            for _ in range(min(AT_ONCE, len(waiting)))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work_off(self, waiting: deque[Callable[[], None]]) -> None:
        with suppress(IndexError):  # nothing is left
            while not self._stop.is_set():
                waiting.popleft()()

    def _look_at(self, label: str) -> None:
        self._attempt(f"key {label}", self._pause(label), partial(self._check, label))

    def _check(self, label: str) -> None:
        check = self._catalog.key(self._subject.secrets[label])
        self._pause(label).worked()
        self._compare_clocks(check)
        self._note_key(label, check)

    def _note_key(self, label: str, check: KeyCheck) -> None:
        if not check.passed:
            log.warning("key %s is not valid: GET /key refuses it", label)
            self._subject.note(lambda pool, now: pool.key_is_bad(label, "bad-key", now))
            return
        self._subject.take_group(label, check.account)
        reading = _reading(check.facts)
        self._subject.note(lambda pool, now: pool.key_is_good(label, reading, now))
        self._views.setdefault(check.account or label, View(label))

    def _look_through(self, view: View) -> None:
        """An account's own settings may hide models from it, so the accounts of one pool may see different ones."""
        label = view.label

        def look() -> None:
            visible = self._catalog.visible(self._subject.secrets[label])
            view.pause.worked(self._subject.clock() + self._refresh)
            self._subject.take_visible(label, visible)

        self._attempt(f"the model list of key {label}", view.pause, look)

    def _compare_clocks(self, check: KeyCheck) -> None:
        if check.date is None:
            return
        skew = check.date + 0.5 - self._subject.clock()  # the header has whole seconds
        if abs(skew) > SKEW_WARNED and self._may_warn.acquire(blocking=False):
            log.warning(
                "this machine's clock is %.0f s off the upstream's; its UTC day is used", skew
            )
        noted = skew if abs(skew) > SKEW_NOTED else 0.0

        def apply(pool: Pool, _now: float) -> Iterable[Event]:
            pool.set_skew(noted)
            return ()

        self._subject.note(apply)


def _reading(facts: KeyFacts | None) -> Reading:
    """What the core needs of a key's facts. A key without a limit of its own has room while no budget is used up."""
    if facts is None:
        return Reading(None, None)
    limited = facts.limit is not None or facts.limit_remaining is not None
    room = (facts.limit_remaining or 0.0) > 0 if limited else True
    return Reading(facts.free_used, facts.free_limit, room and facts.spent_until is None)
