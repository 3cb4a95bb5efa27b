"""What connections need of sockets beyond asyncio: a place to read into, a look ahead, the farewell of TLS."""

import asyncio
import select
import ssl
import threading

# A client that does not read may cost 256 KiB (fault 20): what is unread here before the upstream is told to wait, one
# more read, 64 KiB that its transport takes, and one piece behind them. Event loops would read 256 KB at once.
PAUSE_ABOVE = 16 * 1024
READ_SIZE = 64 * 1024

_buffers = threading.local()


def shared_buffer() -> memoryview:
    """Where bytes come in: one place for all connections of an event loop, since each takes its own at once."""
    if not hasattr(_buffers, "shared"):
        _buffers.shared = memoryview(bytearray(READ_SIZE))
    return _buffers.shared


def watch_readable(transport: asyncio.Transport) -> "select.poll | None":
    """What tells whether bytes, or a close, wait in the kernel; None where the system has no such thing."""
    if not hasattr(select, "poll"):  # Windows
        return None
    watch = select.poll()
    watch.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return watch


def ended_cleanly(transport: asyncio.Transport) -> bool:
    """Under TLS only a close_notify ends a body without length; a bare FIN may be an attacker's."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return tls.read(1) == b""
    except ssl.SSLError:
        return False
