"""The property table against the specification's, and every rule a property list can break."""

from __future__ import annotations

import pytest

from broker._core.codec_probe import forwardable, named_values
from broker._core.properties import PROPERTIES, SITE_NAMES, decode_properties, encode_properties
from broker.errors import BadRequest
from broker.wire import ProtocolViolation

# Section 2.2.2.2, written down a second time, by site instead of by property.
ACK = "1F 26"
MESSAGE = "01 02 03 08 09 26"
ALLOWED = {
    "CONNECT": "11 15 16 17 19 21 22 26 27",
    "CONNACK": "11 12 13 15 16 1A 1C 1F 21 22 24 25 26 27 28 29 2A",
    "WILL": f"{MESSAGE} 18",
    "PUBLISH_INBOUND": f"{MESSAGE} 23",
    "PUBLISH_OUTBOUND": f"{MESSAGE} 0B 23",
    **dict.fromkeys(["PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK"], ACK),
    "SUBSCRIBE": "0B 26",
    "UNSUBSCRIBE": "26",
    "DISCONNECT_INBOUND": "11 1F 26",
    "DISCONNECT_OUTBOUND": "1C 1F 26",
    "AUTH": "15 16 1F 26",
}
# One valid encoding of each, and the field and value it must become.
SAMPLES: dict[int, tuple[str, str, object]] = {
    0x01: ("01", "payload_format", 1),
    0x02: ("01 02 03 04", "message_expiry_s", 0x01020304),
    0x03: ("0002 6162", "content_type", b"ab"),
    0x08: ("0003 612F62", "response_topic", b"a/b"),
    0x09: ("0002 00FF", "correlation_data", b"\0\xff"),
    0x0B: ("80 01", "subscription_identifier", 128),
    0x11: ("FF FF FF FF", "session_expiry_interval_s", 0xFFFFFFFF),
    0x12: ("0001 63", "assigned_client_id", b"c"),
    0x13: ("00 3C", "server_keep_alive", 60),
    0x15: ("0001 64", "authentication_method", b"d"),
    0x16: ("0001 65", "authentication_data", b"e"),
    0x17: ("00", "request_problem_information", 0),
    0x18: ("00 00 00 05", "will_delay_s", 5),
    0x19: ("01", "request_response_information", 1),
    0x1A: ("0001 66", "response_information", b"f"),
    0x1C: ("0001 67", "server_reference", b"g"),
    0x1F: ("0001 68", "reason_string", b"h"),
    0x21: ("FF FF", "receive_maximum", 65_535),
    0x22: ("00 0A", "topic_alias_maximum", 10),
    0x23: ("00 01", "topic_alias", 1),
    0x24: ("01", "maximum_qos", 1),
    0x25: ("00", "retain_available", 0),
    0x26: ("0001 6B 0001 76", "user_property_count", 1),
    0x27: ("00 10 00 00", "maximum_packet_size", 1_048_576),
    0x28: ("00", "wildcard_subscription_available", 0),
    0x29: ("01", "subscription_identifier_available", 1),
    0x2A: ("00", "shared_subscription_available", 0),
}


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def allowed(site: str) -> set[int]:
    return set(hexed(ALLOWED[site]))


def one(identifier: int, value: str | None = None) -> bytes:
    """One property, encoded; a valid one without a value."""
    return bytes((identifier,)) + hexed(SAMPLES[identifier][0] if value is None else value)


def listed(*properties: bytes) -> bytes:
    """Properties behind their length, for lists under 128 bytes."""
    joined = b"".join(properties)
    assert len(joined) < 128
    return bytes((len(joined),)) + joined


def refusal(data: bytes, site: str) -> int:
    with pytest.raises(ProtocolViolation) as caught:
        decode_properties(data, site)
    return int(caught.value.reason_code)


# Authentication Data needs its method beside it.
def in_company(identifier: int) -> list[bytes]:
    return [one(0x15), one(0x16)] if identifier == 0x16 else [one(identifier)]


