"""The store of several hosts: Redis or Valkey. Every call is one round trip, and none waits longer than `PATIENCE`.

The server decides with two small scripts, by its own clock. Nothing that is read back is believed before its type and
range are checked. A store that does not answer, or answers nonsense, is lost: the worker goes on by its share.
"""

import logging
from collections.abc import Callable, Sequence
from hashlib import sha1
from threading import Lock
from typing import Any, NoReturn, cast
from uuid import uuid4

from redis import AuthenticationError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from keywheel.core.marks import Mark, fade
from keywheel.errors import StoreError
from keywheel.stores.contract import (
    PATIENCE,
    Answer,
    Claim,
    Parcel,
    Receipt,
    Standing,
    StoreLost,
    Taken,
)
from keywheel.stores.rows import from_text, to_row
from keywheel.stores.scripts import DROP, PUSH, TAKE
from keywheel.stores.urls import InRedis

log = logging.getLogger("keywheel.stores")

SCHEMA = "1"
LARGEST = 2**53
MOST_MARKS = 50_000  # rows that are read at most; a pool has some hundreds
DROPPED = 1_000  # rows that are dropped at once; a script takes some thousands of arguments
KEEP_ALL = "noeviction"
LASTING = ("WRONGPASS", "NOAUTH", "NOPERM", "invalid username", "unknown command")


class RedisStore:
    """`Store` on a Redis or Valkey server. Safe to use from several threads.

    A server that cannot be reached does not stop the start: its calls raise `StoreLost` until it answers. Raises
    `StoreError` for one that refuses us, is written by a newer keywheel, or may throw our counters away.
    """

    inline, remote = False, True

    def __init__(
        self, place: InRedis, *, prefix: str = "keywheel", ca_file: str | None = None
    ) -> None:
        self._prefix = f"{{{prefix}}}"  # braces: a cluster keeps all of it in one place
        self._checked = False
        self._checking = Lock()
        self._client = _client(place, ca_file)
        try:
            self._check()
        except StoreLost as lost:
            log.warning("%s; metered accounts wait for it, or go by their share", lost)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def take(self, claim: Claim) -> Taken:
        """See `Store.take`."""
        caller, account = claim.caller, claim.account
        days = [tally.date for tally in claim.tallies]
        keys = [self._key("birth"), self._key("minute", account)]
        keys += [self._key(kind, account, day) for day in days for kind in ("day", "room")]
        told = [value for tally in claim.tallies for value in tally[2:]]
        arguments = [caller.birth, caller.writer, claim.lease, caller.slots, claim.minute_limit]
        return _taken(self._run(TAKE, keys, [*arguments, *told]), len(days))

    def push(self, parcel: Parcel) -> Receipt:
        """See `Store.push`. The sends of accounts without a tally are left out."""
        caller, tallies = parcel.caller, parcel.tallies
        keys = [self._key(name) for name in ("birth", "seen", "marks")]
        for tally in tallies:
            keys.append(self._key("minute", tally.account))
            keys += [self._key(kind, tally.account, tally.date) for kind in ("day", "room")]
        places = {tally.account: number for number, tally in enumerate(tallies, 1)}
        sends = [(places[s.account], s.lease, s.age) for s in parcel.sends if s.account in places]
        marks = [to_row(mark) for mark in parcel.marks]
        known = [uuid4().hex, caller.writer, caller.slot, f"{caller.heard:.6f}", caller.slots]
        counts = [int(parcel.leaving), len(tallies), len(sends), len(marks)]
        rows = [value for row in (*(t[2:] for t in tallies), *sends, *marks) for value in row]
        return _receipt(self._run(PUSH, keys, [*known, *counts, *rows]), len(tallies))

    def pull(self) -> tuple[Mark, ...]:
        """See `Store.pull`."""
        seconds, rows = self._ask(self._look)
        marks = [mark for text in rows.values() if (mark := from_text(text.partition(" ")[2]))]
        kept = fade(marks, seconds)
        if gone := rows.keys() - {to_row(mark).key for mark in kept}:
            pairs = [text for key in sorted(gone)[:DROPPED] for text in (key, rows[key])]
            self._run(DROP, [self._key("marks")], pairs)
        return kept

    # --- inner -----------------------------------------------------------------------------------

    def _key(self, *parts: object) -> str:
        return ":".join((self._prefix, *map(str, parts)))

    def _look(self) -> tuple[float, dict[str, str]]:
        name = self._key("marks")
        (seconds, _), size = self._client.pipeline(transaction=False).time().hlen(name).execute()
        rows: dict[str, str] = self._client.hgetall(name) if size <= MOST_MARKS else {}
        return float(seconds), rows

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> object:
        if not self._checked:
            self._check()
        return self._ask(lambda: self._evaluate(script, keys, arguments))

    def _evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> object:
        """By its hash; a server that has lost the script gets it again, and the call is repeated as it was."""
        name = sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            return self._client.evalsha(name, len(keys), *keys, *arguments)
        except NoScriptError:
            self._client.script_load(script)
            return self._client.evalsha(name, len(keys), *keys, *arguments)

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RedisError as error:
            _fail(error)

    def _check(self) -> None:
        """Once, as soon as the server answers: that it may be written, is of our form, and keeps what it gets."""
        with self._checking:
            if self._checked:
                return
            schema = self._key("schema")
            self._ask(lambda: self._client.set(schema, SCHEMA, nx=True))
            found = self._ask(lambda: self._client.get(schema))
            if found != SCHEMA:
                raise StoreError(
                    "the shared store was written by another keywheel (its format is not ours); "
                    "use one version everywhere, or another state.prefix"
                )
            memory = self._ask(lambda: self._client.info("memory"))
            policy = memory.get("maxmemory_policy", KEEP_ALL)
            if policy != KEEP_ALL:
                raise StoreError(
                    f"the shared store may throw counters away (maxmemory-policy {policy}); "
                    f"set it to {KEEP_ALL}"
                )
            self._checked = True


