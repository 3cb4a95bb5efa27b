"""Redis and Valkey: how they are reached, refused, lost and found again."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from keywheel.core.marks import Count
from keywheel.errors import StoreError
from keywheel.secret import Secret
from keywheel.stores import Parcel, StoreLost
from keywheel.stores.redis import MOST_MARKS, RedisStore
from keywheel.stores.urls import InRedis, read_url
from tests.stores.build import caller, claim, joined, tally
from tests.stores.server import Server, free_port, redis_server

PASSWORD = "a password nobody knows"


def place_of(url: str) -> InRedis:
    place = read_url(Secret(url))
    assert isinstance(place, InRedis)
    return place


@pytest.fixture
def clean(server: Server) -> Iterator[Server]:
    yield server
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def store(clean: Server) -> Iterator[RedisStore]:
    opened = RedisStore(place_of(clean.url))
    yield opened
    opened.close()


# --- opening ---------------------------------------------------------------------------------------


def test_it_never_blocks_the_event_loop(store: RedisStore) -> None:
    assert not store.inline


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_throw_counters_away_is_refused(clean: Server, policy: str) -> None:
    with clean.client() as client:
        client.config_set("maxmemory-policy", policy)
    with pytest.raises(StoreError, match=policy):
        RedisStore(place_of(clean.url))


def test_a_store_of_another_form_is_refused(clean: Server) -> None:
    with clean.client() as client:
        client.set("{keywheel}:schema", "99")
    with pytest.raises(StoreError, match="another keywheel"):
        RedisStore(place_of(clean.url))


def test_a_prefix_keeps_two_gateways_apart(clean: Server, store: RedisStore) -> None:
    other = RedisStore(place_of(clean.url), prefix="other")
    store.take(claim(joined(store), 1))
    assert other.take(claim(joined(other), 1)).days == (1,)
    other.close()


def test_every_name_has_the_prefix_and_all_but_the_fixed_ones_end(
    clean: Server, store: RedisStore
) -> None:
    who = joined(store)
    store.take(claim(who, 1))
    store.push(Parcel(who, (Count("x", 1, "w", 1),), (tally(),)))
    with clean.client() as client:
        names = set(client.scan_iter())
        assert {name for name in names if client.ttl(name) < 0} == {
            "{keywheel}:birth",
            "{keywheel}:schema",
            "{keywheel}:seen",
        }
    assert all(name.startswith("{keywheel}:") for name in names)


def test_a_wrong_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", PASSWORD) as server:
        quoted = PASSWORD.replace(" ", "%20")
        right = RedisStore(place_of(f"redis://:{quoted}@127.0.0.1:{server.port}/1"))
        assert right.take(claim(joined(right), 1)).permitted
        right.close()
        for url in (server.url, f"redis://:{quoted}x@127.0.0.1:{server.port}"):
            with pytest.raises(StoreError, match="rights") as caught:
                RedisStore(place_of(url))
            assert PASSWORD not in str(caught.value)


def test_tls_is_verified(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key", "stranger")}
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(files["ca"])
    stranger.cert_pem.write_to_path(files["stranger"])
    leaf.private_key_pem.write_to_path(files["key"])
    leaf.cert_chain_pems[0].write_to_path(files["cert"])
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", files["cert"], "--tls-auth-clients")
    more = ("no", "--tls-key-file", files["key"], "--tls-ca-cert-file", files["ca"])
    with redis_server(tmp_path, *options, *more):
        place = place_of(f"rediss://localhost:{port}")
        trusted = RedisStore(place, ca_file=files["ca"])
        assert trusted.take(claim(joined(trusted), 1)).permitted
        trusted.close()
        distrusted = RedisStore(place, ca_file=files["stranger"])
        with pytest.raises(StoreLost):
            distrusted.pull()
        distrusted.close()


# --- lost and found --------------------------------------------------------------------------------


def test_a_server_that_is_not_there_does_not_stop_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with caplog.at_level(logging.WARNING):
        store = RedisStore(place_of(f"redis://127.0.0.1:{port}"))
    assert "share" in caplog.text
    with pytest.raises(StoreLost):
        store.push(Parcel(caller()))
    with redis_server(tmp_path, port=port):
        assert store.take(claim(joined(store), 1)).permitted
    store.close()


def test_a_server_found_later_is_checked_then(tmp_path: Path) -> None:
    port = free_port()
    store = RedisStore(place_of(f"redis://127.0.0.1:{port}"))
    with (
        redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru", port=port),
        pytest.raises(StoreError, match="allkeys-lru"),
    ):
        joined(store)
    store.close()


def test_a_server_that_hangs_is_given_up_after_half_a_second(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        store = RedisStore(place_of(server.url))
        who = joined(store)
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(StoreLost):
            store.take(claim(who, 1))
        os.kill(server.process.pid, signal.SIGCONT)
        again = store.take(claim(who, 1))  # the server has got both
        assert again.permitted
        assert again.days == (1,)
        store.close()


def test_a_lost_script_is_loaded_again(clean: Server, store: RedisStore) -> None:
    who = joined(store)
    store.take(claim(who, 1))
    with clean.client() as client:
        client.script_flush()
    assert store.take(claim(who, 2)).days == (2,)


def test_an_emptied_server_permits_nothing_until_rows_are_told_again(
    clean: Server, store: RedisStore
) -> None:
    who = joined(store)
    store.take(claim(who, 1, tally(mine=4)))
    with clean.client() as client:
        client.flushall()
    with pytest.raises(StoreLost):
        store.take(claim(who, 2))
    receipt = store.push(Parcel(who, tallies=(tally(mine=5),)))
    assert receipt.birth != who.birth
    with pytest.raises(StoreLost):
        store.take(claim(who, 2))
    assert store.take(claim(who._replace(birth=receipt.birth), 2)).days == (6,)


def test_a_failover_that_loses_the_last_writes_is_made_good_by_the_next_take(
    clean: Server, store: RedisStore
) -> None:
    who = joined(store)
    store.take(claim(who, 1, tally(mine=7)))
    with clean.client() as client:
        client.hset("{keywheel}:day:team:20000", who.writer, 3)
    assert store.take(claim(who, 2, tally(mine=8))).days == (9,)


# --- what is read back -----------------------------------------------------------------------------

JUNK = [b"", b"\xff\xfe", b"-1", b"1e999", b"nan", b"x" * 5000, b'["block"]', b"0 {}", b"9" * 40]


@pytest.mark.parametrize("junk", JUNK)
def test_nonsense_in_the_store_is_lost_or_ignored_but_never_believed(
    clean: Server, store: RedisStore, junk: bytes
) -> None:
    who = joined(store)
    mark = Count("x", 1, "w", 1)
    store.push(Parcel(who, (mark,), (tally(),)))
    with clean.client() as client:
        client.hset("{keywheel}:marks", "evil", junk)
        client.hset("{keywheel}:day:team:20000", "evil", junk)
        client.hset("{keywheel}:seen", "evil", junk)
    for call in (
        lambda: store.take(claim(who, 1)),
        lambda: store.push(Parcel(who, tallies=(tally(),))),
    ):
        try:
            answer = call()
        except StoreLost:
            continue
        assert type(answer).__name__ in ("Taken", "Receipt")
    assert store.pull() == (mark,)


def test_more_marks_than_there_can_be_are_not_read(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_MARKS > 10_000
    monkeypatch.setattr("keywheel.stores.redis.MOST_MARKS", 1)
    who = joined(store)
    store.push(Parcel(who, tuple(Count("x", 1, writer, 1) for writer in "vw")))
    assert store.pull() == ()


@pytest.mark.parametrize(
    "reply",
    [
        [],
        "taken",
        None,
        ["taken", 1, -1],
        ["taken", 1, 2**53],
        ["free", 1, 1],
        ["taken", 1],
        ["taken", "1", 1],
        [["taken"], 1, 1],
        ["x", "b", []],
        ["nan", "b", []],
        ["-1", "b", []],
        ["1.0", None, []],
        ["1.0", "b", [[1, 2, 3]]],
        ["1.0", "b", {}],
        [1.0, "b", []],
    ],
)
def test_an_answer_of_no_known_form_is_a_lost_store(
    reply: object, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_evaluate", lambda *_args: reply)
    with pytest.raises(StoreLost):
        store.take(claim(caller(birth="b"), 1))
    with pytest.raises(StoreLost):
        store.push(Parcel(caller()))


def test_a_server_that_cannot_write_now_is_lost(clean: Server, store: RedisStore) -> None:
    who = joined(store)
    with clean.client() as client:
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreLost):
            store.take(claim(who, 1))
        client.config_set("min-replicas-to-write", 0)
    assert store.take(claim(who, 1)).permitted


def test_dead_marks_are_dropped_from_the_server(clean: Server, store: RedisStore) -> None:
    who = joined(store)
    old, new = (Count("x", slot, "w", 1) for slot in (1, 5))
    store.push(Parcel(who, (old, new)))
    assert store.pull() == (new,)
    with clean.client() as client:
        assert client.hlen("{keywheel}:marks") == 1