def test_the_table_has_the_27_properties_of_the_specification() -> None:
    assert [rule.identifier for rule in PROPERTIES] == sorted(SAMPLES)
    assert set(ALLOWED) == set(SITE_NAMES)


@pytest.mark.parametrize("site", ALLOWED)
def test_a_property_is_read_exactly_where_the_specification_allows_it(site: str) -> None:
    for identifier in SAMPLES:
        data = listed(*in_company(identifier))
        if identifier in allowed(site):
            assert decode_properties(data, site)
        else:
            expected = 0x82 if (identifier, site) == (0x0B, "PUBLISH_INBOUND") else 0x81
            assert refusal(data, site) == expected


@pytest.mark.parametrize("identifier", SAMPLES)
def test_every_value_lands_in_its_own_field(identifier: int) -> None:
    site = next(site for site in ALLOWED if identifier in allowed(site))
    values = named_values(listed(*in_company(identifier)), site)
    _, name, value = SAMPLES[identifier]
    assert values.pop(name) == value
    assert set(values) == ({"authentication_method"} if identifier == 0x16 else set())


@pytest.mark.parametrize("identifier", sorted(set(range(256)) - set(SAMPLES)))
def test_an_unknown_property_is_malformed(identifier: int) -> None:
    assert refusal(listed(bytes((identifier,)) + bytes(8)), "CONNACK") == 0x81


@pytest.mark.parametrize("site", ALLOWED)
def test_a_property_cut_anywhere_is_malformed(site: str) -> None:
    for identifier in allowed(site) - {0x16}:
        whole = one(identifier)
        for cut in range(1, len(whole)):
            assert refusal(listed(whole[:cut]), site) == 0x81
            assert refusal(listed(whole)[: cut + 1], site) == 0x81


@pytest.mark.parametrize("site", ALLOWED)
def test_a_property_may_occur_twice_only_where_the_specification_says_so(site: str) -> None:
    for identifier in allowed(site):
        twice = listed(*in_company(identifier), one(identifier))
        if identifier == 0x26 or (identifier, site) == (0x0B, "PUBLISH_OUTBOUND"):
            assert decode_properties(twice, site)
        else:
            assert refusal(twice, site) == 0x82


@pytest.mark.parametrize(
    ("site", "identifier", "value", "reason_code"),
    [
        ("CONNECT", 0x21, "0000", 0x82),
        ("CONNECT", 0x27, "00000000", 0x82),
        ("SUBSCRIBE", 0x0B, "00", 0x82),
        ("SUBSCRIBE", 0x0B, "8000", 0x81),
        ("CONNECT", 0x17, "02", 0x82),
        ("CONNECT", 0x19, "FF", 0x82),
        ("PUBLISH_INBOUND", 0x01, "02", 0x82),
        ("CONNACK", 0x24, "02", 0x82),
        ("CONNACK", 0x25, "02", 0x82),
    ],
)
def test_a_value_outside_its_range_is_refused(site: str, identifier: int, value: str, reason_code: int) -> None:
    assert refusal(listed(one(identifier, value)), site) == reason_code


@pytest.mark.clause("v5:MQTT-3.3.2-8")
@pytest.mark.parametrize("site", ["PUBLISH_INBOUND", "PUBLISH_OUTBOUND"])
def test_topic_alias_0_is_invalid(site: str) -> None:
    assert refusal(listed(one(0x23, "0000")), site) == 0x94


@pytest.mark.clause("v5:MQTT-3.3.4-6")
def test_a_client_may_not_send_a_subscription_identifier() -> None:
    assert refusal(listed(one(0x0B)), "PUBLISH_INBOUND") == 0x82


@pytest.mark.clause("v5:MQTT-3.14.2-2")
def test_a_server_disconnect_has_no_session_expiry_interval() -> None:
    with pytest.raises(BadRequest):
        encode_properties({"session_expiry_interval": 1}, "DISCONNECT_OUTBOUND")


