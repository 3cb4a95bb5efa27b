"""One process of the gateway: its state opened and its engine built, from the settings to the last word."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keywheel.config import Config
from keywheel.engine import Engine
from keywheel.gateway import logs, run, traces
from keywheel.gateway.app import Gateway
from keywheel.keys import KeyEntry
from keywheel.secret import Secret
from keywheel.stores import open_state
from keywheel.stores.urls import password


@dataclass(frozen=True, slots=True)
class Job:
    """What a gateway serves. `admin`: the hash of the admin token, None without one. `simulated`: answers are
    invented."""

    config: Config
    keys: Sequence[KeyEntry]
    admin: bytes | None = None
    simulated: bool = False

    @property
    def secrets(self) -> list[Secret]:
        """What must not get into a log."""
        gateway, url = self.config.gateway, self.config.state.url
        others = (gateway.admin_token, password(url) if url else None)
        return [
            *(entry.secret for entry in self.keys), *gateway.tokens,
            *(secret for secret in others if secret),
        ]  # fmt: skip


@contextmanager
def opened(
    job: Job, *, group: str | None = None, folder: Path | None = None, worker: int = 0
) -> Generator[Gateway]:
    """The gateway, for as long as the block lasts; as one of several that share their state with `group`, `worker`
    and the `folder` where they meet.

    Raises `ConfigError` for settings that cannot be used, `StoreError` for a state that cannot be.
    """
    state = open_state(job.config.state, group)
    try:
        engine = Engine(job.config, job.keys, state=state, worker=worker)
    except BaseException:
        state.close()
        raise
    try:
        engine.listen(logs.tell)
        gateway = run.build(engine, job.admin)
        gateway.admin.mode = "simulator" if job.simulated else "live"
        with traces.traced(engine, worker), _joined(gateway, folder, worker):
            yield gateway
    finally:
        engine.close()


@contextmanager
def _joined(gateway: Gateway, folder: Path | None, worker: int) -> Generator[None]:
    if folder is None:
        yield
        return
    from keywheel.gateway.peers import Peers  # noqa: PLC0415 - not everywhere

    peers = Peers(folder, worker, gateway.answer)
    try:
        gateway.join(peers)
        yield
    finally:
        peers.leave()
