"""Passwords that people have chosen: argon2id, slow on purpose, since they can be guessed.

Here belong the hash, its text and its cost. Not here: when it is worked out, and by whom
(``accounts.chosen_passwords``): one takes tens of milliseconds of a processor. Passwords that were drawn have a fast
digest (``credentials``).
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode

from cryptography.exceptions import UnsupportedAlgorithm
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

# What a record may ask for at most: it must not be able to take the machine's memory or time.
MEMORY_MAXIMUM_KIB = 256 * 1024
ITERATIONS_MAXIMUM = 16
LANES_MAXIMUM = 4

_TEXT = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9])\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_chosen(password: str) -> str:
    """Return a password that somebody has chosen. Raises ``BadRequest``, which does not repeat it, for what is none."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if len(password) < PASSWORD_MINIMUM_CHARACTERS or size > PASSWORD_MAXIMUM_BYTES or _CONTROLS.search(password):
        raise BadRequest(f"password: expected {EXPECTED}", field="password", expected=EXPECTED)
    return password


def hash_chosen(password: bytes) -> str:
    """Work out the hash of a password, with a salt of its own. Raises ``Unavailable`` where OpenSSL has no argon2id."""
    salt = os.urandom(SALT_BYTES)
    derived = _derive(password, salt, MEMORY_KIB, ITERATIONS, LANES)
    return f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${_base64(salt)}${_base64(derived)}"


def is_hash(text: str) -> bool:
    """Tell whether a text is such a hash, of a cost that can be borne."""
    return _parts(text) is not None


def is_password_of(text: str, password: bytes) -> bool:
    """Tell whether a password has this hash. Raises ``Unavailable`` where OpenSSL has no argon2id."""
    parts = _parts(text)
    if parts is None or len(password) > PASSWORD_MAXIMUM_BYTES:
        return False
    *cost, salt, derived = parts
    return hmac.compare_digest(_derive(password, salt, *cost), derived)


def _parts(text: str) -> tuple[int, int, int, bytes, bytes] | None:
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    memory, iterations, lanes = (int(one) for one in found.groups()[:3])
    if not (8 * lanes <= memory <= MEMORY_MAXIMUM_KIB and 1 <= iterations <= ITERATIONS_MAXIMUM):
        return None
    if not 1 <= lanes <= LANES_MAXIMUM:
        return None
    return memory, iterations, lanes, b64decode(found[4] + "=="), b64decode(found[5] + "=")


def _derive(password: bytes, salt: bytes, memory: int, iterations: int, lanes: int) -> bytes:
    try:
        argon2 = Argon2id(salt=salt, length=HASH_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory)
        return argon2.derive(password)
    except UnsupportedAlgorithm as error:
        raise Unavailable("chosen passwords need OpenSSL 3.2 or later") from error


def _base64(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")
