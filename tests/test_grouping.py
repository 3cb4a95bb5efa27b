"""Keys are put into accounts by what `GET /key` says, whatever the order in which the answers come."""

from itertools import permutations

import pytest

from keywheel.config import AccountSettings, Config
from keywheel.engine import Engine
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret


def engine(config: Config | None = None) -> Engine:
    entries = [KeyEntry(label(n), Secret(f"sk-or-v1-{n:064x}"), "test") for n in (1, 2, 3)]
    return Engine(config or Config(), entries)


def accounts(of: Engine) -> dict[str, list[str]]:
    return {account["name"]: account["keys"] for account in of.report()["accounts"]}


@pytest.mark.parametrize("order", list(permutations(["primary", "secondary", "tertiary"])))
def test_keys_of_one_group_share_the_account_named_after_the_first(order: tuple[str, ...]) -> None:
    groups = {"primary": "a", "secondary": "b", "tertiary": "a"}
    wheel = engine()
    for name in order:
        wheel.take_group(name, groups[name])
    assert accounts(wheel) == {"account1": ["primary", "tertiary"], "account2": ["secondary"]}


def test_unknown_groups_leave_each_key_on_its_own() -> None:
    wheel = engine()
    wheel.take_group("primary", None)
    assert len(accounts(wheel)) == 3


def test_configuration_wins_over_what_the_upstream_says() -> None:
    team = {"team": AccountSettings(keys=("primary", "secondary"), per_day=1000)}
    wheel = engine(Config(accounts=team))
    wheel.take_group("primary", "a")
    wheel.take_group("secondary", "b")
    assert accounts(wheel) == {"team": ["primary", "secondary"], "account3": ["tertiary"]}
