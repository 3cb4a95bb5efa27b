"""What `keywheel doctor` looks at on this machine, and what it makes of OpenRouter's answers."""

import os
import platform
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path, user_state_path

import keywheel
from keywheel.cli.inquiry import AccountAnswer, Answer
from keywheel.cli.phrases import count, span
from keywheel.cli.statefile import is_used, reading, shared_with, state_file
from keywheel.config import Config
from keywheel.environment import ENV_FILES, Environment
from keywheel.errors import ConfigError, Error
from keywheel.gateway.admintoken import FILE as ADMIN_TOKEN
from keywheel.gateway.guard import advice, check_settings, is_loopback
from keywheel.stores.database import is_wal_safe

OK, WARNING, PROBLEM = "ok", "warning", "problem"
SKEW = 5.0  # seconds; less is usual and corrected for
SCARCE = 0.1  # of the day's requests
SOON = 7 * 86_400.0  # seconds before a key expires from which on that is told
TERMS = (
    "OpenRouter's terms forbid one person to open several accounts to get around limits: use keys of one account, "
    "or of other people and organisations who agree"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `verdict` is ok, warning or problem; `remedy`: one thing to do, or to know."""

    name: str
    verdict: str
    told: str
    remedy: str = ""


# --- this machine ----------------------------------------------------------------------------------


def machine(found: Environment) -> Iterator[Check]:
    """Everything that can be seen without asking anybody."""
    yield _versions()
    yield from _exposure(found.config)
    yield from _modes(found.config)
    yield from (
        Check("settings", WARNING, warning) for warning in found.warnings if "chmod" not in warning
    )
    yield _state(found.config)


def _versions() -> Check:
    told = f"keywheel {keywheel.__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if is_wal_safe(sqlite3.sqlite_version_info, several=True):
        return Check("versions", OK, told)
    remedy = (
        "Nothing with one worker. With several keywheel uses a rollback journal, since this SQLite may damage a "
        "write-ahead log that processes share; SQLite 3.51.3 is free of that"
    )
    return Check("versions", OK, told, remedy)


def _exposure(config: Config) -> Iterator[Check]:
    gateway = config.gateway
    try:
        check_settings(gateway)
    except ConfigError as error:
        yield Check("exposure", PROBLEM, str(error), "`keywheel serve` refuses to start like this")
        return
    who = "this machine only" if is_loopback(gateway.host) else "other machines, too"
    tokens = (
        f"{len(gateway.tokens)} client token(s)" if gateway.tokens else "no client token needed"
    )
    if hint := advice(gateway):
        yield Check("exposure", WARNING, hint)
    yield Check("exposure", OK, f"listens on {gateway.host}:{gateway.port}, for {who}; {tokens}")


def _modes(config: Config) -> Iterator[Check]:
    """Files that hold keys or tokens, or decide where keys go."""
    if os.name != "posix":
        return
    secret, trusted = _files(config)
    faults = [
        Check(
            "files",
            PROBLEM if fault == "changed" else WARNING,
            f"{path} can be {fault} by other users",
            f"chmod {mode} {path}",
        )
        for paths, bits, fault, mode in (
            (secret, 0o077, "read", "600"),
            (trusted, 0o022, "changed", "go-w"),
        )
        for path in paths
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & bits
    ]
    yield from faults
    there = sum(path.exists() for path in {*secret, *trusted})
    if not faults:
        told = (
            f"{there} file(s) with settings, keys or state, none open"
            if there
            else "none that could be open"
        )
        yield Check("files", OK, f"{told} to other users")


def _files(config: Config) -> tuple[list[Path], list[Path]]:
    secret = [Path(name) for name in ENV_FILES]
    trusted = [Path("keywheel.toml"), user_config_path("keywheel") / "config.toml"]
    state = user_state_path("keywheel")
    try:
        path = state_file(config)
    except Error:
        return [*secret, state / ADMIN_TOKEN], trusted
    return [*secret, path, state / ADMIN_TOKEN], trusted


def _state(config: Config) -> Check:
    try:
        path = state_file(config)
    except Error as error:
        return Check(
            "state",
            WARNING,
            str(error),
            "Counters start anew with every start: set state.url to a file",
        )
    where = f", counters shared at {server}" if (server := shared_with(config)) else ""
    if not path.exists():
        return Check("state", OK, f"{path} does not exist yet{where}; the first start makes it")
    try:
        with reading(path):
            pass
    except Error as error:
        return Check(
            "state", PROBLEM, str(error), "keywheel state reset puts it aside and begins a new one"
        )
    used = "in use by a gateway" if is_used(path) else "not in use"
    return Check("state", OK, f"{path} is sound and {used}{where}")


# --- what OpenRouter says --------------------------------------------------------------------------


def keys(answers: Sequence[Answer], now: float) -> Iterator[Check]:
    """Whether each is valid."""
    good = [answer.label for answer in answers if answer.check and answer.check.passed]
    if good:
        yield Check("keys", OK, f"{len(good)} of {len(answers)} valid: {', '.join(good)}")
    for answer in answers:
        yield from _key(answer, now)


def _key(answer: Answer, now: float) -> Iterator[Check]:
    name, check = f"key {answer.label}", answer.check
    if check is None:
        yield Check(
            name,
            WARNING,
            f"could not be asked: {answer.fault}",
            "Check this machine's connection and upstream.base_url",
        )
        return
    if not check.passed:
        yield Check(
            name,
            PROBLEM,
            f"is not valid ({answer.origin})",
            "Replace it: https://openrouter.ai/settings/keys",
        )
        return
    facts = check.facts
    if facts is None:
        return
    if facts.is_management:
        yield Check(
            name,
            PROBLEM,
            "is a management key, which answers no requests",
            "Make an ordinary one: https://openrouter.ai/settings/keys",
        )
    if facts.limit_remaining is not None and facts.limit_remaining <= 0:
        yield Check(
            name,
            PROBLEM,
            "has reached its own spending limit, which closes free models, too",
            "Raise the key's limit: https://openrouter.ai/settings/keys",
        )
    if facts.spent_until is not None and facts.spent_until > now:
        yield Check(
            name,
            PROBLEM,
            "has used up a budget of its owner",
            "Raise the budget, or wait for its reset: https://openrouter.ai/settings/keys",
        )
    if facts.expires_at is not None and facts.expires_at < now + SOON:
        yield Check(
            name,
            WARNING,
            f"expires in {span(facts.expires_at - now)}",
            "Replace it: https://openrouter.ai/settings/keys",
        )


def accounts(told: Sequence[AccountAnswer]) -> Iterator[Check]:
    """Which keys share one, and what each has left. Nothing is known of an account without a valid key."""
    told = [a for a in told if any(key.check and key.check.passed for key in a.keys)]
    if any(len(account.keys) > 1 for account in told):
        groups = "; ".join(f"{a.name}: {', '.join(key.label for key in a.keys)}" for a in told)
        remedy = "Keys of one account share one quota: more of them add no requests"
        yield Check(
            "accounts",
            OK,
            f"{len(told)} account(s) · {groups}",
            remedy + (f". {TERMS}" if len(told) > 1 else ""),
        )
    elif len(told) > 1:
        yield Check("accounts", OK, f"{len(told)} keys, each of an account of its own", TERMS)
    for account in told:
        yield from _quota(account)
        yield from _credits(account)
        yield from _privacy(account)


def _quota(account: AccountAnswer) -> Iterator[Check]:
    facts = next((k.check.facts for k in account.keys if k.check and k.check.facts), None)
    if facts is None or facts.free_used is None or facts.free_limit is None:
        return
    left = max(0, facts.free_limit - facts.free_used)
    told = f"{count(left)} of {count(facts.free_limit)} free requests left today"
    remedy = (
        "Wait for the new UTC day"
        if not left
        else "Slow down, or spread the load"
        if left < facts.free_limit * SCARCE
        else ""
    )
    if facts.is_free_tier:
        remedy += (
            "; b" if remedy else "B"
        ) + "uying 10 credits once raises 50 requests a day to 1,000"
    verdict = WARNING if left < facts.free_limit * SCARCE else OK
    yield Check(f"account {account.name}", verdict, told, remedy)


def _credits(account: AccountAnswer) -> Iterator[Check]:
    if account.balance is not None and account.balance < 0:
        told = f"has a negative balance ({account.balance:.2f} USD), which closes free models, too"
        yield Check(
            f"account {account.name}",
            PROBLEM,
            told,
            "Add credits: https://openrouter.ai/settings/credits",
        )


def _privacy(account: AccountAnswer) -> Iterator[Check]:
    if account.hidden:
        names = ", ".join(account.hidden[:3]) + (", …" if account.hidden[3:] else "")
        told = f"its privacy settings or guardrails remove {len(account.hidden)} free model(s): {names}"
        yield Check(
            f"account {account.name}",
            WARNING,
            told,
            "Allow them if you agree: https://openrouter.ai/settings/privacy",
        )


def clock(answers: Iterable[Answer]) -> Iterator[Check]:
    """This machine's clock beside the upstream's."""
    skews = sorted(answer.skew for answer in answers if answer.skew is not None)
    if not skews:
        return
    skew = skews[len(skews) // 2]
    if abs(skew) <= SKEW:
        yield Check("clock", OK, "agrees with the upstream's")
        return
    direction = "behind" if skew > 0 else "ahead of"
    yield Check(
        "clock",
        WARNING,
        f"{span(abs(skew))} {direction} the upstream's",
        "Set it, e.g. by switching NTP on (timedatectl set-ntp true)",
    )


def models(number: int) -> Check:
    """How many can be used."""
    if number:
        return Check("models", OK, f"{number} free model(s) in the list")
    return Check(
        "models",
        PROBLEM,
        "no free model that may be used",
        "Look at `keywheel models --all` for the reason of each",
    )