@pytest.mark.clause("v5:MQTT-3.3.2-14", "v5:MQTT-4.7.3-1")
@pytest.mark.parametrize("topic", ["", "+", "#", "a/+/b", "a#"])
@pytest.mark.parametrize("site", ["PUBLISH_INBOUND", "WILL"])
def test_a_response_topic_that_is_no_topic_name_is_refused(topic: str, site: str) -> None:
    encoded = topic.encode()
    assert refusal(listed(b"\x08" + len(encoded).to_bytes(2, "big") + encoded), site) == 0x82


@pytest.mark.parametrize("site", ["CONNECT", "CONNACK", "AUTH"])
def test_authentication_data_without_a_method_is_refused(site: str) -> None:
    assert refusal(listed(one(0x16)), site) == 0x82


@pytest.mark.clause("v5:MQTT-1.5.4-1", "v5:MQTT-1.5.4-2", "v5:MQTT-3.3.2-13", "v5:MQTT-3.3.2-19")
@pytest.mark.parametrize("bad", ["EDA080", "C328", "00"])
def test_ill_formed_text_is_malformed_in_every_string_property(bad: str) -> None:
    value = f"{len(hexed(bad)):04X}{bad}"
    for rule in PROPERTIES:
        if rule.kind == "string":
            assert refusal(listed(one(rule.identifier, value)), min(rule.sites)) == 0x81


@pytest.mark.clause("v5:MQTT-1.5.7-1")
@pytest.mark.parametrize("pair", ["0002C328 000161", "000161 0002C328", "000100 000161", "000161 000100"])
def test_both_halves_of_a_user_property_are_checked(pair: str) -> None:
    assert refusal(listed(one(0x26, pair)), "CONNECT") == 0x81


def test_64_user_properties_are_accepted_and_65_refused() -> None:
    pair = b"\x26\0\0\0\0"
    assert len(decode_properties(b"\xc0\x02" + pair * 64, "CONNECT")["user_property"]) == 64  # type: ignore[arg-type]
    assert refusal(b"\xc5\x02" + pair * 65, "CONNECT") == 0x97


@pytest.mark.parametrize("length", ["80 00", "05 26 0000 00", "80", "80 80 80 80 01", ""])
def test_a_property_length_that_lies_is_malformed(length: str) -> None:
    assert refusal(hexed(length), "CONNECT") == 0x81


@pytest.mark.clause("v5:MQTT-2.2.2-1")
@pytest.mark.parametrize("site", ALLOWED)
def test_no_properties_is_one_zero_byte(site: str) -> None:
    assert encode_properties({}, site) == b"\0"
    assert decode_properties(b"\0", site) == {}


@pytest.mark.clause("v5:MQTT-3.3.2-17", "v5:MQTT-3.3.2-18")
def test_forwarded_properties_keep_bytes_and_order_and_lose_the_alias() -> None:
    others = [
        one(0x26, "000161 000131"),
        one(0x09),
        one(0x26, "000162 0000"),
        one(0x02),
        one(0x01),
        one(0x08),
        one(0x03),
    ]
    for position in range(len(others) + 1):
        raw = b"".join([*others[:position], one(0x23), *others[position:]])
        assert forwardable(raw) == b"".join(others)
    assert forwardable(b"".join(others)) == b"".join(others)
    assert forwardable(one(0x23)) == b""
    assert forwardable(b"") == b""


def test_an_alias_inside_a_value_is_not_taken_for_the_property() -> None:
    raw = one(0x09, "0004 23 0001 23") + one(0x26, "000123 000123")
    assert forwardable(raw) == raw


@pytest.mark.parametrize(
    "properties",
    [
        {"no_such_property": 1},
        {"receive_maximum": 65_536},
        {"receive_maximum": -1},
        {"receive_maximum": 0},
        {"receive_maximum": "many"},
        {"authentication_data": "text", "authentication_method": "m"},
        {"user_property": (("a",),)},
        {"user_property": 3},
        {"authentication_method": "\ud800"},
        {"authentication_method": "\0"},
        {"authentication_method": "a" * 65_536},
        {"topic_alias": 1},
    ],
)
def test_what_may_not_be_sent_is_not_written(properties: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        encode_properties(properties, "CONNECT")
