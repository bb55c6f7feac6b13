"""Records are judged by their shape: what the layouts allow is taken, and a byte too few or a turned bit is not."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest

from broker.accounts.admin_keys import AdminKey
from broker.accounts.answers import KeptAnswer
from broker.accounts.audit import AuditEntry
from broker.accounts.counted import BROUGHT_KEY, Brought, Counts
from broker.accounts.days import ALL, encode_day
from broker.accounts.messages import MessageRecord
from broker.accounts.records import (
    Account,
    ApiKey,
    Authority,
    ClaimToken,
    Device,
    Enrolled,
    UsedInMonth,
    Webhook,
    encode_number,
)
from broker.accounts.timeline_records import Entry, Recent, encode_recent, recent_key
from broker.storage.shapes import is_record
from broker.storage.tables import TABLES, audit_key, day_key, long_key, number_key
from tests.support import pki


def message(
    qos: int = 1, topic: bytes = b"devices/d/state", payload: bytes = b"21.5", properties: bytes = b""
) -> bytes:
    head = struct.pack(
        "<BBBBIIIIIIIq", qos, 0, 5, 0, len(topic), len(properties), len(payload), 0xFFFFFFFF, 0, 7, 0, 1_700_000_000
    )
    return head + topic + properties + payload


def checked(count: int, rest: bytes) -> bytes:
    body = struct.pack("<I", count) + rest
    return struct.pack("<I", zlib.crc32(body)) + body


def chunk(*numbers: int) -> bytes:
    pair = struct.pack("<QHBB", 3, 0, 1, 0)
    records = [
        struct.pack("<IIQII", 24 + len(message()) + len(pair), 1, number, 1, 0) + message() + pair for number in numbers
    ]
    return checked(len(numbers), b"".join(records))


def flow(head: bytes, rest: bytes) -> bytes:
    return head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(head))) + rest


FILTER = b"$share/pumps/devices/+/state"
DIGEST = hashlib.blake2b(FILTER, digest_size=32).digest()[:16]

SOUND = {
    "accounts": (number_key(1), Account(1, "default", "professional", False, 1).encode()),
    "keys": (number_key(2), ApiKey(2, 1, "default", 2, b"d" * 32, 1).encode()),
    "devices": (
        number_key(3),
        Device(3, 1, "dev", "iot_dev", b"d" * 32, "n", "sensor", "", "{}", True, 1, 1).encode(),
    ),
    "usage": (number_key(1), UsedInMonth(24_000, 5, 6).encode()),
    "passwords_used": (number_key(3) + b"d" * 8, encode_number(1_700_000_000)),
    "daily": (
        day_key(1, 20_000, 7),
        encode_day(
            (
                1,
                200,
                0,
                0,
            )
        ),
    ),
    "counted": (long_key(7), Counts(24_000, 20_000, 1, bytes((1, 7, 2, 200, 1, 0, 0))).encode()),
    "answers": (number_key(1) + b"n" * 16, KeptAnswer(1_700_000_000, b"s" * 40).encode()),
    "admin_keys": (number_key(4), AdminKey(4, "ops", b"d" * 32, 1, 0, 9).encode()),
    "audit": (
        audit_key(1, 9),
        AuditEntry(1_700_000_000, 1, "key", 2, "app", "192.0.2.1", "r", "create_device", "dev", "name,type").encode(),
    ),
    "timeline": (
        recent_key(3),
        encode_recent(Recent(9, 7, (Entry("taken_over", 1, 2, 3, "mqtt 5.0", "a", "b", "c", 8),))),
    ),
    "online": (number_key(3), encode_number(1_700_000_000)),
    "tracked": (number_key(3) + number_key(9), MessageRecord(3, 1, 9, "msg_1", "commands", 1, 1_700_000_000).encode()),
    "webhooks": (
        number_key(1) + b"wh_1",
        Webhook(1, "wh_1", "https://example.org/", "presence", "", True, b"s" * 16, 1, 1).encode(),
    ),
    "claims": (
        number_key(1) + b"claim_1",
        ClaimToken(1, "claim_1", "fleet", b"d" * 32, "sensor", "pump-*", 100, 1_700_000_000).encode(),
    ),
    "authorities": (
        number_key(1) + b"ca_1",
        Authority(1, "ca_1", "own", pki.trusted().der, "c0de", "san", "sensor", "*", 1, 2, 3).encode(),
    ),
    "enrolled": (number_key(1) + b"claim_1", Enrolled(7, 1_700_000_000).encode()),
    "seen": (number_key(3), encode_number(1_700_000_000)),
    "counters": (b"principal", encode_number(7)),
    "meta": (b"numbers", struct.pack("<QQ", 1, 2)),
    "sessions": (long_key(5), struct.pack("<BBHIIIqHHI", 1, 1, 3, 1, 3, 3600, 0, 2, 4, 0) + b"cid" + b"nm" + b"devi"),
    "subscriptions": (long_key(5) + DIGEST, struct.pack("<BBHI", 1, 1 | 1 << 3, 0, 0) + FILTER),
    "wills": (long_key(5), struct.pack("<II", 30, 0) + message()),
    "retained": (long_key(8), struct.pack("<II", 1, 0xFFFFFFFF) + message(payload=b"")),
    "flows": (
        long_key(5),
        flow(
            struct.pack("<QQIIHH", 9, 80, 2, 1, 3, 0),
            struct.pack("<QHBBI", 78, 1, 1, 0, 0) + struct.pack("<QHBBI", 0, 2, 3, 0, 0) + struct.pack("<H", 17),
        ),
    ),
    "messages": (long_key(78), chunk(78, 79, 85)),
    "ops": (long_key(9), checked(2, struct.pack("<BBHIQQ", 1, 0, 0, 0, 5, 78) * 2)),
}
EXACT = (
    "sessions",
    "subscriptions",
    "wills",
    "retained",
    "flows",
    "messages",
    "ops",
    "accounts",
    "keys",
    "devices",
    "audit",
    "timeline",
    "admin_keys",
    "webhooks",
    "claims",
    "enrolled",
)


def test_every_table_of_records_has_a_sound_one_here() -> None:
    assert set(SOUND) == set(TABLES) - {"journal"}


@pytest.mark.parametrize("table", SOUND)
def test_a_sound_record_is_taken(table: str) -> None:
    assert is_record(table, *SOUND[table])


@pytest.mark.parametrize("table", SOUND)
def test_whatever_another_table_holds_is_judged(table: str) -> None:
    """A page that is found apart from its table is tried as a page of each."""
    for key, value in SOUND.values():
        assert is_record(table, key, value) in (True, False)
        assert is_record(table, SOUND[table][0], value) in (True, False)


@pytest.mark.parametrize("table", EXACT)
def test_a_record_that_is_cut_anywhere_or_has_more_is_refused(table: str) -> None:
    key, value = SOUND[table]
    for size in range(len(value)):
        assert not is_record(table, key, value[:size]), size
    assert not is_record(table, key, value + b"\0")


@pytest.mark.parametrize("table", ["messages", "ops", "flows"])
def test_a_turned_bit_is_found_where_there_is_a_checksum(table: str) -> None:
    key, value = SOUND[table]
    for bit in range(len(value) * 8):
        turned = bytearray(value)
        turned[bit // 8] ^= 1 << bit % 8
        assert not is_record(table, key, bytes(turned)), bit


def test_a_subscription_under_another_filters_key_is_refused() -> None:
    key, value = SOUND["subscriptions"]
    assert not is_record("subscriptions", key, value.replace(b"pumps", b"valve"))


@pytest.mark.parametrize("table", ["accounts", "keys", "devices"])
def test_a_record_under_another_number_is_refused(table: str) -> None:
    assert not is_record(table, number_key(99), SOUND[table][1])


@pytest.mark.parametrize("table", SOUND)
def test_noise_is_refused(table: str) -> None:
    for value in (b"", b"\xc1", b"\xff" * 100, bytes(100)):
        assert not is_record(table, b"numbers", value) or table == "counters"


def test_records_of_other_types_are_refused() -> None:
    assert not is_record("accounts", number_key(1), Account(1, "default", "golden", False, 1).encode())
    assert not is_record("accounts", number_key(1), Account(1, 7, "free", False, 1).encode())  # type: ignore[arg-type]
    assert not is_record("seen", number_key(1), encode_number(-1))
    assert is_record("daily", day_key(1, 20_000, ALL), encode_day((1, 2, 3, 4, 5, 6)))
    assert not is_record("daily", day_key(1, 20_000, ALL), encode_day((1, 2, 3, 4)))
    assert not is_record("daily", day_key(1, 20_000, 7), encode_day((1, 2, 3, 4, 5, 6)))
    assert not is_record("daily", day_key(1, 20_000, 7), encode_day((1, -2, 3, 4)))
    assert not is_record("daily", day_key(1, 20_000, 7)[:11], encode_day((1, 2, 3, 4)))
    assert not is_record("messages", long_key(79), chunk(78))


def test_a_table_that_nobody_knows_may_hold_anything() -> None:
    assert is_record("journal", b"x", b"y")


def test_what_was_counted_and_how_much_of_it_is_in_rows_is_judged_by_its_checksum_its_form_and_its_sums() -> None:
    brought = Brought(7, day_key(1, 20_000, 7)).encode()
    assert is_record("counted", BROUGHT_KEY, brought)
    key, counts = SOUND["counted"]
    for at in range(len(brought)):
        assert not is_record("counted", BROUGHT_KEY, brought[:at] + bytes((brought[at] ^ 1,)) + brought[at + 1 :])
    for at in range(len(counts)):
        assert not is_record("counted", key, counts[:at] + bytes((counts[at] ^ 1,)) + counts[at + 1 :])
    packed = Counts.decode(counts).packed
    for sums, bad in ((2, packed), (0, packed), (1, packed[:-1]), (1, packed + b"\0"), (1, b"\xff" * 10 + packed[1:])):
        assert not is_record("counted", key, Counts(24_000, 20_000, sums, bad).encode())
    assert not is_record("counted", key[:4], counts)
    assert not is_record("counted", key, brought)
    assert not is_record("counted", BROUGHT_KEY, counts)
