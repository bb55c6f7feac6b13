"""Packets byte for byte, and the rules that one packet can break by itself. CONNECT has its own file."""

from __future__ import annotations

import pytest

from broker import wire
from broker._core import codec_probe
from broker._core.packets import decode, encode
from broker.errors import BadRequest
from broker.wire import ProtocolViolation, Subscription

# Written by hand from chapter 3 of the two specifications: version, sent by a client, bytes, packet.
VECTORS: list[tuple[int, bool, str, wire.Packet]] = [
    (4, False, "20 02 00 00", wire.Connack()),
    (4, False, "20 02 01 00", wire.Connack(session_present=True)),
    (4, False, "20 02 00 05", wire.Connack(reason_code=5)),
    (5, False, "20 03 00 00 00", wire.Connack()),
    (5, False, "20 08 01 00 05 21 00 14 24 01", wire.Connack(True, 0, {"maximum_qos": 1, "receive_maximum": 20})),
    (5, False, "20 03 00 87 00", wire.Connack(reason_code=0x87)),
    (4, True, "30 05 0003 612F62", wire.Publish("a/b")),
    (4, True, "31 07 0003 612F62 6869", wire.Publish("a/b", b"hi", retain=True)),
    (4, True, "3A 09 0003 612F62 000A 6869", wire.Publish("a/b", b"hi", qos=1, dup=True, packet_id=10)),
    (4, True, "34 07 0003 612F62 FFFF", wire.Publish("a/b", qos=2, packet_id=65_535)),
    (5, True, "30 06 0003 612F62 00", wire.Publish("a/b")),
    (5, True, "32 0C 0003 612F62 0102 03 23 0007 68", wire.Publish("a/b", b"h", 1, packet_id=0x0102,
                                                                   properties={"topic_alias": 7})),
    (5, True, "30 06 0000 03 23 0007", wire.Publish("", properties={"topic_alias": 7})),
    (5, False, "30 08 0001 61 04 0B01 0B02", wire.Publish("a", properties={"subscription_identifier": (1, 2)})),
    (5, True, "30 0E 0001 61 09 01 00 26 0001 6B 0001 76 78",
     wire.Publish("a", b"x", properties={"payload_format_indicator": 0, "user_property": (("k", "v"),)})),
    (4, True, "40 02 1234", wire.Puback(0x1234)),
    (5, True, "40 02 1234", wire.Puback(0x1234)),
    (5, True, "40 03 1234 10", wire.Puback(0x1234, 0x10)),
    (5, True, "50 08 1234 87 04 1F 0001 6E", wire.Pubrec(0x1234, 0x87, {"reason_string": "n"})),
    (4, True, "62 02 0001", wire.Pubrel(1)),
    (5, True, "62 03 0001 92", wire.Pubrel(1, 0x92)),
    (4, True, "70 02 0001", wire.Pubcomp(1)),
    (5, True, "70 03 0001 92", wire.Pubcomp(1, 0x92)),
    (4, True, "82 0E 000A 0003 612F62 01 0003 632F64 02",
     wire.Subscribe(10, (Subscription("a/b", 1), Subscription("c/d", 2)))),
    (5, True, "82 09 000A 00 0003 612F62 2E", wire.Subscribe(10, (Subscription("a/b", 2, True, True, 2),))),
    (5, True, "82 09 0001 02 0B7F 0001 23 10",
     wire.Subscribe(1, (Subscription("#", 0, False, False, 1),), {"subscription_identifier": (127,)})),
    (4, False, "90 04 000A 01 80", wire.Suback(10, (1, 0x80))),
    (5, False, "90 05 000A 00 02 87", wire.Suback(10, (2, 0x87))),
    (4, True, "A2 07 000A 0003 612F62", wire.Unsubscribe(10, ("a/b",))),
    (5, True, "A2 0B 000A 00 0003 612F62 0001 23", wire.Unsubscribe(10, ("a/b", "#"))),
    (4, False, "B0 02 000A", wire.Unsuback(10)),
    (5, False, "B0 05 000A 00 00 11", wire.Unsuback(10, (0, 0x11))),
    (4, True, "C0 00", wire.Pingreq()),
    (4, False, "D0 00", wire.Pingresp()),
    (4, True, "E0 00", wire.Disconnect()),
    (5, True, "E0 00", wire.Disconnect()),
    (5, True, "E0 01 04", wire.Disconnect(4)),
    (5, True, "E0 07 00 05 11 00000000", wire.Disconnect(0, {"session_expiry_interval": 0})),
    (5, False, "E0 06 9C 04 1C 0001 73", wire.Disconnect(0x9C, {"server_reference": "s"})),
    (5, True, "F0 0A 18 08 15 0001 6D 16 0001 64",
     wire.Auth(0x18, {"authentication_method": "m", "authentication_data": b"d"})),
    (5, False, "F0 00", wire.Auth()),
]  # fmt: skip


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def refusal(packet: str, version: int, *, from_client: bool = True) -> int:
    with pytest.raises(ProtocolViolation) as caught:
        decode(hexed(packet), version, from_client=from_client)
    return int(caught.value.reason_code)


