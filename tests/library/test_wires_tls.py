"""Certificates are always verified, by the name in the settings, though an address is connected to."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import trustme

from keywheel.config import UpstreamSettings
from keywheel.wires import AsyncWire, Failure, Wire, failure

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
Get = Callable[[UpstreamSettings], bytes]


@contextmanager
def serving(ca: trustme.CA, name: str) -> Iterator[str]:
    """A server on loopback with a certificate for this name; its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listening.accept()
                    with line, suppress(OSError), context.wrap_socket(line, server_side=True) as it:
                        it.recv(65536)
                        it.sendall(ANSWER)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def get(settings: UpstreamSettings) -> bytes:
    """One request over blocking connections."""
    with httpx2.Client(transport=Wire(settings), trust_env=False) as http:
        return http.get(settings.base_url).content


def get_async(settings: UpstreamSettings) -> bytes:
    """The same with asyncio."""

    async def ask() -> bytes:
        async with httpx2.AsyncClient(transport=AsyncWire(settings), trust_env=False) as http:
            return (await http.get(settings.base_url)).content

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [get, get_async])
@pytest.mark.parametrize(
    ("name", "trusted", "good"),
    [("localhost", True, True), ("other.example", True, False), ("localhost", False, False)],
)
def test_only_a_certificate_of_a_trusted_ca_for_the_name_will_do(
    tmp_path: Path, ask: Get, name: str, trusted: bool, good: bool
) -> None:
    ca = trustme.CA()
    file = tmp_path / "ca.pem"
    (ca if trusted else trustme.CA()).cert_pem.write_to_path(str(file))
    with serving(ca, name) as url:
        settings = UpstreamSettings(base_url=url, ca_file=str(file))
        if good:
            assert ask(settings) == b"ok"
            return
        with pytest.raises(Exception, match="certificate verify failed") as caught:
            ask(settings)
    assert failure(caught.value, headed=False) == Failure("tls", unsent=True)
