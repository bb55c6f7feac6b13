"""Rules of HTTPS itself, whatever it serves: what is spoken, what is cut in time, and certificates that change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broker._core.tls import TlsContext
from broker._core.tls_settings import python_context
from broker.net import http as http_server
from broker.net import http_connection, https
from broker.net.certificates import MaterialFiles, TlsMaterial, load
from broker.net.crowd import Crowd
from broker.net.http import HttpServer
from broker.net.https import SecureDoor
from tests.integration.embedded import LOOPS, NewLoop, run
from tests.support import pki
from tests.support.openssl_client import OpensslClient

ROOT = pki.authority()
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT_S = 5.0
NATIVE = pytest.mark.parametrize("native", [True, False], ids=["openssl", "ssl objects"])


def material(folder: Path, name: str = "first", **how: object) -> TlsMaterial:
    return load(MaterialFiles(*pki.issue(name, by=ROOT, **how).write(folder)))  # type: ignore[arg-type]


async def tell_caller(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the scheme and the address of who asks."""
    request = Request(scope)
    assert request.client is not None
    await PlainTextResponse(f"{request.url.scheme} {request.client.host}")(scope, receive, send)


@asynccontextmanager
async def served(door: SecureDoor, application: ASGIApp = tell_caller, **more: object) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(application, listening, door=door, **more)  # type: ignore[arg-type]
        await server.start()
        try:
            yield listening.getsockname()[1]
        finally:
            await server.stop()


def python_server_context(one: TlsMaterial) -> ssl.SSLContext:
    """What stands in where the core cannot use OpenSSL itself."""
    return python_context(one.certificate_chain_pem, one.private_key_pem, protocol="http/1.1")


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ROOT.pem.decode())


def hello(context: ssl.SSLContext, protocols: Sequence[str] = ()) -> bytes:
    """What a client begins with."""
    out = ssl.MemoryBIO()
    if protocols:
        context.set_alpn_protocols(protocols)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


class Caller:
    """One connection through TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connected(cls, port: int, context: ssl.SSLContext | None = None) -> Caller:
        context = context or client_context()
        pair = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        return cls(*pair)

    @property
    def subject(self) -> str:
        (((_, name),),) = self.writer.get_extra_info("peercert")["subject"]
        return str(name)

    async def ask(self, headers: bytes = b"") -> str:
        self.writer.write(REQUEST[:-2] + headers + b"\r\n")
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_S)
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        return (await self.reader.readexactly(length)).decode()

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait_for(self.writer.wait_closed(), WAIT_S)


async def connected_in_the_end(port: int) -> Caller:
    """Connect, once what others have left is cleared away."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(OSError):
                return await Caller.connected(port)
            await asyncio.sleep(0.02)


def in_loop(new_loop: NewLoop, body: Callable[[], Awaitable[None]]) -> None:
    run(new_loop, body)


@LOOPS
@NATIVE
def test_requests_are_answered_through_tls(
    tmp_path: Path, new_loop: NewLoop, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "TlsContext", partial(TlsContext, native=native))

    async def body() -> None:
        async with served(SecureDoor(material(tmp_path))) as port:
            for _ in range(20):
                caller = await Caller.connected(port)
                assert [await caller.ask() for _ in range(3)] == ["https 127.0.0.1"] * 3
                await caller.close()

    in_loop(new_loop, body)


@LOOPS
def test_a_new_certificate_is_for_new_connections_and_those_that_are_in_stay(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        door = SecureDoor(material(tmp_path, key=pki.rsa.generate_private_key(65537, 2048)))
        async with served(door) as port:
            old = await Caller.connected(port)
            door.take(material(tmp_path, "second"))
            new = await Caller.connected(port)
            assert (old.subject, new.subject) == ("first", "second")
            assert [await one.ask() for one in (old, new, old)] == ["https 127.0.0.1"] * 3
            for one in (old, new):
                await one.close()

    in_loop(new_loop, body)


@LOOPS
@pytest.mark.parametrize("sent", [REQUEST, b"", b"\x16\x03\x01", bytes(100), b"\x10\x10\x00\x04MQTT"], ids=repr)
def test_what_is_no_tls_is_closed_in_time_and_without_a_traceback(
    tmp_path: Path, new_loop: NewLoop, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path), handshake_timeout_s=0.3)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), WAIT_S)
            assert b"HTTP" not in answer
            writer.close()
            caller = await Caller.connected(port)
            assert await caller.ask() == "https 127.0.0.1"
            await caller.close()

    with caplog.at_level(logging.DEBUG):
        in_loop(new_loop, body)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING or one.exc_info]


