"""One socket's TLS in steps: what one step takes of what a peer has sent, whatever is in it."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from broker._core.tls import TlsContext
from broker._core.tls_socket import TlsSocket
from tests.support import pki
from tests.support.openssl_client import OpensslClient

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
MESSAGES_MAXIMUM = 16
KEY_UPDATE_BYTES = 22  # on the wire, at least
ANSWER_BYTES = 1024


@contextmanager
def joined() -> Iterator[tuple[TlsSocket, socket.socket, OpensslClient]]:
    """Both sides of a connection whose handshake is over; the server's socket waits for nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening, OpensslClient() as client:
        connecting = threading.Thread(target=client.connect, args=(listening.getsockname()[1],))
        connecting.start()
        accepted, _ = listening.accept()
        with closing(accepted):
            accepted.setblocking(False)
            tls = TlsSocket(accepted.fileno(), TlsContext(pki.server().pem, pki.server().key_pem))
            while not tls.shake_hands():
                assert select.select([accepted], [], [], 10)[0]
            connecting.join()
            client._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield tls, accepted, client


def unread(accepted: socket.socket) -> int:
    """How many bytes the kernel holds."""
    (count,) = struct.unpack("i", fcntl.ioctl(accepted, termios.FIONREAD, bytes(4)))
    return int(count)


def has_come(accepted: socket.socket, count: int) -> None:
    deadline = time.monotonic() + 10
    while unread(accepted) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("before", [0, 1, 12])
def test_of_exchanges_of_keys_without_an_end_a_step_takes_a_few_and_ends_it(before: int) -> None:
    """OpenSSL works off all that it was given, each in fifty microseconds: it is given no more than it may have."""
    with joined() as (tls, accepted, client):
        client.update_keys(before)
        client.send(REQUEST)
        client.update_keys(300)
        client.send(REQUEST)
        has_come(accepted, 300 * KEY_UPDATE_BYTES)
        assert tls.receive() == REQUEST
        assert tls.has_more
        assert tls.own_messages == MESSAGES_MAXIMUM + 1
        assert tls.receive() is None


def test_exchanges_of_keys_behind_the_handshake_are_taken_as_few_as_ever() -> None:
    """What comes with the last flight of a handshake OpenSSL has read already."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening, OpensslClient() as client:

        def speak() -> None:
            client.connect(listening.getsockname()[1])
            client.update_keys(300)

        speaking = threading.Thread(target=speak)
        speaking.start()
        accepted, _ = listening.accept()
        with closing(accepted):
            tls = TlsSocket(accepted.fileno(), TlsContext(pki.server().pem, pki.server().key_pem))
            assert select.select([accepted], [], [], 10)[0]
            assert not tls.shake_hands()
            speaking.join()
            has_come(accepted, 300 * KEY_UPDATE_BYTES)
            while not tls.shake_hands():
                pass
            assert tls.receive() is None
            assert tls.own_messages <= ANSWER_BYTES // KEY_UPDATE_BYTES


def test_what_comes_between_a_few_of_them_is_received() -> None:
    with joined() as (tls, accepted, client):
        for _ in range(4):
            client.update_keys(3)
            client.send(REQUEST)
            assert select.select([accepted], [], [], 10)[0]
            assert tls.receive() == REQUEST
            assert not tls.has_more
        assert tls.receive() == b""
        assert tls.send(b"answer") == 6
        assert tls.is_out
        assert client.read(100) == b"answer"
        tls.end()
        assert client.read(100) == b""


def test_a_step_gives_no_more_than_its_share_and_says_that_there_is_more() -> None:
    with joined() as (tls, _, client):
        for _ in range(3):
            client.send(bytes(16 * 1024))
        taken, steps = 0, 0
        while taken < 3 * 16 * 1024:
            got = tls.receive()
            assert got is not None
            assert len(got) <= 16 * 1024
            taken += len(got)
            steps += 1
        assert steps >= 3


def test_what_is_no_tls_is_refused_with_words() -> None:
    here, there = socket.socketpair()
    with closing(here), closing(there):
        here.setblocking(False)
        there.sendall(b"GET / HTTP/1.1\r\n\r\n")
        tls = TlsSocket(here.fileno(), TlsContext(pki.server().pem, pki.server().key_pem))
        with pytest.raises(ConnectionError, match="http request"):
            tls.shake_hands()
