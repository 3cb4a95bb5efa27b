"""Opens the store and the archive that the settings name. What a store needs is imported here, when it is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keywheel.errors import ConfigError
from keywheel.secret import Secret
from keywheel.stores.contract import Archive, Store
from keywheel.stores.memory import MemoryStore
from keywheel.stores.urls import InFile, InMemory, InRedis, Place, read_url

if TYPE_CHECKING:
    from keywheel.stores.sqlite import SqliteStore


class Settings(Protocol):
    """What [state] says."""

    @property
    def url(self) -> Secret | None: ...
    @property
    def power_safe(self) -> bool: ...
    @property
    def keep(self) -> int: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def allow_private(self) -> bool: ...
    @property
    def prefix(self) -> str: ...


class State:
    """What was opened. With Redis the two are different things, otherwise one."""

    def __init__(self, store: Store, archive: Archive) -> None:
        self.store = store
        self.archive = archive

    def close(self) -> None:
        """Close both."""
        self.store.close()
        self.archive.close()


def default_file() -> Path:
    """Where the state is kept when no setting says so: `$XDG_STATE_HOME/keywheel/state.db`."""
    from platformdirs import user_state_path  # noqa: PLC0415 - `import keywheel` does without

    return user_state_path("keywheel") / "state.db"


def place_of(settings: Settings) -> Place:
    """Where the state is kept. Raises `ConfigError`."""
    if settings.url is None:
        return InFile(default_file())
    return read_url(settings.url, allow_private=settings.allow_private)


def open_state(settings: Settings, group: str | None = None) -> State:
    """Open what [state] names. `group`: the same for all workers of one gateway, None for a single process.

    Raises `ConfigError` for a URL that cannot be read, `StoreError` for a store that cannot be used.
    """
    place = place_of(settings)
    if isinstance(place, InMemory):
        memory = MemoryStore(keep=settings.keep)
        return State(memory, memory)
    if isinstance(place, InFile):
        file = _open_file(place.path, settings, group)
        return State(file, file)
    archive = _open_file(default_file(), settings, group)
    try:
        return State(_open_redis(place, settings), archive)
    except BaseException:
        archive.close()
        raise


def _open_file(path: Path, settings: Settings, group: str | None) -> "SqliteStore":
    from keywheel.stores.sqlite import SqliteStore  # noqa: PLC0415 - sqlite3 only where it is used

    durability = "power" if settings.power_safe else "process"
    return SqliteStore(path, group=group, durability=durability, keep=settings.keep)


def _open_redis(place: InRedis, settings: Settings) -> Store:
    try:
        from keywheel.stores.redis import RedisStore  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        extra = "pip install 'keywheel[redis]'"
        raise ConfigError(f"state.url names a Redis server; {extra}") from None
    return RedisStore(place, prefix=settings.prefix, ca_file=settings.ca_file)
