"""Carrying out a row of the wire table: who says what, what must come back, who hangs up.

Here belongs everything that does not depend on how bytes travel. Not here: the native core and sockets, which give a
``Line`` each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from tests.packets.notation import V5, V311, to_bytes, to_patterns
from tests.packets.table import Row

PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
WATCH = 'CONNECT("MQTT" 05 02 0000 {} "") SUBSCRIBE(0001 {} "#" 28)'
WATCHED = "CONNACK(00 00 ...) SUBACK(0001 {} 00)"
CONNECT = 'CONNECT("MQTT" <05|04> 02 0000 {} [$id])'
CONNECT_DEVICE = 'CONNECT("MQTT" <05|04> C2 0000 {} [$id] [$user] [$password])'
DOORS = {"open": CONNECT, "device": CONNECT_DEVICE}


class Line(Protocol):
    """One network connection as its client has it."""

    def send(self, data: bytes) -> None:
        """Send bytes, in as many pieces as the run is about."""
        ...

    def receive(self) -> bytes | None:
        """The next whole packet; None at the end, when the broker has hung up. Silence is a failure."""
        ...

    def silent(self) -> bool:
        """Nothing has come, and the broker has not hung up."""
        ...

    def cut(self) -> None:
        """Lose the connection."""
        ...


class Lines(Protocol):
    """Where connections come from. ``variables`` are those of the notation."""

    variables: Mapping[str, bytes]

    def open(self, door: str, *, carefully: bool = False) -> Line:
        """A new connection to a door of the broker; ``carefully``: its bytes travel in one piece."""
        ...


class Peer:
    """A client of the conversation; it opens a new connection when it speaks after the end of the last."""

    def __init__(self, name: str, lines: Lines, door: str, version: int, variables: Mapping[str, bytes]) -> None:
        self.name, self.lines, self.door, self.version, self.variables = name, lines, door, version, variables
        self.line: Line | None = None
        self.accepted = False

    def say(self, text: str, *, carefully: bool = False) -> None:
        if self.line is None:
            self.line = self.lines.open(self.door, carefully=carefully)
            self.accepted = False
        self.line.send(to_bytes(text, self.version, self.variables))

    def hear(self, text: str) -> None:
        """These packets come, in this order."""
        for pattern in to_patterns(text, self.version, self.variables):
            self.match(pattern, self.receive())

    def receive(self) -> bytes | None:
        assert self.line is not None, f"{self.name} is not connected"
        found = self.line.receive()
        self.accepted |= found is not None and found[0] == 0x20 and found[3] == 0
        return found

    def match(self, pattern: re.Pattern[bytes], found: bytes | None) -> None:
        assert found is not None, f"{self.name}: closed or silent instead of {pattern.pattern!r}"
        assert pattern.fullmatch(found), f"{self.name}: {found.hex(' ')} ({found!r}) instead of {pattern.pattern!r}"

    def closed(self, code: str) -> None:
        """The broker hangs up; 5.0 is told why unless the code is ``silently``."""
        if code != "silently" and self.version == V5:
            self.hear(f"DISCONNECT({code} ...)" if self.accepted else f"CONNACK(00 {code} ...)")
        found = self.receive()
        assert found is None, f"{self.name}: {found.hex(' ')} instead of the end"
        self.line = None

    def cut(self) -> None:
        assert self.line is not None
        self.line.cut()
        self.line = None

    def quiet(self) -> None:
        """Nothing more has come, and the connection still serves."""
        if self.line is not None and self.accepted:
            self.line.send(PINGREQ)
            self.match(re.compile(re.escape(PINGRESP)), self.receive())
        elif self.line is not None:
            assert self.line.silent()


class Conversation:
    """One row, its client (A), and another (B) of version 5 that is subscribed to ``#`` with QoS 0."""

    def __init__(self, row: Row, lines: Lines) -> None:
        variables = {**lines.variables, "each": b""}
        if row.each:
            variables["each"] = to_bytes(row.each, row.version, variables)
        self.row = row
        self.peers = {
            "": Peer("the client", lines, row.door, row.version, variables),
            "B": Peer("the other client", lines, "open", V5, variables),
        }

    def run(self) -> None:
        row, client, other = self.row, self.peers[""], self.peers["B"]
        other.say(WATCH, carefully=True)
        other.hear(WATCHED)
        if row.start == "connected":
            client.say(DOORS[row.door])
            client.hear("CONNACK(00 00 ...)")
        for line in filter(None, map(str.strip, row.talk.splitlines())):
            self.step(line)
        if row.send:
            client.say(row.send)
        client.hear(row.expect)
        if row.close:
            client.closed(row.close)
        else:
            client.quiet()
        other.hear(row.other)
        other.quiet()

    def step(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if verb.startswith("#"):
            return
        peer = self.peers[verb[:-1] if verb[-1] in "<>" else verb.removesuffix("cut").removesuffix("x")]
        if verb.endswith(">"):
            peer.say(rest)
        elif verb.endswith("<"):
            peer.hear(rest)
        elif verb.endswith("x"):
            peer.closed(rest.partition("#")[0].strip() or "silently")
        elif verb.endswith("cut"):
            peer.cut()
        else:
            raise ValueError(f"no step of a conversation: {line}")


def versions_named(clauses: tuple[str, ...]) -> set[int]:
    """The versions whose statements these are."""
    return {V311 if one.startswith("v311:") else V5 for one in clauses}
