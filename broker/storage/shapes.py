"""Whether bytes can be a record of their table: lengths that agree, values in range, checksums where there are any.

Here belongs the judgement of one entry alone, for stores that are checked or rescued. Not here: reading records into
memory (the core, ``broker.accounts``), and rules between entries. The layouts are those of ``_core/records.pxd``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Callable

from broker.accounts.admin_keys import AdminKey
from broker.accounts.answers import KeptAnswer
from broker.accounts.audit import AuditEntry
from broker.accounts.authority_certificates import describe
from broker.accounts.counted import BROUGHT_KEY, Brought, Counts
from broker.accounts.days import ALL, DAY_FIGURES, TOTAL_FIGURES, decode_day
from broker.accounts.device_passwords import DIGEST_BYTES_OF_KEY
from broker.accounts.ledger import ACCOUNT_NUMBERS, PRINCIPAL_NUMBERS
from broker.accounts.messages import ANSWER_MARK, MessageRecord
from broker.accounts.plans import PLANS
from broker.accounts.records import (
    Account,
    ApiKey,
    Authority,
    ClaimToken,
    Device,
    Enrolled,
    UsedInMonth,
    Webhook,
    decode_number,
)
from broker.accounts.timeline_records import is_timeline
from broker.config import QUEUE_FULL_POLICIES
from broker.errors import StoreError
from broker.policy.chosen_passwords import is_hash
from broker.policy.key_rights import KeyRights
from broker.policy.sealing import NAME_BYTES, NONCE_BYTES
from broker.ports import Durability
from broker.storage.tables import (
    ACCOUNTS,
    ADMIN_KEYS,
    ANSWERS,
    AUDIT,
    AUTHORITIES,
    CLAIMS,
    COUNTED,
    COUNTERS,
    DAILY,
    DEVICES,
    ENROLLED,
    FLOWS,
    FORMAT_KEY,
    KEYS,
    MESSAGES,
    META,
    NUMBERS_KEY,
    ONLINE,
    OPS,
    PASSWORDS_USED,
    RETAINED,
    SEEN,
    SESSIONS,
    SUBSCRIPTIONS,
    TIMELINE,
    TRACKED,
    USAGE,
    WEBHOOKS,
    WILLS,
    day_key_parts,
    number_key,
)

RECORD_VERSION = 1
_LEVELS = frozenset(level.value for level in Durability)
NEVER = 2**63
NUMBER_MAXIMUM = 2**62  # of all that is counted in 64 bits: what is above it is damaged

_SESSION = struct.Struct("<BBHIIIqHHI")
_SUBSCRIPTION = struct.Struct("<BBHI")
_MESSAGE = struct.Struct("<BBBBIIIIIIIq")
_RECORD = struct.Struct("<IIQII")
_FLOW = struct.Struct("<QQIIHHI")
_FLOW_ENTRY = struct.Struct("<QHBBI")
_OP = struct.Struct("<BBHIQQ")
_CHECKED = struct.Struct("<II")

WILL_HEAD_BYTES = 8
RETAINED_HEAD_BYTES = 8
LONG_KEY_BYTES = 8
DIGEST_BYTES = 16
CREDENTIAL_BYTES = 32
COUNTER_NAMES = (ACCOUNT_NUMBERS.encode(), PRINCIPAL_NUMBERS.encode())
OP_KINDS = range(1, 7)
FLOW_STATES = range(5)


def is_record(table: str, key: bytes, value: bytes) -> bool:
    """Tell whether a table can have this entry; a table that is not known can have any."""
    check = CHECKS.get(table)
    try:
        return check is None or check(key, value)
    except (StoreError, struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return False


def _is_meta(key: bytes, value: bytes) -> bool:
    if key == NUMBERS_KEY:
        return all(number < NUMBER_MAXIMUM for number in struct.unpack("<QQ", value))
    return len(value) == {FORMAT_KEY: 4}.get(key, len(value))


def _is_session(key: bytes, value: bytes) -> bool:
    version, flags, client_id, _, _, _, away_since, name, device_id, _ = _SESSION.unpack_from(value)
    if len(key) != LONG_KEY_BYTES or version != RECORD_VERSION or flags > 15 or away_since < 0:
        return False
    value[_SESSION.size :].decode()
    return len(value) == int(_SESSION.size + client_id + name + device_id)


def _is_subscription(key: bytes, value: bytes) -> bool:
    version, options, _, _ = _SUBSCRIPTION.unpack_from(value)
    digest = hashlib.blake2b(value[_SUBSCRIPTION.size :], digest_size=32).digest()[:DIGEST_BYTES]
    return version == RECORD_VERSION and options & 3 <= 2 and key[LONG_KEY_BYTES:] == digest


def _message_bytes(value: bytes, start: int) -> int:
    """Tell how long the message is that begins here; 0 when none does."""
    qos, retain, _, _, topic, properties, payload, *_ = _MESSAGE.unpack_from(value, start)
    size = _MESSAGE.size + topic + properties + payload
    if qos > 2 or retain > 1 or not 0 < topic <= 65_535 or start + size > len(value):
        return 0
    value[start + _MESSAGE.size : start + _MESSAGE.size + topic].decode()
    return int(size)


def _is_will(key: bytes, value: bytes) -> bool:
    return len(key) == LONG_KEY_BYTES and WILL_HEAD_BYTES + _message_bytes(value, WILL_HEAD_BYTES) == len(value)


def _is_retained(key: bytes, value: bytes) -> bool:
    whole = RETAINED_HEAD_BYTES + _message_bytes(value, RETAINED_HEAD_BYTES)
    return len(key) == LONG_KEY_BYTES and whole == len(value)


def _is_flow(key: bytes, value: bytes) -> bool:
    _, _, listed, identifiers, _, _, crc = _FLOW.unpack_from(value)
    size = _FLOW.size + listed * _FLOW_ENTRY.size + 2 * identifiers
    if len(key) != LONG_KEY_BYTES or len(value) != size:
        return False
    if crc != zlib.crc32(value[_FLOW.size :], zlib.crc32(value[: _FLOW.size - 4])):
        return False
    entries = _FLOW_ENTRY.iter_unpack(value[_FLOW.size : _FLOW.size + listed * _FLOW_ENTRY.size])
    return all(state in FLOW_STATES for _, _, state, _, _ in entries)


def _is_whole(value: bytes) -> bool:
    """Tell whether a value's checksum is that of its bytes."""
    return len(value) >= _CHECKED.size and _CHECKED.unpack_from(value)[0] == zlib.crc32(memoryview(value)[4:])