@LOOPS
def test_handshakes_that_stall_are_limited_and_cut_at_the_stop(
    tmp_path: Path, new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "HANDSHAKES_PER_ADDRESS_MAXIMUM", 5)

    async def body() -> None:
        async with served(SecureDoor(material(tmp_path), handshake_timeout_s=30)) as port:
            stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""  # one too many
            writer.close()
            stalled[0][1].close()
            caller = await connected_in_the_end(port)
            assert await caller.ask() == "https 127.0.0.1"
            await caller.close()
        for reader, writer in stalled[1:]:
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
            writer.close()
            await writer.wait_closed()

    in_loop(new_loop, body)


def test_of_ipv6_a_network_counts_as_one_address(tmp_path: Path) -> None:
    async def body() -> None:
        door = SecureDoor(material(tmp_path))
        with contextlib.ExitStack() as stack:
            for number in range(https.HANDSHAKES_PER_ADDRESS_MAXIMUM + 1):
                here, there = socket.socketpair()
                here.setblocking(False)
                stack.enter_context(there)
                door._begin(here, https.network_of(f"2001:db8::{number:x}"), asyncio.Protocol)
            assert len(door._handshakes) == https.HANDSHAKES_PER_ADDRESS_MAXIMUM
            tasks = list(door._handshakes)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(body())


@LOOPS
@pytest.mark.parametrize("turns", range(8))
def test_a_stop_in_any_moment_forgets_no_socket(tmp_path: Path, new_loop: NewLoop, turns: int) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path))) as port:
            caller = socket.create_connection(("127.0.0.1", port), WAIT_S)
            for _ in range(turns):
                await asyncio.sleep(0)
        with caller, contextlib.suppress(ConnectionResetError):  # which is what nobody has accepted gets
            assert caller.recv(1) == b""

    in_loop(new_loop, body)


@LOOPS
def test_there_are_so_many_connections_and_no_more(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path)), crowd=Crowd(3)) as port:
            callers = []
            for _ in range(3):
                callers.append(await Caller.connected(port))
                await callers[-1].ask()
                await asyncio.sleep(0.05)
            with pytest.raises(OSError):
                await Caller.connected(port)
            await callers.pop().close()
            callers.append(await connected_in_the_end(port))
            for one in callers:
                assert await one.ask() == "https 127.0.0.1"
                await one.close()

    in_loop(new_loop, body)


@LOOPS
def test_a_stop_says_goodbye_to_who_is_idle(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path))) as port:
            caller = await Caller.connected(port)
            await caller.ask()
        assert await asyncio.wait_for(caller.reader.read(), WAIT_S) == b""
        await caller.close()

    in_loop(new_loop, body)


@LOOPS
def test_a_request_that_does_not_come_whole_is_cut_in_time(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path)), request_timeout_s=0.2) as port:
            caller = await Caller.connected(port)
            caller.writer.write(REQUEST[:10])
            assert await asyncio.wait_for(caller.reader.read(), WAIT_S) == b""
            await caller.close()

    in_loop(new_loop, body)


