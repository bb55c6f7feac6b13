"""Secrets: how they are made, and the keyed digest that stands for them everywhere else.

Here belong generators and the one digest that the core computes at every CONNECT as well. Not here: who owns a secret.
No secret is stored or logged in clear; equality of two 256-bit keyed digests is the proof.
"""

from __future__ import annotations

import hashlib
import secrets
import string

CREDENTIAL_BYTES = 32

# Applications log in over MQTT with this user name and an API key as the password.
APPLICATION_USER_NAME = "apikey"

API_KEY_PREFIX = "wayscloud_iot_prod_"
ADMIN_KEY_PREFIX = "iot_admin_"
DEVICE_ID_PREFIX = "iot_dev_"
CLAIM_ID_PREFIX = "claim_"

_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8  # for each byte a letter, all equally often
_BASE62 = string.ascii_letters + string.digits
_API_KEY_CHARACTERS = 40
_DEVICE_ID_CHARACTERS = 16
_PASSWORD_BYTES = 32


def credential(secret: bytes, user_name: str, password: bytes) -> bytes:
    """Digest (32 bytes) of a user name and password under the installation's secret.

    Keyed BLAKE2b over the length of the user name's UTF-8 (2 bytes, big-endian), the user name and the password, so
    that no byte can move from one to the other. A user name has at most 65,535 bytes, as in a CONNECT.
    """
    name = user_name.encode()
    data = len(name).to_bytes(2, "big") + name + password
    return hashlib.blake2b(data, digest_size=CREDENTIAL_BYTES, key=secret).digest()


def certificate_credential(secret: bytes, principal_id: int, fingerprint: str) -> bytes:
    """Credential (32 bytes) of whoever comes in by a certificate: as a device that is bound to it, or (empty) named.

    A certificate is no secret. The digest is personalised, so that no user name and password of a CONNECT give it.
    """
    data = principal_id.to_bytes(4, "big") + fingerprint.encode()
    return hashlib.blake2b(data, digest_size=CREDENTIAL_BYTES, key=secret, person=b"certificate").digest()


def api_key_digest(secret: bytes, api_key: str) -> bytes:
    """Digest of an API key: the same for HTTP and for an application's CONNECT."""
    return credential(secret, APPLICATION_USER_NAME, api_key.encode())


def admin_key_digest(secret: bytes, admin_key: str) -> bytes:
    """Digest of an admin key; personalised, so that no user name and password of a CONNECT give it."""
    return hashlib.blake2b(admin_key.encode(), digest_size=CREDENTIAL_BYTES, key=secret, person=b"admin key").digest()


def claim_digest(secret: bytes, claim_id: str, claim_secret: str) -> bytes:
    """Digest of a claim token's secret; personalised, so that it is nothing that a CONNECT's own login can give."""
    data = claim_id.encode() + b"." + claim_secret.encode()
    return hashlib.blake2b(data, digest_size=CREDENTIAL_BYTES, key=secret, person=b"claim token").digest()


def new_admin_key() -> str:
    """Draw an admin key with 238 random bits."""
    return ADMIN_KEY_PREFIX + _draw(_BASE62, _API_KEY_CHARACTERS)


def new_api_key() -> str:
    """Draw an API key with 238 random bits."""
    return API_KEY_PREFIX + _draw(_BASE62, _API_KEY_CHARACTERS)


def new_device_id() -> str:
    """Draw a device id with 80 random bits: unique without asking anyone."""
    return DEVICE_ID_PREFIX + _base32(_DEVICE_ID_CHARACTERS)


def new_password() -> str:
    """Draw a device's password with 256 random bits, URL-safe."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def new_message_id() -> str:
    """Draw the id of a command, with 130 random bits; safe as a topic level."""
    return "msg_" + _base32(26)


def new_claim_id() -> str:
    """Draw the id of a claim token, with 80 random bits."""
    return CLAIM_ID_PREFIX + _base32(16)


def new_claim_secret() -> str:
    """Draw the secret of a claim token, with 238 random bits; it has no dot."""
    return _draw(_BASE62, _API_KEY_CHARACTERS)


def new_authority_id() -> str:
    """Draw the id of an account's authority, with 80 random bits."""
    return "ca_" + _base32(16)


def new_webhook_id() -> str:
    """Draw the id of a webhook, with 80 random bits."""
    return "wh_" + _base32(16)


def new_delivery_id() -> str:
    """Draw the id of a delivery to a webhook, with 130 random bits."""
    return "dlv_" + _base32(26)


def _base32(count: int) -> str:
    """Draw letters of an alphabet whose length is a power of two, all at once: a thousand devices come in one list."""
    return secrets.token_bytes(count).translate(_BASE32).decode()


def _draw(alphabet: str, count: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))
