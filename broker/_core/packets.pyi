"""Packets between bytes and values, one whole packet at a time; the broker's own hot path stays native."""

from broker._core.encoding import encode as encode
from broker.wire import Packet

__all__ = ["decode", "encode"]

CONNACK_CODES: frozenset[int]
SUBACK_CODES: frozenset[int]
SUBACK_CODES_311: frozenset[int]
UNSUBACK_CODES: frozenset[int]

def decode(data: bytes, version: int, *, from_client: bool = True) -> Packet:
    """Read exactly one whole packet of protocol version 4 (3.1.1) or 5, as a server does or (False) as a client.

    Raises ``ProtocolViolation`` for everything that is not such a packet: 0x81 malformed, 0x82 a rule is broken, 0x84
    a CONNECT of another protocol or version, 0x85 an empty client id that 3.1.1 forbids, 0x94 topic alias 0, 0x97 more
    than 64 user properties. The characters of topics are not judged, nor anything that needs a connection's state.
    """
