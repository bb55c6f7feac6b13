"""Passwords that people have chosen: argon2id, slow on purpose, since they can be guessed.

Here belong the hash, its text and its cost. Not here: when it is worked out, and by whom
(``accounts.chosen_passwords``): one takes tens of milliseconds of a processor. Passwords that were drawn have a fast
digest (``credentials``).
"""

from __future__ import annotations

import os
import re

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from broker.errors import BadRequest, Unavailable

MEMORY_KIB = 19 * 1024
ITERATIONS = 2
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32
PASSWORD_MINIMUM_CHARACTERS = 8
PASSWORD_MAXIMUM_BYTES = 256
EXPECTED = (
    f"{PASSWORD_MINIMUM_CHARACTERS} characters or more, up to {PASSWORD_MAXIMUM_BYTES} bytes, none of them a control"
)

WITHOUT_ARGON2 = "chosen passwords need OpenSSL 3.2 or later"

# What a record may ask for at most: it must not be able to take the machine's memory or time.
MEMORY_MAXIMUM_KIB = 256 * 1024
ITERATIONS_MAXIMUM = 16
LANES_MAXIMUM = 4

_TEXT = re.compile(r"\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9])\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_chosen(password: str) -> str:
    """Return a password that somebody has chosen. Raises ``BadRequest``, which does not repeat it, for what is none."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if len(password) < PASSWORD_MINIMUM_CHARACTERS or size > PASSWORD_MAXIMUM_BYTES or _CONTROLS.search(password):
        raise BadRequest(f"password: expected {EXPECTED}", field="password", expected=EXPECTED)
    return password


def hash_chosen(password: bytes) -> str:
    """Work out the hash of a password, with a salt of its own. Raises ``Unavailable`` where OpenSSL has no argon2id."""
    try:
        argon2 = Argon2id(
            salt=os.urandom(SALT_BYTES), length=HASH_BYTES, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
        )
        return argon2.derive_phc_encoded(password)
    except UnsupportedAlgorithm as error:
        raise Unavailable(WITHOUT_ARGON2) from error


def is_hash(text: str) -> bool:
    """Tell whether a text is such a hash, of a cost that can be borne."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return False
    memory, iterations, lanes = map(int, found.groups())
    return (
        8 * lanes <= memory <= MEMORY_MAXIMUM_KIB
        and 1 <= iterations <= ITERATIONS_MAXIMUM
        and 1 <= lanes <= LANES_MAXIMUM
    )


def is_password_of(text: str, password: bytes) -> bool:
    """Tell whether a password has this hash. Raises ``Unavailable`` where OpenSSL has no argon2id."""
    if not is_hash(text) or len(password) > PASSWORD_MAXIMUM_BYTES:
        return False
    try:
        Argon2id.verify_phc_encoded(password, text)
    except InvalidKey:
        return False
    except UnsupportedAlgorithm as error:
        raise Unavailable(WITHOUT_ARGON2) from error
    return True
