"""Whatever a client says, it gets the same answer through every door: the corpus of the fuzzers, in random order.

Here belongs the comparison of doors with each other. Not here: what the right answer is.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from random import Random

import pytest

from broker._core.framing import fixed_header
from broker._core.packets import encode
from broker._core.tls import TlsContext
from broker.wire import Connect, Pingreq, ProtocolViolation
from tests.fuzz.driver import damage, load_corpus
from tests.support import pki
from tests.support.doors import opened
from tests.support.frames import Frames, frame

DOORS = ("tcp", "tls", "ws", "wss")
PROGRAMS = 40
PACKETS = 12
QUIET_S = 0.15
LIMITS = {"maximum_payload_bytes": 3000, "maximum_packet_size_bytes": 4000}


def programs() -> Iterator[tuple[int, list[bytes]]]:
    """What a client says after its CONNECT: packets of the corpus, one in three damaged, in pieces of any size."""
    corpus = [data[1:] for data in load_corpus("codec") if not data[0] & 2]
    for seed in range(PROGRAMS):
        rng = Random(seed)
        version = rng.choice((4, 5))
        said = encode(Connect(f"client-{seed}", clean_start=True), version)
        for _ in range(rng.randint(1, PACKETS)):
            packet = rng.choice(corpus)
            said += damage(packet, corpus, rng) if rng.random() < 0.33 else packet
        said += encode(Pingreq(), version)
        yield seed, pieces(said, rng)


def pieces(data: bytes, rng: Random) -> list[bytes]:
    """Cut into a few pieces, anywhere."""
    cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randint(0, 5)))})
    return [data[begin:end] for begin, end in pairwise(cuts)]


def answers(door: str, said: list[bytes]) -> tuple[list[bytes], bool]:
    """The packets that came back, and whether the broker ended it."""
    with opened(**LIMITS) as doors:
        tls = TlsContext(pki.server().pem, pki.server().key_pem) if door in {"tls", "wss"} else None
        port = doors.listen(tls, websocket=door in {"ws", "wss"})
        return doors.during(lambda: converse(port, door, said))


def converse(port: int, door: str, said: list[bytes]) -> tuple[list[bytes], bool]:
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream: socket.socket = plain
    if door in {"tls", "wss"}:
        context = ssl.create_default_context(cadata=pki.trusted().pem.decode())
        stream = context.wrap_socket(plain, server_hostname="localhost")
    with closing(stream):
        frames = None
        if door in {"ws", "wss"}:
            frames = Frames(stream.sendall)
            while not frames.is_open:
                frames.read(stream.recv(4096))
        for piece in said:
            try:
                stream.sendall(piece if frames is None else frame(piece))
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                break
        return read_all(stream, frames)


def read_all(stream: socket.socket, frames: Frames | None) -> tuple[list[bytes], bool]:
    got, ended = b"", False
    while not ended:
        if not getattr(stream, "pending", lambda: 0)() and not select.select([stream], [], [], QUIET_S)[0]:
            break
        try:
            data = stream.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        ended = not data
        got += data if frames is None else frames.read(data)
        ended |= frames is not None and frames.close is not None
    return packets(got), ended


def packets(got: bytes) -> list[bytes]:
    found = []
    while got:
        header = fixed_header(got)
        assert header is not None, got
        found.append(got[: sum(header)])
        got = got[sum(header) :]
    return found


@pytest.mark.parametrize(
    ("seed", "said"), [*programs()], ids=lambda value: str(value) if isinstance(value, int) else ""
)
def test_all_doors_give_the_same_answers(seed: int, said: list[bytes]) -> None:
    plain = answers("tcp", said)
    try:
        assert plain[0], "at least a CONNACK"
    except ProtocolViolation as violation:  # the broker's own packets can be read
        raise AssertionError(seed) from violation
    for door in DOORS[1:]:
        assert answers(door, said) == plain, (door, seed)