@pytest.mark.clause("v5:MQTT-2.2.1-2", "v5:MQTT-2.2.2-1", "v5:MQTT-3.3.2-1", "v311:MQTT-2.3.1-5", "v311:MQTT-3.3.2-1")
@pytest.mark.parametrize(("version", "from_client", "data", "packet"), VECTORS)
def test_bytes_and_packet_are_two_forms_of_one_thing(
    version: int, from_client: bool, data: str, packet: wire.Packet
) -> None:
    assert decode(hexed(data), version, from_client=from_client) == packet
    assert encode(packet, version) == hexed(data)


@pytest.mark.parametrize(("version", "from_client", "data", "packet"), VECTORS)
def test_a_packet_cut_anywhere_is_refused_whatever_its_length_says(
    version: int, from_client: bool, data: str, packet: wire.Packet
) -> None:
    whole = hexed(data)
    for cut in range(len(whole)):
        with pytest.raises(ProtocolViolation):
            decode(whole[:cut], version, from_client=from_client)
    for cut in range(2, len(whole)):  # the length is right, fields are missing: refused, or a shorter packet
        shorter = bytes((whole[0], cut - 2)) + whole[2:cut]
        try:
            assert decode(shorter, version, from_client=from_client) != packet
        except ProtocolViolation:
            continue


@pytest.mark.parametrize(("version", "from_client", "data", "packet"), VECTORS)
def test_bytes_behind_the_last_field_are_refused(
    version: int, from_client: bool, data: str, packet: wire.Packet
) -> None:
    whole = hexed(data)
    longer = bytes((whole[0], whole[1] + 1)) + whole[2:] + b"\xff"
    if isinstance(packet, wire.Publish):
        assert decode(longer, version, from_client=from_client).payload == packet.payload + b"\xff"  # type: ignore[union-attr]
    else:
        with pytest.raises(ProtocolViolation):
            decode(longer, version, from_client=from_client)


@pytest.mark.parametrize(("version", "from_client", "data", "packet"), VECTORS)
def test_a_packet_of_the_other_side_is_a_protocol_error(
    version: int, from_client: bool, data: str, packet: wire.Packet
) -> None:
    both_ways = (wire.Publish, wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp, wire.Auth)
    if not isinstance(packet, both_ways) and not (version == 5 and isinstance(packet, wire.Disconnect)):
        assert refusal(data, version, from_client=not from_client) == 0x82


@pytest.mark.clause("v5:MQTT-3.3.1-4", "v311:MQTT-3.3.1-4")
@pytest.mark.parametrize("version", [4, 5])
def test_publish_with_qos_3_is_malformed(version: int) -> None:
    assert refusal("36 06 0001 61 0001 00", version) == 0x81


@pytest.mark.clause("v5:MQTT-3.3.1-2", "v311:MQTT-3.3.1-2")
@pytest.mark.parametrize("version", [4, 5])
def test_dup_with_qos_0_is_a_protocol_error_and_never_written(version: int) -> None:
    assert refusal("38 04 0001 61 00", version) == 0x82
    with pytest.raises(BadRequest):
        encode(wire.Publish("a", dup=True), version)


