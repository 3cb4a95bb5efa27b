"""The admin token: configured, or made at the first start and kept as a hash (requirement C2)."""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from keywheel.config import GatewaySettings
from keywheel.errors import ConfigError
from keywheel.secret import Secret

FILE = "admin-token.sha256"


@dataclass(frozen=True, slots=True)
class AdminToken:
    """What admin tokens are compared with. `fresh`: made just now, to be shown once and never again."""

    digest: bytes
    fresh: Secret | None = None


def admin_token(settings: GatewaySettings, folder: Path) -> AdminToken:
    """The token in force; makes one at the first start. Raises `ConfigError` for a file that cannot be trusted.

    To get a new one: delete the file and start again, or set KEYWHEEL_ADMIN_TOKEN.
    """
    if settings.admin_token:
        return AdminToken(hashlib.sha256(settings.admin_token.reveal().encode()).digest())
    path = folder / FILE
    try:
        return AdminToken(_read(path)) if path.exists() else _make(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; make its folder writable, or set KEYWHEEL_ADMIN_TOKEN"
        ) from None


def fresh() -> AdminToken:
    """A new token that is kept nowhere."""
    token = Secret(secrets.token_urlsafe(32))
    return AdminToken(hashlib.sha256(token.reveal().encode()).digest(), token)


def is_kept(folder: Path) -> bool:
    """Whether a token was made by a former start."""
    return (folder / FILE).exists()


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle) as file:
        facts = os.fstat(handle)
        text = file.read(100).strip()
    if os.name == "posix" and (facts.st_mode & 0o077 or facts.st_uid != os.geteuid()):
        raise ConfigError(f"{path}: only you may be able to read it; chmod 600 {path}")
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ConfigError(f"{path}: holds no hash of a token; delete it to get a new token")
    return digest


def _make(path: Path) -> AdminToken:
    made = fresh()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(made.digest.hex() + "\n")
        file.flush()
        os.fsync(handle)
    try:
        os.link(new, path)  # fails where another worker was first, whose token then counts
    except FileExistsError:
        return AdminToken(_read(path))
    finally:
        new.unlink()
    return made
