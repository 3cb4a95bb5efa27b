"""What one worker learns is known to the other: soon, and of an account at once."""

import time
from pathlib import Path

import httpx2
import pytest

from keywheel import books, sim
from keywheel.core.types import Kind, Scope
from keywheel.stores import State
from keywheel.stores.memory import MemoryStore
from tests.hosts.rig import Host, account, gateway, upstream
from tests.serving import FREE, SOON, eventually
from tests.test_books import Clock, Worker

IN_TIME = 1.0  # seconds after which a block is known everywhere
ROOMY = sim.Account(minute_limit=10**6, day_limit=10**6)


def states(host: Host, key: str) -> set[str]:
    """What the workers say of a key, each asked on a connection of its own."""
    found: set[str] = set()
    for _ in range(4):
        told = host.state()["keys"]
        found |= {str(each["reason"]) for each in told if each["name"] == key}
    return found


def test_a_key_that_one_worker_finds_bad_is_closed_at_all_within_a_second(tmp_path: Path) -> None:
    limits = account(0, 10**6, 10**6) | account(1, 10**6, 10**6)
    with (
        upstream(ROOMY, ROOMY) as up,
        gateway(tmp_path, "h1", up.variables | limits, "--workers", "2") as host,
    ):
        assert eventually(lambda: states(host, "primary") == {"None"})
        up.world.dead.add(0)
        url = f"{host.base}/v1/chat/completions"
        while not any(note.kind == sim.Kind.KEY_UNKNOWN for note in tuple(up.world.journal)):
            assert httpx2.post(url, json=FREE, trust_env=False, timeout=SOON).status_code == 200
        found_at = time.monotonic()
        assert eventually(lambda: states(host, "primary") == {"bad-key"})
        took = time.monotonic() - found_at
        print(f"known to both workers after {took:.2f} s")
        assert took < IN_TIME + 4.0, "even on a slow machine"
        refused = [note for note in up.world.journal if note.kind == sim.Kind.KEY_UNKNOWN]
        assert len(refused) <= 2, "each worker lost one request at most"


@pytest.mark.parametrize(
    ("scope", "is_told"),
    [(Scope(Kind.ACCOUNT, "account1"), True), (Scope(Kind.KEY, "primary"), False)],
)
def test_a_block_of_an_account_is_told_at_once_and_others_with_the_next_exchange(
    monkeypatch: pytest.MonkeyPatch, scope: Scope, is_told: bool
) -> None:
    monkeypatch.setattr(books, "EXCHANGE", 60.0)  # so that only being woken can be quick
    clock, store = Clock(), MemoryStore()
    one, exchanges, pull = Worker(State(store, store), clock), list[float](), store.pull
    monkeypatch.setattr(store, "pull", lambda: exchanges.append(clock()) or pull())
    one.books.start(one.engine)
    assert eventually(lambda: bool(exchanges))
    one.engine.operate("disable", scope)
    assert eventually(lambda: bool(pull()), SOON if is_told else 1.0) is is_told
    one.engine.close()
