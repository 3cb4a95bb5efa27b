"""What the engine keeps outside its own memory: counters, blocks, statistics, and what was learnt.

Before each send a lease is taken from the store. A thread of its own exchanges counts and marks with the other workers
twice a second, and writes down now and then what a restart should know. A store that fails never ends a request path
for longer than its own patience, and what it cannot permit is not sent.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from keywheel.config import Config
from keywheel.core.checks import BAD_KEY
from keywheel.core.marks import Block, Clear, Mark, Reach, read
from keywheel.core.memory import mapping, recall, remember
from keywheel.core.pool import Pool
from keywheel.core.quota import Quota
from keywheel.core.share import Share
from keywheel.core.states import AccountState, KeyState
from keywheel.core.steps import Done, Report, TurnedDown
from keywheel.core.troubles import Trouble, trouble
from keywheel.core.types import Attempted, Blocked, Event, Kind, Lease, Provenance, Reopened
from keywheel.errors import StoreError
from keywheel.stores import Answer, Figures, State, StoreLost
from keywheel.stores.contract import KEPT, SILENT
from keywheel.stores.diary import Diary
from keywheel.stores.hourly import HOUR, Hourly
from keywheel.stores.ledger import Emptied, Ledger, Need
from keywheel.wire.loose import BadCatalogue
from keywheel.wire.models import Entry, read_models

log = logging.getLogger("keywheel.books")

EXCHANGE = 0.5  # seconds between two exchanges with other workers (routing rule A.11.2)
SAVE = 60.0  # seconds between two writings of what was learnt (routing rule A.2)
TEND = 600.0  # seconds between two prunings
HELD = 5.0  # seconds that a refused request is told of; the exchange may go well while nothing can be written
TAKERS = 16  # threads that ask a store; a slow one must not use up those that read files
STOP_PATIENCE = 2.0  # seconds that an exchange under way gets at the end
LEARNT, LISTED, GROUPS, SALT = "learnt", "models", "groups", "salt"
LOST, UNUSABLE = "state-silent", "state-unusable"

Change = Callable[[Pool, float], Iterable[Event] | None]


class Subject(Protocol):
    """The engine, as far as its books need it."""

    @property
    def groups(self) -> Mapping[str, str]: ...
    def clock(self) -> float: ...
    def note(self, change: Change) -> bool: ...
    def listed(self) -> Iterable[Entry]: ...


class Books:
    """The state of one worker. `slot`: its name among those who share the store; `start`: which run of it."""

    def __init__(
        self, state: State, clock: Callable[[], float], *, slot: str, start: int, slots: int | None
    ) -> None:
        share = None if slots is None else Share(slots)
        diary = None if slots is None else Diary(state.archive, slot)
        self._state = state
        self._clock = clock
        self._slot = slot
        self._name = f"{slot}@{start}"  # so that no two runs make the same lease
        self._ledger = Ledger(state.store, slot, start, clock=clock, share=share, diary=diary)
        self._history = Hourly()
        self._pending: list[Mark] = []
        self._known: tuple[Mark, ...] = ()
        self._lock = threading.Lock()
        self.takers = ThreadPoolExecutor(TAKERS, "keywheel-take")  # for stores far away
        self._stop, self._urgent = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble: Trouble | None = None
        self._said, self._held_until = "", 0.0
        self._emptied_at: float | None = None
        self._save_at, self._tend_at = clock() + SAVE, clock() + TEND

    @property
    def inline(self) -> bool:
        """Whether `take` is fast enough for an event loop."""
        return self._state.store.inline

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the store now; None while all is well."""
        return self._trouble

    # --- life ------------------------------------------------------------------------------------

    def salt(self, fresh: bytes) -> bytes:
        """The secret under which hashes are made, the same in every run. `fresh`: for the first one."""
        kept = self._load(SALT)
        if kept is not None and len(kept) == len(fresh):
            return kept
        self._state.archive.save(SALT, fresh)
        return fresh

    def groups(self) -> Mapping[str, str]:
        """Which keys were found to share an account."""
        return {str(label): str(group) for label, group in mapping(self._json(GROUPS)).items()}

    def listed(self) -> tuple[Entry, ...]:
        """The last good model list, as far as it was of use."""
        kept = self._load(LISTED)
        try:
            return read_models(kept) if kept else ()
        except BadCatalogue:
            return ()

    def open(self, pool: Pool, now: float) -> None:
        """Take over what former runs and other workers have left. The models are known already."""
        for account in pool.roster.accounts.values():
            self._restore(account.name, account.quota, now)
        if skipped := recall(pool, self._json(LEARNT), now):
            log.warning(
                "%d records of what was learnt could not be read and are passed over", skipped
            )
        needs = self._needs(pool, now)
        try:
            self._adopt(pool, self._ledger.exchange(needs), now)
        except StoreError as error:  # it starts all the same, by its share (rule A.11.3)
            self._complain(error)

    def start(self, subject: Subject) -> None:
        """Begin to exchange and to write in the background."""
        self._thread = threading.Thread(
            target=self._run, args=(subject,), name="keywheel-books", daemon=True
        )
        self._thread.start()

    def close(self, subject: Subject) -> None:
        """Write everything down and leave."""
        self._stop.set()
        self._urgent.set()
        self.takers.shutdown()
        if self._thread:
            self._thread.join(STOP_PATIENCE)
        try:
            self._exchange(subject)
            self._save(subject)
            self._ledger.leave()
        except StoreError as error:
            log.warning("the state could not be written at the end: %s", error)
        self._state.close()

    # --- one request -----------------------------------------------------------------------------

    def take(self, lease: Lease, account: AccountState, note: Callable[[Change], bool]) -> Report:
        """Permission to send, durable before a byte leaves. May block for as long as the store is patient."""
        quota = account.quota
        need = Need(account.name, dict.fromkeys(lease.days, quota.limit), quota.minute_cap)
        try:
            taken = self._ledger.take(f"{self._name}-{lease.number}", need)
        except StoreError as error:
            self._complain(error, held=HELD)
            return TurnedDown(self._clock())
        if not taken.permitted:

            def learn(_pool: Pool, now: float) -> None:
                for day, used in zip(lease.days, taken.days, strict=True):
                    quota.raise_used(day, used + 1)  # the reservation is given back in a moment
                if taken.answer is Answer.MINUTE:
                    quota.crowd(now)

            note(learn)
            return TurnedDown(self._clock())
        return Done(self._clock())

    def hear(self, event: Event) -> None:
        """Something happened that others, or a later run, should know."""
        if isinstance(event, Attempted):
            self._history.add(event)
            return
        mark = _mark(event, self._slot)
        if mark:
            with self._lock:
                self._pending.append(mark)
            if mark.scope.kind is Kind.ACCOUNT:
                self._urgent.set()

    def history(self, since: float, until: float) -> tuple[Figures, ...]:
        """The figures of the hours from `since` to `until` (UTC seconds), those not yet written included."""
        self._flush()
        return self._state.archive.history(int(since // HOUR), int(until // HOUR) + 1)

    # --- in the background -----------------------------------------------------------------------

    def _run(self, subject: Subject) -> None:
        while not self._stop.is_set():
            try:
                self._exchange(subject)
                self._write(subject)
                self._recover()
            except StoreError as error:
                self._complain(error)
            except Exception:  # the thread must live: what failed is logged and tried again
                log.exception("the books could not be kept")
            self._urgent.wait(EXCHANGE)
            self._urgent.clear()

    def _exchange(self, subject: Subject) -> None:
        """Tell what happened here, and take over what others tell."""
        needs: list[Need] = []
        subject.note(lambda pool, now: needs.extend(self._needs(pool, now)))
        with self._lock:
            marks = tuple(self._pending)
        try:
            known = self._ledger.exchange(needs, marks)
        except Emptied:
            self._mistrust(subject)
            raise
        with self._lock:
            del self._pending[: len(marks)]
        subject.note(lambda pool, now: self._adopt(pool, known, now))

    def _needs(self, pool: Pool, now: float) -> list[Need]:
        """What every metered account may send today and tomorrow."""
        needs: list[Need] = []
        for account in pool.roster.accounts.values():
            quota = account.quota
            if not quota.metered:
                continue
            quota.shared = True
            today = quota.day(now)
            limits = dict.fromkeys((today, today + 1), quota.limit)
            needs.append(Need(account.name, limits, quota.minute_cap))
            if quota.remote:
                _, day, used = quota.remote
                self._ledger.observe(account.name, day, used)
        return needs

    def _adopt(self, pool: Pool, known: tuple[Mark, ...], now: float) -> None:
        for account in pool.roster.accounts.values():
            if account.quota.metered:
                day = account.quota.day(now)
                account.quota.raise_used(day, self._ledger.used(account.name, day))
        if known != self._known:
            self._known = known
            pool.adopt(read(known, now), now)

    def _mistrust(self, subject: Subject) -> None:
        """The store came back empty. It is trusted again when every worker has told its rows, which is over when one
        that did not would count as silent, and `GET /key` has told how much every account has used."""
        now = self._clock()
        if self._emptied_at is None:
            self._emptied_at = now
            subject.note(lambda pool, _now: pool.urge_all())
            return
        since, known = self._emptied_at, list[bool]()
        subject.note(
            lambda pool, now: known.extend(
                _is_known(account, since, now) for account in pool.roster.accounts.values()
            )
        )
        if all(known) and now >= since + SILENT:
            self._ledger.accept()
            self._emptied_at = None

    def _write(self, subject: Subject) -> None:
        now = self._clock()
        if now >= self._save_at:
            self._save_at = now + SAVE
            self._save(subject)
        if now >= self._tend_at:
            self._tend_at = now + TEND
            self._state.archive.tend(now)

    def _save(self, subject: Subject) -> None:
        saved: dict[str, Any] = {}
        subject.note(lambda pool, now: saved.update(remember(pool, now)))
        archive = self._state.archive
        archive.save(LEARNT, json.dumps(saved).encode())
        archive.save(GROUPS, json.dumps(dict(subject.groups)).encode())
        if raws := [bytes(entry.raw) for entry in subject.listed()]:
            archive.save(LISTED, b'{"data":[' + b",".join(raws) + b"]}")
        self._flush()

    def _flush(self) -> None:
        rows = self._history.take()
        try:
            self._state.archive.add_history(rows)
        except StoreError:
            self._history.put_back(rows)
            raise

    # --- inner -----------------------------------------------------------------------------------

    def _restore(self, account: str, quota: Quota, now: float) -> None:
        today = quota.day(now)
        for day in (today, today + 1):
            quota.raise_used(day, self._state.archive.used(account, day))
        quota.restore_minute(self._state.archive.stamps(account))

    def _load(self, name: str) -> bytes | None:
        return self._state.archive.load(name)

    def _json(self, name: str) -> object:
        """A snapshot; one that cannot be read is as good as none."""
        data = self._load(name)
        try:
            return json.loads(data) if data else {}
        except ValueError:
            log.warning("the saved record %r cannot be read and is passed over", name)
            return {}

    def _complain(self, error: StoreError, *, held: float = 0.0) -> None:
        """Once per change, and shown in the report for as long as it lasts. `held`: seconds in which an exchange that
        goes well does not end it. What a request met says less than what the exchange did, unless it is graver."""
        code, now = LOST if isinstance(error, StoreLost) else UNUSABLE, self._clock()
        old, said = self._trouble, str(error)
        self._held_until = now + held
        graver = old is None or (code == UNUSABLE and old.code == LOST)
        if not graver and (held or said == self._said):
            return
        level = logging.WARNING if code == LOST else logging.ERROR
        log.log(level, "the state store is in trouble: %s", said)
        self._said = said
        self._trouble = trouble(code, "host", "state", since=old.since if old else now, said=said)

    def _recover(self) -> None:
        if self._trouble and self._clock() >= self._held_until:
            log.warning("the state store is well again")
            self._trouble = None


def books_of(state: State, config: Config, clock: Callable[[], float], worker: int) -> Books:
    """The books of one worker of this machine, by its settings."""
    host = config.state.host or socket.gethostname()
    slots = config.state.slots if state.store.remote else None
    start = time.time_ns() // 1_000_000
    return Books(state, clock, slot=f"{host}:{worker}", start=start, slots=slots)


def _is_known(account: AccountState, since: float, now: float) -> bool:
    """Whether `GET /key` has told since then what an account has used, or has nothing to tell: it never did, or none of
    the keys is accepted; one that comes back is looked at before it is used."""
    remote = account.quota.remote
    if not account.quota.metered or not any(_is_accepted(key, now) for key in account.keys):
        return True
    return remote[0] >= since if remote else now >= since + KEPT


def _is_accepted(key: KeyState, now: float) -> bool:
    block = key.breaker.blocks.get(Provenance.AUTHORITATIVE)
    return block is None or block.until <= now or block.reason not in BAD_KEY


def _mark(event: Event, writer: str) -> Block | Clear | None:
    """An event as other workers are told of it."""
    if isinstance(event, Blocked):
        return Block(event.scope, writer, event.at, event.until, event.provenance, event.reason)
    if isinstance(event, Reopened):
        reach = Reach.HEURISTIC if event.why == "answered" else Reach.ALL
        return Clear(event.scope, writer, event.at, reach)
    return None
