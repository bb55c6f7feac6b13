"""Faults on command: which packets of which client meet which misfortune.

Here belong the rules and how a test gives them. Not here: the sockets on which they act (``proxy``), and the disk
(``store``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Literal, Protocol, Self

Direction = Literal["to_client", "to_broker"]
ANY_CLIENT = "*"

_NAMES = (
    "CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP "
    "DISCONNECT AUTH"
)
PACKET_TYPES = {name: number for number, name in enumerate(_NAMES.split(), start=1)}


class Kind(Enum):
    """What happens to a packet."""

    DROP = "drop"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Hit:
    """What a packet meets: a kind, and for a delay its seconds."""

    kind: Kind
    seconds: float = 0.0


class Fault:
    """One rule. ``hits`` says how often it has struck; ``heal`` ends it, as does leaving its ``with`` block."""

    def __init__(
        self,
        kind: Kind,
        client_id: str,
        packet: str | None,
        direction: Direction,
        *,
        skip: int = 0,
        count: int | None = 1,
        seconds: float = 0.0,
    ) -> None:
        self._kind = kind
        self._client_id = client_id
        self._packet_type = None if packet is None else packet_type(packet)
        self._direction = direction
        self._skip = skip
        self._left = count
        self._seconds = seconds
        self._lock = threading.Lock()
        self.hits = 0

    def meet(self, client_id: str, packet_type: int, direction: Direction) -> Hit | None:
        """Judge one packet, in the proxy's thread; None: it passes."""
        with self._lock:
            if self._left == 0 or direction != self._direction or self._packet_type not in (None, packet_type):
                return None
            if self._client_id not in (client_id, ANY_CLIENT):
                return None
            if self._skip:
                self._skip -= 1
                return None
            if self._left is not None:
                self._left -= 1
            self.hits += 1
            return Hit(self._kind, self._seconds)

    def heal(self) -> None:
        """Strike no more; again is no error."""
        with self._lock:
            self._left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.heal()


class FaultySide(Protocol):
    """What faults need of the broker under test."""

    def cut(self, client_id: str) -> None:
        """Cut a client's connection now. Raises ``LookupError``."""
        ...

    def set_full_disk(self, full: bool) -> None:
        """Let every commit fail, or end that."""
        ...


class Faults:
    """Misfortunes of the network and the disk.

    A rule strikes the next packets that fit: of one client (by client id, ``"*"``: of all), of one type (``"PUBLISH"``
    and so on; None: of any), in one direction (``"to_client"`` or ``"to_broker"``), ``count`` times (None: until it is
    healed). The first rule that fits a packet decides.
    """

    def __init__(self, side: FaultySide) -> None:
        self._side = side
        self._rules: list[Fault] = []

    @property
    def rules(self) -> Sequence[Fault]:
        """All rules that were given, in their order."""
        return tuple(self._rules)

    def drop(
        self,
        client_id: str,
        *,
        packet: str | None = "PUBLISH",
        direction: Direction = "to_client",
        count: int | None = 1,
    ) -> Fault:
        """Lose packets: the connection goes on as if they had never been sent."""
        return self._add(Fault(Kind.DROP, client_id, packet, direction, count=count))

    def delay(
        self,
        client_id: str,
        seconds: float,
        *,
        packet: str | None = "PUBLISH",
        direction: Direction = "to_client",
        count: int | None = 1,
    ) -> Fault:
        """Hold packets back, and all behind them in the same direction; ``clock.advance`` shortens the wait."""
        return self._add(Fault(Kind.DELAY, client_id, packet, direction, count=count, seconds=seconds))

    def duplicate(
        self,
        client_id: str,
        *,
        packet: str | None = "PUBLISH",
        direction: Direction = "to_client",
        count: int | None = 1,
    ) -> Fault:
        """Send packets twice; the second copy of a PUBLISH with QoS 1 or 2 has DUP set."""
        return self._add(Fault(Kind.DUPLICATE, client_id, packet, direction, count=count))

    def disconnect(
        self,
        client_id: str,
        *,
        after: int | None = None,
        packet: str | None = None,
        direction: Direction = "to_client",
    ) -> Fault:
        """Cut a client's network connection without a farewell: now, or in place of the packet after ``after`` others.

        Raises ``LookupError`` when it is to be now, and no such client is connected.
        """
        fault = Fault(Kind.DISCONNECT, client_id, packet, direction, skip=after or 0)
        if after is not None:
            return self._add(fault)
        self._side.cut(client_id)
        fault.hits = 1
        fault.heal()
        return fault

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let every commit of the store fail within the block, as on a full disk; afterwards there is room again."""
        self._side.set_full_disk(True)
        try:
            yield
        finally:
            self._side.set_full_disk(False)

    def heal(self) -> None:
        """End all faults."""
        for rule in self._rules:
            rule.heal()
        self._side.set_full_disk(False)

    def meet(self, client_id: str, packet_type: int, direction: Direction) -> Hit | None:
        """Find what a packet meets; None: it passes."""
        for rule in tuple(self._rules):
            if (hit := rule.meet(client_id, packet_type, direction)) is not None:
                return hit
        return None

    def _add(self, fault: Fault) -> Fault:
        self._rules.append(fault)
        return fault


def packet_type(name: str) -> int:
    """Number of a packet type. Raises ``ValueError`` with the names there are."""
    number = PACKET_TYPES.get(name.upper())
    if number is None:
        raise ValueError(f"there is no packet type {name!r}; there is {', '.join(PACKET_TYPES)}")
    return number
