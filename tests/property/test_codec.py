"""Whatever can be said in MQTT survives the codec, and whatever arrives is a packet or a named refusal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker import wire
from broker._core.framing import fixed_header
from broker._core.packets import CONNACK_CODES, SUBACK_CODES, SUBACK_CODES_311, UNSUBACK_CODES, decode, encode
from broker._core.properties import PROPERTIES, PropertyRule
from broker.wire import ProtocolViolation

# Every character a string may hold: no surrogates, no U+0000.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TOPIC = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
PACKET_ID = st.integers(1, 0xFFFF)
BINARY = st.binary(max_size=200)
VERSIONS = st.sampled_from([4, 5])
BY_KIND = {
    "byte": st.integers(0, 1),
    "two_bytes": st.integers(1, 0xFFFF),
    "four_bytes": st.integers(1, 0xFFFFFFFF),
    "varint": st.integers(1, 268_435_455),
    "string": TEXT,
    "binary": BINARY,
    "pair": st.tuples(TEXT, TEXT),
}


def values(rule: PropertyRule, site: str) -> st.SearchStrategy[Any]:
    """What one property may hold at one place."""
    if rule.name == "response_topic":
        return TOPIC
    if rule.repeatable_at:
        most = 5 if site in rule.repeatable_at else 1
        return st.lists(BY_KIND[rule.kind], min_size=1, max_size=most).map(tuple)
    return BY_KIND[rule.kind]


def with_method(properties: dict[str, Any]) -> dict[str, Any]:
    """Authentication data never stands without its method."""
    return {"authentication_method": "m", **properties} if "authentication_data" in properties else properties


def properties(version: int, site: str) -> st.SearchStrategy[dict[str, Any]]:
    if version == 4:
        return st.just({})
    rules = [rule for rule in PROPERTIES if site in rule.sites]
    optional = {rule.name: values(rule, site) for rule in rules}
    return st.fixed_dictionaries({}, optional=optional).map(with_method)


def wills(version: int) -> st.SearchStrategy[wire.Will]:
    return st.builds(wire.Will, TEXT, BINARY, st.integers(0, 2), st.booleans(), properties(version, "WILL"))


@st.composite
def connects(draw: st.DrawFn, version: int) -> wire.Connect:
    user_name = draw(st.none() | TEXT)
    password = draw(st.none() | BINARY) if version == 5 or user_name is not None else None
    clean_start = draw(st.booleans())
    client_id = draw(TEXT if version == 5 or clean_start else TEXT.filter(bool))
    will = draw(st.none() | wills(version))
    keep_alive_s = draw(st.integers(0, 0xFFFF))
    return wire.Connect(
        client_id, clean_start, keep_alive_s, will, user_name, password, draw(properties(version, "CONNECT"))
    )


@st.composite
def publishes(draw: st.DrawFn, version: int, site: str) -> wire.Publish:
    qos = draw(st.integers(0, 2))
    return wire.Publish(
        draw(TEXT), draw(st.binary(max_size=300)), qos, draw(st.booleans()), draw(st.booleans()) if qos else False,
        draw(PACKET_ID) if qos else 0, draw(properties(version, site)),
    )  # fmt: skip


def acks(version: int) -> st.SearchStrategy[wire.Packet]:
    def one(kind: type, codes: list[int]) -> st.SearchStrategy[wire.Packet]:
        code = st.sampled_from(codes) if version == 5 else st.just(0)
        return st.builds(kind, PACKET_ID, code, properties(version, kind.__name__.upper()))

    first = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
    return (
        one(wire.Puback, first) | one(wire.Pubrec, first) | one(wire.Pubrel, [0, 0x92]) | one(wire.Pubcomp, [0, 0x92])
    )


def subscriptions(version: int) -> st.SearchStrategy[wire.Subscription]:
    if version == 4:
        return st.builds(wire.Subscription, TEXT, st.integers(0, 2))
    plain = TEXT.filter(lambda text: not text.startswith("$share/"))
    return st.builds(wire.Subscription, plain, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2))


def codes(kind: type, allowed: frozenset[int] | None, version: int, site: str) -> st.SearchStrategy[wire.Packet]:
    several = st.lists(st.sampled_from(sorted(allowed)), min_size=1, max_size=5) if allowed else st.just([])
    return st.builds(kind, PACKET_ID, several.map(tuple), properties(version, site))


def from_client(version: int) -> st.SearchStrategy[wire.Packet]:
    packets: list[st.SearchStrategy[wire.Packet]] = [
        connects(version),
        publishes(version, "PUBLISH_INBOUND"),
        acks(version),
        st.builds(
            wire.Subscribe, PACKET_ID, st.lists(subscriptions(version), min_size=1, max_size=4).map(tuple),
            properties(version, "SUBSCRIBE"),
        ),
        st.builds(
            wire.Unsubscribe, PACKET_ID, st.lists(TEXT, min_size=1, max_size=4).map(tuple),
            properties(version, "UNSUBSCRIBE"),
        ),
        st.just(wire.Pingreq()),
    ]  # fmt: skip
    if version == 4:
        return st.one_of(*packets, st.just(wire.Disconnect()))
    ends = st.builds(wire.Disconnect, st.sampled_from([0, 4, 0x80, 0x99]), properties(5, "DISCONNECT_INBOUND"))
    auth = st.builds(wire.Auth, st.sampled_from([0x18, 0x19]), properties(5, "AUTH").map(lambda p: {
        "authentication_method": "m", **p}))  # fmt: skip
    return st.one_of(*packets, ends, auth)


def from_server(version: int) -> st.SearchStrategy[wire.Packet]:
    connack_codes = sorted(CONNACK_CODES) if version == 5 else list(range(6))
    packets: list[st.SearchStrategy[wire.Packet]] = [
        st.builds(wire.Connack, st.booleans(), st.just(0), properties(version, "CONNACK")),
        st.builds(wire.Connack, st.just(False), st.sampled_from(connack_codes), properties(version, "CONNACK")),
        publishes(version, "PUBLISH_OUTBOUND"),
        acks(version),
        codes(wire.Suback, SUBACK_CODES if version == 5 else SUBACK_CODES_311, version, "SUBACK"),
        codes(wire.Unsuback, UNSUBACK_CODES if version == 5 else None, version, "UNSUBACK"),
        st.just(wire.Pingresp()),
    ]
    if version == 4:
        return st.one_of(*packets)
    ends = st.builds(wire.Disconnect, st.sampled_from([0, 0x8B, 0x9C]), properties(5, "DISCONNECT_OUTBOUND"))
    return st.one_of(*packets, ends, st.builds(wire.Auth, st.just(0), properties(5, "AUTH")))


@pytest.mark.clause("v5:MQTT-1.5.5-1", "v5:MQTT-3.3.2-17", "v5:MQTT-3.3.2-18")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("sender", [from_client, from_server])
@given(data=st.data())
def test_every_packet_survives_encoding_and_decoding(data: st.DataObject, version: int, sender: Any) -> None:
    packet = data.draw(sender(version))
    encoded = encode(packet, version)
    assert decode(encoded, version, from_client=sender is from_client) == packet
    header = fixed_header(encoded)
    assert header is not None
    assert sum(header) == len(encoded)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[int, bytes]:
    """A valid packet after a few wounds: bytes changed, cut out, doubled; with a remaining length that fits again."""
    version = draw(VERSIONS)
    encoded = encode(draw(from_client(version) | from_server(version)), version)
    header = fixed_header(encoded)
    assert header is not None
    body = bytearray(encoded[header[0] :])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "double"]))
        if kind == "change" and at < len(body):
            body[at] = draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif kind == "cut":
            del body[at : at + draw(st.integers(1, 4))]
        elif kind == "insert":
            body[at:at] = draw(st.binary(min_size=1, max_size=4))
        else:
            body[at:at] = body[at : at + 8]
    first = draw(st.just(encoded[0]) | st.integers(0, 255))
    size = bytearray()
    left = len(body)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return version, bytes((first, *size, left)) + bytes(body)


def assert_packet_or_refusal(data: bytes, version: int) -> None:
    """Either a packet that can be written again and read back the same, or a ``ProtocolViolation``."""
    for client in (True, False):
        outcome = decode_or_refuse(data, version, client)
        if isinstance(outcome, ProtocolViolation):
            assert outcome.reason_code in (0x81, 0x82, 0x84, 0x85, 0x94, 0x97)
        else:
            assert decode(encode(outcome, version), version, from_client=client) == outcome


def decode_or_refuse(data: bytes, version: int, client: bool) -> wire.Packet | ProtocolViolation:
    """What decoding gives, the refusal as a value; any other exception is the test's failure."""
    try:
        return decode(data, version, from_client=client)
    except ProtocolViolation as violation:
        return violation


@given(damaged())
def test_damaged_packets_are_packets_or_refused_by_name(wounded: tuple[int, bytes]) -> None:
    version, data = wounded
    assert_packet_or_refusal(data, version)


@given(st.binary(max_size=100), VERSIONS)
@example(b"", 5)
@example(b"\x10", 5)
@example(b"\x10\x80\x80\x80\x80\x00", 4)
def test_random_bytes_are_packets_or_refused_by_name(data: bytes, version: int) -> None:
    assert_packet_or_refusal(data, version)
