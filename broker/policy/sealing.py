"""Answers with secrets in them, sealed so that only who asked can open them: the store alone gives nothing away.

Here belong the keys that follow from a caller's secrets, and sealing with them. Not here: which answers are kept, and
for how long.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NAME_BYTES = 16
KEY_BYTES = 32
NONCE_BYTES = 12


class AnswerSeal:
    """Name and key of the answer to one caller's request under its Idempotency-Key.

    Both follow from the caller's API key, which has more random bits than can be guessed and is stored nowhere; neither
    tells the other.
    """

    __slots__ = ("_cipher", "name")

    def __init__(self, api_key: str, idempotency_key: str) -> None:
        secret = api_key.encode()
        data = len(secret).to_bytes(4, "big") + secret + idempotency_key.encode()
        self.name = hashlib.blake2b(data, digest_size=NAME_BYTES, person=b"answer's name").digest()
        self._cipher = ChaCha20Poly1305(hashlib.blake2b(data, digest_size=KEY_BYTES, person=b"answer's key").digest())

    def seal(self, plain: bytes) -> bytes:
        """Seal bytes under this name."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, self.name)

    def open(self, sealed: bytes) -> bytes:
        """Give back what was sealed under this name. Raises ``ValueError`` for anything else."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.name)
        except InvalidTag as error:
            raise ValueError("a sealed answer that was not sealed under this name") from error
