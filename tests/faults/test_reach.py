"""Faults 1-5, 9-11, 13: names, addresses, handshakes, and connections that look alive and are not."""

import asyncio
import datetime
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.faults.rig import HASTY, PATIENT, Rig, Told, rig
from tests.faults.rig import HELLO as HELLO_ASK
from tests.faults.speech import DONE, GOOD, HELLO, STOP, json_reply, says, sse
from tests.gateway.rawserver import Peer, until

pytestmark = pytest.mark.anyio
BRIEF = replace(PATIENT, connect=0.1)
DOWN = {"error": {"code": 503, "message": "gone"}}


async def check_unreachable(it: Rig, told: Told, row: str = "1 unreachable") -> None:
    """Nothing was sent: nothing is charged, and no key or model is to blame."""
    assert (told.status, told.code) == (502, "upstream_failed")
    assert it.rows == [row] * len(it.rows)
    stats = await it.stats()
    assert [error["scope"] for error in stats["errors"]] == ["provider"]
    assert [account["day"]["used"] for account in stats["accounts"]] == [0] * 4
    assert {key["state"] for key in stats["keys"]} == {"open"}
    assert it.proxy.requests == []


# --- names and addresses -----------------------------------------------------------------------------


class Names:
    """The event loop as the dialer sees it, with a name service of the test's own."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self) -> "Names":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_event_loop(), name)

    async def getaddrinfo(self, _host: str, port: int, **_: Any) -> Any:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        if not found:
            await asyncio.Event().wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]


UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Any:
    def answer(*answers: Any) -> None:
        monkeypatch.setattr("keywheel.gateway.dial.asyncio.get_running_loop", Names(*answers))

    return answer


@pytest.mark.parametrize("answer", [UNKNOWN, []], ids=["1 unknown name", "1 slow name service"])
async def test_a_name_that_leads_nowhere_is_told_within_the_connect_time_out(
    names: Any, answer: Any
) -> None:
    async with rig(limits=BRIEF, base_url="http://localhost:{port}/api/v1") as it:
        names(answer)
        began = it.clock()
        await check_unreachable(it, await it.ask())
        assert len(it.rows) == 2
        assert it.clock() - began < 2  # twice 0.1 s, on any machine


async def test_a_name_that_is_unknown_once_costs_nothing_but_the_second_try(names: Any) -> None:
    async with rig(base_url="http://localhost:{port}/api/v1") as it:
        names(UNKNOWN, ["127.0.0.1"])
        told = await it.ask()
        assert (told.status, it.rows) == (200, ["1 unreachable", "ok"])
        used = [account["day"]["used"] for account in (await it.stats())["accounts"]]
        assert sum(used) == 1


@contextmanager
def black_hole(host: str, port: int = 0) -> Iterator[int]:
    """A port at which connections neither open nor fail: its line of waiting ones is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_fault_2_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with rig(base_url=f"http://127.0.0.1:{port}/api/v1") as it:
        await check_unreachable(it, await it.ask())


async def test_fault_3_a_connection_that_is_not_answered() -> None:
    with black_hole("127.0.0.1") as port:
        async with rig(limits=BRIEF, base_url=f"http://127.0.0.1:{port}/api/v1") as it:
            began = it.clock()
            await check_unreachable(it, await it.ask())
            assert 0.2 <= it.clock() - began < 2


async def test_fault_13_a_dead_first_address_is_passed_over_within_the_connect_time_out(
    names: Any,
) -> None:
    async with rig(base_url="http://localhost:{port}/api/v1", limits=BRIEF) as it:
        with black_hole("127.0.0.2", it.proxy.port):
            names(["127.0.0.2", "127.0.0.1"])
            told = await it.ask()
    assert (told.status, it.rows) == (200, ["ok"])


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cert.configure_cert(context)
    return context


def yesterday() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


