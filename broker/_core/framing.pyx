"""The fixed header (section 2.1) at its Python face; the native face is inline in ``framing.pxd``.

Here belong type, flags and remaining length. Not here: what follows them, and limits of a packet's size.
"""

from libc.stdint cimport uint8_t, uint32_t

from broker.reasons import ReasonCode
from broker.wire import ProtocolViolation


def fixed_header(bytes data not None):
    cdef uint32_t header_size = 0
    cdef uint32_t remaining = 0
    cdef int outcome = read_header(<const uint8_t*>data, <uint32_t>len(data), &header_size, &remaining)
    if outcome < 0:
        raise ProtocolViolation(ReasonCode.MALFORMED_PACKET, "remaining length")
    return (header_size, remaining) if outcome else None


def flags_are_valid(uint8_t first_byte, uint8_t version):
    return header_flags_valid(first_byte, version)


def client_may_send_type(uint8_t packet_type, uint8_t version):
    return client_may_send(packet_type, version)
