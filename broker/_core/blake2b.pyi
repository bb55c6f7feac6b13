"""Keyed BLAKE2b with a 32-byte digest, as the core computes it."""

def keyed_digest(data: bytes, key: bytes) -> bytes:
    """Give the 32-byte digest that ``hashlib.blake2b`` gives; ``ValueError`` for a key over 64 bytes."""
    ...
