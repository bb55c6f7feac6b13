"""The codec's native functions as tests see them; the broker does not use this module."""

def named_values(data: bytes, site: str) -> dict[str, int | bytes]:
    """Fields of ``PropertyValues`` after ``read_properties``, those that are set; ValueError when it refuses."""

def forwardable(listed: bytes) -> bytes:
    """What ``forwardable_properties`` copies of a valid list without its length."""

def connack(session_present: bool, reason_code: int, properties: bytes, version: int) -> bytes:
    """What ``encode_connack`` writes; ``properties`` with their length, or empty.

    Raises ``ValueError`` where ``connack_size`` says another size than what was written.
    """

def ack(packet_type: int, packet_id: int, reason_code: int, version: int) -> bytes:
    """What ``encode_ack`` writes."""

def disconnect(reason_code: int) -> bytes:
    """What ``encode_disconnect`` writes."""

def publish_start(first_byte: int, remaining: int) -> bytes:
    """What ``encode_publish_start`` writes."""

def return_code_311(reason_code: int) -> int:
    """What ``connack_code_311`` says; -1 for none."""

def connect_outcome(body: bytes) -> tuple[int, int, int, bool, int]:
    """What ``parse_connect`` makes of a body: reason code, version, level, name_valid, session_expiry_interval_s."""

def parse_exactly(first_byte: int, body: bytes, version: int) -> int:
    """Reason code of the native parser for a packet from a client; -1 for types that have none.

    The body lies in memory of exactly its size, so that a sanitizer sees a step beyond it; bytes objects end in a zero
    that hides the first one.
    """
