"""The tables themselves: nothing is missing, nothing is named that does not exist, and the notation means what it says.

Here belongs what can be told without a broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.packets.conversation import versions_named
from tests.packets.notation import (
    PACKETS,
    PROPERTIES,
    V5,
    V311,
    NotationError,
    to_bytes,
    to_patterns,
)
from tests.packets.table import FILES, Row, load_rows
from tests.spec.clauses import all_statements

ROWS = load_rows()
NAMES = {"id": b"c", "user": b"u", "password": b"p", "device": b"d", "each": b""}
WITH_PROPERTIES = (
    "connect", "will", "publish", "puback", "pubrec", "pubrel", "pubcomp", "subscribe", "unsubscribe", "disconnect",
    "auth",
)  # fmt: skip
# No method to authenticate with is known, so that the broker has nothing to say in an AUTH.
NEVER_SENT = {"CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ", "AUTH"}


def said(row: Row) -> Iterator[str]:
    """What the client of a row sends, piece by piece."""
    yield from (line[2:] for line in map(str.strip, row.talk.splitlines()) if line.startswith("> "))
    if row.send:
        yield row.send


def heard(row: Row) -> str:
    """All that must come back to the client of a row."""
    lines = [line[2:] for line in map(str.strip, row.talk.splitlines()) if line.startswith("< ")]
    return " ".join([*lines, row.expect])


def variables(row: Row) -> dict[str, bytes]:
    return {**NAMES, "each": to_bytes(row.each, row.version, NAMES)}


def test_every_row_has_a_name_of_its_own_and_something_to_say() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS)
    assert [str(row) for row in ROWS if not row.send and not row.talk] == []


def test_every_row_names_statements_of_its_versions_or_a_section() -> None:
    known = {name for name, _ in all_statements()}
    assert {str(row): set(row.clauses) - known for row in ROWS if set(row.clauses) - known} == {}
    assert [str(row) for row in ROWS if not row.clauses and not row.section] == []
    assert [str(row) for row in ROWS if row.clauses and row.version not in versions_named(row.clauses)] == []


@pytest.mark.parametrize("version", [V311, V5])
def test_clients_send_every_type_of_packet(version: int) -> None:
    first = {
        to_bytes(text, version, variables(row))[:1] for row in ROWS if row.version == version for text in said(row)
    }
    assert {byte[0] >> 4 for byte in first if byte} == set(range(16))


@pytest.mark.parametrize("version", [V311, V5])
def test_the_broker_sends_every_type_of_packet_that_it_may(version: int) -> None:
    words = " ".join(heard(row) for row in ROWS if row.version == version)
    found = {name for name in PACKETS if re.search(rf"\b{name}\b", words)}
    if version == V5 and any(row.close not in {"", "silently"} for row in ROWS):
        found.add("DISCONNECT")
    assert found == set(PACKETS) - NEVER_SENT - (set() if version == V5 else {"DISCONNECT"})


@pytest.mark.parametrize("name", WITH_PROPERTIES)
def test_every_property_stands_in_every_packet_that_a_client_sends(name: str) -> None:
    texts = " ".join(row.each + " " + text for row in ROWS if row.file == name for text in said(row))
    assert {one for one in PROPERTIES if re.search(rf"\b{one}\b", texts)} == set(PROPERTIES)


def test_every_packet_of_a_client_has_a_file() -> None:
    assert {path.stem for path in FILES} >= {*WITH_PROPERTIES, "ping", "header"}


@pytest.mark.parametrize(
    ("text", "version", "data"),
    [
        ("C0 00", 5, "C0 00"),
        ("PINGREQ()", 5, "C0 00"),
        ("PUBLISH.1.dup.retain", 5, "3B"),
        ("""PUBLISH.1("t" 0001 {} 'hi')""", 5, "32 08 0001 74 0001 00 6869"),
        ("""PUBLISH.1("t" 0001 {} 'hi')""", 4, "32 07 0001 74 0001 6869"),
        ("PUBLISH({topic_alias 0001})", 5, "30 04 03 23 0001"),
        ("[3*'ab']", 5, "0006 616261626162"),
        ("(200*00)", 5, "C801" + 200 * "00"),
        ("2*PINGREQ()", 5, "C0 00 C0 00"),
        ("<05|04> <00>", 5, "05 00"),
        ("<05|04> <00>", 4, "04"),
        ("[$id] $user # a comment", 5, "0001 63 75"),
        ('"#" # a comment\n "é"', 5, "0001 23 0002 C3A9"),
        ("", 5, ""),
    ],
)
def test_what_is_sent_is_exact(text: str, version: int, data: str) -> None:
    assert to_bytes(text, version, NAMES) == bytes.fromhex(data)


@pytest.mark.parametrize(
    "text", ["C", "c0", "NOTHING()", "PUBLISH.4()", "(", ")", "[00}", "(...)", "??", "300000000*(00)", "$nobody"]
)
def test_what_is_no_notation_is_refused(text: str) -> None:
    with pytest.raises((NotationError, KeyError)):
        to_bytes(f"({text})" if text[0] == "3" else text, 5, {})


@pytest.mark.parametrize(
    ("text", "data", "matches"),
    [
        ("SUBACK(0001 {} 00)", "90 04 0001 00 00", True),
        ("SUBACK(0001 {} 00)", "90 04 0001 00 01", False),
        ("SUBACK(0001 {} 00)", "90 05 0001 00 00 00", False),
        ("SUBACK(?? 01 {} 00)", "90 04 7701 00 00", True),
        ("CONNACK(00 00 ...)", "20 03 00 00 00", True),
        ("CONNACK(00 00 ...)", "20 02 00 01", False),
        ("CONNACK(00 00 {... maximum_qos 01 ...})", "20 08 00 00 05 210014 2401", True),
        ("CONNACK(00 00 {... maximum_qos 01 ...})", "20 08 00 00 05 210014 2400", False),
    ],
)
def test_what_must_come_back_may_have_holes(text: str, data: str, matches: bool) -> None:
    (pattern,) = to_patterns(text, 5, NAMES)
    assert bool(pattern.fullmatch(bytes.fromhex(data))) is matches


def test_what_must_come_back_is_a_list_of_packets() -> None:
    assert len(to_patterns("2*PINGRESP() D0 (00) PUBACK(0001) ?? (...)", 5, NAMES)) == 5
    with pytest.raises(NotationError):
        to_patterns("D0 00", 5, NAMES)
