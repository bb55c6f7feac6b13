"""The fixed header of a packet (section 2.1)."""

def fixed_header(data: bytes) -> tuple[int, int] | None:
    """Size of the fixed header at the start of ``data`` and the remaining length, or None when more bytes are needed.

    Raises ``ProtocolViolation`` (0x81) for a length of more than four bytes or not in its shortest form.
    """

def flags_are_valid(first_byte: int, version: int) -> bool:
    """Tell whether a first byte names a packet type of this version (4 or 5) with the flags it demands."""

def client_may_send_type(packet_type: int, version: int) -> bool:
    """Tell whether packets of this type (0..255, the upper half of the first byte) may come from a client."""
