"""The fixed header: lengths, flags, and who may send what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._core.codec_probe import publish_start
from broker._core.framing import client_may_send_type, fixed_header, flags_are_valid
from broker.wire import ProtocolViolation

# Edges of section 1.5.5, table 1-1.
LENGTHS = [
    (0, "00"), (127, "7F"), (128, "80 01"), (16_383, "FF 7F"), (16_384, "80 80 01"), (2_097_151, "FF FF 7F"),
    (2_097_152, "80 80 80 01"), (268_435_455, "FF FF FF 7F"),
]  # fmt: skip
FLAGS = {1: 0, 2: 0, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 9: 0, 10: 2, 11: 0, 12: 0, 13: 0, 14: 0, 15: 0}


@pytest.mark.clause("v5:MQTT-1.5.5-1")
@pytest.mark.parametrize(("value", "encoded"), LENGTHS)
def test_remaining_length_is_read_and_written_in_its_shortest_form(value: int, encoded: str) -> None:
    data = b"\x30" + bytes.fromhex(encoded)
    assert fixed_header(data) == (len(data), value)
    assert publish_start(0x30, value) == data


@pytest.mark.parametrize(("value", "encoded"), LENGTHS)
def test_an_incomplete_header_asks_for_more(value: int, encoded: str) -> None:
    data = b"\x30" + bytes.fromhex(encoded)
    assert all(fixed_header(data[:cut]) is None for cut in range(len(data)))


@pytest.mark.clause("v5:MQTT-1.5.5-1")
@pytest.mark.parametrize(
    "encoded", ["80 00", "81 80 00", "FF FF FF 80", "80 80 80 80 01", "FF FF FF FF 7F", "80 80 80 00"]
)
def test_overlong_remaining_length_is_malformed(encoded: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        fixed_header(b"\x30" + bytes.fromhex(encoded))
    assert caught.value.reason_code == 0x81


@given(st.integers(0, 268_435_455))
def test_every_remaining_length_survives(value: int) -> None:
    assert fixed_header(publish_start(0x30, value)) == (len(publish_start(0x30, value)), value)


@pytest.mark.clause(
    "v5:MQTT-2.1.3-1", "v5:MQTT-3.6.1-1", "v5:MQTT-3.8.1-1", "v5:MQTT-3.10.1-1", "v5:MQTT-3.14.1-1", "v5:MQTT-3.15.1-1",
    "v311:MQTT-2.2.2-1", "v311:MQTT-2.2.2-2", "v311:MQTT-3.6.1-1", "v311:MQTT-3.8.1-1", "v311:MQTT-3.10.1-1",
    "v311:MQTT-3.14.1-1",
)  # fmt: skip
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("packet_type", sorted(FLAGS))
def test_only_the_prescribed_flags_are_valid(packet_type: int, version: int) -> None:
    valid = {flags for flags in range(16) if flags_are_valid(packet_type << 4 | flags, version)}
    assert valid == (set() if (packet_type, version) == (15, 4) else {FLAGS[packet_type]})


@pytest.mark.parametrize("version", [4, 5])
def test_packet_type_0_is_never_valid(version: int) -> None:
    assert not any(flags_are_valid(flags, version) for flags in range(16))


@pytest.mark.clause("v5:MQTT-3.3.1-4", "v311:MQTT-3.3.1-4")
@pytest.mark.parametrize("version", [4, 5])
def test_publish_flags_are_valid_unless_qos_is_3(version: int) -> None:
    invalid = {flags for flags in range(16) if not flags_are_valid(0x30 | flags, version)}
    assert invalid == {0x6, 0x7, 0xE, 0xF}


def test_a_client_sends_only_what_table_2_1_allows() -> None:
    assert {kind for kind in range(256) if client_may_send_type(kind, 4)} == {1, 3, 4, 5, 6, 7, 8, 10, 12, 14}
    assert {kind for kind in range(256) if client_may_send_type(kind, 5)} == {1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15}
