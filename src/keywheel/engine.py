"""The composition root: pool, lock, clock, catalogue, keeper and listeners under one roof.

Every driver does the same: `open` a request, carry out the steps that `advance` hands it, `settle` a committed
stream at its end, and `finish` the request. The lock is held for decisions only, never while anything is sent.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from keywheel.books import Books, books_of
from keywheel.catalog import Catalog
from keywheel.config import Config
from keywheel.core import sums
from keywheel.core.attempts import attempts
from keywheel.core.decisions import Decision
from keywheel.core.explain import Stories
from keywheel.core.overview import overview
from keywheel.core.pool import Pool
from keywheel.core.queue import Ticket
from keywheel.core.report import stats_report
from keywheel.core.settlement import CHARGED
from keywheel.core.stats import Stats
from keywheel.core.steps import Done, Report, Result, Served, Step, Take, Try, Wait
from keywheel.core.types import (
    FOREVER,
    Ask,
    Blocked,
    Event,
    Finished,
    Key,
    Lease,
    Outcome,
    Scope,
)
from keywheel.flow import Clock, Flow, Terms, wake
from keywheel.grouping import Grouping
from keywheel.keeper import Keeper
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.stores import Figures, State
from keywheel.trail import Trail
from keywheel.wire.ask import Request
from keywheel.wire.menu import Menu, menu
from keywheel.wire.models import Entry

log = logging.getLogger("keywheel.engine")
Listener = Callable[[Event], None]
USUAL = Ask(tokens=1_000)  # what the standing of models is judged by
VECTORS = Ask(tokens=1_000, needs=frozenset({"embeddings"}))  # … and of those that embed


class Engine:
    """Everything a driver needs, safe to use from several threads."""

    def __init__(
        self,
        config: Config,
        keys: Iterable[KeyEntry],
        *,
        clock: Callable[[], float] | None = None,
        seed: str = "",
        state: State | None = None,
        worker: int = 0,
    ) -> None:
        """`state`: where counters and what was learnt are kept; None: nowhere. `worker`: the number of this process
        among those of one gateway."""
        self.config = config
        self.clock = clock or Clock()
        self.secrets: dict[str, Secret] = {entry.label: entry.secret for entry in keys}
        self.pool = Pool(config.policy, seed)
        self.stats = Stats(self.clock())
        self.menu = Menu()
        self.ready = threading.Event()  # the first look at models and keys is over
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._stories = Stories()
        self._grouping = Grouping(list(self.secrets), config.accounts)
        self._salt = os.urandom(32)
        self._books = books_of(state, config, self.clock, worker) if state else None
        self._keeper: Keeper | None = None
        self._trail = Trail.of(config.log.decisions, worker)
        if self._trail:
            self.pool.watch = self._trail.see
        self._arrange()
        if self._books:
            self._remember(self._books)

    def _remember(self, books: Books) -> None:
        """Go on where a former run ended."""
        self._salt = books.salt(self._salt)
        for label, group in books.groups().items():
            if label in self.secrets:
                self.take_group(label, group)
        if listed := books.listed():
            self.take_models(listed)
        with self._lock:
            books.open(self.pool, self.clock())

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep models and keys up to date in the background. Calling it again does nothing."""
        with self._lock:
            if self._keeper:
                return
            catalog = Catalog(self.config.upstream, salt=self._salt)
            self._keeper = Keeper(self, catalog, self.config.models.refresh)
        self._keeper.start()
        if self._books:
            self._books.start(self)
        if self._trail:
            self._trail.start()

    def close(self) -> None:
        """End the background work, and write down what is to be kept. Calling it again does nothing."""
        with self._lock:
            keeper, self._keeper = self._keeper, None
            books, self._books = self._books, None
            trail, self._trail = self._trail, None
        if trail:
            self.pool.watch = None
            trail.close()
        if keeper:
            keeper.stop()
        if books:
            books.close(self)

    def set_ready(self) -> None:
        """The first look at models and keys is over, successful or not."""
        self.ready.set()

    # --- one request -----------------------------------------------------------------------------

    def open(self, request: Request, terms: Terms) -> Flow:
        """Begin a request. Raises `ModelNotFree` for a model that may not be used."""
        now = self.clock()
        ask = self._ask(request, terms, now)
        events: list[Event] = []
        decisions: list[Decision] = []
        steps = attempts(self.pool, ask, now, events, decisions)
        return Flow(ask, request.dialect, now, steps, events, decisions)

    def advance(self, flow: Flow, report: Report | None = None) -> Step | Result:
        """The next step of a request, or its result. `Take` is handed out only where it may block for long."""
        while True:
            step = self._advance(flow, report)
            if not isinstance(step, Take) or (
                self._books and not self._books.inline and step.lease.days
            ):
                return step
            report = self.take(step)

    def _advance(self, flow: Flow, report: Report | None) -> Step | Result:
        with self._lock:
            flow.woken = False
            step = self._next(flow, report)
            if isinstance(step, Wait) and step.ticket:
                step.ticket.owner = flow
            events = flow.take_events()
            self._count(events)
            called = self._dispatch()
        wake(called)
        self._tell(events)
        return step

    def take(self, step: Take) -> Report:
        """Reserve a lease's quota in the store. Without one, or for what is not metered, the pool's own reservation
        is the reservation."""
        books, account = self._books, self.pool.account_of(step.lease.key)
        if books is None or account is None or not step.lease.days:
            return Done(self.clock())
        return books.take(step.lease, account, self.note)

    @property
    def takers(self) -> Executor | None:
        """Threads for `take` where it may block for long."""
        return self._books.takers if self._books else None

    def abandon(self, flow: Flow) -> None:
        """Its client has left: give up what it waits for. Calling it for a request that is over does nothing."""

        def leave(_pool: Pool, _now: float) -> Iterable[Event]:
            flow.steps.close()
            return flow.take_events()

        self.note(leave)

    def _dispatch(self) -> Sequence[Ticket]:
        """Under the lock, after anything that may have freed a lane: those who wait and have one now."""
        queue = self.pool.queue
        if len(queue):
            self.pool.dispatch(self.clock())
        return queue.called()

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Take back a lease whose attempt the driver carried beyond its commit, or gave up."""
        self.note(lambda pool, now: pool.settle(lease, outcome, now))

    def finish(self, event: Finished) -> None:
        """A request ended, whatever came of it."""
        with self._lock:
            event = self._stories.complete(event)
            self._count((event,))
        self._tell((event,))

    def _next(self, flow: Flow, report: Report | None) -> Step | Result:
        try:
            if not flow.started:
                flow.started = True
                self._stories.begin(flow.ask, flow.dialect, flow.began, flow.decisions)
                return next(flow.steps)
            assert report is not None  # noqa: S101 - a generator that runs is told something
            return flow.steps.send(report)
        except StopIteration as stop:
            result = self._told(stop.value)
            self._stories.answer(flow.ask.request_id, result)
            return result

    def _told(self, result: Result) -> Result:
        """A request for which nothing was tried, because nothing could be counted, is told so."""
        if isinstance(result, Served) or result.tries or not result.no_lane:
            return result
        if not (self._books and self._books.trouble) or result.no_lane.cause == "unfit":
            return result
        return result._replace(no_lane=result.no_lane._replace(cause="uncounted"))

    # --- which models ----------------------------------------------------------------------------

    def _ask(self, request: Request, terms: Terms, now: float) -> Ask:
        wish = self.menu.wish(request.model, request.models, now, request.needs)
        limits = self.config.limits
        usual = limits.stream_deadline if request.stream else limits.deadline
        return Ask(
            tokens=request.tokens,
            reply_tokens=request.reply_tokens,
            stream=request.stream,
            needs=request.needs | wish.needs,
            models=wish.models,
            strategy=wish.strategy,
            first=wish.first,
            pinned=terms.pinned or wish.pinned or limits.fallback == "never",
            deadline=now + min(usual, terms.patience or usual),
            max_wait=min(terms.max_wait, limits.max_wait),
            latest=now + terms.patience if terms.patience else FOREVER,
            conversation=self._fingerprint(request.conversation, terms.client),
            follow_up=request.follow_up,
            request_id=terms.request_id,
            client=terms.client,
        )

    def _fingerprint(self, conversation: str | None, client: str) -> str | None:
        """A keyed hash of client and id: the id as sent is never kept."""
        if conversation is None:
            return None
        told = f"{client}\0{conversation}".encode("utf-8", "replace")
        return hashlib.blake2b(told, digest_size=16, key=self._salt).hexdigest()

    # --- what the keeper brings ------------------------------------------------------------------

    def take_models(self, entries: Iterable[Entry]) -> None:
        """A new model list."""
        found = menu(entries, self.config.taste, self.clock())

        def put_up(pool: Pool, now: float) -> None:
            self.menu = found
            pool.set_models([entry.model for entry in found.ordered], now, found.costly)

        self.note(put_up)

    def tidy(self) -> None:
        """Take models off the list whose last day has come."""
        if self.clock() >= self.menu.stale_at:
            self.take_models(self.menu.entries.values())

    def take_visible(self, label: str, visible: frozenset[str]) -> None:
        """The models that a key's account may use, by its own settings; the others are closed for it."""
        self.note(lambda pool, now: pool.see_models(label, visible, now))

    def take_group(self, label: str, account: str | None) -> None:
        """Which account a key belongs to, as a hash of the account's identity. Configuration wins."""
        grouping = self._grouping
        with self._lock:
            if account is None or grouping.groups.get(label) == account:
                return
            grouping.groups[label] = account
            for member in grouping.members(account):  # an earlier key gives the account its name
                self.pool.assign(member, grouping.account(grouping.name(member)))

    def note(self, change: Callable[[Pool, float], Iterable[Event] | None]) -> bool:
        """Apply a change to the pool under the lock; False when it found nothing to change."""
        with self._lock:
            events = change(self.pool, self.clock())
            self._count(events or ())
            called = self._dispatch()
        wake(called)
        self._tell(events or ())
        return events is not None

    def operate(self, action: str, scope: Scope) -> bool:
        """Operator's hand; False when there is no such scope."""
        return self.note(lambda pool, now: pool.operate(action, scope, now))

    def _arrange(self) -> None:
        """Put keys into accounts: as configured, else each on its own until `GET /key` says more."""
        keys = [Key(label, self._grouping.name(label)) for label in self.secrets]
        accounts = {key.account: self._grouping.account(key.account) for key in keys}
        self.pool.set_keys(accounts.values(), keys)

    # --- reading ---------------------------------------------------------------------------------

    def part(self) -> sums.Part:
        """What this process adds to the figures of all workers."""
        with self._lock:
            return sums.part(self.pool, self.stats, self.clock())

    def report(self, others: Sequence[sums.Part] = ()) -> dict[str, Any]:
        """`GET /admin/stats`. `others`: what other workers add."""
        with self._lock:
            told = stats_report(self.pool, self._summed(others), self.clock())
        sums.add_minutes(told["accounts"], others)
        return told

    def state(self, others: Sequence[sums.Part] = ()) -> dict[str, Any]:
        """The read model behind `GET /admin/state`."""
        with self._lock:
            expires = {entry.id: entry.expires for entry in self.menu.ordered}
            trouble = self._books.trouble if self._books else None
            told = overview(self.pool, self._summed(others), self.clock(), expires, trouble)
        return sums.add(told, others)

    def counts(self, others: Sequence[sums.Part] = ()) -> Stats:
        """A copy of the counts of all workers."""
        with self._lock:
            return sums.total([self.stats, *(part.stats for part in others)])

    def _summed(self, others: Sequence[sums.Part]) -> Stats:
        return sums.total([self.stats, *(part.stats for part in others)]) if others else self.stats

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """Why a request went where it went; None when it is not remembered (any more)."""
        with self._lock:
            return self._stories.tell(request_id)

    def tries(self, request_id: str) -> tuple[Try, ...]:
        """The attempts of a request; its driver knows those of one that came to its end."""
        with self._lock:
            return self._stories.tries(request_id)

    def explained(self) -> tuple[int, list[dict[str, Any]]]:
        """How many requests `explain` remembers, and the latest of them in short."""
        with self._lock:
            return len(self._stories), self._stories.latest()

    def usable(self) -> bool:
        """Whether at least one lane could take a small request now."""
        with self._lock:
            return self.pool.usable(self.clock())

    def models(self, embeds: bool = False) -> list[Entry]:
        """The models that chat, or that embed, and are not closed now, best first; what costs money comes last."""
        with self._lock:
            found = self.pool.survey(VECTORS if embeds else USUAL, self.clock())
            ids = [m.model.id for m, why in found if why != "closed" and m.model.embeds is embeds]
        paid = [e for e in self.menu.ordered if not e.model.free and e.model.embeds is embeds]
        return [*(self.menu.entries[id] for id in ids), *paid]

    def history(self, since: float, until: float) -> tuple[Figures, ...]:
        """Figures by hour, key and model from `since` to `until` (UTC seconds); none where no state is kept."""
        return self._books.history(since, until) if self._books else ()

    @property
    def groups(self) -> Mapping[str, str]:
        """Label of a key → hash of its account's identity, for the next start."""
        return self._grouping.groups

    def listed(self) -> Iterable[Entry]:
        """The candidates of the present list, for the next start."""
        return self.menu.ordered

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event, in the thread in which it happened."""
        self._listeners.append(listener)

    def _count(self, events: Iterable[Event]) -> None:
        for event in events:
            self.stats.record(event)
            self._stories.hear(event)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._books:
                self._books.hear(event)
            if isinstance(event, Blocked) and event.reason == CHARGED:
                log.error(
                    "ALARM: %s is listed as free and has cost money, or a model that costs money answered for it; "
                    "it stays closed for a day, see the key's activity page",
                    event.scope.name,
                )
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    log.exception("a listener failed")