@pytest.mark.clause("v5:MQTT-2.2.1-3", "v311:MQTT-2.3.1-1")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    "packet", ["32 06 0001 61 0000 00", "40 02 0000", "50 02 0000", "62 02 0000", "70 02 0000",
               "82 07 0000 00 0001 61 00",
               "A2 06 0000 00 0001 61"],
)  # fmt: skip
def test_packet_identifier_0_is_a_protocol_error(packet: str, version: int) -> None:
    assert refusal(packet, version) == 0x82


@pytest.mark.clause("v5:MQTT-2.2.1-3")
@pytest.mark.parametrize("packet_id", [0, 65_536, -1])
def test_packet_identifiers_out_of_range_are_never_written(packet_id: int) -> None:
    for packet in (wire.Publish("a", qos=1, packet_id=packet_id), wire.Puback(packet_id),
                   wire.Subscribe(packet_id, (Subscription("a"),)), wire.Unsubscribe(packet_id, ("a",))):  # fmt: skip
        with pytest.raises(BadRequest):
            encode(packet, 5)


@pytest.mark.clause("v5:MQTT-1.5.4-1", "v5:MQTT-1.5.4-2", "v5:MQTT-3.3.2-1", "v5:MQTT-3.8.3-1", "v5:MQTT-3.10.3-1",
                    "v311:MQTT-1.5.3-1", "v311:MQTT-1.5.3-2", "v311:MQTT-3.8.3-1", "v311:MQTT-3.10.3-1")  # fmt: skip
@pytest.mark.parametrize("bad", ["C328", "ED A0 80", "6100"])
def test_ill_formed_topics_are_malformed(bad: str) -> None:
    field = f"{len(hexed(bad)):04X}{bad}"
    for version, nothing in ((4, ""), (5, "00")):
        for first, body in (
            ("30", field + nothing),
            ("82", f"0001{nothing}{field}00"),
            ("A2", f"0001{nothing}{field}"),
        ):
            assert refusal(f"{first}{len(hexed(body)):02X}{body}", version) == 0x81


@pytest.mark.clause("v5:MQTT-1.5.4-3", "v311:MQTT-1.5.3-3")
def test_a_byte_order_mark_is_a_character_like_any_other() -> None:
    packet = decode(hexed("30 06 0004 EFBBBF61"), 4)
    assert isinstance(packet, wire.Publish)
    assert packet.topic_name == "\ufeffa"
    assert encode(packet, 4) == hexed("30 06 0004 EFBBBF61")


ACK_CODES = {0x4: "00 10 80 83 87 90 91 97 99", 0x5: "00 10 80 83 87 90 91 97 99", 0x6: "00 92", 0x7: "00 92"}


@pytest.mark.clause("v5:MQTT-3.4.2-1", "v5:MQTT-3.5.2-1", "v5:MQTT-3.6.2-1", "v5:MQTT-3.7.2-1")
@pytest.mark.parametrize("kind", ACK_CODES)
def test_acknowledgements_take_only_their_own_reason_codes(kind: int) -> None:
    first = f"{kind << 4 | (2 if kind == 6 else 0):02X}"
    for code in range(256):
        packet = f"{first} 04 0001 {code:02X} 00"
        if code in hexed(ACK_CODES[kind]):
            assert decode(hexed(packet), 5).reason_code == code  # type: ignore[union-attr]
        else:
            assert refusal(packet, 5) == 0x82


@pytest.mark.parametrize("packet", ["40 03 0001 00", "50 04 0001 0000", "40 01 00", "40 00"])
def test_acknowledgements_of_311_have_two_bytes_exactly(packet: str) -> None:
    assert refusal(packet, 4) == 0x81


CLIENT_DISCONNECT = hexed("00 04 80 81 82 83 90 93 94 95 96 97 98 99")
SERVER_DISCONNECT = hexed("00 80 81 82 83 87 89 8B 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2")


@pytest.mark.clause("v5:MQTT-3.14.2-1")
@pytest.mark.parametrize(("from_client", "codes"), [(True, CLIENT_DISCONNECT), (False, SERVER_DISCONNECT)])
def test_disconnect_takes_only_the_reason_codes_of_its_sender(from_client: bool, codes: bytes) -> None:
    for code in set(range(256)) - {0x8C}:  # 0x8C: the specification contradicts itself
        packet = f"E0 01 {code:02X}"
        if code in codes:
            assert decode(hexed(packet), 5, from_client=from_client) == wire.Disconnect(code)
        else:
            assert refusal(packet, 5, from_client=from_client) == 0x82


