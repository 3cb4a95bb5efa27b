"""When `GET /key` is to be asked. It costs no quota, so it is how keys and accounts are looked at without a request.

* a key that was never checked: at once (start, new key);
* a key that was refused (rows 7 and 10): after 5 min, 30 min, 6 h, then daily; a key at its spending limit: hourly;
* an account: hourly while it is used or out of credits, after a platform 429, and shortly after UTC midnight,
  spread so that accounts do not ask all at once.

Everything is read off the roster; kept are only the looks taken. Which key speaks for an account does not matter.
"""

from dataclasses import dataclass

from keywheel.core.breaker import Block
from keywheel.core.quota import Reading
from keywheel.core.roster import Roster
from keywheel.core.spread import spread
from keywheel.core.states import AccountState, KeyState
from keywheel.core.types import DAY, FOREVER, Event, Provenance, Reopened

HOUR = 3_600.0
KEY_LIMIT = "key-limit"
BAD_KEY = ("bad-key", "bad-key-400")  # what the upstream closes a key for that it does not accept
SCHEDULES = {
    **dict.fromkeys(BAD_KEY, (300.0, 1_800.0, 6 * HOUR, DAY)),
    KEY_LIMIT: (HOUR,),
}
NO_CREDITS = "no-credits"
CHECKED = "GET /key"
DAY_SPENT = "platform-day"
AFTER_MIDNIGHT, MIDNIGHT_SPREAD = 5.0, 55.0  # seconds into the UTC day
GAP = 10.0  # seconds between two urgent looks at one account: a storm of 429s is one piece of news


@dataclass(slots=True)
class _Look:
    """What is known of the looks at one key or account."""

    at: float | None = None  # the latest
    refused: int = 0  # how often in a row the key was not good
    urgent: bool = False
    seen: int = 0  # number of the latest lease at that time


class Checks:
    """Says which keys to look at, and is told which were."""

    __slots__ = ("_accounts", "_keys", "_roster")

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._keys: dict[str, _Look] = {}
        self._accounts: dict[str, _Look] = {}

    def due(self, now: float) -> tuple[str, ...]:
        """The keys to be checked now, each once. They stay due until `checked` says that they were."""
        due: dict[str, None] = {}
        for account in self._roster.accounts.values():
            keys = [key.name for key in account.keys if self._key_is_due(key, now)]
            if not keys and self._account_is_due(account, now):
                keys = [key.name for key in account.keys if _speaks(key)][:1]
            due.update(dict.fromkeys(keys))
        return tuple(due)

    def checked(self, key: str, passed: bool, now: float) -> None:
        """`GET /key` answered. A failed attempt to ask is no answer and is not reported here."""
        state = self._roster.keys.get(key)
        if state is None:
            return
        look = self._keys.setdefault(key, _Look())
        look.at, look.urgent = now, False
        known = _refusal(state, now)  # a check that closes a key is not yet one that confirms it
        look.refused = look.refused + 1 if known and not passed else 0
        if passed:
            account = self._accounts.setdefault(state.account.name, _Look())
            account.at, account.urgent, account.seen = now, False, _latest_lease(state.account)

    def urge(self, key: str) -> None:
        """Look at this key as soon as possible."""
        self._keys.setdefault(key, _Look()).urgent = True

    def urge_account(self, account: str) -> None:
        """Look at this account as soon as possible."""
        self._accounts.setdefault(account, _Look()).urgent = True

    def _key_is_due(self, key: KeyState, now: float) -> bool:
        look = self._keys.get(key.name)
        if look is None or look.at is None or look.urgent:
            return True
        block = _refusal(key, now)
        if block is None:
            return False
        waits = SCHEDULES[block.reason]
        return now >= max(block.at, look.at) + waits[min(look.refused, len(waits) - 1)]

    def _account_is_due(self, account: AccountState, now: float) -> bool:
        look = self._accounts.get(account.name)
        if look is None or look.at is None:
            return False  # its keys are due themselves
        if look.urgent:
            return now >= look.at + GAP
        if self._is_new_day(account, look.at, now):
            return True
        quota = account.quota
        spent = quota.metered and not quota.day_remaining(now)  # a top-up may raise the limit
        active = spent or _latest_lease(account) > look.seen or _lacks_credits(account, now)
        return active and now >= look.at + HOUR

    def _is_new_day(self, account: AccountState, last: float, now: float) -> bool:
        quota = account.quota
        day = quota.day(now)
        wait = AFTER_MIDNIGHT + MIDNIGHT_SPREAD * spread(account.name, day, "check")
        begins = day * DAY - quota.skew + wait
        return quota.metered and last < begins <= now


# --- what a passed check opens ---------------------------------------------------------------------


def believe(key: KeyState, reading: Reading, now: float) -> list[Event]:
    """Open a key that passed: a refusal is over, a spending limit only if there is room again."""
    breaker = key.breaker
    opened = False
    for provenance in (Provenance.AUTHORITATIVE, Provenance.HEURISTIC):
        block = breaker.blocks.get(provenance)
        if block is None or block.reason not in SCHEDULES:
            continue
        if block.reason != KEY_LIMIT or reading.room:
            opened |= breaker.clear(provenance, now)
    return [Reopened(now, breaker.scope, CHECKED)] if opened else []


def reopen(account: AccountState, now: float) -> list[Event]:
    """Open an account that may send more than before: it was topped up, or its day is not spent after all."""
    events: list[Event] = []
    for breaker in (account.breaker, account.paid):
        block = breaker.blocks.get(Provenance.AUTHORITATIVE)
        told = block is not None and block.reason in (NO_CREDITS, DAY_SPENT)
        if told and breaker.clear(Provenance.AUTHORITATIVE, now):
            events.append(Reopened(now, breaker.scope, CHECKED))
    return events


# --- inner -----------------------------------------------------------------------------------------


def _refusal(key: KeyState, now: float) -> Block | None:
    """What the upstream closed a key for, if `GET /key` can tell that it is over."""
    block = key.breaker.blocks.get(Provenance.AUTHORITATIVE)
    return block if block and block.until > now and block.reason in SCHEDULES else None


def _latest_lease(account: AccountState) -> int:
    return max((key.last_used for key in account.keys), default=0)


def _lacks_credits(account: AccountState, now: float) -> bool:
    block = account.paid.blocks.get(Provenance.AUTHORITATIVE)
    return block is not None and block.reason == NO_CREDITS and block.until > now


def _speaks(key: KeyState) -> bool:
    """Whether the upstream accepts this key, as far as known."""
    block = key.breaker.blocks.get(Provenance.AUTHORITATIVE)
    return block is None or block.until != FOREVER