CERTIFICATES = {
    "4 expired": lambda ca: ca.issue_cert("127.0.0.1", not_after=yesterday()),
    "4 wrong host": lambda ca: ca.issue_cert("other.example"),
    "4 self-signed": lambda _: trustme.CA().issue_cert("127.0.0.1"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_a_bad_certificate_closes_the_provider_before_a_byte_is_sent(
    name: str, ca: trustme.CA, ca_file: str
) -> None:
    tls = server_tls(CERTIFICATES[name](ca))
    async with rig(tls=tls, ca_file=ca_file) as it:
        await check_unreachable(it, await it.ask(), "2 bad-certificate")
        assert len(it.rows) == 1  # it is not tried again
        assert (await it.ask()).code == "no_usable_lane"
        it.clock.ahead += 290
        assert (await it.ask()).code == "no_usable_lane"
        assert len(it.rows) == 1
        it.clock.ahead += 11
        assert (await it.ask()).code == "upstream_failed"
        assert it.rows == ["2 bad-certificate"] * 2
        assert it.proxy.requests == []


async def test_a_good_certificate_is_served(ca: trustme.CA, ca_file: str) -> None:
    async with rig(tls=server_tls(ca.issue_cert("127.0.0.1")), ca_file=ca_file) as it:
        assert [(await it.ask(stream)).status for stream in (False, True)] == [200, 200]
        assert it.proxy.accepted == 1


async def test_fault_5_a_handshake_that_stalls(ca_file: str) -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_closed()

    base_url = "https://127.0.0.1:{port}/api/v1"
    async with rig(silent, silent, limits=BRIEF, ca_file=ca_file, base_url=base_url) as it:
        await check_unreachable(it, await it.ask())


# --- connections that are not what they seem ---------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_fault_9_an_upstream_that_reads_no_more_is_heard_to_its_end(stream: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.stop_listening()
        await peer.send_sliced(sse(HELLO, STOP, DONE) if stream else json_reply(GOOD), 3)
        peer.writer.close()

    async with rig(script) as it:
        told = await it.ask(stream)
        assert told.body == (HELLO + STOP + DONE if stream else json.dumps(GOOD).encode())
        assert it.rows == ["ok"]


async def test_fault_9_an_answer_before_the_whole_question_is_heard_to_its_end() -> None:
    """The upstream reads the head only; what it does not read fills every buffer on the way."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send_sliced(json_reply(GOOD), 3)
        while not it.rows:  # noqa: ASYNC110  nothing is read meanwhile
            await asyncio.sleep(0.001)

    async with rig(script) as it:
        large = HELLO_ASK | {"metadata": {"x": "y" * (9 << 20)}}
        reply = await it.http.post("/v1/chat/completions", json=large)
        assert (reply.json(), it.rows) == (GOOD, ["ok"])
        await it.settle()
        assert it.upstream.open_connections == 0  # half a question was sent on it


async def test_fault_10_a_kept_connection_that_died_in_silence_is_left_for_a_new_one() -> None:
    async def script(peer: Peer) -> None:
        await says(json_reply(GOOD))(peer)
        await peer.until_closed()  # and never a word more

    async with rig(script, limits=HASTY) as it:
        assert (await it.ask()).status == 200
        assert (await it.ask(stream=True)).events[-1] == "[DONE]"
        assert it.rows == ["ok", "16 timeout", "ok"]
        assert it.proxy.accepted == 2
        assert {key["state"] for key in (await it.stats())["keys"]} == {"open"}


async def test_fault_11_a_request_into_a_closing_connection_is_not_sent_twice_on_one_lane() -> None:
    async def script(peer: Peer) -> None:
        await says(json_reply(DOWN))(peer)
        await says(then="reset")(peer)

    async with rig(script) as it:
        assert (await it.ask()).status == 200
        assert it.rows == ["24 provider-down", "1 unreachable", "ok"]
        assert len({(event.key, event.model) for event in it.journal}) == 3
        used = [account["day"]["used"] for account in (await it.stats())["accounts"]]
        assert sum(used) == 3  # each may have been counted


async def test_fault_11_a_connection_that_was_closed_meanwhile_costs_no_attempt() -> None:
    async with rig(says(json_reply(GOOD), then="fin")) as it:
        assert (await it.ask()).status == 200
        await until(lambda: not it.upstream.open_connections)
        assert (await it.ask()).status == 200
        assert it.rows == ["ok", "ok"]
