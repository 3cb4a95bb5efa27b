"""What the wheel turns on: one engine for a process, made at its first use and made anew in a forked child."""

import gc
import os
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Protocol
from weakref import WeakSet, finalize

from keywheel.config import Config
from keywheel.engine import Engine, Listener
from keywheel.errors import Closed
from keywheel.keys import KeyEntry
from keywheel.stores import State, open_state

GROUP = "library"  # programs share a state file with each other, not with a gateway


class Closable(Protocol):
    """Something with connections."""

    def close(self) -> None:
        """Close them."""
        ...


class Axle:
    """Holds the engine. Nothing is opened or started before the first request.

    A forked child gets an engine of its own: threads do not survive a fork, and a lock may be taken for ever.
    """

    def __init__(
        self,
        config: Config,
        keys: Iterable[KeyEntry],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.config = config
        self.keys = tuple(keys)
        self._clock = clock
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._dropped: finalize[..., Axle] | None = None
        self._closed = False
        self._wires: WeakSet[Closable] = WeakSet()
        self._lost: SimpleQueue[Callable[[], object]] = SimpleQueue()
        _axles.add(self)
        if _note_collection not in gc.callbacks:
            gc.callbacks.append(_note_collection)

    @property
    def engine(self) -> Engine:
        """This process's engine. Raises `Closed`, and `StoreError` for a state that cannot be used."""
        with self._lock:
            if self._closed:
                raise Closed("this wheel was closed; make a new one")
            if self._engine is None:
                self._engine = Engine(
                    self.config,
                    self.keys,
                    clock=self._clock,
                    state=_state(self.config),
                    worker=os.getpid(),
                )
                for listener in self._listeners:
                    self._engine.listen(listener)
                self._dropped = finalize(self, _orphans.put, self._engine)
                self._dropped.atexit = False
            engine = self._engine
        self.tidy()
        return engine

    def start(self) -> Engine:
        """The engine, which keeps its models and keys up to date from now on."""
        engine = self.engine
        engine.start()
        return engine

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event, in the thread in which it happens."""
        with self._lock:
            self._listeners.append(listener)
            if self._engine:
                self._engine.listen(listener)

    def attach(self, wire: Closable) -> None:
        """Close these connections, too, when the wheel is closed."""
        self._wires.add(wire)

    def close(self) -> None:
        """End the background work and close what is attached. Calling it again does nothing."""
        self.tidy()
        with self._lock:
            engine, self._engine, self._closed = self._engine, None, True
            self._forget_drop()
        if engine:
            engine.close()
        for wire in list(self._wires):
            wire.close()

    # --- what the garbage collector finds --------------------------------------------------------

    def lose(self, end: Callable[[], object]) -> None:
        """Do this later: the collector may run in the middle of anything, with any lock taken."""
        self._lost.put(end)

    def tidy(self) -> None:
        """Do what was put off."""
        while True:
            try:
                end = self._lost.get_nowait()
            except Empty:
                break
            end()
        while not _orphans.empty():
            _close_orphan()

    def renew(self) -> None:
        """In a forked child: leave the parent's engine and lock alone."""
        self._lock = threading.Lock()
        self._lost = SimpleQueue()
        self._engine = None
        self._forget_drop()

    def _forget_drop(self) -> None:
        if self._dropped:
            self._dropped.detach()
            self._dropped = None


# Engines of wheels that nobody closed and nobody holds any more: the next wheel that does something ends their
# background work, as the collector itself may wait for no lock.
_orphans: SimpleQueue[Engine] = SimpleQueue()


def _close_orphan() -> None:
    try:
        engine = _orphans.get_nowait()
    except Empty:
        return
    # elsewhere: ending may take a moment, and the caller may be an event loop
    threading.Thread(target=engine.close, name="keywheel-farewell", daemon=True).start()


def _state(config: Config) -> State | None:
    """The store that the settings name; any number of processes may share it. Without one nothing is kept."""
    return None if config.state.url is None else open_state(config.state, GROUP)


_axles: WeakSet[Axle] = WeakSet()


def _renew() -> None:
    global _orphans  # noqa: PLW0603 - the parent's queue may be locked for ever
    _orphans = SimpleQueue()
    for axle in list(_axles):
        axle.renew()


os.register_at_fork(after_in_child=_renew)


class _Collection(threading.local):
    runs = False


_collection = _Collection()


def _note_collection(phase: str, _info: dict[str, int]) -> None:
    _collection.runs = phase == "start"


def is_collecting() -> bool:
    """Whether this thread is inside the garbage collector, where no lock may be waited for."""
    return _collection.runs
