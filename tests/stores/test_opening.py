"""Which store the settings name, and what is said about a URL that names none."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from keywheel.config import StateSettings
from keywheel.errors import ConfigError, StoreError
from keywheel.secret import Secret
from keywheel.stores import open_state, place_of, urls
from keywheel.stores.memory import MemoryStore
from keywheel.stores.redis import RedisStore
from keywheel.stores.sqlite import SqliteStore
from keywheel.stores.urls import InFile, InMemory, InRedis, read_url
from tests.stores.build import claim, joined
from tests.stores.server import Server

PASSWORD = "canary-of-the-store"


def settings(url: str | None, **more: object) -> StateSettings:
    return StateSettings(url=Secret(url) if url else None, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))


# --- URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("memory:", InMemory()),
        ("sqlite:/var/lib/keywheel/a%20b.db", InFile(Path("/var/lib/keywheel/a b.db"))),
        ("sqlite:state.db", InFile(Path("state.db"))),
        ("sqlite:~/s.db", InFile(Path("~/s.db").expanduser())),
        ("redis://localhost", InRedis("localhost", 6379, 0, False, None, None, 3)),
        ("redis://[::1]:7000/2", InRedis("::1", 7000, 2, False, None, None, 3)),
        (
            "rediss://me:a%2Fb@store.example:7000/2?protocol=2",
            InRedis("store.example", 7000, 2, True, "me", Secret("a/b"), 2),
        ),
    ],
)
def test_a_url_names_its_place(url: str, place: object) -> None:
    assert read_url(Secret(url)) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "sqlite:",
        "postgres://h/0",
        "http://localhost",
        "redis:",
        "redis:///0",
        "rediss://h:port/0",
        "rediss://[::1/0",
        "rediss://h/one",
        "rediss://h/-1",
        "rediss://h/0?protocol=4",
        "rediss://h/0?ssl_cert_reqs=none",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    secret = url.replace("//", f"//user:{PASSWORD}@")
    with pytest.raises(ConfigError, match=r"state\.url") as caught:
        read_url(Secret(secret))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "address", "allowed", "fine"),
    [
        ("127.0.0.1", "127.0.0.1", False, True),
        ("localhost", "127.0.0.1", False, True),
        ("store.lan", "10.0.0.7", False, False),
        ("store.lan", "10.0.0.7", True, True),
        ("store.lan", "fd00::7", True, True),
        ("store.example", "8.8.8.8", True, False),
        ("unknown.lan", None, False, False),
        ("unknown.lan", None, True, True),
    ],
)
def test_plain_text_is_for_this_machine_and_for_private_networks_if_allowed(
    host: str, address: str | None, allowed: bool, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_args: object, **_more: object) -> list[tuple[object, ...]]:
        if address is None:
            raise OSError("no such host")
        return [(0, 0, 0, "", (address, 0))]

    monkeypatch.setattr(urls.socket, "getaddrinfo", resolve)
    url = Secret(f"redis://:{PASSWORD}@{host}/0")
    if fine:
        assert isinstance(read_url(url, allow_private=allowed), InRedis)
    else:
        with pytest.raises(ConfigError, match="rediss://"):
            read_url(url, allow_private=allowed)


# --- opening ---------------------------------------------------------------------------------------


def test_without_a_url_it_is_a_file_of_the_user(tmp_path: Path) -> None:
    assert place_of(settings(None)) == InFile(tmp_path / "home" / "keywheel" / "state.db")
    state = open_state(settings(None))
    assert isinstance(state.store, SqliteStore)
    assert state.archive is state.store
    assert (tmp_path / "home" / "keywheel" / "state.db").exists()
    state.close()


def test_memory_keeps_nothing(tmp_path: Path) -> None:
    state = open_state(settings("memory:"))
    assert isinstance(state.store, MemoryStore)
    assert state.archive is state.store
    state.close()
    assert not (tmp_path / "home").exists()


def test_a_file_may_be_anywhere_and_power_safe(tmp_path: Path) -> None:
    state = open_state(settings(f"sqlite:{tmp_path}/own/s.db", power_safe=True), group=None)
    assert not state.store.remote  # it needs no share, though it is slow
    assert state.store.take(claim(joined(state.store), 1)).permitted
    state.close()


def test_workers_of_one_group_open_the_same_file(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        first, second = (open_state(settings(None), group="g") for _ in range(2))
    first.store.take(claim(joined(first.store), 1))
    assert second.store.take(claim(joined(second.store, "a/1"), 1)).days == (2,)
    first.close()
    second.close()


def test_redis_has_an_archive_beside_it(server: Server) -> None:
    state = open_state(settings(server.url))
    assert isinstance(state.store, RedisStore)
    assert isinstance(state.archive, SqliteStore)
    state.close()


def test_a_refusing_redis_leaves_the_archive_free(server: Server) -> None:
    with server.client() as client:
        client.set("{other}:schema", "99")
    with pytest.raises(StoreError):
        open_state(settings(server.url, prefix="other"))
    open_state(settings(None)).close()


def test_without_the_extra_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setitem(sys.modules, "keywheel.stores.redis", None)
    with pytest.raises(ConfigError, match=r"keywheel\[redis\]"):
        open_state(settings(server.url))


def test_what_a_store_needs_is_imported_when_it_is_opened() -> None:
    code = "import sys, keywheel, keywheel.stores; print({'sqlite3', 'redis'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout.decode().strip() == "set()"
