"""CONNECT: fields by flags, versions, and every rule it can break."""

from __future__ import annotations

import itertools

import pytest

from broker import wire
from broker._core.codec_probe import connect_outcome
from broker._core.packets import decode, encode
from broker.errors import BadRequest
from broker.wire import ProtocolViolation

MQTT = "0004 4D515454"


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def connect(body: str) -> bytes:
    raw = hexed(body)
    return bytes((0x10, len(raw))) + raw


def refusal(body: str, version: int) -> int:
    with pytest.raises(ProtocolViolation) as caught:
        decode(connect(body), version)
    return int(caught.value.reason_code)


def test_a_full_connect_of_5_is_read_byte_by_byte() -> None:
    body = (
        f"{MQTT} 05 F6 003C  05 11 0000000A  0002 6964"
        "  05 18 00000005  0001 74  0002 00FF  0001 75  0003 FF0001"
    )  # fmt: skip
    expected = wire.Connect(
        "id", True, 60, wire.Will("t", b"\0\xff", 2, True, {"will_delay_interval": 5}), "u", b"\xff\0\1",
        {"session_expiry_interval": 10},
    )  # fmt: skip
    assert decode(connect(body), 5) == expected
    assert encode(expected, 5) == connect(body)


def test_a_full_connect_of_311_is_read_byte_by_byte() -> None:
    body = f"{MQTT} 04 EE 000A 0002 6964 0001 74 0002 6D6D 0001 75 0001 70"
    expected = wire.Connect("id", True, 10, wire.Will("t", b"mm", 1, True), "u", b"p")
    assert decode(connect(body), 4) == expected
    assert encode(expected, 4) == connect(body)


@pytest.mark.clause(
    "v5:MQTT-3.1.3-1", "v5:MQTT-3.1.2-9", "v5:MQTT-3.1.2-16", "v5:MQTT-3.1.2-17", "v5:MQTT-3.1.2-18",
    "v5:MQTT-3.1.2-19",
    "v311:MQTT-3.1.3-1", "v311:MQTT-3.1.2-9", "v311:MQTT-3.1.2-18", "v311:MQTT-3.1.2-19", "v311:MQTT-3.1.2-20",
    "v311:MQTT-3.1.2-21", "v311:MQTT-3.1.2-11",
)  # fmt: skip
@pytest.mark.parametrize("version", [4, 5])
def test_fields_stand_in_order_exactly_as_the_flags_say(version: int) -> None:
    for will, user_name, password in itertools.product((None, wire.Will("t", b"w")), (None, "u"), (None, b"p")):
        if version == 4 and user_name is None and password is not None:
            continue
        packet = wire.Connect("c", True, 1, will, user_name, password)
        whole = encode(packet, version)
        assert decode(whole, version) == packet
        for cut in range(2, len(whole)):  # a field that its flag announces is missing
            with pytest.raises(ProtocolViolation) as caught:
                decode(bytes((0x10, cut - 2)) + whole[2:cut], version)
            assert caught.value.reason_code == 0x81
        with pytest.raises(ProtocolViolation):  # a field that no flag announces is there
            decode(bytes((0x10, whole[1] + 3)) + whole[2:] + b"\0\1x", version)


@pytest.mark.clause("v5:MQTT-3.1.2-1", "v311:MQTT-3.1.2-1")
@pytest.mark.parametrize("name", ["0004 4D515458", "0004 6D717474", "0000", "0006 4D5149736471", "0005 4D51545400"])
def test_another_protocol_is_refused_before_its_version_is_read(name: str) -> None:
    assert connect_outcome(hexed(f"{name} 04 02 000A 0001 61")) == (0x84, 0, 0, False, 0)
    assert refusal(f"{name} 04 02 000A 0001 61", 4) == 0x84


@pytest.mark.clause("v5:MQTT-3.1.2-2", "v311:MQTT-3.1.2-2")
@pytest.mark.parametrize("level", [0, 3, 6, 0x84, 255])
def test_an_unknown_level_is_told_from_another_protocol(level: int) -> None:
    assert connect_outcome(hexed(f"{MQTT} {level:02X} 02 000A 0001 61")) == (0x84, 0, level, True, 0)


def test_the_version_is_known_even_where_the_rest_is_malformed() -> None:
    assert connect_outcome(hexed(f"{MQTT} 05 03 000A 00 0001 61"))[:3] == (0x81, 5, 5)
    assert connect_outcome(hexed(f"{MQTT} 04"))[:3] == (0x81, 4, 4)
    assert connect_outcome(hexed("0004 4D51"))[:2] == (0x81, 0)
    assert connect_outcome(b"")[:2] == (0x81, 0)


