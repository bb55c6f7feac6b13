"""WebSocket frames on the native core; the other end is the ``websockets`` package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from broker._core.core_probe import deafen, waking
from broker._core.packets import encode
from broker.net.upgrades import UpgradeRules, judge_upgrade
from broker.reasons import ReasonCode
from broker.wire import Connack, Connect, Disconnect, Pingreq, Pingresp, Publish
from tests.support.core import Core
from tests.support.frames import FramedClient, frame

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
)
CONNECT = encode(Connect("client", user_name="user", password=b"pw", clean_start=True), 5)
PINGREQ = encode(Pingreq(), 5)
BYTES_MAXIMUM = 8192


@pytest.fixture
def core() -> Core:
    core = Core()
    core.grant()
    return core


def opened(core: Core) -> FramedClient:
    return FramedClient.opened(core)


def connected(core: Core, client_id: str = "client") -> FramedClient:
    client = opened(core)
    client.send(Connect(client_id, user_name="user", password=b"pw", clean_start=True))
    assert client.pick(Connack).reason_code == 0
    return client


# ---------------------------------------------------------------- the handshake


def test_the_subprotocol_is_chosen(core: Core) -> None:
    """v5:MQTT-6.0.0-4 v311:MQTT-6.0.0-4."""
    client = opened(core)
    assert (client.frames.status, client.frames.subprotocol) == (101, "mqtt")


@pytest.mark.parametrize("subprotocol", [None, "chat", "mqttv3.1"])
def test_another_subprotocol_or_none_is_refused(core: Core, subprotocol: str | None) -> None:
    """v5:MQTT-6.0.0-3 v311:MQTT-6.0.0-3."""
    client = FramedClient.opened(core, subprotocol=subprotocol)
    assert client.frames.status == 400
    assert not client.is_open
    assert core.refused_upgrades == [400]


def test_one_of_many_subprotocols_will_do(core: Core) -> None:
    """v5:MQTT-6.0.0-4 v311:MQTT-6.0.0-4."""
    request = REQUEST.replace(b"Protocol: mqtt", b"Protocol: foo, mqtt")
    assert b"\r\nSec-WebSocket-Protocol: mqtt\r\n" in judge_upgrade(request + b"\r\n", UpgradeRules()).answer


@pytest.mark.parametrize(("name", "few"), [("Connection", 101), ("Upgrade", 426), ("Sec-WebSocket-Protocol", 101)])
def test_who_sends_lists_without_an_end_is_refused_before_they_are_taken_apart(name: str, few: int) -> None:
    """A request has room for 3,500 items, which took 9 ms."""
    for count, status in ((50, few), (64, 400), (3500, 400)):
        request = REQUEST + f"{name}: {'a,' * count}a\r\n\r\n".encode()
        assert judge_upgrade(request, UpgradeRules()).status == status


def test_another_path_is_not_found(core: Core) -> None:
    assert FramedClient.opened(core, uri="ws://broker/").frames.status == 404
    assert FramedClient.opened(core, uri="ws://broker/mqtt/").frames.status == 404
    assert FramedClient.opened(core, uri="ws://broker/mqtt?token=1").frames.status == 101


@pytest.mark.parametrize("head", [b"POST", b"\x10\x0c", b"\x16\x03", b"GARBAGE"])
def test_what_is_no_request_is_closed_without_an_answer(core: Core, head: bytes) -> None:
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    core.shard.feed(handle, head + b" / HTTP/1.1\r\n\r\n", core.now_ns)
    core.run()
    assert core.shard.take_output(handle) in {b"", judge_upgrade(b"GARBAGE / HTTP/1.1\r\n\r\n", UpgradeRules()).answer}
    assert not core.shard.is_open(handle)


def test_a_request_may_come_byte_by_byte_and_frames_right_behind_it(core: Core) -> None:
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    for at in range(len(REQUEST)):
        core.shard.feed(handle, REQUEST[at : at + 1], core.now_ns)
        core.run()
    assert core.shard.take_output(handle) == b""
    core.shard.feed(handle, b"\r\n" + frame(CONNECT)[:7], core.now_ns)
    core.shard.feed(handle, frame(CONNECT)[7:] + frame(PINGREQ), core.now_ns)
    core.run()
    answer, _, frames = core.shard.take_output(handle).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert frames[:2] == bytes([0x82, len(frames) - 2])
    assert frames[2] == 0x20
    assert frames[-2:] == b"\xd0\x00"


def test_a_request_has_its_limit(core: Core) -> None:
    fits = REQUEST + b"X: " + b"x" * (BYTES_MAXIMUM - len(REQUEST) - 7) + b"\r\n\r\n"
    assert len(fits) == BYTES_MAXIMUM
    for request, is_open in ((fits, True), (fits[:-5] + b"x" + fits[-5:], False)):
        handle = core.shard.open_connection(0, core.now_ns, websocket=True)
        core.shard.feed(handle, request, core.now_ns)
        core.run()
        assert core.shard.is_open(handle) == is_open


def test_a_stalled_request_ends_with_the_connect_deadline(core: Core) -> None:
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    core.shard.feed(handle, REQUEST, core.now_ns)
    core.wait(core.limits["connect_timeout_ns"] / 1e9 + 1)
    assert not core.shard.is_open(handle)
    assert core.shard.take_output(handle) == b""


def test_an_answer_to_nobody_is_no_error(core: Core) -> None:
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    assert not core.shard.answer_upgrade(handle, b"", True)
    core.shard.close_connection(handle)
    assert not core.shard.answer_upgrade(handle, b"", True)
    plain = core.connect()
    assert not core.shard.answer_upgrade(plain.handle, b"", True)


def test_a_request_that_was_not_read_on_meanwhile_is_read_again_after_its_answer(core: Core) -> None:
    handle = core.shard.open_connection(0, core.now_ns, websocket=True)
    core.shard.feed(handle, REQUEST + b"\r\n", core.now_ns)
    deafen(core.shard, handle)
    core.run()
    assert waking(core.shard) == 1


# ---------------------------------------------------------------- frames


@given(
    cuts=st.lists(st.integers(1, 400), max_size=12),
    pieces=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    fins=st.lists(st.booleans(), min_size=1, max_size=10),
    pings=st.sets(st.integers(0, 11), max_size=3),
)
def test_any_fragmentation_carries_the_same_packets(
    cuts: Sequence[int], pieces: Sequence[int], fins: Sequence[bool], pings: set[int]
) -> None:
    """v5:MQTT-6.0.0-2 v311:MQTT-6.0.0-2 Frames, fragments and segments lie anywhere, pings between fragments."""
    core = Core()
    core.grant()
    receiver = core.connect("receiver")
    receiver.subscribe("#")
    client = opened(core)
    packets = [CONNECT, *(encode(Publish("a/b", bytes([at]) * at * 5), 5) for at in range(1, 12))]
    wire = framed(b"".join(packets), cuts, fins, pings)
    at = 0
    while at < len(wire):
        size = pieces[at % len(pieces)]
        client.feed_raw(wire[at : at + size])
        core.run()
        at += size
    assert receiver.payloads() == [bytes([at]) * at * 5 for at in range(1, 12)]
    assert client.is_open


def framed(data: bytes, cuts: Sequence[int], fins: Sequence[bool], pings: set[int]) -> bytes:
    """One stream in frames of given sizes, some of them fragments."""
    places = [0, *sorted({at for at in cuts if at < len(data)}), len(data)]
    wire, is_first = b"", True
    for number, (begin, end) in enumerate(pairwise(places)):
        fin = fins[number % len(fins)] or end == len(data)
        wire += frame(data[begin:end], Opcode.BINARY if is_first else Opcode.CONT, fin=fin)
        is_first = fin
        if number in pings:
            wire += frame(b"are you there?", Opcode.PING)
    return wire


def test_what_is_sent_in_one_round_is_one_frame(core: Core) -> None:
    client = connected(core)
    client.subscribe("a")
    client.reads = False
    for _ in range(3):
        core.publish("a", b"x" * 30)
    taken = core.shard.take_output(client.handle)
    assert taken[:2] == bytes([0x82, 126 if len(taken) > 130 else len(taken) - 2])


@pytest.mark.parametrize("size", [0, 100, 117, 118, 119, 125, 126, 65_520, 65_535, 65_536, 200_000])
def test_frames_of_all_sizes_are_read_by_others(core: Core, size: int) -> None:
    client = connected(core)
    client.subscribe("a")
    core.publish("a", b"x" * size)
    assert client.payloads() == [b"x" * size]
    client.publish("a", b"y" * size)
    assert client.payloads() == [b"y" * size]


def test_a_frame_is_taken_in_pieces_of_any_size(core: Core) -> None:
    client = connected(core)
    client.subscribe("a")
    client.reads = False
    core.publish("a", b"x" * 300)
    got = b"".join(iter(lambda: core.shard.take_output(client.handle, 7), b""))
    core.publish("a", b"y" * 300)
    got += b"".join(iter(lambda: core.shard.take_output(client.handle, 7), b""))
    client.keep(client.frames.read(got))
    client.reads = True
    assert client.payloads() == [b"x" * 300, b"y" * 300]


def test_a_million_fragments_of_one_byte_carry_one_packet(core: Core) -> None:
    """Row 33 of the attacks; nothing is kept but the packet."""
    client = connected(core)
    client.subscribe("a")
    packet = encode(Publish("a", b"x" * 1_000_000), 5)
    head = packet[:-1_000_000]
    one = frame(b"x", Opcode.CONT, fin=False, mask=bytes(4))
    client.feed_raw(frame(head, fin=False) + one * 999_999)
    core.run()
    client.expect()
    client.feed_raw(frame(b"x", Opcode.CONT))
    core.run()
    assert client.payloads() == [b"x" * 1_000_000]


def test_a_ping_is_answered_with_what_it_carried(core: Core) -> None:
    client = connected(core)
    for payload in (b"", b"hello", b"x" * 125):
        client.feed_raw(frame(payload, Opcode.PING))
        core.run()
        client.take()
        answer = client.frames.others.pop()
        assert (answer.opcode, bytes(answer.data)) == (Opcode.PONG, payload)


def test_of_many_pings_the_newest_is_answered(core: Core) -> None:
    client = connected(core)
    client.reads = False
    client.feed_raw(b"".join(frame(bytes([at]), Opcode.PING) for at in range(200)))
    core.run()
    assert core.shard.take_output(client.handle) == b"\x8a\x01" + bytes([199])


def test_a_pong_that_nobody_asked_for_is_ignored(core: Core) -> None:
    client = connected(core)
    client.feed_raw(frame(b"unasked", Opcode.PONG))
    core.run()
    assert client.is_open
    client.send(Pingreq())
    client.expect(Pingresp())


def test_an_empty_frame_carries_nothing(core: Core) -> None:
    client = connected(core)
    client.feed_raw(frame(b"") + frame(b"", fin=False) + frame(PINGREQ, Opcode.CONT))
    core.run()
    client.expect(Pingresp())


def stretched(payload: bytes, length_bytes: int, opcode: Opcode = Opcode.BINARY) -> bytes:
    """A frame whose length takes more bytes than it has to."""
    length = len(payload).to_bytes(length_bytes, "big")
    return bytes([0x80 | opcode, 0x80 | {2: 126, 8: 127}[length_bytes]]) + length + bytes(4) + payload


WRONG = {
    "a text frame": (frame(b"text", Opcode.TEXT), 1003),
    "an unmasked frame": (frame(PINGREQ, mask=None), 1002),
    "a reserved bit": (bytes([0xC2]) + frame(PINGREQ)[1:], 1002),
    "an unknown data frame": (frame(b"", 3), 1002),
    "an unknown control frame": (frame(b"", 11), 1002),
    "a continuation of nothing": (frame(PINGREQ, Opcode.CONT), 1002),
    "a message within a message": (frame(b"", fin=False) + frame(b""), 1002),
    "a fragmented ping": (frame(b"", Opcode.PING, fin=False), 1002),
    "a long ping": (frame(b"x" * 126, Opcode.PING), 1002),
    "a length of 2^63": (b"\x82\xff" + b"\x80" + bytes(7) + b"mask", 1002),
    "a length in two bytes that fits into none": (stretched(PINGREQ, 2), 1002),
    "a length in eight bytes that fits into none": (stretched(PINGREQ, 8), 1002),
    "a length in eight bytes that fits into two": (stretched(PINGREQ * 32_767, 8), 1002),
    "a ping with a length in two bytes": (stretched(b"", 2, Opcode.PING), 1002),
    "a close of one byte": (frame(b"x", Opcode.CLOSE), 1002),
    "a close with a forbidden code": (frame((1005).to_bytes(2, "big"), Opcode.CLOSE), 1002),
    "a close whose reason is not UTF-8": (frame(b"\x03\xe8\xff", Opcode.CLOSE), 1007),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("proven", [False, True])
def test_a_wrong_frame_ends_the_connection_with_its_code(core: Core, wrong: str, proven: bool) -> None:
    """v5:MQTT-6.0.0-1 v311:MQTT-6.0.0-1 Among them data frames that are not binary."""
    client = connected(core) if proven else opened(core)
    data, code = WRONG[wrong]
    client.feed_raw(data + frame(PINGREQ))
    core.run()
    assert not client.is_open
    client.take()
    assert client.frames.close is not None
    assert client.frames.close.code == code
    assert not any(isinstance(one, Pingresp) for one in client.unread)


@pytest.mark.parametrize(
    ("body", "code"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)]
)
def test_a_close_is_answered_with_its_code_and_ends_as_a_lost_network(core: Core, body: bytes, code: int) -> None:
    watcher = core.connect("watcher")
    watcher.subscribe("will")
    client = opened(core)
    will = Publish("will", b"gone")
    client.send(Connect("client", user_name="user", password=b"pw", clean_start=True, will=will))
    assert client.pick(Connack).reason_code == 0
    client.feed_raw(frame(body, Opcode.CLOSE) + frame(PINGREQ))
    core.run()
    assert not client.is_open
    assert client.received() == []
    assert client.frames.close is not None
    assert client.frames.close.code == code
    assert watcher.payloads() == [b"gone"]


ENDS = {
    "too large a packet": (b"\x30\xff\xff\xff\x7f", ReasonCode.PACKET_TOO_LARGE, 1009),
    "a malformed packet": (b"\x36\x00", ReasonCode.MALFORMED_PACKET, 1002),
    "a second CONNECT": (CONNECT, ReasonCode.PROTOCOL_ERROR, 1002),
    "no right": (encode(Publish("a/+", b""), 5), ReasonCode.TOPIC_NAME_INVALID, 1008),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_close_code_tells_why_the_broker_ended_it(core: Core, end: str) -> None:
    data, reason_code, code = ENDS[end]
    client = connected(core)
    client.feed_raw(frame(data))
    core.run()
    assert client.closed_with(reason_code) == []
    assert client.frames.close is not None
    assert client.frames.close.code == code


def test_what_is_no_connect_is_no_normal_end(core: Core) -> None:
    client = opened(core)
    client.feed_raw(frame(PINGREQ))
    core.run()
    client.received()
    assert client.frames.close is not None
    assert client.frames.close.code == 1002


def test_a_disconnect_is_followed_by_a_normal_close(core: Core) -> None:
    client = connected(core)
    client.send(Disconnect())
    client.closed_with(None)
    assert client.frames.close is not None
    assert client.frames.close.code == 1000


def test_a_stop_says_going_away(core: Core) -> None:
    client = connected(core)
    core.shard.fail_all(ReasonCode.SERVER_SHUTTING_DOWN)
    core.run()
    client.closed_with(ReasonCode.SERVER_SHUTTING_DOWN)
    assert client.frames.close is not None
    assert client.frames.close.code == 1001


def test_a_refused_client_reads_its_connack_and_a_close(core: Core) -> None:
    client = opened(core)
    client.send(Connect("client", user_name="user", password=b"wrong", clean_start=True))
    core.refuse(core.asked.pop()[0])
    client.closed_with(ReasonCode.NOT_AUTHORIZED)
    assert client.frames.close is not None
    assert client.frames.close.code == 1008


def test_everything_is_given_back(core: Core) -> None:
    before = core.figures()
    for _ in range(10):
        client = connected(core)
        client.feed_raw(frame(b"x", Opcode.PING) + frame(b"", Opcode.TEXT))
        core.run()
        client.take()
        core.run()
    assert core.figures() == before
