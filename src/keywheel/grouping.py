"""Which keys make up an account, and what it is called: as configured, else as `GET /key` tells."""

from collections.abc import Mapping, Sequence

from keywheel.config import AccountSettings
from keywheel.core.types import Account

UNTOLD = 50  # requests a day until somebody says better: the smaller of the two tiers


class Grouping:
    """Names of accounts. `groups`: label → hash of the account's identity, as far as it is known."""

    def __init__(self, labels: Sequence[str], settings: Mapping[str, AccountSettings]) -> None:
        self.groups: dict[str, str] = {}
        self._labels = list(labels)
        self._settings = settings

    def name(self, label: str) -> str:
        """The account of a key: the configured one, or `account` and the place of its first key.

        So learning about one group renames no other.
        """
        for name, entry in self._settings.items():
            if label in entry.keys:
                return name
        group = self.groups.get(label)
        first = next(
            (other for other in self._labels if group and self.groups.get(other) == group), label
        )
        name = f"account{self._labels.index(first) + 1}"
        return name if name not in self._settings else f"own-{name}"

    def account(self, name: str) -> Account:
        """An account with its limits."""
        entry = self._settings.get(name)
        if entry is None:
            return Account(name)
        return Account(name, entry.per_minute, entry.per_day or UNTOLD, entry.concurrency)

    def members(self, group: str) -> list[str]:
        """The keys of a group."""
        return [label for label, found in self.groups.items() if found == group]
