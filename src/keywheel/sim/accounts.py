"""The customers: accounts with their true counters, and the keys that share them."""

from fnmatch import fnmatchcase
from hashlib import sha256
from math import ceil

from keywheel.sim.endpoints import Faults
from keywheel.sim.kinds import Kind
from keywheel.sim.quota import DAY, MINUTE, Day, open_window
from keywheel.sim.rulings import KeyView
from keywheel.sim.spec import Account, Scenario


class Ledger:
    """One account, live."""

    def __init__(self, terms: Account, name: str, scenario: Scenario, start: float) -> None:
        lag = scenario.counter_lag if terms.counter_lag is None else terms.counter_lag
        self.terms = terms
        self.name = name
        self.user_id = "user_" + sha256(name.encode()).hexdigest()[:27]
        self.minute = open_window(scenario.window, terms.minute_limit)
        self.day = Day(terms.day_limit, lag)
        self.day.start(start, terms.used_today)
        self.usage = terms.usage
        self.faults = Faults(terms.faults)
        self.attempts = 0  # of our callers, over all time
        self._raise_at = None if terms.raised_after is None else start + terms.raised_after
        self._leaked_at = start
        self._hidden: dict[str, bool] = {}

    @property
    def balance(self) -> float:
        """Money left, USD."""
        return self.terms.credits - self.usage

    def count(self, now: float) -> Kind | None:
        """Count one attempt on a free model; the limit that refuses it, if any."""
        self.settle(now)
        self.attempts += 1
        in_minute = self.minute.take(now)
        in_day = self.day.take(now)
        if not in_minute:
            return Kind.MINUTE
        return None if in_day else Kind.DAY

    def charge(self, paid: bool) -> Kind | None:
        """Why the balance refuses a request, if it does. A negative one stops free models too."""
        if self.balance < 0:
            return Kind.CREDITS
        if not paid or self.balance > 0:
            return None
        return Kind.CREDITS if self.terms.credits else Kind.NEVER_PAID

    def hides(self, model: str) -> bool:
        """Whether the account's privacy settings exclude a model."""
        if not self.terms.hidden:
            return False
        if model not in self._hidden:
            self._hidden[model] = any(fnmatchcase(model, each) for each in self.terms.hidden)
        return self._hidden[model]

    def settle(self, now: float) -> None:
        """Catch up on what happens by itself: the date, the top-up, the others' requests."""
        self.day.roll(now)
        if self._raise_at is not None and now >= self._raise_at:
            self.day.limit, self._raise_at = self.terms.raised_to, None
        if self.terms.leak_per_minute:
            self._leak(now)

    def _leak(self, now: float) -> None:
        self._leaked_at = max(self._leaked_at, now // DAY * DAY)
        rate = self.terms.leak_per_minute / MINUTE
        leaked = int((now - self._leaked_at) * rate)
        if leaked > 0:
            self._leaked_at += leaked / rate
            self.day.take(now, leaked)
            self.minute.take(now, min(leaked, ceil(self.terms.leak_per_minute)))

    def spend(self, count: int, now: float) -> None:
        """Count free requests that others make on this account now."""
        self.settle(now)
        self.day.take(now, count)
        self.minute.take(now, count)


class KeyRecord:
    """One key, live. It knows its label and its mask, not its secret."""

    def __init__(self, ledger: Ledger, number: int, mask: str) -> None:
        self.ledger = ledger
        self.number = number
        self.label = f"key-{number + 1}"
        self._mask = mask

    def view(self, now: float, *, counter: bool) -> KeyView:
        """What the service tells the holder of this key."""
        ledger = self.ledger
        ledger.settle(now)
        return KeyView(
            label=self._mask,
            user_id=ledger.user_id,
            credits=ledger.terms.credits,
            usage=ledger.usage,
            free_tier=ledger.terms.credits == 0 and ledger.day.limit <= 50,
            used=ledger.day.shown(now) if counter else None,
            limit=ledger.day.limit,
        )
