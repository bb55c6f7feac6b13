"""What is stored about accounts, keys and devices, and its bytes.

Here belong the records and their encoding: a msgpack list that begins with its version. Not here: rules about them.
Times are whole seconds of UTC since 1970; 0 stands for never.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Self

import msgpack

from broker.errors import StoreError
from broker.ports import Durability


class Record:
    """Base of all records: a flat frozen dataclass, stored as its fields in order behind the version."""

    __slots__ = ()

    VERSION: ClassVar[int] = 1

    def encode(self) -> bytes:
        """Bytes for the store."""
        packed: bytes = msgpack.packb((self.VERSION, *_values_of(type(self))(self)))
        return packed

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read what ``encode`` wrote. Raises ``StoreError`` for anything else."""
        try:
            version, *fields = msgpack.unpackb(value)
            if version != cls.VERSION:
                raise StoreError(f"a {cls.__name__} record of version {version}: this broker is too old for its store")
            return cls(*fields)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise StoreError(f"a damaged {cls.__name__} record: {error}") from error


_TAKERS: dict[type[Record], Callable[[Record], tuple[Any, ...]]] = {}


def _values_of(kind: type[Record]) -> Callable[[Record], tuple[Any, ...]]:
    """Give what takes all fields out of a record: to look for them each time takes longer than to pack them."""
    found = _TAKERS.get(kind)
    if found is None:
        found = _TAKERS[kind] = attrgetter(*(field.name for field in dataclasses.fields(kind)))  # type: ignore[arg-type]
    return found


@dataclass(frozen=True, slots=True)
class Account(Record):
    """Who pays, and whose topic space it is."""

    account_id: int
    name: str
    plan: str
    suspended: bool
    created_at: int
    durability: str = Durability.SYNCED.value  # records that are older than this field are of accounts at this level
    queue_full_policy: str = ""  # empty: the whole broker's


@dataclass(frozen=True, slots=True)
class UsedInMonth(Record):
    """What an account has used in a month: PUBLISH packets and their bytes, both directions together.

    ``month`` counts months since the year 0, January of the year 1 being 12.
    """

    month: int
    messages: int
    bytes: int
    warned: int = 0  # of which thresholds the account was warned in this month: bits of ``QuotaWarning``
    counted: int = 0  # the last record of counts that is in it


@dataclass(frozen=True, slots=True)
class ApiKey(Record):
    """An API key; all keys of one name in one account share the ``principal_id``, so that sessions outlive keys.

    ``scopes`` and ``patterns`` are as ``policy.key_rights`` stores them: empty for all of the account.
    """

    key_id: int
    account_id: int
    name: str
    principal_id: int
    digest: bytes
    created_at: int
    revoked_at: int = 0
    expires_at: int = 0  # lets nobody in from this moment on
    scopes: str = ""
    patterns: str = ""


@dataclass(frozen=True, slots=True)
class Device(Record):
    """A device; its number is its principal id. ``metadata_json`` is the JSON text of an object."""

    device_number: int
    account_id: int
    device_id: str
    user_name: str
    digest: bytes
    name: str
    device_type: str
    description: str
    metadata_json: str
    active: bool
    created_at: int
    updated_at: int
    certificate_fingerprint: str = ""  # SHA-256 as 64 hexadecimal digits; empty: bound to none
    password_created_at: int = 0  # 0: with the device
    previous_digest: bytes = b""  # of the password before, while it overlaps; empty: there is none
    previous_created_at: int = 0
    previous_until: int = 0
    chosen_hash: str = ""  # of a password that somebody has chosen; empty: there is none
    chosen_digest: bytes = b""  # what stands among the digests for that password: no login gives it


@dataclass(frozen=True, slots=True)
class Webhook(Record):
    """Where an account is told what happens; ``events`` are joined by commas. Its secret follows from ``salt``."""

    account_id: int
    webhook_id: str
    url: str
    events: str
    topic_filter: str  # empty: that of all telemetry
    active: bool
    salt: bytes
    created_at: int
    updated_at: int
    paused_at: int = 0
    paused_reason: str = ""  # empty: the account itself has paused it, or nobody


@dataclass(frozen=True, slots=True)
class ClaimToken(Record):
    """What registers devices of an account at their first connect; how often it did is an ``Enrolled`` of its own.

    ``device_id_pattern`` has ``*`` for any characters of an id.
    """

    account_id: int
    claim_id: str
    name: str
    digest: bytes
    device_type: str
    device_id_pattern: str
    uses_maximum: int  # 0: without limit
    created_at: int
    expires_at: int = 0  # registers nobody from this moment on
    revoked_at: int = 0


@dataclass(frozen=True, slots=True)
class Authority(Record):
    """An authority of an account, whose ``certificate`` is DER; ``code`` is what its proof is for.

    ``names`` is ``subject`` or ``san``: which name of a certificate is the device.
    """

    account_id: int
    authority_id: str
    name: str
    certificate: bytes
    code: str
    names: str
    device_type: str
    device_id_pattern: str
    created_at: int
    verified_at: int = 0  # 0: nobody has proven that it is the account's
    revoked_at: int = 0


@dataclass(frozen=True, slots=True)
class Enrolled(Record):
    """How many devices a claim token or an authority has registered, and when the last one."""

    count: int
    last_at: int


def encode_number(number: int) -> bytes:
    """Bytes of a counter (the next number to be given) or of a time (seconds)."""
    packed: bytes = msgpack.packb(number)
    return packed


def decode_number(value: bytes) -> int:
    """Read what ``encode_number`` wrote."""
    number: int = msgpack.unpackb(value)
    return number
