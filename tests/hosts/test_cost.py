"""What counting costs a request: one round trip to a shared store, and nothing for what has no quota."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from keywheel.config import Config, ModelSettings, StateSettings
from keywheel.core.steps import Done, Result, Send, Step, Take
from keywheel.engine import Engine
from keywheel.flow import Terms
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.stores import Claim, State, Taken
from keywheel.stores.memory import MemoryStore
from keywheel.stores.opening import open_state
from keywheel.stores.redis import RedisStore
from keywheel.stores.urls import InRedis, read_url
from keywheel.wire.ask import read
from keywheel.wire.models import read_models
from tests.gateway.asgi import served
from tests.stores.build import claim, joined
from tests.stores.server import Server, redis_server


class Ear:
    """Passes a connection on and counts how often the talk turns: each question after an answer is a round trip."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.turns, self._asking = 0, False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for source, target in ((near, far), (far, near)):
                    asks = source is near
                    threading.Thread(
                        target=self._carry, args=(source, target, asks), daemon=True
                    ).start()

    def _carry(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(65_536):
                self.turns += asks and not self._asking
                self._asking = asks
                target.sendall(data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_take_in_a_shared_store_is_one_round_trip(server: Server, protocol: int) -> None:
    ear = Ear(server.port)
    place = read_url(Secret(f"redis://127.0.0.1:{ear.port}/0?protocol={protocol}"))
    assert isinstance(place, InRedis)
    store = RedisStore(place)
    who = joined(store)
    store.take(claim(who, "first"))  # which brings the script
    before = ear.turns
    for number in range(10):
        assert store.take(claim(who, number)).permitted
    assert ear.turns - before == 10
    store.close()
    ear.close()


class Counting(MemoryStore):
    """Counts who asks."""

    takes = 0

    def take(self, claim: Claim) -> Taken:
        self.takes += 1
        return super().take(claim)


def first_step(engine: Engine, model: str) -> Step | Result:
    """What a driver is to do first for a small request."""
    listed = [served("a/small-8b:free"), served("c/paid-70b", "0.0000001")]
    engine.take_models(read_models(json.dumps({"data": listed}).encode()))
    body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
    return engine.advance(engine.open(read(json.dumps(body).encode(), "chat"), Terms("r1")))


@pytest.mark.parametrize("power_safe", [True, False])
def test_only_a_file_that_waits_for_the_disk_is_asked_off_the_loop(
    tmp_path: Path, power_safe: bool
) -> None:
    settings = StateSettings(url=Secret(f"sqlite:{tmp_path}/s.db"), power_safe=power_safe, slots=3)
    key = KeyEntry("primary", Secret(f"sk-or-v1-{1:064x}"), "test")
    engine = Engine(Config(state=settings), [key], state=open_state(settings, group=None))
    step = first_step(engine, "a/small-8b:free")
    assert isinstance(step, Take) == power_safe
    if isinstance(step, Take):
        assert isinstance(engine.take(step), Done)
    engine.close()


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("model", ["c/paid-70b", "a/small-8b:free"])
def test_what_has_no_quota_neither_asks_the_store_nor_changes_the_thread(
    monkeypatch: pytest.MonkeyPatch, model: str, inline: bool
) -> None:
    monkeypatch.setattr(Counting, "inline", inline)
    store = Counting()
    config = Config(models=ModelSettings(allow_paid=True, paid_per_day=1.0))
    key = KeyEntry("primary", Secret(f"sk-or-v1-{1:064x}"), "test")
    step = first_step(Engine(config, [key], state=State(store, store)), model)
    assert isinstance(step, Take | Send)
    assert step.lease.model == model
    assert (isinstance(step, Take), store.takes) == {
        ("c/paid-70b", True): (False, 0),
        ("c/paid-70b", False): (False, 0),
        ("a/small-8b:free", True): (False, 1),
        ("a/small-8b:free", False): (True, 0),  # the driver asks, off the loop
    }[model, inline]