@LOOPS
def test_a_body_that_drips_is_cut_however_often_it_drips(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        async with served(SecureDoor(material(tmp_path)), request_timeout_s=0.3) as port:
            caller = await Caller.connected(port)
            caller.writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            head = await asyncio.wait_for(caller.reader.readuntil(b"\r\n\r\n"), WAIT_S)
            assert head.startswith(b"HTTP/1.1 200 ")  # this application needs no body to answer
            ended = asyncio.create_task(caller.reader.read())
            async with asyncio.timeout(WAIT_S):
                while not ended.done():
                    caller.writer.write(b"x")
                    await asyncio.sleep(0.05)
            await caller.close()

    in_loop(new_loop, body)


@LOOPS
def test_a_handshake_that_drips_is_cut_however_often_it_drips(tmp_path: Path, new_loop: NewLoop) -> None:
    async def body() -> None:
        crowd = Crowd()
        async with served(SecureDoor(material(tmp_path), handshake_timeout_s=0.3), crowd=crowd) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            ended = asyncio.create_task(reader.read())
            for byte in hello(client_context())[:-1]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
                if ended.done():
                    break
            assert ended.done()
            writer.close()
            assert crowd.inside == 0

    in_loop(new_loop, body)


@LOOPS
def test_a_hello_in_records_of_one_byte_is_taken_in_many_turns(tmp_path: Path, new_loop: NewLoop) -> None:
    """Taken at once it held the loop for 18 ms."""

    async def body() -> None:
        message = hello(client_context(), ["x" * 200] * 60)[5:]
        crumbs = b"".join(b"\x16\x03\x01\x00\x01" + message[at : at + 1] for at in range(len(message)))
        async with served(SecureDoor(material(tmp_path))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(crumbs)
            answer, turns = asyncio.create_task(reader.read(1)), 0
            async with asyncio.timeout(WAIT_S):
                while not answer.done():
                    await asyncio.sleep(0)
                    turns += 1
            assert answer.result() == b"\x16"
            writer.close()
        assert turns > len(crumbs) / 8192

    in_loop(new_loop, body)


@LOOPS
def test_who_exchanges_keys_without_an_end_is_cut(tmp_path: Path, new_loop: NewLoop) -> None:
    """Each costs fifty microseconds, and a read of the socket may hold thousands."""

    async def body() -> None:
        async with served(SecureDoor(material(tmp_path))) as port:
            with OpensslClient() as client:
                await asyncio.to_thread(client.connect, port)
                await asyncio.to_thread(client.update_keys, 2)
                await asyncio.to_thread(client.send, REQUEST)
                assert (await asyncio.to_thread(client.read, 1000)).startswith(b"HTTP/1.1 200 ")
                client.update_keys(200)  # while nobody reads them
                async with asyncio.timeout(WAIT_S):
                    while await asyncio.to_thread(client.read, 1000):
                        pass  # the rest of the answer

    in_loop(new_loop, body)


@LOOPS
@NATIVE
def test_large_bodies_go_both_ways_and_requests_come_one_behind_the_other(
    tmp_path: Path, new_loop: NewLoop, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "TlsContext", partial(TlsContext, native=native))
    sent = random.Random(1).randbytes(3 * 1024 * 1024)

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(await Request(scope, receive).body())(scope, receive, send)

    async def body() -> None:
        async with served(SecureDoor(material(tmp_path)), echo) as port:
            caller = await Caller.connected(port)
            head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
            caller.writer.write((head + sent) * 2 + REQUEST)
            for expected in (sent, sent, b""):
                answer = await asyncio.wait_for(caller.reader.readuntil(b"\r\n\r\n"), WAIT_S)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert await asyncio.wait_for(caller.reader.readexactly(len(expected)), WAIT_S) == expected
            await caller.close()

    in_loop(new_loop, body)


@LOOPS
def test_who_still_speaks_when_its_connection_ends_gets_its_answer_whole(tmp_path: Path, new_loop: NewLoop) -> None:
    """A socket that is closed while something unread is in it takes back what its peer has not read."""
    large = PlainTextResponse(bytes(1024 * 1024))

    def ask(port: int) -> bytes:
        plain, got = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S), b""
        with client_context().wrap_socket(plain, server_hostname="localhost") as caller:
            caller.sendall(REQUEST[:-2] + b"Connection: close\r\n\r\n" + REQUEST * 1000)
            time.sleep(0.05)
            while more := caller.recv(65536):
                got += more
        return got

    async def body() -> None:
        async with served(SecureDoor(material(tmp_path)), large) as port:
            answer = await asyncio.to_thread(ask, port)
            assert len(answer.partition(b"\r\n\r\n")[2]) == 1024 * 1024

    in_loop(new_loop, body)


@LOOPS
def test_who_takes_next_to_nothing_of_an_answer_loses_its_place(
    tmp_path: Path, new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "TAKEN_BYTES_PER_S_MINIMUM", 64 * 1024 * 1024)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 1)
    large = PlainTextResponse(bytes(16 * 1024 * 1024))

    async def body() -> None:
        crowd = Crowd()
        async with served(SecureDoor(material(tmp_path)), large, request_timeout_s=0.2, crowd=crowd) as port:
            caller = await Caller.connected(port)
            caller.writer.write(REQUEST)
            async with asyncio.timeout(WAIT_S):
                await caller.reader.readuntil(b"\r\n\r\n")
                while crowd.inside:
                    await asyncio.sleep(0.02)
                    with contextlib.suppress(ConnectionError):
                        await caller.reader.read(1024)
            caller.writer.transport.abort()

    in_loop(new_loop, body)