def _is_ops(key: bytes, value: bytes) -> bool:
    if len(key) != LONG_KEY_BYTES or not _is_whole(value):
        return False
    count = _CHECKED.unpack_from(value)[1]
    kinds = (op[0] for op in _OP.iter_unpack(value[_CHECKED.size :]))
    return len(value) == _CHECKED.size + count * _OP.size and all(kind in OP_KINDS for kind in kinds)


def _is_chunk(key: bytes, value: bytes) -> bool:
    """Whole by its checksum, and its records follow each other to its end, with numbers from the key's on."""
    if len(key) != LONG_KEY_BYTES or not _is_whole(value):
        return False
    start, before = _CHECKED.size, int.from_bytes(key, "big") - 1
    for _ in range(_CHECKED.unpack_from(value)[1]):
        size, _, number, _, _ = _RECORD.unpack_from(value, start)
        message = _message_bytes(value, start + _RECORD.size)
        if not message or _RECORD.size + message > size or number <= before:
            return False
        start, before = start + size, number
    return start == len(value)


def _is_account(record: Account) -> bool:
    policies = ("", *QUEUE_FULL_POLICIES)
    return record.plan in PLANS and record.durability in _LEVELS and record.queue_full_policy in policies


def _is(kind: type[Account | ApiKey | AdminKey | Device], number_of: str) -> Callable[[bytes, bytes], bool]:
    def check(key: bytes, value: bytes) -> bool:
        record = kind.decode(value)
        if len(key) != 4 or getattr(record, number_of) != int.from_bytes(key, "big"):
            return False
        if isinstance(record, Account) and not _is_account(record):
            return False
        if not isinstance(record, Account) and len(record.digest) != CREDENTIAL_BYTES:
            return False
        if isinstance(record, Device) and not _has_sound_passwords(record):
            return False
        if isinstance(record, ApiKey):
            KeyRights.of_record(record.scopes, record.patterns)
        return all(type(getattr(record, one.name)).__name__ == one.type for one in dataclasses.fields(record))

    return check


def _has_sound_passwords(device: Device) -> bool:
    sizes = {len(device.previous_digest), len(device.chosen_digest)}
    return sizes <= {0, CREDENTIAL_BYTES} and (not device.chosen_hash or is_hash(device.chosen_hash))


def _is_number(value: bytes) -> bool:
    number = decode_number(value)
    return type(number) is int and 0 <= number < NEVER


def _is_seen(key: bytes, value: bytes) -> bool:
    return len(key) == 4 and _is_number(value)