@pytest.mark.clause("v5:MQTT-3.15.2-1")
@pytest.mark.parametrize(("from_client", "codes"), [(True, {0x18, 0x19}), (False, {0x00, 0x18})])
def test_auth_takes_only_the_reason_codes_of_its_sender(from_client: bool, codes: set[int]) -> None:
    for code in range(256):
        packet = f"F0 06 {code:02X} 04 15 0001 6D"
        if code in codes:
            assert decode(hexed(packet), 5, from_client=from_client).reason_code == code  # type: ignore[union-attr]
        else:
            assert refusal(packet, 5, from_client=from_client) == 0x82


def test_auth_without_a_method_is_a_protocol_error() -> None:
    assert refusal("F0 02 18 00", 5) == 0x82
    assert refusal("F0 00", 5) == 0x82


def test_311_has_no_auth() -> None:
    assert refusal("F0 00", 4) == 0x81
    with pytest.raises(BadRequest):
        encode(wire.Auth(0x18), 4)


@pytest.mark.clause("v5:MQTT-3.8.3-2", "v5:MQTT-3.10.3-2", "v311:MQTT-3.8.3-3", "v311:MQTT-3.10.3-2")
def test_subscribe_and_unsubscribe_need_a_filter() -> None:
    for version, packets in ((4, ["82 02 0001", "A2 02 0001"]), (5, ["82 03 0001 00", "A2 03 0001 00"])):
        assert [refusal(packet, version) for packet in packets] == [0x82, 0x82]
    for empty in (wire.Subscribe(1, ()), wire.Unsubscribe(1, ())):
        with pytest.raises(BadRequest):
            encode(empty, 5)


@pytest.mark.clause("v5:MQTT-3.8.3-5")
def test_subscription_options_of_5_follow_their_table() -> None:
    for options in range(256):
        packet = f"82 07 0001 00 0001 61 {options:02X}"
        if options & 0xC0:
            assert refusal(packet, 5) == 0x81
        elif options & 0x03 == 0x03 or options & 0x30 == 0x30:
            assert refusal(packet, 5) == 0x82
        else:
            assert encode(decode(hexed(packet), 5), 5) == hexed(packet)


@pytest.mark.clause("v311:MQTT-3.8.3-4")
def test_subscription_options_of_311_are_the_qos_alone() -> None:
    accepted = []
    for options in range(256):
        try:
            decode(hexed(f"82 06 0001 0001 61 {options:02X}"), 4)
            accepted.append(options)
        except ProtocolViolation:
            continue
    assert accepted == [0, 1, 2]