@LOOPS
def test_resumed_sessions_are_served_and_also_after_the_certificate_has_changed(
    tmp_path: Path, new_loop: NewLoop
) -> None:
    async def body() -> None:
        door = SecureDoor(material(tmp_path))
        async with served(door) as port:
            context = client_context()
            for number in range(4):
                if number == 2:
                    door.take(material(tmp_path, "second"))
                caller = await Caller.connected(port, context)
                assert await caller.ask() == "https 127.0.0.1"
                await caller.close()

    in_loop(new_loop, body)


def test_only_tls_from_1_2_with_forward_secrecy_is_offered(tmp_path: Path) -> None:
    context = python_server_context(material(tmp_path))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION):
        assert context.options & option
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert names
    for name in names:
        assert name.startswith(("TLS_", "ECDHE-"))
        assert "GCM" in name or "CHACHA20" in name


def test_a_context_needs_no_disk_and_takes_long_chains(tmp_path: Path) -> None:
    chain = [pki.authority("Root")]
    for number in range(150):
        chain.insert(0, pki.authority(f"CA {number}", by=chain[0]))
    server = pki.issue("server", by=chain[0])
    long = load(MaterialFiles(*server.write(tmp_path, *chain)))
    assert len(long.certificate_chain_pem) > 64 * 1024
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        python_server_context(long)
        SecureDoor(long)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_no_pipe_holds_is_refused(tmp_path: Path) -> None:
    good = material(tmp_path)
    object.__setattr__(good, "certificate_chain_pem", good.certificate_chain_pem + b"#" * (1 << 28))
    with pytest.raises(ValueError, match="cannot be handed to OpenSSL"):
        python_server_context(good)


def test_a_certificate_that_openssl_does_not_take_leaves_the_old_one(tmp_path: Path) -> None:
    good = material(tmp_path)
    door = SecureDoor(good)
    broken = load(MaterialFiles(*pki.issue("x").write(tmp_path)))
    object.__setattr__(broken, "private_key_pem", pki.issue("y").key_pem)
    with pytest.raises(ValueError, match="the private key does not belong to the certificate"):
        door.take(broken)


# ---------------------------------------------------------------- for whom a proxy speaks


@pytest.mark.parametrize(
    ("trusted", "header", "caller"),
    [
        (["127.0.0.0/8"], b"X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", "192.0.2.7"),
        (["127.0.0.0/8"], b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 127.0.0.5\r\n", "192.0.2.7"),
        (["127.0.0.0/8"], b"X-Forwarded-For: nonsense\r\n", "127.0.0.1"),
        (["127.0.0.0/8"], b"", "127.0.0.1"),
        (["10.0.0.0/8"], b"X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1"),
        ([], b"X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1"),
        ([], b"X-Forwarded-Proto: http\r\n", "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_say_who_asks(tmp_path: Path, trusted: list[str], header: bytes, caller: str) -> None:
    async def body() -> None:
        proxies = [ip_network(one) for one in trusted]
        async with served(SecureDoor(material(tmp_path)), trusted_proxies=proxies) as port:
            one = await Caller.connected(port)
            assert await one.ask(header) == f"https {caller}"
            await one.close()

    asyncio.run(body())