def _client(place: InRedis, ca_file: str | None) -> Any:
    secure: dict[str, Any] = {"ssl": True, "ssl_check_hostname": True, "ssl_ca_certs": ca_file}
    return Redis(
        host=place.host,
        port=place.port,
        db=place.database,
        username=place.user,
        password=place.password.reveal() if place.password else None,
        protocol=place.protocol,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),  # who asked decides what to do next
        decode_responses=True,
        encoding_errors="replace",  # one row of nonsense must not hide the others
        **(secure if place.tls else {}),
    )


def _fail(error: RedisError) -> NoReturn:
    """Our own mistakes and refusals last; everything else may be over at the next call."""
    told = f"the shared store: {error}"
    if isinstance(error, AuthenticationError) or any(word in str(error) for word in LASTING):
        raise StoreError(f"{told}; look at state.url and the user's rights") from None
    raise StoreLost(told) from None


# --- checked answers -------------------------------------------------------------------------------


def _taken(answer: object, dates: int) -> Taken:
    if answer == ["lost"]:
        raise StoreLost("the shared store has lost what was in it")
    values = _list(answer)
    if len(values) != dates + 2 or _text(values[0]) not in set(Answer):
        _misunderstood()
    minute, *days = map(_count, values[1:])
    return Taken(Answer(_text(values[0])), minute, tuple(days))


def _receipt(answer: object, tallies: int) -> Receipt:
    values = _list(answer)
    if len(values) != 3:
        _misunderstood()
    now, birth, rows = values
    standings = [Standing(*map(_count, _list(row))) for row in _list(rows) if len(_list(row)) == 3]
    if len(standings) != tallies:
        _misunderstood()
    return Receipt(_moment(now), _text(birth), tuple(standings))


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else _misunderstood()


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < LARGEST else _misunderstood()


def _text(value: object) -> str:
    return value if isinstance(value, str) else _misunderstood()


def _moment(value: object) -> float:
    try:
        seconds = float(_text(value))
    except ValueError:
        _misunderstood()
    return seconds if 0 <= seconds < LARGEST else _misunderstood()


def _misunderstood() -> NoReturn:
    raise StoreLost("the shared store answers what no keywheel wrote")