@pytest.mark.clause("v5:MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription_is_a_protocol_error() -> None:
    topic_filter = b"$share/g/a".hex()
    assert refusal(f"82 10 0001 00 000A {topic_filter} 04", 5) == 0x82
    assert decode(hexed(f"82 10 0001 00 000A {topic_filter} 00"), 5)


@pytest.mark.clause("v5:MQTT-3.9.3-2", "v5:MQTT-3.11.3-2", "v311:MQTT-3.9.3-2")
def test_suback_and_unsuback_take_only_their_reason_codes() -> None:
    cases = [
        ("90 04 0001 00 {:02X}", 5, "00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        ("90 03 0001 {:02X}", 4, "00 01 02 80"),
        ("B0 04 0001 00 {:02X}", 5, "00 11 80 83 87 8F 91"),
    ]
    for packet, version, codes in cases:
        for code in set(range(256)) - set(hexed(codes)):
            assert refusal(packet.format(code), version, from_client=False) == 0x82


@pytest.mark.clause("v311:MQTT-3.9.3-2")
def test_every_refusal_in_a_311_suback_is_0x80() -> None:
    assert encode(wire.Suback(1, (2, 0x87, 0x97, 0)), 4) == hexed("90 06 0001 02 80 80 00")


@pytest.mark.clause("v5:MQTT-3.2.2-8")
def test_connack_takes_only_its_reason_codes() -> None:
    codes = hexed("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F")
    for code in set(range(256)) - set(codes):
        assert refusal(f"20 03 00 {code:02X} 00", 5, from_client=False) == 0x82


@pytest.mark.clause("v5:MQTT-3.2.2-1")
@pytest.mark.parametrize("packet", ["20 03 02 00 00", "20 03 80 00 00"])
def test_connack_flags_other_than_session_present_are_malformed(packet: str) -> None:
    assert refusal(packet, 5, from_client=False) == 0x81


@pytest.mark.clause("v5:MQTT-3.2.2-6", "v311:MQTT-3.2.2-4")
def test_a_refusing_connack_never_says_session_present() -> None:
    assert codec_probe.connack(True, 0x87, b"", 5) == hexed("20 03 00 87 00")
    assert codec_probe.connack(True, 0x87, b"", 4) == hexed("20 02 00 05")
    assert codec_probe.connack(True, 0, b"", 4) == hexed("20 02 01 00")
    assert refusal("20 03 01 87 00", 5, from_client=False) == 0x82


def test_the_native_connack_carries_every_property_it_is_given() -> None:
    properties = {
        "session_expiry_interval": 7, "assigned_client_identifier": "c" * 200, "server_keep_alive": 30,
        "authentication_method": "m", "authentication_data": b"\0", "response_information": "r",
        "server_reference": "s", "reason_string": "because", "receive_maximum": 20, "topic_alias_maximum": 65_535,
        "maximum_qos": 1, "retain_available": 0, "maximum_packet_size": 1_179_648,
        "wildcard_subscription_available": 1, "subscription_identifier_available": 0,
        "shared_subscription_available": 1,
    }  # fmt: skip
    packet = wire.Connack(True, 0, properties)
    expected = encode(packet, 5)
    # header (1 + 2), flags, code; then the list with its length
    assert codec_probe.connack(True, 0, expected[5:], 5) == expected
    assert decode(expected, 5, from_client=False) == packet


@pytest.mark.clause("v311:MQTT-3.2.2-6")
def test_311_return_codes_are_those_of_its_table_and_otherwise_silence() -> None:
    table = {0x00: 0, 0x84: 1, 0x85: 2, 0x88: 3, 0x89: 3, 0x97: 3, 0x9F: 3, 0x86: 5, 0x87: 5, 0x8A: 5}
    assert {code: codec_probe.return_code_311(code) for code in range(256)} == {
        code: table.get(code, -1) for code in range(256)
    }


@pytest.mark.clause("v5:MQTT-2.2.1-5", "v311:MQTT-2.3.1-6")
@pytest.mark.parametrize("packet_id", [1, 255, 256, 65_535])
def test_native_acknowledgements_are_the_short_forms(packet_id: int) -> None:
    kinds = {4: wire.Puback, 5: wire.Pubrec, 6: wire.Pubrel, 7: wire.Pubcomp}
    for kind, packet in kinds.items():
        assert codec_probe.ack(kind, packet_id, 0, 4) == encode(packet(packet_id), 4)
        assert codec_probe.ack(kind, packet_id, 0x87, 4) == encode(packet(packet_id), 4)
        assert codec_probe.ack(kind, packet_id, 0, 5) == encode(packet(packet_id), 5)
        assert codec_probe.ack(kind, packet_id, 0x92, 5) == encode(packet(packet_id, 0x92), 5)


@pytest.mark.clause("v5:MQTT-3.14.2-1")
def test_the_native_disconnect_is_the_short_form() -> None:
    assert codec_probe.disconnect(0) == hexed("E0 00")
    assert codec_probe.disconnect(0x8B) == hexed("E0 01 8B")


@pytest.mark.parametrize("version", [0, 3, 6])
def test_other_versions_are_refused_at_the_python_face(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        decode(b"\xc0\x00", version)
    with pytest.raises(BadRequest):
        encode(wire.Pingreq(), version)


@pytest.mark.parametrize("packet", ["00 00", "C1 00", "C0 01 00", "D0 00 00", "E1 00", "80 07 0001 00 0001 61 00"])
def test_first_bytes_and_lengths_that_lie_are_refused(packet: str) -> None:
    assert refusal(packet, 5) in (0x81, 0x82)