def _is_password_used(key: bytes, value: bytes) -> bool:
    return len(key) == 4 + DIGEST_BYTES_OF_KEY and _is_number(value)


def _is_answer(key: bytes, value: bytes) -> bool:
    answer = KeptAnswer.decode(value)
    times = type(answer.made_at) is int and 0 <= answer.made_at < NEVER
    return len(key) == 4 + NAME_BYTES and times and type(answer.sealed) is bytes and len(answer.sealed) > NONCE_BYTES


def _is_tracked(key: bytes, value: bytes) -> bool:
    if len(key) == LONG_KEY_BYTES + len(ANSWER_MARK) and key.endswith(ANSWER_MARK):
        return True  # what a device has answered is anything
    record = MessageRecord.decode(value)
    numbers = [one for one in dataclasses.fields(record) if one.type == "int"]
    if key != record.key or type(record.message_id) is not str or type(record.kind) is not str:
        return False
    values = [getattr(record, one.name) for one in numbers]
    return all(type(one) is int and -NEVER < one < NEVER for one in values)


def _is_counter(key: bytes, value: bytes) -> bool:
    return key in COUNTER_NAMES and _is_number(value)


def _is_usage(key: bytes, value: bytes) -> bool:
    used = UsedInMonth.decode(value)
    return len(key) == 4 and all(
        isinstance(one, int) for one in (used.month, used.messages, used.bytes, used.warned, used.counted)
    )


def _is_day(key: bytes, value: bytes) -> bool:
    figures = decode_day(value)
    wanted = TOTAL_FIGURES if day_key_parts(key)[2] == ALL else DAY_FIGURES
    return len(figures) == wanted and all(type(one) is int and 0 <= one < NEVER for one in figures)


def _is_counted(key: bytes, value: bytes) -> bool:
    if key == BROUGHT_KEY:
        return bool(Brought.decode(value))
    Counts.decode(value).by_account()  # raises where they are none
    return len(key) == LONG_KEY_BYTES


def _is_audit(key: bytes, value: bytes) -> bool:
    entry = AuditEntry.decode(value)
    if len(key) != 4 + LONG_KEY_BYTES or int.from_bytes(key[:4], "big") != entry.account_id:
        return False
    return all(type(getattr(entry, one.name)).__name__ == one.type for one in dataclasses.fields(entry))


def _is_webhook(key: bytes, value: bytes) -> bool:
    record = Webhook.decode(value)
    if not _has_its_types(record):
        return False
    return key == number_key(record.account_id) + record.webhook_id.encode()


def _is_claim(key: bytes, value: bytes) -> bool:
    record = ClaimToken.decode(value)
    if not _has_its_types(record) or len(record.digest) != CREDENTIAL_BYTES:
        return False
    return key == number_key(record.account_id) + record.claim_id.encode()


def _is_authority(key: bytes, value: bytes) -> bool:
    record = Authority.decode(value)
    if not _has_its_types(record) or record.names not in ("subject", "san"):
        return False
    describe(record.certificate)
    return key == number_key(record.account_id) + record.authority_id.encode()


def _is_enrolled(key: bytes, value: bytes) -> bool:
    record = Enrolled.decode(value)
    key[4:].decode()
    return len(key) > 4 and _has_its_types(record) and record.count >= 0


def _has_its_types(record: Webhook | ClaimToken | Authority | Enrolled) -> bool:
    return all(type(getattr(record, one.name)).__name__ == one.type for one in dataclasses.fields(record))


CHECKS: dict[str, Callable[[bytes, bytes], bool]] = {
    META: _is_meta,
    ACCOUNTS: _is(Account, "account_id"),
    KEYS: _is(ApiKey, "key_id"),
    ADMIN_KEYS: _is(AdminKey, "key_id"),
    DEVICES: _is(Device, "device_number"),
    SEEN: _is_seen,
    PASSWORDS_USED: _is_password_used,
    COUNTERS: _is_counter,
    USAGE: _is_usage,
    DAILY: _is_day,
    COUNTED: _is_counted,
    ANSWERS: _is_answer,
    AUDIT: _is_audit,
    TIMELINE: is_timeline,
    ONLINE: _is_seen,
    TRACKED: _is_tracked,
    WEBHOOKS: _is_webhook,
    CLAIMS: _is_claim,
    AUTHORITIES: _is_authority,
    ENROLLED: _is_enrolled,
    SESSIONS: _is_session,
    SUBSCRIPTIONS: _is_subscription,
    WILLS: _is_will,
    FLOWS: _is_flow,
    MESSAGES: _is_chunk,
    OPS: _is_ops,
    RETAINED: _is_retained,
}
