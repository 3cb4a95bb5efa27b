"""How commands ask a running gateway."""

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from keywheel.cli.manners import Unreachable
from keywheel.config import GatewaySettings
from keywheel.environment import gather
from keywheel.errors import Error
from keywheel.secret import Secret

if TYPE_CHECKING:
    import httpx2

Json = dict[str, Any]
PATIENCE = 5.0  # seconds for an answer
SILENCE = 25.0  # seconds without a word on a stream that sends a comment every 10
REMEDY = (
    "set KEYWHEEL_ADMIN_TOKEN as the gateway has it. It was shown at the gateway's first start; for a new one delete "
    "admin-token.sha256 in its state folder and start it again"
)


class Line:
    """A line to the gateway that the settings name.

    Every call raises `Unreachable` when nobody answers, and `Error` when it refuses or is no gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.address = f"http://{_reachable(settings.host)}:{settings.port}"
        self._token = settings.admin_token or next(iter(settings.tokens), None)
        self._socket: socket | None = None  # of the stream that is read now

    def get(self, path: str) -> Json:
        """What it tells."""
        return self._ask("GET", path)

    def post(self, *path: str) -> Json:
        """Have it do something. A name may hold anything."""
        return self._ask("POST", "/" + "/".join(quote(part, safe="/:") for part in path))

    def states(self) -> Iterator[Json]:
        """Every state that it tells, as it comes, until it ends the stream."""
        import httpx2  # noqa: PLC0415 - most commands ask nobody
        import msgspec  # noqa: PLC0415

        try:
            with httpx2.stream("GET", f"{self.address}/admin/events", **self._terms(SILENCE)) as it:
                if it.status_code != 200:
                    raise self._refused(it.status_code, None)
                self._socket = it.extensions["network_stream"].get_extra_info("socket")
                is_state = False
                for line in it.iter_lines():
                    if line.startswith("event: "):
                        is_state = line == "event: state"
                    elif is_state and line.startswith("data: "):
                        yield msgspec.json.decode(line.removeprefix("data: "))
        except httpx2.HTTPError:
            raise self._unreachable() from None

    def hang_up(self) -> None:
        """End the stream that another thread reads."""
        if self._socket:
            with suppress(OSError):  # it has ended already
                self._socket.shutdown(SHUT_RDWR)

    def _ask(self, method: str, path: str) -> Json:
        import httpx2  # noqa: PLC0415 - most commands ask nobody

        try:
            response = httpx2.request(method, self.address + path, **self._terms(PATIENCE))
        except httpx2.HTTPError:
            raise self._unreachable() from None
        body = _object(response)
        if response.status_code != 200 or "schema_version" not in body:
            raise self._refused(response.status_code, body)
        return body

    def _terms(self, patience: float) -> Json:
        auth = {"authorization": f"Bearer {_plain(self._token)}"} if self._token else {}
        return {"headers": auth, "trust_env": False, "timeout": patience}

    def _unreachable(self) -> Unreachable:
        return Unreachable(
            f"no gateway answers at {self.address}; start one with: keywheel serve, or name the port of the one that "
            "runs: KEYWHEEL_PORT=…"
        )

    def _refused(self, status: int, body: Json | None) -> Error:
        if status in (401, 403):
            return Error(f"the gateway at {self.address} wants the admin token; {REMEDY}")
        told = (body or {}).get("error")
        if isinstance(told, dict) and (message := cast(Json, told).get("message")):
            return Error(str(message))
        return Error(f"what answers at {self.address} is no keywheel gateway ({status})")


def line() -> Line:
    """The line to the gateway of this folder's settings."""
    return Line(gather().config.gateway)


def from_gateway(path: str) -> Json:
    """What the running gateway answers. Raises `Unreachable`, or `Error` where something else answers."""
    return line().get(path)


def _plain(token: Secret) -> str:
    return token.reveal()


def _object(response: "httpx2.Response") -> Json:
    try:
        body = response.json()
    except ValueError:
        return {}
    return cast(Json, body) if isinstance(body, dict) else {}


def _reachable(host: str) -> str:
    """An address to call for an address to listen on: all of them are also here."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host or "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)
