"""What OpenRouter says about the keys that are set: asked in parallel, costing no quota."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import httpx2

from keywheel.catalog import Catalog, KeyCheck, Unavailable
from keywheel.cli.patience import together
from keywheel.environment import Environment
from keywheel.grouping import Grouping
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.wire.menu import Menu, menu

SALT = 32  # bytes; identities are hashed for as long as the command runs


@dataclass(frozen=True, slots=True)
class Answer:
    """What `GET /key` said about one key. `check` None: it could not be asked, `fault` says why.

    `skew`: seconds to be added to this machine's clock to get the upstream's.
    """

    label: str
    origin: str
    account: str
    check: KeyCheck | None
    fault: str = ""
    skew: float | None = None


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """What is true of all keys of an account. None: could not be found out.

    `balance`: credits bought less credits used, in USD; `hidden`: free models its settings remove.
    """

    name: str
    keys: tuple[Answer, ...]
    balance: float | None = None
    hidden: tuple[str, ...] | None = None


def ask_keys(found: Environment, catalog: Catalog) -> list[Answer]:
    """`GET /key` for every key."""
    what = f"asking {_host(found)} about {len(found.keys)} key(s)"
    answers = together(what, [partial(_ask, catalog, entry) for entry in found.keys])
    grouping = Grouping([entry.label for entry in found.keys], found.config.accounts)
    for label, check, *_ in answers:
        if check and check.account:
            grouping.groups[label] = check.account
    origins = {entry.label: entry.origin for entry in found.keys}
    return [
        Answer(label, origins[label], grouping.name(label), check, fault, skew)
        for label, check, fault, skew in answers
    ]


def ask_accounts(
    found: Environment, answers: list[Answer], catalog: Catalog, free: frozenset[str]
) -> list[AccountAnswer]:
    """What one valid key of each account tells about it. `free`: the candidates of the public list."""
    secrets = {entry.label: entry.secret for entry in found.keys}
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.account, []).append(answer)
    jobs = [partial(_look, name, keys, secrets, catalog, free) for name, keys in groups.items()]
    return together(f"asking {_host(found)} about {len(jobs)} account(s)", jobs)


def ask_models(found: Environment, catalog: Catalog) -> Menu:
    """The list of models that chat, by our taste. Raises `Unavailable`."""
    (entries,) = together(f"asking {_host(found)} for its models", [catalog.models])
    entries = [entry for entry in entries if not entry.model.embeds]
    return menu(entries, found.config.taste, time.time())


def catalog_of(found: Environment) -> Catalog:
    """Raises `ConfigError`."""
    return Catalog(found.config.upstream, salt=os.urandom(SALT))


def _ask(catalog: Catalog, entry: KeyEntry) -> tuple[str, KeyCheck | None, str, float | None]:
    began = time.time()
    try:
        check = catalog.key(entry.secret)
    except Unavailable as error:
        return entry.label, None, str(error), None
    middle = (began + time.time()) / 2
    # A Date is cut to whole seconds: half a one is the best guess at the rest.
    return entry.label, check, "", None if check.date is None else check.date + 0.5 - middle


def _look(
    name: str,
    keys: list[Answer],
    secrets: Mapping[str, Secret],
    catalog: Catalog,
    free: frozenset[str],
) -> AccountAnswer:
    valid = next((key.label for key in keys if key.check and key.check.passed), None)
    if valid is None:
        return AccountAnswer(name, tuple(keys))
    try:
        balance = catalog.balance(secrets[valid])
        hidden = tuple(sorted(free - catalog.visible(secrets[valid])))
    except Unavailable:
        return AccountAnswer(name, tuple(keys))
    return AccountAnswer(name, tuple(keys), balance, hidden)


def _host(found: Environment) -> str:
    return httpx2.URL(found.config.upstream.base_url).host