@pytest.mark.clause("v5:MQTT-3.1.2-3", "v5:MQTT-3.1.2-11", "v5:MQTT-3.1.2-12", "v5:MQTT-3.1.2-13", "v311:MQTT-3.1.2-3",
                    "v311:MQTT-3.1.2-11", "v311:MQTT-3.1.2-13", "v311:MQTT-3.1.2-14", "v311:MQTT-3.1.2-15")  # fmt: skip
@pytest.mark.parametrize("flags", ["03", "0A", "12", "1A", "22", "1E", "1C"])
@pytest.mark.parametrize(("version", "nothing"), [(4, ""), (5, "00")])
def test_impossible_flags_are_malformed(flags: str, version: int, nothing: str) -> None:
    will = f"{nothing} 0001 74 0000"
    for body in (f"0001 61 {will}", "0001 61"):
        assert refusal(f"{MQTT} {version:02X} {flags} 000A {nothing} {body}", version) == 0x81


@pytest.mark.clause("v311:MQTT-3.1.2-22", "v5:MQTT-3.1.2-19")
def test_a_password_needs_a_user_name_in_311_alone() -> None:
    assert refusal(f"{MQTT} 04 42 000A 0001 61 0001 70", 4) == 0x81
    packet = decode(connect(f"{MQTT} 05 42 000A 00 0001 61 0001 70"), 5)
    assert packet == wire.Connect("a", True, 10, password=b"p")
    with pytest.raises(BadRequest):
        encode(wire.Connect(password=b"p"), 4)


@pytest.mark.clause("v5:MQTT-3.1.3-3", "v5:MQTT-3.1.4-1", "v311:MQTT-3.1.3-3")
def test_a_connect_without_a_client_id_field_is_malformed() -> None:
    assert refusal(f"{MQTT} 05 02 000A 00", 5) == 0x81
    assert refusal(f"{MQTT} 04 02 000A", 4) == 0x81


@pytest.mark.clause("v311:MQTT-3.1.3-7", "v311:MQTT-3.1.3-8")
def test_an_empty_client_id_needs_clean_session_in_311_alone() -> None:
    assert refusal(f"{MQTT} 04 00 000A 0000", 4) == 0x85
    assert decode(connect(f"{MQTT} 04 02 000A 0000"), 4) == wire.Connect("", True, 10)
    assert decode(connect(f"{MQTT} 05 00 000A 00 0000"), 5) == wire.Connect("", False, 10)


@pytest.mark.clause("v5:MQTT-3.1.3-4", "v5:MQTT-3.1.3-11", "v5:MQTT-3.1.3-12", "v311:MQTT-3.1.3-4",
                    "v311:MQTT-3.1.3-10", "v311:MQTT-3.1.3-11", "v5:MQTT-1.5.4-1", "v311:MQTT-1.5.3-1")  # fmt: skip
@pytest.mark.parametrize("bad", ["0002 C328", "0003 EDA080", "0001 00", "0002 C0AF"])
@pytest.mark.parametrize(("version", "nothing"), [(4, ""), (5, "00")])
def test_ill_formed_text_is_malformed_in_every_field(bad: str, version: int, nothing: str) -> None:
    start = f"{MQTT} {version:02X} 86 000A {nothing}"
    good = "0001 61"
    fields = [(bad, good, good), (good, bad, good), (good, good, bad)]
    for client_id, will_topic, user_name in fields:
        assert refusal(f"{start} {client_id} {nothing} {will_topic} 0000 {user_name}", version) == 0x81
    assert decode(connect(f"{start} {good} {nothing} {good} 0000 {good}"), version)


@pytest.mark.parametrize(
    ("body", "version", "expected"),
    [
        (f"{MQTT} 04 02 000A 0001 61", 4, 0),
        (f"{MQTT} 04 00 000A 0001 61", 4, 0xFFFFFFFF),
        (f"{MQTT} 05 02 000A 00 0001 61", 5, 0),
        (f"{MQTT} 05 00 000A 00 0001 61", 5, 0),
        (f"{MQTT} 05 00 000A 05 11 00000E10 0001 61", 5, 3600),
    ],
)
def test_the_session_expiry_interval_has_one_meaning_in_both_versions(body: str, version: int, expected: int) -> None:
    assert connect_outcome(hexed(body)) == (0, version, version, True, expected)


def test_a_connect_of_the_other_version_is_not_the_one_asked_for() -> None:
    assert refusal(f"{MQTT} 04 02 000A 0001 61", 5) == 0x84
    assert refusal(f"{MQTT} 05 02 000A 00 0001 61", 4) == 0x84
