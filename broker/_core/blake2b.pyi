"""Keyed BLAKE2b with a 32-byte digest, as the core computes it."""

def keyed_digest(data: bytes, key: bytes) -> bytes:
    """The 32-byte digest of ``data`` under ``key`` (at most 64 bytes, else ``ValueError``), as ``hashlib.blake2b`` gives it."""
    ...
