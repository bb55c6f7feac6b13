"""Answers stay small: no reason string and no user property, whatever was asked for, within any maximum."""

from __future__ import annotations

import pytest

from broker._core.packets import encode
from broker.wire import (
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from tests.support.core import Core


def smallest(core: Core) -> int:
    """The smallest maximum with which a client is let in."""
    for size in range(5, 60):
        client = core.connecting("probe", properties={"maximum_packet_size": size})
        if client.is_open:
            client.drop()
            return size
    raise AssertionError("never let in")


@pytest.mark.clause(
    "v5:MQTT-3.4.2-2", "v5:MQTT-3.4.2-3", "v5:MQTT-3.6.2-2", "v5:MQTT-3.6.2-3", "v5:MQTT-3.7.2-2", "v5:MQTT-3.7.2-3",
    "v5:MQTT-3.9.2-1", "v5:MQTT-3.9.2-2", "v5:MQTT-3.11.2-1", "v5:MQTT-3.11.2-2", "v5:MQTT-3.14.2-3",
    "v5:MQTT-3.14.2-4", "v5:MQTT-3.1.2-29", "v5:MQTT-3.1.2-24",
)  # fmt: skip
@pytest.mark.parametrize("wanted", [0, 1])
def test_every_answer_fits_into_the_smallest_maximum_and_explains_nothing(core: Core, wanted: int) -> None:
    core.grant("narrow", publish=("yes",), subscribe=("yes",))
    size = smallest(core)
    properties = {"maximum_packet_size": size, "request_problem_information": wanted}
    client = core.connect("c", user_name="narrow", properties=properties)
    client.send(
        Publish("no", b"", 1, packet_id=1), Publish("yes", b"", 1, packet_id=2), Pubrec(9), Pubrel(9),
        Subscribe(3, (Subscription("no"), Subscription("a#"))), Unsubscribe(4, ("no",)), b"\x00\x00",
    )  # fmt: skip
    answers: list[Packet] = client.received()
    codes = [getattr(one, "reason_code", None) or getattr(one, "reason_codes", None) for one in answers]
    assert codes == [0x87, 0x10, 0x92, 0x92, (0x87, 0x8F), (0x11,), 0x81]
    for one in answers:
        assert len(encode(one, 5)) <= size
        assert not one.properties  # type: ignore[union-attr]


@pytest.mark.clause("v5:MQTT-3.1.2-29")
def test_without_problem_information_a_forwarded_publish_keeps_its_user_properties(core: Core) -> None:
    client = core.connect("c", properties={"request_problem_information": 0})
    client.subscribe("t")
    sent = {"user_property": (("a", "b"),)}
    client.publish("t", b"", properties=sent)
    client.expect(Publish("t", properties=sent))


@pytest.mark.clause("v5:MQTT-3.3.1-8", "v5:MQTT-3.3.1-12", "v311:MQTT-3.3.1-9", "v311:MQTT-3.3.1-12")
@pytest.mark.parametrize("version", [4, 5])
def test_what_is_not_retained_is_not_kept_and_arrives_without_the_flag(core: Core, version: int) -> None:
    early, late = core.connect("e", version), core.connect("l", version)
    early.subscribe("t")
    core.connect("p", version).publish("t", b"x")
    assert [one.retain for one in early.publishes()] == [False]
    late.subscribe("t")
    late.expect()


@pytest.mark.clause("v5:MQTT-4.2.0-1", "v311:MQTT-7.1.1-1")
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 1000])
def test_packets_are_parsed_wherever_the_stream_is_cut(piece: int) -> None:
    core = Core()
    core.grant()
    client = core.open()
    stream = encode(Connect("c", user_name="user", password=b"pw"), 5) + encode(Subscribe(1, (Subscription("t"),)), 5)
    stream += b"".join(encode(Publish("t", b"%d" % number * 50, 1, packet_id=number), 5) for number in range(1, 20))
    for at in range(0, len(stream), piece):
        client.feed(stream[at : at + piece])
        core.run()
    got = client.received()
    assert [one.payload for one in got if isinstance(one, Publish)] == [b"%d" % number * 50 for number in range(1, 20)]
    assert [one.packet_id for one in got if isinstance(one, Puback)] == list(range(1, 20))
    core.end()


@pytest.mark.clause("v5:MQTT-4.3.3-11")
def test_a_pubrel_of_nothing_is_completed_as_not_found(core: Core) -> None:
    client = core.connect("c")
    client.send(Pubrel(0x1234))
    assert [(one.packet_id, one.reason_code) for one in client.received()] == [(0x1234, 0x92)]  # type: ignore[union-attr]


def test_a_will_message_is_not_needed_to_say_goodbye(core: Core) -> None:
    client = core.connect("c")
    client.send(Disconnect(0x04))
    assert client.closed_with(None) == []
