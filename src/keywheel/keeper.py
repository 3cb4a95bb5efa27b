"""The one background thread: model list, key checks, clock comparison, lost leases. Nothing it does uses quota."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from keywheel.catalog import Catalog, KeyCheck, Unavailable
from keywheel.core.pool import Pool
from keywheel.core.quota import Reading
from keywheel.core.types import Event
from keywheel.secret import Secret
from keywheel.wire.models import Entry

log = logging.getLogger("keywheel.keeper")

TICK = 0.5  # seconds between two looks at what is due
FIRST_RETRY, LAST_RETRY = 2.0, 300.0  # seconds between tries after the upstream could not be asked
SKEW_NOTED, SKEW_WARNED = 2.0, 5.0  # seconds of difference to the upstream's clock
AT_ONCE = 8  # keys checked at the same time
STOP_PATIENCE = 2.0

Change = Callable[[Pool, float], Iterable[Event] | None]


class Subject(Protocol):
    """What the keeper keeps: the engine, as far as the keeper needs it."""

    @property
    def secrets(self) -> Mapping[str, Secret]: ...
    def clock(self) -> float: ...
    def note(self, change: Change) -> bool: ...
    def take_models(self, entries: Iterable[Entry]) -> None: ...
    def take_group(self, label: str, account: str | None) -> None: ...
    def set_ready(self) -> None: ...


class Pause:
    """When to try again: doubling from FIRST_RETRY to LAST_RETRY, back to nothing after a success."""

    __slots__ = ("_length", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._length = FIRST_RETRY

    def failed(self, now: float) -> None:
        """It did not work: wait longer."""
        self.until = now + self._length
        self._length = min(LAST_RETRY, self._length * 2)

    def worked(self, until: float) -> None:
        """It worked: the next time is as planned."""
        self.until = until
        self._length = FIRST_RETRY


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
        self._warned = False

    def start(self) -> None:
        """Begin in the background; the subject is told when the first round is over."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connections."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_PATIENCE)
        self._catalog.close()

    def round(self, labels: Iterable[str] = ()) -> None:
        """Do what is due now, and check these keys whether due or not."""
        now = self._subject.clock()
        if now >= self._list.until:
            self._take_models(now)
        due = self._due(now, labels)
        if due:
            with ThreadPoolExecutor(AT_ONCE, "keywheel-check") as threads:
                list(threads.map(self._check, due))

    def _run(self) -> None:
        first: Iterable[str] = tuple(self._subject.secrets)
        while not self._stop.is_set():
            try:
                self.round(first)
            except Exception:  # the thread must live: what failed is logged and tried again
                log.exception("a round of the keeper failed")
            first = ()
            self._subject.set_ready()
            self._stop.wait(TICK)

    def _take_models(self, now: float) -> None:
        try:
            self._subject.take_models(self._catalog.models())
        except Unavailable as error:
            self._list.failed(now)
            log.warning("the model list could not be refreshed, the last good one stays: %s", error)
            return
        self._list.worked(now + self._refresh)

    def _due(self, now: float, labels: Iterable[str]) -> list[str]:
        due = dict.fromkeys(labels)

        def look(pool: Pool, now: float) -> Iterable[Event]:
            due.update(dict.fromkeys(pool.due_checks(now)))
            return pool.expire(now)

        self._subject.note(look)
        return [label for label in due if self._pause(label).until <= now]

    def _pause(self, label: str) -> Pause:
        return self._keys.setdefault(label, Pause())

    def _check(self, label: str) -> None:
        secret = self._subject.secrets.get(label)
        if secret is None:
            return
        try:
            check = self._catalog.key(secret)
        except Unavailable as error:
            self._pause(label).failed(self._subject.clock())
            log.warning("key %s could not be checked: %s", label, error)
            return
        self._pause(label).worked(0.0)
        self._compare_clocks(check)
        self._note_key(label, check)

    def _note_key(self, label: str, check: KeyCheck) -> None:
        if not check.passed:
            log.warning("key %s is not valid: GET /key refuses it", label)
            self._subject.note(lambda pool, now: pool.key_is_bad(label, "bad-key", now))
            return
        self._subject.take_group(label, check.account)
        facts = check.facts
        reading = Reading(facts.free_used, facts.free_limit) if facts else Reading(None, None)
        self._subject.note(lambda pool, now: pool.key_is_good(label, reading, now))

    def _compare_clocks(self, check: KeyCheck) -> None:
        if check.date is None:
            return
        skew = check.date + 0.5 - self._subject.clock()  # the header has whole seconds
        if abs(skew) > SKEW_WARNED and not self._warned:
            self._warned = True
            log.warning(
                "this machine's clock is %.0f s off the upstream's; its UTC day is used", skew
            )
        noted = skew if abs(skew) > SKEW_NOTED else 0.0

        def apply(pool: Pool, _now: float) -> Iterable[Event]:
            pool.set_skew(noted)
            return ()

        self._subject.note(apply)
